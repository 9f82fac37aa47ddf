"""The benchmark's statistics: a wrong quantile would be a wrong figure in the documents."""

from __future__ import annotations

import pytest

from bench.figures import Spread, quantile, ratios, replaced, table


def test_a_quantile_is_a_value_that_was_seen() -> None:
    """Nearest rank: the 99th of a hundred values, never something between two of them."""
    values = [float(n) for n in range(100, 0, -1)]
    assert [quantile(values, share) for share in (0.5, 0.99, 1.0, 0.0)] == [50.0, 99.0, 100.0, 1.0]
    assert quantile([7.0], 0.99) == 7.0


def test_nothing_measured_is_no_figure() -> None:
    """A line whose alerts all got lost must not read as quick."""
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_a_spread_names_median_quartiles_and_extremes() -> None:
    """In this order, so that a reader sees at once how steady the rounds were."""
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 10.0]).told(0) == "3 (2-4; 1-10)"


def test_ratios_are_taken_round_by_round() -> None:
    """A noisy minute that slows both sides changes no ratio; a missing round is an error."""
    assert ratios([2.0, 20.0], [4.0, 40.0]) == [0.5, 0.5]
    with pytest.raises(ValueError, match="argument"):
        ratios([1.0], [1.0, 2.0])


def test_only_the_named_block_of_the_document_changes() -> None:
    """What people wrote around it stays as it is."""
    text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y -->\nkept\n<!-- /bench:y -->\n"
    fresh = replaced(text, "x", "new\n")
    assert fresh == text.replace("old", "new")
    assert replaced(fresh, "x", "newer") == text.replace("old", "newer")
    with pytest.raises(ValueError, match="block z"):
        replaced(text, "z", "new")


def test_the_document_has_a_block_for_each_section() -> None:
    """`--write` must not fail after half an hour of measuring."""
    from bench.__main__ import BLOCKS, DOCUMENT

    for name in BLOCKS:
        assert replaced(DOCUMENT.read_text(), name, "figures") != ""


def test_a_table_is_aligned() -> None:
    """It is read in a terminal first."""
    assert table(["a", "bb"], [["ccc", "d"]]).splitlines() == ["| a   | bb |", "|-----|----|", "| ccc | d  |"]

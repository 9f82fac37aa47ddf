"""How values and spans read."""

from __future__ import annotations

import pytest

from firebreak.postmortem import wording


@pytest.mark.parametrize(
    ("raw", "unit", "words"),
    [
        ("0.2512412", "ratio", "25.12 %"),
        ("0.05", "ratio", "5 %"),
        ("1", "ratio", "100 %"),
        ("0.00001", "ratio", "0.001 %"),
        ("3200.04", "ms", "3200 ms"),
        ("0.086", "s", "0.086 s"),
        ("70", "", "70"),
        ("1e+06", "", "1000000"),
        ("0.00000123", "", "1.2e-06"),
        ("NaN", "ratio", "NaN"),
        ("+Inf", "ms", "+Inf"),
        ("blocked", "", "blocked"),
        (">= 0.05", "ratio", ">= 5 %"),
        ("> 500", "ms", "> 500 ms"),
        ("== 1", "", "== 1"),
        ("level 5", "", "level 5"),
        ("", "ms", ""),
    ],
)
def test_values_read_with_their_unit(raw: str, unit: str, words: str) -> None:
    """Ratios in percent, others with their unit, a limit with its sign; what is no number as it is."""
    assert wording.value(raw, unit) == words


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "0 ms"),
        (0.42, "0.42 ms"),
        (9.5, "9.5 ms"),
        (12.4, "12 ms"),
        (999.4, "999 ms"),
        (1500, "1.5 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min"),
        (125_000, "2 min 5 s"),
        (3_599_900, "1 h"),
        (11_040_000, "3 h 4 min"),
        (183_600_000, "2 d 3 h"),
        (-1500, "-1.5 s"),
    ],
)
def test_spans_read_as_people_say_them(milliseconds: float, words: str) -> None:
    """From fractions of a millisecond to days."""
    assert wording.span(milliseconds) == words


def test_text_becomes_one_printable_line() -> None:
    """Line breaks, controls and direction overrides are gone, and a long text is cut with a mark."""
    assert wording.clean(" a\r\nb\u2028c\x85d ") == "a b c d"
    assert wording.clean("\x1b[31m\u202e\u200b") == "\ufffd[31m\ufffd\ufffd"
    assert wording.clean("prix 5 \u20ac \u4e2d\u6587") == "prix 5 \u20ac \u4e2d\u6587"
    assert wording.clean("x" * 50, 10) == "x" * 9 + "\u2026"

"""Durations of documents."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.documents.durations import parse_duration, promql_duration, spoken


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("10s", timedelta(seconds=10)),
        ("2m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1h30m", timedelta(minutes=90)),
        ("1m500ms", timedelta(seconds=60.5)),
        ("0s", timedelta(0)),
        ("90s", timedelta(seconds=90)),
    ],
)
def test_a_duration_is_read_as_written(text: str, expected: timedelta) -> None:
    """Units and their combinations, largest first."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "s", "10 s", "30m1h", "1h1h", "-1s", "1.5s", "1y", "10S", "٣s", "400d", "9" * 80 + "s", "1e3s"]
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    """No guessing: a wrong unit order, a fraction or a foreign digit is a mistake."""
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


@given(st.integers(0, 366 * 24 * 3600 * 1000))
@settings(max_examples=60, deadline=None)
def test_what_promql_gets_is_what_was_meant(milliseconds: int) -> None:
    """Formatting and reading are inverse."""
    span = timedelta(milliseconds=milliseconds)
    assert parse_duration(promql_duration(span)) == span


def test_a_week_stays_seven_days() -> None:
    """`offset 7d` reads as it was written."""
    assert promql_duration(timedelta(days=7)) == "7d"


@pytest.mark.parametrize("span", [timedelta(seconds=-1), timedelta(microseconds=1)])
def test_what_promql_cannot_say_is_refused(span: timedelta) -> None:
    """Negative spans and microseconds would be lost silently."""
    with pytest.raises(ValueError, match="PromQL"):
        promql_duration(span)


def test_spans_for_people_have_few_digits() -> None:
    """Seconds to a tenth, then minutes, then hours."""
    spans = [timedelta(seconds=7), timedelta(seconds=2.54), timedelta(seconds=135), timedelta(minutes=125)]
    assert [spoken(span) for span in spans] == ["7 s", "2.5 s", "2 min 15 s", "2 h 5 min"]

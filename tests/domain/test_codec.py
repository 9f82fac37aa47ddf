"""The codec that both the record and Temporal's payloads go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firebreak.domain.codec import format_duration, format_time, from_data, parse_duration, parse_time, to_data


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    span: timedelta
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    at: datetime
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    names: Mapping[str, str] = field(default_factory=dict)
    ratio: float | None = None


@given(st.timedeltas(min_value=timedelta(days=-999), max_value=timedelta(days=999)))
def test_a_duration_comes_back_equal(span: timedelta) -> None:
    """ISO 8601 seconds keep every microsecond, negative ones too."""
    assert parse_duration(format_duration(span)) == span


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_equal(at: datetime) -> None:
    """RFC 3339 in UTC keeps every microsecond."""
    assert parse_time(format_time(at)) == at


def test_a_naive_time_is_refused() -> None:
    """A time without a zone would mean another moment on another machine."""
    with pytest.raises(ValueError, match="without a zone"):
        format_time(datetime(2026, 1, 1))  # noqa: DTZ001 # the point of the test


def test_a_nested_value_comes_back_equal() -> None:
    """Dataclasses, tuples, mappings, enums, None and times survive the round trip."""
    value = Outer(
        at=datetime(2026, 11, 21, 8, 36, 44, 123456, tzinfo=UTC),
        inner=Inner(span=timedelta(seconds=1.5)),
        many=(Inner(span=timedelta(0)), Inner(span=timedelta(days=7))),
        pair=("b", 2),
        names={"x": "y"},
        ratio=0.25,
    )
    assert from_data(Outer, to_data(value)) == value


def test_an_unknown_key_is_ignored_so_that_an_older_program_reads_a_newer_record() -> None:
    """A field that this program does not know must not stop it."""
    data = {**to_data(Outer(at=datetime(2026, 1, 1, tzinfo=UTC))), "later": 1}
    assert from_data(Outer, data).at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_type_without_a_stored_form_is_refused() -> None:
    """A set has no order, so it has no stored form."""
    with pytest.raises(TypeError, match="no stored form"):
        to_data({1, 2})

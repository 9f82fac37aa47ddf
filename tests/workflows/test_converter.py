"""The one payload converter: what goes into history comes out equal, and what it does not know is refused."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import activities.messages
import workflows.messages
from activities.messages import GatherInput, GatherResult
from firebreak.domain.verdict import NextLook
from workflows.converter import DATA_CONVERTER
from workflows.messages import IncidentInput, IncidentState

converter = DATA_CONVERTER.payload_converter
MESSAGES = [
    kind
    for module in (workflows.messages, activities.messages)
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
]
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)),  # UTC has no folds
    timedelta: st.timedeltas(),
    type(None): st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a message's field."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is tuple and args[1:] == (Ellipsis,):
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})
    raise AssertionError(f"no values for {kind!r}: a message has a field of a kind that no test knows")


def there_and_back(value: Any, kind: Any) -> Any:
    return converter.from_payload(converter.to_payload(value), kind)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: f"{kind.__module__.split('.')[0]}-{kind.__name__}")
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_message_comes_back_equal(kind: Any, data: st.DataObject) -> None:
    """Enums, times, durations, tuples, None and what lies inside, for each message of the story and its hands."""
    value = data.draw(values(kind))
    back = there_and_back(value, kind)
    assert back == value
    assert type(back) is kind
    assert repr(back) == repr(value)  # 1 and 1.0, True and 1 are equal, too


def test_there_are_messages() -> None:
    """The list above is found by looking, so it must have found something."""
    assert {IncidentInput, GatherResult} <= set(MESSAGES)


@pytest.mark.parametrize(
    "value",
    [None, b"\x00\xff", True, 0, "", 1.5, [1, "a", None]],
    ids=repr,
)
def test_plain_values_come_back_without_a_type(value: Any) -> None:
    """As with the default converter: None and bytes have encodings of their own."""
    back = converter.from_payload(converter.to_payload(value))
    assert back == value
    assert type(back) is type(value)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    """It comes back in UTC."""
    local = datetime(2026, 11, 21, 10, 36, 44, 123456, tzinfo=timezone(timedelta(hours=2)))
    back = there_and_back(GatherInput(incident_id="i", round=0, quiet_since=local), GatherInput).quiet_since
    assert back == local
    assert back.tzinfo is UTC


class Stranger:
    """Not a message."""


@pytest.mark.parametrize(
    "value", [Stranger(), {1, 2}, Decimal("1.5"), 1j, Path("x"), range(3)], ids=lambda v: type(v).__name__
)
def test_an_unknown_type_is_refused(value: Any) -> None:
    """On its own, in a list and inside a message: never written as something else."""
    for wrapped in (value, [value], IncidentState(reason=value)):
        with pytest.raises(TypeError, match=type(value).__name__):
            converter.to_payload(wrapped)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), datetime(2026, 11, 21)], ids=str)  # noqa: DTZ001
def test_a_value_without_a_stored_form_is_refused(value: Any) -> None:
    """NaN would come back as null, and a time without a zone as another time."""
    with pytest.raises(ValueError, match=r"zone|JSON compliant"):
        converter.to_payload([value])


def test_a_word_that_is_no_member_is_refused() -> None:
    """An enum value of a newer program is an error, not a string that slips through."""
    payload = converter.to_payload(GatherResult(next=NextLook.ACT, reason="r"))
    payload.data = json.dumps(json.loads(payload.data) | {"next": "dance"}).encode()
    with pytest.raises(ValueError, match="dance"):
        converter.from_payload(payload, GatherResult)


def test_a_field_of_a_newer_program_is_left_out() -> None:
    """An older worker reads what a newer one wrote, and a missing field has its default."""
    payload = converter.to_payload(GatherResult(next=NextLook.ACT, reason="r"))
    data = json.loads(payload.data)
    del data["again_at"]
    payload.data = json.dumps(data | {"novelty": 1}).encode()
    assert converter.from_payload(payload, GatherResult) == GatherResult(next=NextLook.ACT, reason="r")

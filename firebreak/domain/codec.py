"""Plain JSON data for frozen dataclasses, and back: equal after a round trip.

datetime -> RFC 3339 UTC with microseconds and `Z`; timedelta -> ISO 8601 seconds (`PT1.5S`); enums -> their value;
tuples -> lists. Decoding is driven by the type's annotations; unknown keys are ignored, so that an older program
reads a newer record. Coders are compiled once per type: this is on the path of every activity.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

T = TypeVar("T")
_PLAIN = (str, int, float, bool, type(None))
"""Types that are JSON as they are. A StrEnum in a field annotated `str` would pass, too: it is a str to JSON."""


@functools.lru_cache(maxsize=4096)  # the points of one range query share their times
def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds. Naive times are refused (ValueError)."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored: pass an aware datetime")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Inverse of `format_time`; takes any RFC 3339 time with a zone (ValueError otherwise)."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def format_duration(span: timedelta) -> str:
    """ISO 8601 in seconds, exact to the microsecond: `PT90S`, `PT0.25S`, `-PT1S`."""
    micros = span // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    whole, part = divmod(micros, 1_000_000)
    fraction = f".{part:06d}".rstrip("0") if part else ""
    return f"{sign}PT{whole}{fraction}S"


def parse_duration(text: str) -> timedelta:
    """Inverse of `format_duration` (ValueError for anything else)."""
    sign = -1 if text.startswith("-") else 1
    body = text.removeprefix("-")
    if not (body.startswith("PT") and body.endswith("S")):
        raise ValueError(f"not a duration in seconds: {text!r}")
    whole, _, part = body[2:-1].partition(".")
    return sign * timedelta(seconds=int(whole), microseconds=int((part + "000000")[:6]) if part else 0)


def to_data(value: Any) -> Any:
    """JSON-ready data of a frozen value. Raises TypeError for types that the domain does not use."""
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    return _encoder(cast("Any", kind))(value)


@functools.cache
def _encoder(kind: Any) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(kind):
        return _dataclass_encoder(kind)
    if issubclass(kind, enum.Enum):
        return lambda value: value.value
    if issubclass(kind, datetime):
        return format_time
    if issubclass(kind, timedelta):
        return format_duration
    if issubclass(kind, Mapping):
        return lambda value: {str(k): to_data(v) for k, v in value.items()}
    if issubclass(kind, (list, tuple)):
        return lambda value: [to_data(v) for v in value]
    if issubclass(kind, _PLAIN):
        return lambda value: value
    raise TypeError(f"{kind.__name__} has no stored form")


def _dataclass_encoder(kind: Any) -> Callable[[Any], Any]:
    """Fields whose annotation is plain are taken as they are; only the others are encoded."""
    hints = typing.get_type_hints(kind)
    names = tuple(f.name for f in dataclasses.fields(kind))
    coded = tuple(name for name in names if not _is_plain(hints[name]))

    def encode(value: Any) -> Any:
        data = {name: getattr(value, name) for name in names}
        for name in coded:
            data[name] = to_data(data[name])
        return data

    return encode


def _is_plain(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(_is_plain(arg) for arg in typing.get_args(hint))
    return hint in _PLAIN


def from_data(kind: type[T], data: Any) -> T:
    """Value of type `kind` from data made by `to_data`. Raises ValueError, TypeError or KeyError for other data."""
    return cast("T", _decoder(cast("Any", kind))(data))


@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any]:  # one branch a kind of annotation
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if kind is Any or kind is object:
        return lambda data: data
    if origin in (typing.Union, types.UnionType):
        return _optional_decoder(args)
    if origin is tuple:
        return _tuple_decoder(args)
    if origin is list:
        item = _decoder(args[0])
        return lambda data: [item(d) for d in data]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        item = _decoder(args[1])
        return lambda data: {k: item(v) for k, v in data.items()}
    if isinstance(kind, type):
        return _class_decoder(kind)
    raise TypeError(f"no decoder for {kind!r}")


def _optional_decoder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    rest = [a for a in args if a is not type(None)]
    if len(rest) == 1:
        inner = _decoder(rest[0])
        return lambda data: None if data is None else inner(data)
    if all(a in (str, int, float, bool) for a in rest):
        return lambda data: data
    raise TypeError(f"only `X | None` and unions of plain values can be stored, not {args!r}")


def _tuple_decoder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _decoder(args[0])
        return lambda data: tuple(item(d) for d in data)
    items = tuple(_decoder(a) for a in args)
    return lambda data: tuple(i(d) for i, d in zip(items, data, strict=True))


def _class_decoder(kind: type) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = tuple((f.name, _decoder(hints[f.name])) for f in dataclasses.fields(kind))

        def build(data: Any) -> Any:
            return kind(**{name: decode(data[name]) for name, decode in fields if name in data})

        return build
    if issubclass(kind, enum.Enum):
        return kind
    if issubclass(kind, datetime):
        return parse_time
    if issubclass(kind, timedelta):
        return parse_duration
    if kind is float:
        return float
    if kind in (str, int, bool, type(None), dict, list):
        return lambda data: data
    raise TypeError(f"no decoder for {kind!r}")

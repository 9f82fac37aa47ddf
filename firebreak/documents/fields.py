"""Field types of the document models: numbers and durations, literal or by `$name`, with one sentence per mistake."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema

from firebreak.documents.durations import DURATION_PATTERN, parse_duration
from firebreak.documents.promql import NAME_PATTERN

_REFERENCE = re.compile(rf"\${NAME_PATTERN}")


def _number(value: Any) -> Any:
    if isinstance(value, str) and _REFERENCE.fullmatch(value):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("the number is too large") from None
    raise ValueError(f"{value!r} is neither a number nor $name of a threshold")


def _span(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return value if _REFERENCE.fullmatch(value) else parse_duration(value)
    raise ValueError(f"{value!r} is not a duration: write it like 250ms, 10s, 2m, 1h30m or 7d, or $name of one")


def _literal_span(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        raise ValueError(f"{value!r}: a named duration needs a literal like 10s or 2m")
    return _span(value)


def _literal_number(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a number")
    return _number(value)


_REFERENCE_SCHEMA = {"type": "string", "pattern": rf"^\${NAME_PATTERN}$"}
_SPAN_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN}
NumberOrName: TypeAlias = Annotated[
    float | str, BeforeValidator(_number), WithJsonSchema({"anyOf": [{"type": "number"}, _REFERENCE_SCHEMA]})
]
SpanOrName: TypeAlias = Annotated[
    timedelta | str, BeforeValidator(_span), WithJsonSchema({"anyOf": [_SPAN_SCHEMA, _REFERENCE_SCHEMA]})
]
Span: TypeAlias = Annotated[timedelta, BeforeValidator(_literal_span), WithJsonSchema(_SPAN_SCHEMA)]
Number: TypeAlias = Annotated[float, BeforeValidator(_literal_number), WithJsonSchema({"type": "number"})]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$", max_length=64)]
Query: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=8192)]


class Block(BaseModel):
    """Base of every document model: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

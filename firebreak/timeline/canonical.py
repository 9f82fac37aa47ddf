"""One byte form for JSON data (RFC 8785, JCS): what is hashed, stored and exported.

Most bodies go through the C encoder of the standard library: for plain data its bytes are those of RFC 8785 except
for some numbers and for the order of keys beyond ASCII. Those few go through `rfc8785`, which is also the oracle in
the tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import rfc8785

from firebreak.domain.errors import ContractError

MAX_INTEGER = 2**53 - 1  # RFC 8785 3.2.2.3: beyond it a reader that uses doubles sees another number
_MAX_DEPTH = 200

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def canonical(data: Any) -> bytes:
    """RFC 8785 bytes (UTF-8) of JSON data: dicts with string keys, lists, tuples, str, bool, None, int, float.

    Raises ContractError, naming the path, for NaN and infinities, integers beyond 2**53 - 1, lone surrogates, keys
    that are no strings, other types, and nesting deeper than 200."""
    try:
        plain, needs_library = _plain(data, 0)
        return rfc8785.dumps(plain) if needs_library else _encode(plain).encode()
    except (_Refused, UnicodeEncodeError, rfc8785.CanonicalizationError):
        path, why = _first_refusal(data, "$", 0) or ("$", "it has no canonical form")
        raise ContractError(
            f"data cannot be written down: {path}: {why}",
            advice="Store a value that is not a finite JSON number as text; correct what produced the value.",
        ) from None


class _Refused(Exception):
    """Something in the data has no canonical form; the slow search says where."""


def _plain(data: Any, depth: int) -> tuple[Any, bool]:
    """The same data made of builtin types only, and whether it needs the library. The hot path."""
    if depth > _MAX_DEPTH:
        raise _Refused
    kind = type(data)
    if kind is str or data is None or kind is bool:
        return data, False
    if kind is dict:
        return _plain_mapping(data, depth)
    if kind is list or kind is tuple:
        items = []
        library = False
        for value in data:
            item, inner = _plain(value, depth + 1)
            items.append(item)
            library = library or inner
        return items, library
    if kind is int:
        if -MAX_INTEGER <= data <= MAX_INTEGER:
            return data, False
        raise _Refused
    if kind is float:
        return _plain_float(data)
    return _plain(_builtin(data), depth)


def _plain_mapping(data: Mapping[Any, Any], depth: int) -> tuple[dict[str, Any], bool]:
    made = {}
    library = False
    for key, value in data.items():
        name = key if type(key) is str else _builtin(key)
        if type(name) is not str:
            raise _Refused
        if not name.isascii():
            library = True  # RFC 8785 sorts by UTF-16 units, Python by code points
        if type(value) is str:  # the most frequent value: spares a call
            made[name] = value
        else:
            made[name], inner = _plain(value, depth + 1)
            library = library or inner
    return made, library


def _plain_float(value: float) -> tuple[int | float, bool]:
    """ECMAScript writes 2.0 as 2; a fraction between 1e-4 and 1e16 has the digits of Python's repr."""
    if not math.isfinite(value):
        raise _Refused
    if value.is_integer():
        return (int(value), False) if abs(value) <= MAX_INTEGER else (value, True)
    return value, not 1e-4 <= abs(value) < 1e16


def _builtin(data: Any) -> Any:
    """A subclass' value (an enum member, a read-only mapping) as the builtin type it stands for."""
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, int):
        return int(data)
    if isinstance(data, float):
        return float(data)
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, (list, tuple)):
        return list(data)
    raise _Refused


def _first_refusal(data: Any, path: str, depth: int) -> tuple[str, str] | None:
    """(path, why) of the first value in `data` without a canonical form."""
    if depth > _MAX_DEPTH:
        return path, f"nested deeper than {_MAX_DEPTH} levels"
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str) or not _is_utf8(key):
                return path, f"the key {key!r} is not a string of Unicode characters"
            if found := _first_refusal(value, f"{path}.{key}", depth + 1):
                return found
        return None
    if isinstance(data, (list, tuple)):
        for index, value in enumerate(data):
            if found := _first_refusal(value, f"{path}[{index}]", depth + 1):
                return found
        return None
    why = _why_refused(data)
    return (path, why) if why else None


def _why_refused(data: Any) -> str:
    if data is None:
        return ""
    if isinstance(data, str):
        return "" if _is_utf8(data) else "the text holds a lone surrogate, which UTF-8 cannot carry"
    if isinstance(data, int):
        return "" if abs(data) <= MAX_INTEGER else f"the integer {data} is beyond 2**53 - 1"
    if isinstance(data, float):
        return "" if math.isfinite(data) else f"{data} is not a JSON number"
    return f"a {type(data).__name__} is not JSON data"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

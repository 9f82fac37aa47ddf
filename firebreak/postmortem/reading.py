"""Reading entry bodies without trusting their shape: an older record lacks keys, and must still be told."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from firebreak.domain.codec import parse_time
from firebreak.domain.target import ResourceKind

_LARGEST = sys.float_info.max
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def mapping(data: object, *path: str) -> Mapping[str, Any]:
    """The object under `path`, or an empty one."""
    found = _value(data, path)
    return found if type(found) is dict or isinstance(found, Mapping) else _NOTHING


def items(data: object, *path: str) -> tuple[Mapping[str, Any], ...]:
    """The objects of the list under `path`; whatever is no object is left out."""
    found = _value(data, path)
    if not isinstance(found, (list, tuple)):
        return ()
    return tuple(item for item in found if type(item) is dict or isinstance(item, Mapping))


def texts(data: object, *path: str) -> tuple[str, ...]:
    """The list of texts under `path`."""
    found = _value(data, path)
    return tuple(str(item) for item in found if item is not None) if isinstance(found, (list, tuple)) else ()


def text(data: object, *path: str) -> str:
    """The text (or number, as text) under `path`, or empty."""
    found = _value(data, path)
    if type(found) is str:
        return found
    return "" if found is None or isinstance(found, (Mapping, list, tuple)) else str(found)


def number(data: object, *path: str) -> float | None:
    """The finite number under `path`, or None."""
    found = _value(data, path)
    if not isinstance(found, (int, float)) or isinstance(found, bool) or not abs(found) <= _LARGEST:
        return None
    return float(found)


def whole(data: object, *path: str) -> int:
    """The whole number under `path`, or -1."""
    found = number(data, *path)
    return -1 if found is None else int(found)


def _value(data: Any, path: tuple[str, ...]) -> Any:
    """What is under `path`; None where there is nothing. Read hundreds of times a report: a plain dict is told by its
    type, since `isinstance` asks the abstract class about it every time."""
    for name in path:
        if type(data) is not dict and not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def time(data: object, *path: str) -> datetime | None:
    """The time under `path`, or None where there is none or it cannot be read."""
    try:
        return parse_time(text(data, *path))
    except ValueError:
        return None


def target_text(data: object, *path: str) -> str:
    """`cluster/namespace/Kind/name` of a stored TargetRef, or of a BoundTarget's `ref`; empty where there is none."""
    found = mapping(data, *path)
    ref = mapping(found, "ref") or found
    if not text(ref, "name"):
        return ""
    return "/".join((text(ref, "cluster"), text(ref, "namespace"), _kind(text(ref, "kind")), text(ref, "name")))


def _kind(stored: str) -> str:
    """`apps/v1/deployments` -> `Deployment`; what the engine does not know stays as it is."""
    try:
        return ResourceKind(stored).kind
    except ValueError:
        return stored

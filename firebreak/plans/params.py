"""Placeholders in a step's parameters: a text that is `$name` as a whole is filled from the bindings, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from firebreak.documents.promql import NAME_PATTERN
from firebreak.documents.yaml_nodes import NodePath

_WHOLE = re.compile(rf"\$({NAME_PATTERN})")
_INSIDE = re.compile(rf"\$\{{?{NAME_PATTERN}")


def placeholders(value: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, str]]:
    """(path, name) of every placeholder in a parameter value, lists and maps walked through."""
    for here, text in _texts(value, path):
        found = _WHOLE.fullmatch(text)
        if found is not None:
            yield here, found[1]


def embedded(value: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, str]]:
    """(path, what stands there) of every `$name` that is only a part of a text: it would never be filled."""
    for here, text in _texts(value, path):
        found = _INSIDE.search(text)
        if found is not None and not _WHOLE.fullmatch(text):
            yield here, found[0]


def filled(value: Any, bindings: Mapping[str, str]) -> Any:
    """The value with every placeholder replaced by its binding. KeyError with the name that has none."""
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value)
        return value if found is None else bindings[found[1]]
    if isinstance(value, Mapping):
        return {key: filled(item, bindings) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(item, bindings) for item in value]
    return value


def _texts(value: Any, path: NodePath) -> Iterator[tuple[NodePath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))

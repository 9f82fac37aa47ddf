"""From the events of a YAML parser to plain data, with the place of every node and key.

Plain scalars follow the core schema of YAML 1.2 (section 10.3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from firebreak.domain.errors import Problem

NodePath: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_ALIASES = 100

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: `line` and `column` from 1, `start` and `end` as character offsets into the text."""

    line: int
    column: int
    start: int
    end: int


class Unreadable(Exception):
    """Reading stops here; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class TreeBuilder:
    """Data and places from parser events: `root`, `values`, `keys`, and `problems` that do not stop the reading.
    Recursion is bounded by MAX_DEPTH, aliases and all copies by MAX_NODES."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root: Any = None
        self.values: dict[NodePath, Place] = {}
        self.keys: dict[NodePath, Place] = {}
        self.problems: list[Problem] = []
        self.line = 1
        """Of the last event that was read."""
        self._anchors: dict[str, tuple[NodePath, Any]] = {}
        self._open_anchors: set[str] = set()
        self._aliases = 0
        self._nodes = 0

    def read(self, events: Iterator[Event]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refused(event, "a second document in one file: write one file each")
                if event.version or event.tags:
                    raise self._refused(event, "YAML directives are not read here: remove the line with %")
            elif not isinstance(event, DocumentEndEvent) and isinstance(event, NodeEvent):
                self.root = self._node(event, events, (), 0)

    def _node(self, event: Event, events: Iterator[Event], path: NodePath, depth: int) -> Any:
        self._count(event)
        if depth > MAX_DEPTH:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._open_anchors.add(anchor)
        mark, end = event.start_mark, event.end_mark
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, SequenceStartEvent):
            value, end = self._sequence(events, path, depth)
        elif isinstance(event, MappingStartEvent):
            value, end = self._mapping(events, path, depth)
        else:
            raise self._refused(event, "cannot be read here")
        self.values[path] = Place(mark.line + 1, mark.column + 1, mark.index, end.index)
        if anchor:
            self._open_anchors.discard(anchor)
            self._anchors[anchor] = (path, value)
        return value

    def _sequence(self, events: Iterator[Event], path: NodePath, depth: int) -> tuple[list[Any], Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                return items, event.end_mark
            items.append(self._node(event, events, (*path, len(items)), depth + 1))
        raise YAMLError("the file ends inside a list")

    def _mapping(self, events: Iterator[Event], path: NodePath, depth: int) -> tuple[dict[str, Any], Any]:
        found: dict[str, Any] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                return found, event.end_mark
            key = self._key(event)
            here: NodePath = (*path, key)
            mark = event.start_mark
            repeated = key in found
            if repeated:
                first = self.keys[here]
                self.problems.append(
                    Problem(
                        self.source,
                        mark.line + 1,
                        mark.column + 1,
                        f"key {key!r} is written twice; first at line {first.line}, column {first.column}",
                    )
                )
            else:
                self.keys[here] = Place(mark.line + 1, mark.column + 1, mark.index, event.end_mark.index)
            value = self._node(next(events), events, here, depth + 1)
            if not repeated:
                found[key] = value
        raise YAMLError("the file ends inside a mapping")

    def _key(self, event: Event) -> str:
        self._count(event)
        if not isinstance(event, ScalarEvent) or event.tag is not None:
            raise self._refused(event, "a key must be plain text")
        key = self._scalar(event)
        if not isinstance(key, str):
            raise self._refused(event, f"key {event.value!r} is not text: write it in quotes")
        if key == "<<" and event.style is None:
            raise self._refused(event, "merge keys (<<) are not part of YAML 1.2: repeat the keys")
        return key

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            if len(text) > 40:
                raise self._refused(event, "a number of more than 40 digits")
            return int(text, 0) if text.startswith(("0o", "0x")) else int(text, 10)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                raise self._refused(event, f"{text} is too large a number")
            return number
        if _NOT_FINITE.fullmatch(text):
            raise self._refused(event, f"{text} is not a number that a document may use")
        return text

    def _alias(self, event: AliasEvent, path: NodePath) -> Any:
        self._aliases += 1
        name = event.anchor
        if self._aliases > MAX_ALIASES:
            raise self._refused(event, f"more than {MAX_ALIASES} aliases")
        if name in self._open_anchors:
            raise self._refused(event, f"alias *{name} stands inside its own anchor")
        if name not in self._anchors:
            raise self._refused(event, f"alias *{name} has no anchor before it")
        origin, value = self._anchors[name]
        mark = event.start_mark
        copies = [p for p in self.values if p[: len(origin)] == origin]
        self._nodes += len(copies)
        self._count(event)
        # A mistake inside an aliased node is shown where the node is written; the alias itself where it stands.
        for known in copies:
            self.values[path + known[len(origin) :]] = self.values[known]
        for known in [p for p in self.keys if len(p) > len(origin) and p[: len(origin)] == origin]:
            self.keys[path + known[len(origin) :]] = self.keys[known]
        self.values[path] = Place(mark.line + 1, mark.column + 1, mark.index, event.end_mark.index)
        return value

    def _count(self, event: Event) -> None:
        self.line = event.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refused(event, f"more than {MAX_NODES} nodes")

    def _refused(self, event: Event, message: str) -> Unreadable:
        mark = event.start_mark
        return Unreadable(Problem(self.source, mark.line + 1, mark.column + 1, message))

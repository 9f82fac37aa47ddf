"""YAML 1.2 documents with the line and column of every node.

Read strictly, because a data file that decides over production must mean what it says: UTF-8 only, one document, no
directives, no tags, no merge keys, text keys only, no key twice, and limits on size, depth, nodes and aliases. Plain
scalars follow the core schema of YAML 1.2 (section 10.3): `yes` and `on` are text, `012` is twelve.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from firebreak.documents.yaml_nodes import NodePath, Place, TreeBuilder, Unreadable
from firebreak.documents.yaml_scanner import StrictScanner, TagFound
from firebreak.domain.errors import PolicyInvalid, Problem, RunbookInvalid

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake at a path inside a document, before it is known where that stands in the file. `token` narrows it to
    such a text inside the node (`$widnow` inside a query): to the first whole word, or to the one that has `nth` such
    texts before it, be they parts of words; `on_key` points at the key, not at its value."""

    path: NodePath
    message: str
    token: str = ""
    nth: int | None = None
    on_key: bool = False

    def under(self, base: NodePath) -> Finding:
        return replace(self, path=(*base, *self.path))


@dataclass(frozen=True, slots=True)
class Located:
    """Path -> place of the value, and of its key. A path that is not in the document falls back to its parent."""

    text: str
    values: Mapping[NodePath, Place]
    keys: Mapping[NodePath, Place]

    def position(
        self, path: NodePath, *, token: str = "", nth: int | None = None, on_key: bool = False
    ) -> tuple[int, int]:
        """(line, column), both from 1. `token` and `nth` as in a Finding."""
        exact = path in self.values
        while path and path not in self.values:
            path = path[:-1]
        place = self.values.get(path, Place(1, 1, 0, 0))
        if (on_key or not exact) and path in self.keys:
            place = self.keys[path]
        elif token:
            at = self._find(token, nth, place)
            if at >= 0:
                return _line_and_column(self.text, at)
        return place.line, place.column

    def _find(self, token: str, nth: int | None, place: Place) -> int:
        """Offset of `token` inside `place`, or -1."""
        at = self.text.find(token, place.start, place.end)
        if nth is None:
            word = re.compile(rf"(?<![\w:$]){re.escape(token)}(?![\w:])").search(self.text, place.start, place.end)
            return at if word is None else word.start()
        for _ in range(nth):
            at = self.text.find(token, at + len(token), place.end) if at >= 0 else at
        return at


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One parsed file. `data` is plain dicts, lists and scalars; `digest` the SHA-256 (hex) of the bytes as read."""

    source: str
    data: Mapping[str, Any]
    located: Located = field(repr=False)
    digest: str
    raw: bytes = field(repr=False)

    def problem(self, finding: Finding) -> Problem:
        line, column = self.located.position(finding.path, token=finding.token, nth=finding.nth, on_key=finding.on_key)
        return Problem(self.source, line, column, finding.message)

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """In order of the file, each once."""
        return tuple(sorted({self.problem(finding) for finding in findings}))


def refuse(
    problems: Iterable[Problem], error: type[RunbookInvalid] | type[PolicyInvalid] = RunbookInvalid
) -> RunbookInvalid | PolicyInvalid:
    """The error to raise for `problems`: its text is one `file:line:column: message` a line."""
    found = tuple(problems)
    return error("\n".join(str(problem) for problem in found), problems=found)


def as_text(source: str) -> str:
    """A file's name as text that can be printed and stored: Linux takes names that are not UTF-8."""
    return source.encode("utf-8", "backslashreplace").decode()


def load_yaml(
    data: bytes, source: str, *, error: type[RunbookInvalid] | type[PolicyInvalid] = RunbookInvalid
) -> YamlDocument:
    """The document in `data`; its root must be a mapping. Raises `error` with every duplicate key, or the first place
    that cannot be read at all. `source` is the name that messages and records show."""
    source = as_text(source)
    if len(data) > MAX_BYTES:
        raise refuse([Problem(source, 1, 1, f"the file has {len(data)} bytes; at most {MAX_BYTES} are read")], error)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        column = broken.start - data.rfind(b"\n", 0, broken.start)
        raise refuse([Problem(source, line, column, "not UTF-8; save the file as UTF-8")], error) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")  # each ends a line (YAML 1.2, 5.4)
    builder = TreeBuilder(source)
    try:
        builder.read(_reader().parse(text))
    except Unreadable as refused:
        raise refuse([*builder.problems, refused.problem], error) from None
    except YAMLError as broken:
        raise refuse([_syntax_problem(broken, source, text)], error) from None
    except (ValueError, OverflowError, RecursionError) as broken:  # what the YAML library did not see coming
        told = f"the YAML library cannot read this file ({type(broken).__name__}: {broken})"
        raise refuse([Problem(source, builder.line, 1, f"{told}: look at this line and below")], error) from None
    if builder.problems:
        raise refuse(builder.problems, error)
    if not isinstance(builder.root, dict):
        raise refuse([Problem(source, 1, 1, "the document must be a mapping of keys to values")], error)
    located = Located(text, builder.values, builder.keys)
    return YamlDocument(source, builder.root, located, hashlib.sha256(data).hexdigest(), data)


def _reader() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = StrictScanner
    return yaml


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _syntax_problem(broken: YAMLError, source: str, text: str) -> Problem:
    if isinstance(broken, MarkedYAMLError) and broken.problem_mark is not None:
        mark = broken.problem_mark
        if isinstance(broken, TagFound):
            return Problem(source, mark.line + 1, mark.column + 1, str(broken.problem))
        context = f" ({broken.context})" if broken.context else ""
        return Problem(source, mark.line + 1, mark.column + 1, f"not YAML: {broken.problem}{context}")
    at = getattr(broken, "position", None)  # ReaderError: a character that YAML does not allow
    if isinstance(at, int):
        return Problem(source, *_line_and_column(text, at), "not YAML: a control character")
    return Problem(source, 1, 1, f"not YAML: {str(broken).splitlines()[0] if str(broken) else 'unreadable'}")


def validate(
    document: YamlDocument, model: type[Model], *, error: type[RunbookInvalid] | type[PolicyInvalid] = RunbookInvalid
) -> Model:
    """The document as `model`. Raises `error` with a place for every mistake that pydantic names."""
    try:
        return model.model_validate(document.data)
    except ValidationError as broken:
        raise refuse(document.problems(findings_of(broken, document.data)), error) from None


def findings_of(broken: ValidationError, data: Any) -> tuple[Finding, ...]:
    """Pydantic's errors with paths of the document: parts of a location that name a union's branch are dropped."""
    details = [dict(detail) for detail in broken.errors(include_url=False)]
    return tuple(_finding(detail, data) for detail in details if not _counts_good_items_alone(detail))


def _counts_good_items_alone(detail: Mapping[str, Any]) -> bool:
    """Whether a list is called too short only because pydantic left out its items that are mistakes themselves."""
    return detail["type"] == "too_short" and bool(len(detail["input"]) >= detail["ctx"]["min_length"])


def _finding(detail: Mapping[str, Any], data: Any) -> Finding:
    path: list[str | int] = []
    node = data
    location: tuple[str | int, ...] = detail["loc"]
    for part in location:
        inside = part in node if isinstance(node, Mapping) else isinstance(node, list) and part in range(len(node))
        if inside:
            node = node[part]
            path.append(part)
    kind, last = detail["type"], location[-1] if location else ""
    if kind == "missing":
        return Finding(tuple(path), f"key {last!r} is missing here", on_key=True)
    if kind == "extra_forbidden":
        return Finding(tuple(path), f"unknown key {last!r}", on_key=True)
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Finding(tuple(path), f"a mapping is expected here{_instead(node)}")
    if kind in ("too_short", "too_long"):
        limit = (
            f"at least {detail['ctx']['min_length']}"
            if kind == "too_short"
            else f"at most {detail['ctx']['max_length']}"
        )
        return Finding(tuple(path), f"{limit} must stand here, not {len(node)}")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return Finding(tuple(path), message + ("" if kind == "value_error" else _instead(node)), on_key=last == "[key]")


def _instead(node: Any) -> str:
    if isinstance(node, dict):
        return ""
    text = "a list" if isinstance(node, list) else repr(node)
    return f", not {text if len(text) <= 60 else text[:57] + '...'}"

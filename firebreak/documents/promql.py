"""PromQL with placeholders: quoting, rendering, checking before use, and what a query reads.

A query of a document may hold `$name` and nothing else: a named duration (only where PromQL takes a duration), a named
threshold (where it takes a number), the word `$baseline`, or a binding. A binding is rendered as a quoted string and
may stand only as the value of a `=` or `!=` matcher, never of a regular expression: an alert's label can then say which
series are read, and nothing more.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import promql_parser

NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"
BASELINE = "baseline"
MAX_QUERY = 8192
MAX_PARTS = 400
"""Brackets and operators of one query: what the parser takes grows with their square, some 0.3 s for these."""

_NONE: Mapping[str, float] = MappingProxyType({})
_TOKEN = re.compile(
    rf"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)"""
    rf"|(?P<comment>\#[^\n]*)|(?P<placeholder>\$(?P<name>{NAME_PATTERN}))|(?P<dollar>\$)",
    re.DOTALL,
)
_INSIDE = re.compile(rf"\$(?:{NAME_PATTERN}|\{{)")
_PART = re.compile(r"[(\[{]|[-+*/%^]|[<>=!~]+|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
_BEFORE_DURATION = re.compile(r"(?:[\[:]|\boffset\s*-?)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueryFault:
    """What is wrong with a query; `token` is the text in it that is meant, or empty, with `nth` such texts before it
    (also as parts of longer names)."""

    message: str
    token: str = ""
    nth: int | None = None

    @classmethod
    def at(cls, template: str, start: int, token: str, message: str) -> QueryFault:
        """The fault of the `token` that begins at `start` of `template`."""
        return cls(message, token, template.count(token, 0, start))


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    name: str
    op: str  # = != =~ !~
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """One vector selector of a query. `shifted` = it has an offset or an @, so it does not read the present."""

    metric: str
    matchers: tuple[LabelMatcher, ...]
    shifted: bool = False

    @property
    def named(self) -> str:
        """The metric's name, also where a matcher gives it; empty where several are asked for by a pattern."""
        return self.metric or next((m.value for m in self.matchers if m.name == "__name__" and m.op == "="), "")

    @property
    def text(self) -> str:
        """As PromQL, without offset: `http_requests_total{service="pay"}`."""
        inner = ", ".join(f"{m.name}{m.op}{quote(m.value)}" for m in self.matchers)
        return f"{self.metric}{{{inner}}}" if inner else self.metric


@functools.lru_cache(maxsize=4096)  # an incident's few names come in each of its queries
def quote(value: str) -> str:
    """A PromQL string literal (Go's syntax, double quotes) that reads back as `value`.

    JSON's escapes are a subset of Go's. ValueError for lone surrogates: no text of Prometheus can hold them."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("the text holds half of a surrogate pair: it cannot be a label value")
    return json.dumps(value, ensure_ascii=False)


def placeholders(template: str) -> tuple[str, ...]:
    """Names used, in order of first use; text in strings and comments is not looked at."""
    return tuple(dict.fromkeys(m["name"] for m in _TOKEN.finditer(template) if m["name"]))


def render_query(
    template: str,
    *,
    durations: Mapping[str, str],
    bindings: Mapping[str, str],
    thresholds: Mapping[str, float] = _NONE,
    baseline: str = " offset 7d",
) -> str:
    """The query with every placeholder filled: `durations` are PromQL durations, `thresholds` numbers, `baseline` is
    put in raw, `bindings` are quoted. ValueError naming the first placeholder that has no value."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return found[0]
        if name == BASELINE:
            return baseline
        if name in durations:
            return durations[name]
        if name in thresholds:
            return f"{thresholds[name]:.17g}"
        if name in bindings:
            return quote(bindings[name])
        raise ValueError(f"${name} has no value here")

    return _TOKEN.sub(fill, template)


def check_query(
    template: str,
    *,
    durations: Collection[str],
    bindings: Collection[str],
    thresholds: Collection[str] = (),
    selector_only: bool = False,
) -> tuple[QueryFault, ...]:
    """Everything wrong with a query before it meets real values; empty when it is fine. `selector_only` asks for one
    plain vector selector of the present, as `inputs` are."""
    if not template.strip():
        return (QueryFault("the query is empty"),)
    if len(template) > MAX_QUERY:
        return (QueryFault(f"the query has {len(template)} characters; at most {MAX_QUERY} are read"),)
    parts = sum(1 for _ in _PART.finditer(_TOKEN.sub(_without_text, template)))
    if parts > MAX_PARTS:
        return (QueryFault(f"the query has {parts} brackets and operators; at most {MAX_PARTS} are read"),)
    faults = list(_misplaced(template, durations, thresholds, bindings))
    if faults:
        return tuple(faults)
    for baseline in (" offset 7d", " @ 1700000000"):
        marks: list[_Mark] = []
        text = _TOKEN.sub(_marker(durations, thresholds, baseline, marks), template)
        try:
            tree = promql_parser.parse(text)
        except ValueError as broken:
            return (QueryFault(f"not PromQL: {_first_line(broken)}"),)
        faults.extend(_unsafe(tree, template, marks))
        faults.extend(_wrong_kind(tree, selector_only=selector_only))
        if faults:
            break
    return tuple(dict.fromkeys(faults))


def _without_text(found: re.Match[str]) -> str:
    return " " if found["string"] or found["comment"] else found[0]


def without_comments(selector: str) -> str:
    """A selector without its comments: it is put into brackets, and a comment would take the closing one with it."""
    return _TOKEN.sub(lambda found: "" if found["comment"] else found[0], selector).strip()


def _misplaced(
    template: str, durations: Collection[str], thresholds: Collection[str], bindings: Collection[str]
) -> Iterator[QueryFault]:
    for found in _TOKEN.finditer(template):
        if found["string"]:
            for inner in _INSIDE.finditer(found["string"]):
                said = f"{inner[0]} inside quotes is never filled in: write label={inner[0]} without quotes"
                yield QueryFault.at(template, found.start() + inner.start(), inner[0], said)
        elif found["dollar"]:
            yield QueryFault.at(template, found.start(), "$", "a lone $: a placeholder is $ and a name")
        elif found["name"]:
            name, at = found["name"], found.start()
            if name in durations:
                if not _BEFORE_DURATION.search(template, 0, at):
                    said = f"duration ${name} may stand only in [..] or after offset"
                    yield QueryFault.at(template, at, f"${name}", said)
            elif name in thresholds:
                if _BEFORE_DURATION.search(template, 0, at):
                    said = f"threshold ${name} is a number, and a duration stands here"
                    yield QueryFault.at(template, at, f"${name}", said)
            elif name != BASELINE and name not in bindings:
                known = ", ".join(f"${n}" for n in sorted({*durations, *thresholds, *bindings, BASELINE}))
                yield QueryFault.at(template, at, f"${name}", f"unknown placeholder ${name}; known here: {known}")


class _Mark(NamedTuple):
    """What stands for one binding while its query is looked at."""

    name: str
    start: int  # in the template
    value: str


def _marker(
    durations: Collection[str], thresholds: Collection[str], baseline: str, marks: list[_Mark]
) -> Callable[[re.Match[str]], str]:
    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return found[0]
        if name == BASELINE:
            return baseline
        if name in durations:
            return "1m"
        if name in thresholds:
            return "1"
        marks.append(_Mark(name, found.start(), f"firebreak-mark-{len(marks)}-end"))
        return quote(marks[-1].value)

    return fill


def _unsafe(tree: promql_parser.Expr, template: str, marks: list[_Mark]) -> Iterator[QueryFault]:
    safe = {
        matcher.value
        for selector in _selectors(tree)
        for matcher in selector.matchers
        if matcher.op in ("=", "!=") and matcher.name != "__name__"
    }
    for name, start, value in marks:
        if value not in safe:
            said = f"${name} may stand only as the value of a = or != matcher"
            yield QueryFault.at(template, start, f"${name}", said)


def _wrong_kind(tree: promql_parser.Expr, *, selector_only: bool) -> Iterator[QueryFault]:
    if any(getattr(getattr(node, "matchers", None), "or_matchers", None) for node in _nodes(tree)):
        yield QueryFault("`or` between matchers is not Prometheus' PromQL")
    if selector_only:
        if not isinstance(tree, promql_parser.VectorSelector):
            yield QueryFault("an input is one selector, like http_requests_total{service=$service}")
        elif tree.offset is not None or tree.at is not None:
            yield QueryFault("an input is asked for its newest sample: no offset, no @")
    elif isinstance(tree, (promql_parser.MatrixSelector, promql_parser.SubqueryExpr, promql_parser.StringLiteral)):
        yield QueryFault("the query gives no single number: a range needs a function around it")


def selectors(query: str) -> tuple[Selector, ...]:
    """All vector selectors of a rendered query, in order. ValueError when it is not PromQL."""
    return tuple(_selectors(promql_parser.parse(query)))


def grouping_labels(query: str) -> tuple[str, ...]:
    """Labels that `by`, `without`, `on` and `ignoring` name: a lint can ask whether they exist."""
    found: dict[str, None] = {}
    for node in _nodes(promql_parser.parse(query)):
        modifier = getattr(node, "modifier", None)
        labels = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
        found.update(dict.fromkeys(labels or ()))
    return tuple(found)


def _selectors(tree: promql_parser.Expr) -> list[Selector]:
    found: list[Selector] = []
    for node in _nodes(tree):
        if isinstance(node, promql_parser.VectorSelector):  # a range holds one too
            matchers = tuple(LabelMatcher(m.name, _OPS[str(m.op)], m.value) for m in node.matchers.matchers)
            shifted = node.offset is not None or node.at is not None
            found.append(Selector(node.name or "", matchers, shifted))
    return found


_CHILDREN = ("param", "args", "expr", "vector_selector", "lhs", "rhs")


def _nodes(tree: promql_parser.Expr) -> Iterator[Any]:
    """All nodes, a parent before its children, in order of the text. The package's own `walk` takes half a minute for
    200 operators."""
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        yield node
        held = [getattr(node, name, None) for name in _CHILDREN]
        children = [c for part in held for c in (part if isinstance(part, list) else (part,))]
        todo += [child for child in reversed(children) if isinstance(child, promql_parser.Expr)]


_OPS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

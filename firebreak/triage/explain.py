"""A verdict as text for a terminal, and the comparison of a stored verdict with a recomputed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from firebreak.domain.codec import to_data
from firebreak.domain.condition import ConditionResult, Truth
from firebreak.domain.verdict import Verdict

_MARKS = {
    Truth.TRUE: "TRUE        ",
    Truth.PENDING: "PENDING     ",
    Truth.FALSE: "false       ",
    Truth.NOT_APPLICABLE: "not applic. ",
    Truth.INCONCLUSIVE: "INCONCLUSIVE",
}


def explain(verdict: Verdict) -> str:
    """The whole tree, one line a node, and under each condition all that it was judged by. Control characters of
    labels and answers are escaped: they were written by others."""
    return "\n".join(_printable(line) for line in _lines(verdict)) + "\n"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"severity {verdict.severity}   tree {verdict.tree} {verdict.tree_digest[:12]}   {_moment(verdict)}"
    yield f"verdict  {verdict.truth}: {verdict.reason}"
    yield f"may act  {'yes' if verdict.may_act else 'no'}: {verdict.act_reason}"
    if verdict.health_score is not None:
        yield f"health   {verdict.health_score:g} of 100 (low is bad)"
    if verdict.holds_at is not None:
        yield f"again at {verdict.holds_at.astimezone(UTC):%H:%M:%S} UTC: the earliest time at which more could hold"
    yield ""
    results = {result.name: result for result in verdict.conditions}
    for node in verdict.nodes:
        indent = "  " * node.depth
        yield f"{_MARKS[node.truth]}  {indent}{node.condition or node.operator.replace(':', ' ')}"
        if node.condition in results:
            yield from (f"{' ' * 14}{indent}  {line}" for line in _details(results[node.condition]))


def _details(result: ConditionResult) -> Iterator[str]:
    yield result.reason
    unit = f" {result.unit}" if result.unit else ""
    parts = [f"dimension {result.dimension}"]
    parts.append(f"value {result.value}{unit}" if result.value else "no value")
    if result.threshold:
        parts.append(f"threshold {result.threshold}{unit}")
    if result.sample_age is not None:
        parts.append(f"newest sample {result.sample_age:.1f} s old")
    if result.volume is not None:
        parts.append(f"{result.volume:g} calls")
    if result.since is not None:
        parts.append(f"since {result.since.astimezone(UTC):%H:%M:%S} UTC")
    yield ", ".join(parts)
    yield result.query


def _moment(verdict: Verdict) -> str:
    return f"at {verdict.pinned_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{verdict.pinned_at.microsecond // 1000:03d} UTC"


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)


def same_verdict(stored: Verdict, recomputed: Verdict) -> str:
    """Empty when both are the same; else the first field in which they differ, with both values."""
    return _difference(to_data(stored), to_data(recomputed), "verdict")


def _difference(one: Any, other: Any, path: str) -> str:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            if key not in one or key not in other:
                return f"{path}.{key} is only in the {'recomputed' if key in other else 'stored'} one"
            if found := _difference(one[key], other[key], f"{path}.{key}"):
                return found
        return ""
    if isinstance(one, list) and isinstance(other, list):
        for index, (a, b) in enumerate(zip(one, other, strict=False)):
            if found := _difference(a, b, f"{path}[{index}]"):
                return found
        return "" if len(one) == len(other) else f"{path} has {len(one)} items stored, {len(other)} recomputed"
    same = one == other and type(one) is type(other)
    return "" if same else f"{path}: stored {one!r}, recomputed {other!r}"

"""What conditions ask of Prometheus: one batch of range queries, all up to one pinned time.

The key of a query is its expression: the same expression is asked once, however many conditions use it, and the
record says by itself what was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from firebreak.domain.condition import Condition, ConditionKind, MetricQuery


def newest_sample(selector: str) -> str:
    """Unix time of the newest sample that a selector matches: a query's own time says nothing about age."""
    return f"max(timestamp({selector}))"


def expressions_of(condition: Condition) -> tuple[str, ...]:
    """All expressions that one condition is judged by; none for a label condition and for one with a fault."""
    if condition.fault or condition.kind is ConditionKind.LABEL:
        return ()
    return tuple(dict.fromkeys(_expressions(condition)))


def _expressions(condition: Condition) -> Iterator[str]:
    if condition.kind is ConditionKind.METRIC:
        yield condition.query
    if condition.volume is not None:
        yield condition.volume.query
    for flow in condition.flows:
        yield flow.success_query
        yield flow.volume_ratio_query
    for selector in condition.inputs:
        yield newest_sample(selector)


def batch_of(conditions: Sequence[Condition]) -> tuple[MetricQuery, ...]:
    """The queries of all conditions, each expression once, in order of first use."""
    found = dict.fromkeys(expr for condition in conditions for expr in expressions_of(condition))
    return tuple(MetricQuery(key=expr, expr=expr) for expr in found)


def step_of(conditions: Sequence[Condition]) -> timedelta:
    """The step of the batch: the finest that a condition asks for; 1 s for none."""
    return min((condition.sample_step for condition in conditions), default=timedelta(seconds=1))


_FURTHEST = 1_000
"""Steps that a look reaches back for a sample alone. Prometheus refuses more than 11,000, of all queries of a batch."""


def span_of(conditions: Sequence[Condition]) -> timedelta:
    """How far before the pinned time the range query starts: the longest `for`, or the longest `stale_after` where that
    is more, in whole steps of `step_of`, and one step more. Whole steps, so that the last step is the pinned time
    itself. VictoriaMetrics reads no sample from further back than a step before the range: a fresh one must not be."""
    step = step_of(conditions)
    fresh = max((c.stale_after for c in conditions if c.inputs), default=timedelta(0))
    return max(hold_span(conditions), (min(whole_steps(fresh, step), _FURTHEST) + 1) * step)


def hold_span(conditions: Sequence[Condition]) -> timedelta:
    """The longest `for` in whole steps, and one step more: so long it takes at most to see that it has held."""
    step = step_of(conditions)
    longest = max((condition.held_for for condition in conditions), default=timedelta(0))
    return (whole_steps(longest, step) + 1) * step


def whole_steps(span: timedelta, step: timedelta) -> int:
    """Steps that cover a span: 120 s in steps of 15 s are 8, in steps of 50 s they are 3."""
    return -(-span // step)

"""Condition blocks (`firebreak.documents.condition_block`): the check of their names and PromQL, and their rendering
to a domain Condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.durations import promql_duration, spoken
from firebreak.documents.promql import QueryFault, check_query, placeholders, render_query, selectors, without_comments
from firebreak.documents.yaml_file import Finding
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.condition import Comparison, Condition, ConditionKind, ScoreFlow, VolumeFloor
from firebreak.domain.errors import RunbookInvalid

MOST_POINTS = 10_000
"""Of one range query. Prometheus refuses more than 11,000 (`web/api/v1`), and with one condition its whole batch."""

DEFAULT_STEP = timedelta(seconds=15)  # of range queries, where a document names no `step`
STANDARD_BINDINGS = frozenset({"service", "namespace", "workload", "cluster"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """Names that a document may use: what `check_condition` checks against."""

    durations: frozenset[str]
    thresholds: frozenset[str]
    bindings: frozenset[str] = STANDARD_BINDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """Values for all names. `baseline` is PromQL as it stands behind a selector: ` offset 7d` or ` @ 1700000000`."""

    durations: Mapping[str, timedelta]
    thresholds: Mapping[str, float]
    bindings: Mapping[str, str]
    baseline: str = " offset 7d"
    promql_durations: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        texts = {name: promql_duration(span) for name, span in self.durations.items()}
        object.__setattr__(self, "promql_durations", texts)

    @property
    def step(self) -> timedelta:
        """Resolution of range queries: the duration named `step`, or 15 s. One for all conditions of a document."""
        return self.durations.get("step", DEFAULT_STEP)

    def query(self, template: str) -> str:
        """ValueError naming a placeholder without a value."""
        return render_query(
            template,
            durations=self.promql_durations,
            bindings=self.bindings,
            thresholds=self.thresholds,
            baseline=self.baseline,
        )

    def number(self, value: float | str) -> float:
        """ValueError for an unknown `$name`."""
        if not isinstance(value, str):
            return value
        if value[1:] not in self.thresholds:
            raise ValueError(f"threshold {value} has no value here")
        return self.thresholds[value[1:]]

    def span(self, value: timedelta | str) -> timedelta:
        """ValueError for an unknown `$name`."""
        if not isinstance(value, str):
            return value
        if value[1:] not in self.durations:
            raise ValueError(f"duration {value} has no value here")
        return self.durations[value[1:]]


def check_condition(name: str, block: ConditionBlock, known: KnownNames) -> tuple[Finding, ...]:
    """Everything wrong with one block that its model cannot see: names and PromQL. Paths start at the block; place
    them with `Finding.under((..., name))`."""
    return tuple(_findings(block, known))


def _findings(block: ConditionBlock, known: KnownNames) -> Iterator[Finding]:
    for key, span in (("for", block.for_), ("stale_after", block.stale_after)):
        if block.kind is not ConditionKind.LABEL:
            yield from _unknown((key,), span, known.durations, "duration")
    if block.stale_after == timedelta(0):
        yield Finding(("stale_after",), "a duration must be longer than nothing: no sample is that new")
    if block.threshold is not None:
        yield from _unknown(("threshold",), block.threshold, known.thresholds, "threshold")
    if block.query is not None:
        yield from _query(("query",), block.query, known)
    for index, selector in enumerate(block.inputs):
        yield from _query(("inputs", index), selector, known, selector_only=True)
    if block.volume is not None:
        yield from _query(("volume", "query"), block.volume.query, known)
        yield from _unknown(("volume", "at_least"), block.volume.at_least, known.thresholds, "threshold")
    for flow_name, flow in (block.score.flows if block.score else {}).items():
        base: NodePath = ("score", "flows", flow_name)
        yield from _query((*base, "success"), flow.success, known)
        yield from _query((*base, "volume_ratio"), flow.volume_ratio, known)
        yield from _weight((*base, "weight"), flow.weight, known, least=0.0)
        yield from _weight((*base, "volume_weight"), flow.volume_weight, known, most=1.0)
    if block.score and all(flow.weight == 0.0 for flow in block.score.flows.values()):
        yield Finding(("score", "flows"), "at least one flow needs a weight above 0")


def _weight(
    path: NodePath, value: float | str, known: KnownNames, *, least: float = 0.0, most: float = float("inf")
) -> Iterator[Finding]:
    yield from _unknown(path, value, known.thresholds, "threshold")
    if not isinstance(value, str) and not least <= value <= most:
        yield Finding(path, f"{value:g} is out of range: at least {least:g}, at most {most:g}")


def _unknown(path: NodePath, value: Any, known: frozenset[str], what: str) -> Iterator[Finding]:
    if isinstance(value, str) and value[1:] not in known:
        names = ", ".join(f"${name}" for name in sorted(known)) or "none"
        yield Finding(path, f"unknown {what} {value}; known here: {names}", token=value)


def too_many_points(held_for: timedelta, step: timedelta) -> str:
    """Why a range query of that length cannot be asked; empty when it can."""
    points = held_for / step if step > timedelta(0) else 0.0  # a step of nothing is a finding of its own
    if points <= MOST_POINTS:
        return ""
    return f"{spoken(held_for)} in steps of {step.total_seconds():g} s are {points:.0f} points, more than {MOST_POINTS}"


def _query(path: NodePath, query: str, known: KnownNames, *, selector_only: bool = False) -> Iterator[Finding]:
    faults: tuple[QueryFault, ...] = check_query(
        query,
        durations=known.durations,
        bindings=known.bindings,
        thresholds=frozenset() if selector_only else known.thresholds,
        selector_only=selector_only,
    )
    for fault in faults:
        yield Finding(path, fault.message, token=fault.token, nth=fault.nth)


def render_condition(name: str, block: ConditionBlock, rendering: Rendering) -> Condition:
    """The block with every name filled in. RunbookInvalid naming the condition and the name that has no value."""
    try:
        return _render(name, block, rendering)
    except ValueError as broken:
        raise RunbookInvalid(f"condition {name!r} cannot be rendered: {broken}") from None


_OWN = frozenset({"service", "workload"})
"""Placeholders that make a query one about this incident's own service."""


def is_own(block: ConditionBlock) -> bool:
    """Whether it asks about the incident's own service or workload, be its placeholders' values known or not."""
    return block.query is not None and not _OWN.isdisjoint(placeholders(block.query))


def _render(name: str, block: ConditionBlock, rendering: Rendering) -> Condition:
    if block.kind is ConditionKind.LABEL:
        return Condition(
            name=name,
            kind=ConditionKind.LABEL,
            dimension=block.dimension,
            title=block.title,
            label=block.label or "",
            label_values=block.in_,
            sample_step=rendering.step,
        )
    flows = tuple(
        ScoreFlow(
            name=flow_name,
            weight=rendering.number(flow.weight),
            success_query=rendering.query(flow.success),
            volume_ratio_query=rendering.query(flow.volume_ratio),
            volume_weight=rendering.number(flow.volume_weight),
            absence=flow.absent,
        )
        for flow_name, flow in (block.score.flows if block.score else {}).items()
    )
    held_for = rendering.span(block.for_)
    if why := too_many_points(held_for, rendering.step):
        raise ValueError(why)
    volume = None
    if block.volume is not None:
        at_least = rendering.number(block.volume.at_least)
        volume = VolumeFloor(query=rendering.query(block.volume.query), at_least=at_least)
    return Condition(
        name=name,
        kind=block.kind,
        dimension=block.dimension,
        title=block.title,
        unit=block.unit,
        query=rendering.query(block.query) if block.query else "",
        own=is_own(block),
        comparison=block.op or Comparison.GT,
        threshold=rendering.number(block.threshold if block.threshold is not None else 0.0),
        held_for=held_for,
        inputs=tuple(without_comments(rendering.query(selector)) for selector in block.inputs) or _inputs_of(flows),
        stale_after=rendering.span(block.stale_after),
        sample_step=rendering.step,
        volume=volume,
        absence=block.absent,
        flows=flows,
    )


def _inputs_of(flows: tuple[ScoreFlow, ...]) -> tuple[str, ...]:
    """What a score reads of the present, where the block does not say it: its flows' unshifted selectors."""
    queries = [query for flow in flows for query in (flow.success_query, flow.volume_ratio_query)]
    found = [selector.text for query in queries for selector in selectors(query) if not selector.shifted]
    return tuple(dict.fromkeys(found))

"""The times of a runbook: each long enough to mean something, and all of them fitting together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from firebreak.documents.conditions import DEFAULT_STEP, too_many_points
from firebreak.documents.promql import placeholders
from firebreak.documents.yaml_file import Finding
from firebreak.domain.condition import ConditionKind
from firebreak.plans.model import RunbookModel
from firebreak.plans.parts import queries_of, watches

_NOTHING = timedelta(0)


def lengths(model: RunbookModel) -> Iterator[Finding]:
    """Named durations of nothing where Prometheus refuses them, or no evidence could ever count: in a query, as the
    step of range queries, as the age of a sample. Settling may take no time."""
    measured = [block for block in model.conditions.values() if block.kind is not ConditionKind.LABEL]
    longer = {"step"} | {block.stale_after[1:] for block in measured if isinstance(block.stale_after, str)}
    for block in measured:
        longer.update(name for _, query in queries_of(block) for name in placeholders(query))
    for name, span in model.durations.items():
        if span <= _NOTHING and name in longer:
            yield Finding(("durations", name), "a duration must be longer than nothing")


def timings(model: RunbookModel, overrides: Mapping[str, timedelta]) -> Iterator[Finding]:
    """Times that do not fit together with a policy's `overrides` in force. Every `$name` must be known."""
    ours = {*model.durations, "step"}  # `step` is everybody's (plans.pin)
    values = {**model.durations, **{name: span for name, span in overrides.items() if name in ours}}

    def span(value: timedelta | str) -> timedelta:
        return values[value[1:]] if isinstance(value, str) else value

    step = values.get("step", DEFAULT_STEP)
    if span(model.hold) <= _NOTHING:
        yield Finding(("hold",), "hold must be longer than nothing")
    if why := too_many_points(span(model.hold), step):
        yield Finding(("hold",), why)
    for name, condition in model.conditions.items():
        if why := too_many_points(span(condition.for_), step):
            yield Finding(("conditions", name, "for"), why)
    for path, block, settle in watches(model):
        what = path[-1]
        hold, within, poll, settled = span(block.hold), span(block.within), span(block.poll), span(settle)
        if hold <= _NOTHING:
            yield Finding((*path, "hold"), f"{what}: hold must be longer than nothing: one moment proves nothing")
        if why := too_many_points(hold, step):
            yield Finding((*path, "hold"), f"{what}: {why}")
        if within <= hold + settled:
            sums = "settle and hold together" if settled else "hold"
            yield Finding((*path, "within"), f"{what}: within must be longer than {sums}, or it can never be met")
        if not _NOTHING < poll <= within:
            yield Finding((*path, "poll"), f"{what}: poll must be longer than nothing and at most within")

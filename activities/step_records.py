"""What is stored about a step, and what the stored entries say: the only way from the record to a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from activities import notices
from activities.casebook import step_body
from activities.messages import StepInput
from activities.stops import hands_off
from firebreak.domain import ids
from firebreak.domain.action import Effect, EffectOutcome
from firebreak.domain.codec import from_data
from firebreak.domain.condition import Truth
from firebreak.domain.message import MessageDraft, NoticeKind
from firebreak.domain.plan import Plan, StepRecord, StepStatus
from firebreak.domain.ports import Clock
from firebreak.domain.target import BoundTarget
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry

_STATUS = {
    EffectOutcome.APPLIED: StepStatus.APPLIED,
    EffectOutcome.ALREADY_APPLIED: StepStatus.APPLIED,
    EffectOutcome.NOT_APPLIED: StepStatus.APPLIED,  # the world was already so: nothing written, verified all the same
    EffectOutcome.REFUSED: StepStatus.REFUSED,
    EffectOutcome.UNKNOWN: StepStatus.FAILED,
    EffectOutcome.WOULD_APPLY: StepStatus.WOULD_APPLY,
}
WROTE = {EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED, EffectOutcome.UNKNOWN}
"""Outcomes after which the cluster was, or may have been, changed by us."""


def step_entry(kind: str, given: StepInput) -> str:
    """Key of a step's entry: `intent/0.0`, `effect/0.0`, `verify/0.0` ..."""
    return ids.move_key(kind, given.tier, given.step)


class StepEntries:
    """Drafts of a step's entries and messages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def draft(
        self,
        given: StepInput,
        plan: Plan,
        key: str,
        kind: EntryKind,
        bound: BoundTarget | None = None,
        took: float | None = None,
        **more: Any,
    ) -> EntryDraft:
        """`bound`: the object that the step reads and writes; without it the entry is about the plan's target."""
        step = plan.step(given.tier, given.step)
        return EntryDraft(
            incident_id=given.incident_id,
            key=step_entry(key, given),
            kind=kind,
            at=self._clock.now(),
            body=step_body(plan, given.tier, given.step, **more),
            target=(step.target or plan.target).text if bound is None else bound.ref.text,
            uid="" if bound is None else bound.uid,
            duration_ms=took,
        )

    def tell(self, given: StepInput, notice: NoticeKind, what: str) -> MessageDraft:
        return notices.chat(
            given.incident_id, notice, step_entry(what, given), self._clock.now(), tier=given.tier, step=given.step
        )


def record_of(given: StepInput, entry: TimelineEntry) -> StepRecord:
    """The step's record as the stored entry tells it: the only way from the store to a decision."""
    body = entry.body
    wrote = False
    looked = entry.kind in (EntryKind.VERIFICATION, EntryKind.HOLD_ENDED)
    if entry.kind is EntryKind.STEP_REFUSED:
        status, reason = StepStatus.REFUSED, str(body["reason"])
    elif entry.kind is EntryKind.STEP_WOULD_APPLY:
        status, reason = StepStatus.WOULD_APPLY, str(body["check"]["reason"])
    elif looked:
        status, reason, wrote = StepStatus(body["outcome"]), str(body["reason"]), bool(body["wrote"])
    else:
        effect = from_data(Effect, body["effect"])
        status, reason, wrote = _STATUS[effect.outcome], effect.reason, effect.outcome in WROTE
        if entry.kind is EntryKind.UNDO_RECORDED:
            undone = effect.outcome in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED)
            status = StepStatus.UNDONE if undone else StepStatus.UNDO_FAILED
    seen_at = entry.at if looked and _measured(body["conditions"]) else None
    return StepRecord(tier=given.tier, step=given.step, status=status, reason=reason, wrote=wrote, seen_at=seen_at)


def handed_over(given: StepInput, entry: TimelineEntry, status: StepStatus, *, wrote: bool = False) -> StepRecord:
    """Of what is not done or decided any more: `entry`, one of HANDS_OFF, says why, and stays. No entry of its own."""
    return StepRecord(tier=given.tier, step=given.step, status=status, reason=hands_off(entry), wrote=wrote)


def _measured(conditions: Sequence[Mapping[str, Any]]) -> bool:
    """A look that could measure nothing is no evidence that anything may rest on."""
    truths = {condition["truth"] for condition in conditions}
    return Truth.FALSE.value in truths or Truth.INCONCLUSIVE.value not in truths

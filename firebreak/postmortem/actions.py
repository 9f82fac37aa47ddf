"""What was planned, and what became of each step: before and after, verification, undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from firebreak.domain.action import CheckOutcome, EffectOutcome
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading
from firebreak.postmortem.model import ActionPart, FieldLine, PlannedStep, PlanPart, RestorePart, StepState
from firebreak.postmortem.verdicts import conditions_of

PAGE_ACTION = "page"

_STATE_OF_EFFECT = {
    EffectOutcome.APPLIED.value: StepState.APPLIED,
    EffectOutcome.ALREADY_APPLIED.value: StepState.APPLIED,
    EffectOutcome.NOT_APPLIED.value: StepState.ALREADY_SO,  # nothing to write: the world was as wanted
    EffectOutcome.REFUSED.value: StepState.REFUSED,
    EffectOutcome.UNKNOWN.value: StepState.UNKNOWN,
    EffectOutcome.WOULD_APPLY.value: StepState.WOULD_APPLY,
}
_UNDONE = (EffectOutcome.APPLIED.value, EffectOutcome.ALREADY_APPLIED.value, EffectOutcome.WOULD_APPLY.value)


def plan_of(entries: Sequence[TimelineEntry]) -> PlanPart | None:
    """The pinned plan, its steps in order."""
    body = next((e.body for e in entries if e.kind is EntryKind.PLAN_PINNED), None)
    if body is None:
        return None
    return PlanPart(
        runbook=reading.text(body, "runbook"),
        source=reading.text(body, "source"),
        source_digest=reading.text(body, "source_digest"),
        digest=reading.text(body, "digest"),
        reason=reading.text(body, "reason"),
        steps=tuple(
            PlannedStep(
                tier=t,
                tier_name=reading.text(tier, "name"),
                step=s,
                step_id=reading.text(step, "id"),
                action=reading.text(step, "action"),
            )
            for t, tier in enumerate(reading.items(body, "tiers"))
            for s, step in enumerate(reading.items(tier, "steps"))
        ),
    )


def actions_of(entries: Sequence[TimelineEntry], plan: PlanPart | None) -> tuple[ActionPart, ...]:
    """Every step of the plan, and every step that has entries without a plan to be found, in the order of tiers."""
    steps: dict[tuple[int, int], ActionPart] = {}
    for planned in plan.steps if plan else ():
        steps[planned.tier, planned.step] = ActionPart(
            tier=planned.tier,
            tier_name=planned.tier_name,
            step=planned.step,
            step_id=planned.step_id,
            action=planned.action,
            state=StepState.NOT_TRIED,
            reason="",
        )
    for entry in entries:
        if (tell := _TELLS.get(entry.kind)) is not None:
            place = (reading.whole(entry.body, "tier"), reading.whole(entry.body, "step"))
            steps[place] = tell(steps.get(place) or _unplanned(place, entry.body), entry)
    call = next((e for e in entries if e.kind is EntryKind.PERSON_CALLED), None)
    return tuple(_paged(steps[place], call) for place in sorted(steps))


def _paged(part: ActionPart, call: TimelineEntry | None) -> ActionPart:
    """The page tier has no entries of its own: the call is its effect."""
    if call is None or part.action != PAGE_ACTION or part.state is not StepState.NOT_TRIED:
        return part
    return replace(part, state=StepState.PERSON_CALLED, reason=reading.text(call.body, "reason"), effect_at=call.at)


def _unplanned(place: tuple[int, int], body: Mapping[str, Any]) -> ActionPart:
    return ActionPart(
        tier=place[0],
        tier_name=reading.text(body, "tier_name"),
        step=place[1],
        step_id=reading.text(body, "step_id"),
        action=reading.text(body, "action"),
        state=StepState.NOT_TRIED,
        reason="",
    )


def _checked(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    check = reading.mapping(entry.body, "check")
    state = part.state
    if reading.text(check, "outcome") == CheckOutcome.ALREADY_SO.value:
        state = StepState.ALREADY_SO
    return _aimed(
        replace(part, state=state, reason=reading.text(check, "reason"), changes=_changes(check) or part.changes),
        entry,
        check,
    )


def _refused(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    reason = reading.text(entry.body, "reason")
    return _aimed(replace(part, state=StepState.REFUSED, reason=reason), entry, {})


def _intended(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    intent = reading.mapping(entry.body, "intent")
    if intent.get("undo") is True:
        return part  # told by the entry of the undo itself
    return _aimed(
        replace(part, state=StepState.INTENDED, intent_at=entry.at, changes=_changes(intent) or part.changes),
        entry,
        intent,
    )


def _affected(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    effect = reading.mapping(entry.body, "effect")
    outcome = reading.text(effect, "outcome")
    done = replace(
        part,
        state=_STATE_OF_EFFECT.get(outcome, StepState.UNKNOWN),
        reason=reading.text(effect, "reason") or part.reason,
        effect_at=entry.at,
        effect=outcome,
        changes=_changes(effect) or part.changes,
    )
    return _aimed(done, entry, effect)


def _would_apply(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    check = reading.mapping(entry.body, "check")
    reason = reading.text(check, "reason") or part.reason
    done = replace(part, state=StepState.WOULD_APPLY, reason=reason, effect_at=entry.at)
    return _aimed(replace(done, changes=_changes(check) or part.changes), entry, check)


def _verified(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    outcome = reading.text(entry.body, "outcome")
    seen = replace(
        part, verification=outcome, looks=part.looks + 1, conditions=conditions_of(entry.body) or part.conditions
    )
    if outcome == "verified":
        seen = replace(seen, state=StepState.VERIFIED, verified_at=entry.at)
    elif outcome == "not_verified":
        seen = replace(seen, state=StepState.NOT_VERIFIED)
    return replace(seen, reason=reading.text(entry.body, "reason") or part.reason)


def _held(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    """A relapse takes the verification back; a hold to its end confirms it."""
    told = _verified(part, entry)
    if reading.text(entry.body, "outcome") == "verified":
        return replace(told, verified_at=part.verified_at or entry.at, looks=part.looks, conditions=part.conditions)
    return replace(told, looks=part.looks)


def _undone(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    effect = reading.mapping(entry.body, "effect")
    outcome = reading.text(effect, "outcome")
    return replace(
        part,
        state=StepState.UNDONE if outcome in _UNDONE else StepState.UNDO_FAILED,
        undone_at=entry.at,
        undo=": ".join(t for t in (outcome.replace("_", " "), reading.text(effect, "reason")) if t),
        undo_changes=_changes(effect),
    )


_TELLS = {
    EntryKind.STEP_CHECKED: _checked,
    EntryKind.STEP_REFUSED: _refused,
    EntryKind.INTENT_RECORDED: _intended,
    EntryKind.EFFECT_RECORDED: _affected,
    EntryKind.STEP_WOULD_APPLY: _would_apply,
    EntryKind.VERIFICATION: _verified,
    EntryKind.HOLD_ENDED: _held,
    EntryKind.UNDO_RECORDED: _undone,
}


def _aimed(part: ActionPart, entry: TimelineEntry, told: Mapping[str, Any]) -> ActionPart:
    """With the target that the entry itself names, else the one inside its body."""
    return replace(
        part,
        target=entry.target or reading.target_text(told, "target") or part.target,
        uid=entry.uid or reading.text(told, "target", "uid") or part.uid,
    )


def _changes(data: Mapping[str, Any]) -> tuple[FieldLine, ...]:
    return tuple(
        FieldLine(
            path=reading.text(change, "path"),
            before=reading.text(change, "before"),
            after=reading.text(change, "after"),
        )
        for change in reading.items(data, "changes")
    )


def restores_of(entries: Sequence[TimelineEntry]) -> tuple[RestorePart, ...]:
    """Steps that are to be taken back, with how that ended."""
    found: dict[tuple[int, int], RestorePart] = {}
    for entry in entries:
        if entry.kind not in (EntryKind.RESTORE_OPENED, EntryKind.RESTORE_ENDED):
            continue
        place = (reading.whole(entry.body, "tier"), reading.whole(entry.body, "step"))
        ended = entry.kind is EntryKind.RESTORE_ENDED
        before = found.get(place)
        found[place] = RestorePart(
            tier=place[0],
            step=place[1],
            step_id=reading.text(entry.body, "step_id") or (before.step_id if before else ""),
            opened_at=before.opened_at if before else (None if ended else entry.at),
            ended_at=entry.at if ended else None,
            outcome=(reading.text(entry.body, "outcome") or "ended") if ended else "",
            reason=reading.text(entry.body, "reason"),
        )
    return tuple(found[place] for place in sorted(found))

"""What was planned, and what became of each step: before and after, verification, undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from firebreak.domain.action import CheckOutcome, EffectOutcome, ProgressState
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading
from firebreak.postmortem.in_force import NOT_KNOWN, WROTE, wrote_nothing
from firebreak.postmortem.model import ActionPart, FieldLine, PlannedStep, PlanPart, StepState
from firebreak.postmortem.verdicts import conditions_of

_STATE_OF_EFFECT = {
    EffectOutcome.APPLIED.value: StepState.APPLIED,
    EffectOutcome.ALREADY_APPLIED.value: StepState.APPLIED,
    EffectOutcome.NOT_APPLIED.value: StepState.ALREADY_SO,  # nothing to write: the world was as wanted
    EffectOutcome.REFUSED.value: StepState.REFUSED,
    EffectOutcome.UNKNOWN.value: StepState.UNKNOWN,
    EffectOutcome.WOULD_APPLY.value: StepState.WOULD_APPLY,
}
_STANDARD = frozenset({"service", "namespace", "workload", "cluster"})  # every plan has these bindings


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
                undo=reading.text(step, "undo"),
                approval=reading.text(step, "approval"),
                checks=tuple(_check_words(check, body) for check in reading.items(step, "check")),
            )
            for t, tier in enumerate(reading.items(body, "tiers"))
            for s, step in enumerate(reading.items(tier, "steps"))
        ),
    )


def _check_words(check: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """`dependency_is_dead (no version answers its probe; dependency recommend)`: which of the service's own bindings
    the condition asks about, too."""
    query = reading.text(check, "query")
    about = [
        f"{name} {value}"
        for name, value in sorted(reading.mapping(body, "bindings").items())
        if name not in _STANDARD and isinstance(value, str) and f'"{value}"' in query
    ]
    more = "; ".join(t for t in (reading.text(check, "title"), *about) if t)
    return reading.text(check, "name") + (f" ({more})" if more else "")


def actions_of(entries: Sequence[TimelineEntry], plan: PlanPart | None) -> tuple[ActionPart, ...]:
    """Every step of the plan, and every step that has entries without a plan to be found, in the order of tiers. What
    became of the page tier is told by the messages (`firebreak/postmortem/people.py`)."""
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
    return tuple(steps[place] for place in sorted(steps))


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
    changes = changes_of(check) or part.changes
    reason = reading.text(check, "reason")
    return replace(part, state=state, reason=reason, changes=changes, **_aim(part, entry, check))


def _refused(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    reason = reading.text(entry.body, "reason")
    return replace(part, state=StepState.REFUSED, reason=reason, **_aim(part, entry, {}))


def _intended(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    intent = reading.mapping(entry.body, "intent")
    if intent.get("undo") is True:
        return part  # told by the entry of the undo itself
    changes = changes_of(intent) or part.changes
    return replace(part, state=StepState.INTENDED, intent_at=entry.at, changes=changes, **_aim(part, entry, intent))


def _affected(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    effect = reading.mapping(entry.body, "effect")
    outcome = reading.text(effect, "outcome")
    return replace(
        part,
        state=_STATE_OF_EFFECT.get(outcome, StepState.UNKNOWN),
        reason=reading.text(effect, "reason") or part.reason,
        effect_at=entry.at,
        effect=outcome,
        changes=changes_of(effect) or part.changes,
        **_aim(part, entry, effect),
    )


def _would_apply(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    check = reading.mapping(entry.body, "check")
    return replace(
        part,
        state=StepState.WOULD_APPLY,
        reason=reading.text(check, "reason") or part.reason,
        effect_at=entry.at,
        changes=changes_of(check) or part.changes,
        **_aim(part, entry, check),
    )


def _verified(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    seen = conditions_of(entry.body) or part.conditions
    return replace(part, looks=part.looks + 1, conditions=seen, **_judged(part, entry, entry.at))


def _held(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    """A relapse takes the verification back; a hold to its end confirms it."""
    judged = _judged(part, entry, part.verified_at or entry.at)
    if judged["verification"] == "verified":
        return replace(part, **judged)
    return replace(part, conditions=conditions_of(entry.body) or part.conditions, **judged)


def _judged(part: ActionPart, entry: TimelineEntry, verified_at: datetime) -> dict[str, Any]:
    """What a verification, or a hold after one, says of the step; `verified_at` if it says that it was verified."""
    outcome = reading.text(entry.body, "outcome")
    told = {"verification": outcome, "reason": reading.text(entry.body, "reason") or part.reason}
    if outcome == "verified":  # what wrote nothing did not heal: whoever had made it so did, or it healed by itself
        state = StepState.VERIFIED_AS_IT_WAS if wrote_nothing(part) else StepState.VERIFIED
        return told | {"state": state, "verified_at": verified_at}
    changed = reading.text(entry.body, "progress", "state") == ProgressState.CHANGED.value
    bad = StepState.CHANGED if changed else _NOT_GOOD.get(outcome)
    return told if bad is None else told | {"state": bad}


_NOT_GOOD = {"not_verified": StepState.NOT_VERIFIED, "undecided": StepState.UNDECIDED}


def _undone(part: ActionPart, entry: TimelineEntry) -> ActionPart:
    effect = reading.mapping(entry.body, "effect")
    outcome = reading.text(effect, "outcome")
    if outcome == EffectOutcome.WOULD_APPLY.value:  # the mode was switched after the write: the step is in force
        return replace(part, state=StepState.NOT_TAKEN_BACK, undone_at=entry.at, undo=StepState.NOT_TAKEN_BACK.value)
    told = NOT_KNOWN if outcome == EffectOutcome.UNKNOWN.value else outcome.replace("_", " ")
    return replace(
        part,
        state=StepState.UNDONE if outcome in WROTE else StepState.UNDO_FAILED,
        undone_at=entry.at,
        undo=": ".join(t for t in (told, reading.text(effect, "reason")) if t),
        undo_changes=changes_of(effect),
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


ABOUT_ACTIONS = frozenset({*_TELLS, EntryKind.PLAN_PINNED})
"""Kinds that `actions_of` looks at."""


def _aim(part: ActionPart, entry: TimelineEntry, told: Mapping[str, Any]) -> dict[str, Any]:
    """The target that the entry itself names, else the one inside its body."""
    return {
        "target": entry.target or reading.target_text(told, "target") or part.target,
        "uid": entry.uid or reading.text(told, "target", "uid") or part.uid,
    }


def changes_of(data: Mapping[str, Any]) -> tuple[FieldLine, ...]:
    """The touched fields of a stored check, intent or effect."""
    return tuple(
        FieldLine(
            path=reading.text(change, "path"),
            before=reading.text(change, "before"),
            after=reading.text(change, "after"),
        )
        for change in reading.items(data, "changes")
        if reading.text(change, "before") != reading.text(change, "after")  # a guard is no change
    )

"""Steps that the engine wrote and nothing has taken back: a person has to know of each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from firebreak.domain.action import EffectOutcome
from firebreak.domain.plan import UndoRule
from firebreak.postmortem import wording
from firebreak.postmortem.model import ActionPart, FieldLine, PlanPart, RestorePart, StepState

RESTART_ACTION = "restart_workload"
PAGE_ACTION = "page"

WROTE = frozenset({EffectOutcome.APPLIED.value, EffectOutcome.ALREADY_APPLIED.value})
NOT_KNOWN = "whether it was taken back is not known"
"""Told of a step whose undo, or restore, may have been written."""
_UNDO_DID_NOT = frozenset({StepState.UNDO_FAILED, StepState.NOT_TAKEN_BACK})
_NOTHING_TO_PUT_BACK = frozenset({RESTART_ACTION, PAGE_ACTION})  # where the record does not tell the plan's undo rule


def wrote_nothing(part: ActionPart) -> bool:
    """By its effect: the world was already as the step wanted it."""
    return part.effect == EffectOutcome.NOT_APPLIED


def as_it_stands(part: ActionPart) -> str:
    """`, which was already so,` of a step that wrote nothing, else `, which is still in force,`."""
    return ", which was already so," if wrote_nothing(part) else ", which is still in force,"


def in_force(
    *, plan: PlanPart | None, actions: Sequence[ActionPart], restores: Sequence[RestorePart], left_alone: bool
) -> tuple[str, ...]:
    """One sentence for each step that was written, is not undone, and that no restore covers (one that waits, or that
    took it back). `left_alone`: the engine undoes nothing more, since the incident is over or a person has it; before
    that only those that could not be undone."""
    rules = {(p.tier, p.step): p.undo for p in plan.steps} if plan else {}
    ends = {(r.tier, r.step): r for r in restores}
    found = []
    for part in actions:
        place = (part.tier, part.step)
        restore = ends.get(place)
        if part.state is StepState.UNDONE or (restore and (restore.taken_back or not restore.outcome)):
            continue
        given_up = part.state in _UNDO_DID_NOT or (restore is not None and restore.outcome != "undone")
        left = left_alone and part.effect in WROTE and undoable(part, rules.get(place, ""))
        if given_up or left:
            found.append(_sentence(part, restore))
    return tuple(found)


def undoable(part: ActionPart, rule: str) -> bool:
    """Whether the engine can take the step back: by the plan's undo `rule`, where the record tells it."""
    return rule == UndoRule.BY_ACTION if rule else part.action not in _NOTHING_TO_PUT_BACK


def _sentence(part: ActionPart, restore: RestorePart | None) -> str:
    fields = ", ".join(_back(change) for change in part.changes) or "put it back"
    # What was refused may be so because somebody has changed it, or it is gone.
    unsure = (
        part.state in (StepState.CHANGED, StepState.UNDO_FAILED)
        or NOT_KNOWN in part.undo
        or (restore is not None and (restore.outcome == "refused" or NOT_KNOWN in restore.told))
    )
    verb = "is" if part.effect in WROTE and not unsure else "may be"
    where = f" on {wording.clean(part.target, 100)}" if part.target else ""  # early: a page cuts the end off
    step = f"Step {wording.clean(part.step_id, 60)} {verb} still in force{where}"
    more = [f"{step}: {fields} by hand, or keep it on purpose"]
    if part.state in _UNDO_DID_NOT:
        more.append(f"undo: {part.undo}")
    if restore is not None and restore.outcome != "undone":
        said = restore.outcome in ("refused", "unknown") and restore.reason.startswith("not ")  # "not taken back: ..."
        more.append(f"restore: {restore.reason if said else ': '.join(filter(None, (restore.told, restore.reason)))}")
    return wording.sentence("; ".join(more))


def _back(change: FieldLine) -> str:
    return f"put {wording.clean(change.path, 160)} back from {plain(change.after)} to {plain(change.before)}"


def plain(text: str) -> str:
    """A stored JSON text as one short word for people: `"true"` -> `true`, `null` -> `absent`."""
    if text in ("", "null"):
        return "absent"
    try:
        shown = json.loads(text)
    except ValueError:
        shown = text
    return wording.clean(shown if isinstance(shown, str) and shown else text, 60)

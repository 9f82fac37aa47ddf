"""What a message is about: the step it names, what was tried, why a person is called."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from firebreak.domain.incident import Mode
from firebreak.postmortem import reading, wording
from firebreak.postmortem.in_force import PAGE_ACTION
from firebreak.postmortem.model import WORKFLOW_ENDED, ActionPart, Case, FaultLine, StepState

_STOPPED = frozenset(
    {StepState.UNKNOWN, StepState.UNDECIDED, StepState.CHANGED, StepState.UNDO_FAILED, StepState.NOT_TAKEN_BACK}
)
"""After these nothing more is written: a person is called (`firebreak/plans/next_move.py`)."""


def step_of(case: Case, told: Mapping[str, Any]) -> ActionPart | None:
    """The step that the message names, else the one that something was done to last."""
    done = [a for a in tried(case) if a.effect_at]
    return named_step(case, told) or (max(done, key=lambda a: (a.effect_at, a.tier, a.step)) if done else None)


def named_step(case: Case, told: Mapping[str, Any]) -> ActionPart | None:
    """The step that the message names."""
    place = (reading.whole(told, "tier"), reading.whole(told, "step"))
    return next((a for a in case.actions if (a.tier, a.step) == place), None)


def goes_on(case: Case, told: Mapping[str, Any]) -> bool:
    """Whether the engine may still write: it has a plan, will look again, or has not looked yet, and neither has it
    called a person nor must it, nor has a person asked for its end."""
    if case.closed_at is not None or case.asked_to_end or observes(case, told) or called(case):
        return False
    if not (case.plan or tried(case) or _looks_again(case)):
        return False
    return not stopped(case) and not any(waits_for_approval(case, a) for a in case.actions)


def stopped(case: Case) -> bool:
    """Whether nothing more is tried, and nothing undone, by what came of a step, or of the workflow: a person is
    called."""
    return workflow_ended(case) or any(a.state in _STOPPED for a in case.actions)


def workflow_ended(case: Case) -> bool:
    """Nobody looks at the incident any more, and only `firebreak close` ends it (`firebreak/engine/sweeper.py`)."""
    return any(fault.where == WORKFLOW_ENDED for fault in case.faults)


def _looks_again(case: Case) -> bool:
    """Or has not looked yet: it opened the incident and stood still since, and may act as soon as it runs. Without a
    target it never does."""
    if case.refusal:
        return False
    return bool(case.alerts) if case.verdict is None else case.verdict.again_at is not None


def looks_again_at(case: Case, told: Mapping[str, Any]) -> datetime | None:
    """When the engine, which has no plan yet, looks at the evidence again and may act on it; None where it does not."""
    return case.verdict.again_at if case.verdict and not case.plan and goes_on(case, told) else None


def healing(case: Case) -> ActionPart | None:
    """The step that the incident is healed by: the last one of a tier, and rather one that wrote. None = by no step, or
    not any more."""
    last = {a.tier: a.step for a in case.actions}
    verified = (StepState.VERIFIED, StepState.VERIFIED_AS_IT_WAS)
    found = [a for a in case.actions if a.step == last[a.tier] and a.state in verified]
    return max(found, key=lambda a: (a.state is StepState.VERIFIED, a.tier), default=None)


def called(case: Case) -> bool:
    """Whether a person was called and has it: nothing more is written then, also by a story that is started anew
    (`activities/stops.py`)."""
    return any(p.what == "called" for p in case.people)


def waits_for_approval(case: Case, part: ActionPart) -> bool:
    """Whether the step was refused and asks for a person's approval: then no later tier is tried."""
    asks = {(p.tier, p.step) for p in case.plan.steps if p.approval} if case.plan else set()
    return part.state is StepState.REFUSED and (part.tier, part.step) in asks


def tried(case: Case) -> list[ActionPart]:
    """Steps that something was done about; the page is told elsewhere."""
    return [a for a in case.actions if a.state is not StepState.NOT_TRIED and a.action != PAGE_ACTION]


def step_words(part: ActionPart | None) -> str:
    """`restart_workload pay-v1`."""
    if part is None:
        return "a step"
    where = part.target.rpartition("/")[2]
    return f"{part.action}{f' {wording.clean(where, 60)}' if where else ''}"


def call_reason(case: Case, told: Mapping[str, Any]) -> str:
    """Why a person is called: what the message says, else what the newest call says."""
    calls = [p.detail for p in case.people if p.what == "called"]
    return reading.text(told, "reason") or (calls[-1] if calls else "")


def of_the_engine(case: Case) -> FaultLine | None:
    """What is wrong with the engine itself, where the record is of no incident but of that."""
    return case.faults[-1] if case.faults and not case.alerts else None


def observes(case: Case, told: Mapping[str, Any]) -> bool:
    """Whether nothing is written: by the record, or by what the message says of the mode."""
    return case.observed_only or reading.text(told, "mode") == Mode.OBSERVE

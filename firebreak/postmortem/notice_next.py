"""The last line but one of each message: what its reader is to do now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firebreak.domain import ids
from firebreak.domain.action import EffectOutcome
from firebreak.domain.alert import REFUSED, TOO_LARGE
from firebreak.domain.message import NoticeKind
from firebreak.postmortem import reading, wording
from firebreak.postmortem.in_force import PAGE_ACTION, WROTE, as_it_stands, undoable
from firebreak.postmortem.model import ActionPart, Case, StepState
from firebreak.postmortem.notice_subject import (
    called,
    goes_on,
    healing,
    looks_again_at,
    named_step,
    observes,
    of_the_engine,
    step_of,
    step_words,
    stopped,
    tried,
    waits_for_approval,
    workflow_ended,
)

CLOSE = "firebreak close {id} --reason ..."
_OBSERVED = "do it by hand if you agree; mode observe writes nothing."
_A_PERSONS = "nothing more is written or verified: a person has it."
INTAKE, INBOX_FILE, RECORD_FILE, DATA_FILES = "intake", "inbox file", "record file", "data directory"
KEEPING, PROCESSES = "keeping alerts", "engine processes"
_ENDS_ITSELF = {
    INTAKE: "the alerts are taken up",
    INBOX_FILE: "the inbox can be read",
    RECORD_FILE: "the record can be read",
    KEEPING: "alerts can be kept",
    DATA_FILES: "the engine has been started again with this record; with another one, resolve it at the pager",
    PROCESSES: "the process runs again",
}
"""Where the fault is when accepted alerts wait, nobody can read them or the record, no alert can be kept, a file was
replaced under the engine, or one of its processes does not come back: `firebreak/engine/watch.py` resolves those pages
by itself."""


def next_step(kind: NoticeKind, case: Case, told: Mapping[str, Any]) -> str:
    """What the reader of a message of that kind is to do now. A message may be late: of an incident that is over by
    then, or whose end somebody has asked for, nothing is promised, and nobody is asked for anything but what is left of
    it. A call that came after the end, which nothing else ends, stays one."""
    stays = case.called_after_the_end and kind in (NoticeKind.PERSON_NEEDED, NoticeKind.DEADLINE)
    if kind not in _LAST_WORDS and not stays and (over := _when_over(case)):
        return over
    return _NEXT[kind](case, told)


def _after_classified(case: Case, told: Mapping[str, Any]) -> str:
    if observes(case, told):
        return "handle it by hand; in mode observe the engine writes nothing."
    if case.verdict and case.verdict.may_act:
        if goes_on(case, told):
            return "nothing yet; the engine works on it, and pages when it cannot heal it."
        return _A_PERSONS if called(case) else "a person is paged: the engine has stopped."
    if again_at := looks_again_at(case, told):
        return f"nothing yet; the engine looks again at {wording.clock(again_at)} UTC and may act then."
    return "handle it by hand; the engine may not act on this evidence."


def _after_write(case: Case, told: Mapping[str, Any]) -> str:
    part = step_of(case, told)
    if part is not None and part.effect == EffectOutcome.UNKNOWN:
        return "a person is paged; the outcome of the write is not known."
    if part is not None and part.effect == EffectOutcome.REFUSED:
        return f"nothing was written; {_after_tier(case, told)}"
    if part is not None and part.effect == EffectOutcome.WOULD_APPLY:
        return _OBSERVED
    if part is not None and (part.undone_at is not None or part.verification not in ("", "verified")):
        return _after_tier(case, told)
    if called(case):
        return _A_PERSONS
    how = "has been" if part is not None and part.verification else "is being"
    return f"it {how} verified by evidence; nothing to do yet."


def _when_over(case: Case) -> str:
    """Of a message that is sent, or a step that is refused, when the incident has been closed, or somebody has asked
    for that. Empty before."""
    ended = case.closed_at is not None
    if not ended and not case.asked_to_end:
        return ""
    over = "the incident is over" if ended else "somebody has asked for the incident's end, and has it"
    if case.in_force or any(a.state in (StepState.UNKNOWN, StepState.INTENDED) for a in case.actions):
        first = _first(case)
        return first if ended else f"nothing more is written: {over}. {wording.sentence(first)}"
    if waiting := [wording.clean(r.step_id, 60) for r in case.restores if not r.outcome]:
        return f"{over}; step {waiting[0]} is taken back by evidence, or a person is called."
    return f"nothing more is done: {over}."


def _after_tier(case: Case, told: Mapping[str, Any]) -> str:
    """What follows a tier that did not heal, in the order of `firebreak/plans/next_move.py`."""
    if called(case):
        return _A_PERSONS
    if stopped(case):
        return "nothing more is tried; a person is paged."
    part = step_of(case, told)
    if part is not None and any(waits_for_approval(case, a) for a in case.actions if a.tier == part.tier):
        return "no later tier is tried without the approval; a person is paged."
    return "the next tier is tried; a person is paged when none is left."


def _after_call(case: Case, told: Mapping[str, Any]) -> str:
    """Two calls leave the incident to the engine while that may still write: of a relapse, which names its step, and of
    what nobody has looked at in time, which names the mode (rows of an earlier version do not: who knows). All others
    are about what it has given up, as a step that is not taken back."""
    part = named_step(case, told)
    if goes_on(case, told) and (part or reading.text(told, "mode")):
        return _after_relapse(case, part) if part else _while_it_goes_on(case)
    return _by_hand(case, told)


def _while_it_goes_on(case: Case) -> str:
    doing = "is still trying" if tried(case) else "has taken no step yet and still may"
    return f"the engine {doing}; {_leave_it(case)}"


def _after_relapse(case: Case, part: ActionPart) -> str:
    rules = {(p.tier, p.step): p.undo for p in case.plan.steps} if case.plan else {}
    left = any(
        a.effect in WROTE and a.state is not StepState.UNDONE and undoable(a, rules.get((a.tier, a.step), ""))
        for a in case.actions
        if a.tier == part.tier
    )
    back = f"takes back what tier {wording.clean(part.tier_name, 30)} wrote, then " if left else ""
    more = any(a.tier > part.tier and a.action != PAGE_ACTION for a in case.actions)
    then = "tries the next tier" if more else "leaves it to you: no tier is left"
    return f"the engine {back}{then}; {_leave_it(case)}"


def _leave_it(case: Case) -> str:
    """Two that write at once undo each other's work. All calls of an incident are one alert at the pager (one dedup
    key): while that is open, whoever it woke is not woken again when the engine gives up."""
    hands_off = "watch it, no later call rings while this page is open. Change nothing by hand meanwhile"
    return f"{hands_off}; to take over, end it first: {CLOSE.format(id=case.incident_id)}"


def _by_hand(case: Case, told: Mapping[str, Any]) -> str:
    fault = of_the_engine(case)
    if fault is not None:
        step = wording.clean(fault.next_step or "Look at the engine's log.", 200)
        if fault.where in _ENDS_ITSELF:
            return f"{step} This page ends by itself once {_ENDS_ITSELF[fault.where]}."
        if case.incident_id.startswith(ids.OWN_ALERTS) and fault.where not in (TOO_LARGE, REFUSED):
            return f"{step} This page ends when its alert resolves, or by: {CLOSE.format(id=case.incident_id)}"
        return f"{step} Then end this page: {CLOSE.format(id=case.incident_id)}"
    first = _first(case)
    if case.called_after_the_end:
        return f"{wording.clean(first, 210)} Then end this page: {CLOSE.format(id=case.incident_id)}"
    return first


def _first(case: Case) -> str:
    unsure = [a for a in case.actions if a.state in (StepState.UNKNOWN, StepState.INTENDED, StepState.UNDO_FAILED)]
    if unsure:
        what = unsure[-1].target or "the target"
        return f"look at {wording.clean(what, 90)} first: what {step_words(unsure[-1])} did there is not certain."
    if changed := [a for a in case.actions if a.state is StepState.CHANGED]:
        what = wording.clean(changed[-1].target or "the target", 90)
        return f"look at {what} first: somebody else has changed it since {step_words(changed[-1])} wrote it."
    if undecided := [a for a in case.actions if a.state is StepState.UNDECIDED]:
        step = f"{step_words(undecided[-1])}{as_it_stands(undecided[-1])}"
        return f"see first whether {step} helped; nobody could tell."
    if case.in_force:
        return wording.clean(case.in_force[0], 280)
    if case.elsewhere:
        look = "look at it in that cluster" if case.cluster else "find out which cluster it is of, and look there"
        ends = "" if case.called_after_the_end else "; it ends when its alerts have resolved, or by hand"
        return f"{look}{ends}."
    if case.refusal:
        return "find the workload by hand; the labels lead to none (services.yaml)."
    over = case.called_after_the_end
    if over and case.faults and case.faults[-1].next_step:
        return case.faults[-1].next_step
    look = "look at the newest change first" if case.evidence and case.evidence.changes else "handle it by hand"
    if over:
        return f"{look}; the incident is over, and the engine does not watch it any more."
    if workflow_ended(case):
        return f"{look}; the engine does not watch it any more. Then end it: {CLOSE.format(id=case.incident_id)}"
    return f"{look}; the engine goes on watching and closes when the evidence is healthy."


def _after_healed(case: Case, told: Mapping[str, Any]) -> str:
    """It may not have lasted: then what follows the tier that did not heal after all."""
    if healing(case) is not None:
        return "nothing now; find the cause when you are awake."
    return _when_over(case) or _after_tier(case, told)


def _after_deadline(case: Case, told: Mapping[str, Any]) -> str:
    if goes_on(case, told):
        if again_at := looks_again_at(case, told):
            doing = f"has taken no step yet, looks again at {wording.clock(again_at)} UTC and may act then"
            return f"the engine {doing}; {_leave_it(case)}"
        return _while_it_goes_on(case)
    return _by_hand(case, told)


_NEXT: dict[NoticeKind, Callable[[Case, Mapping[str, Any]], str]] = {
    NoticeKind.CLASSIFIED: _after_classified,
    NoticeKind.STEP_APPLIED: _after_write,
    NoticeKind.STEP_FAILED: _after_tier,
    NoticeKind.STEP_UNDONE: _after_tier,
    NoticeKind.WOULD_APPLY: lambda c, b: _OBSERVED,
    NoticeKind.HEALED: _after_healed,
    NoticeKind.PERSON_NEEDED: _after_call,
    NoticeKind.DEADLINE: _after_deadline,
    NoticeKind.RESTORED: lambda c, b: "nothing.",
    NoticeKind.CLOSED: lambda c, b: f"read the post-mortem: firebreak postmortem {c.incident_id}",
}
_LAST_WORDS = (NoticeKind.HEALED, NoticeKind.RESTORED, NoticeKind.CLOSED)

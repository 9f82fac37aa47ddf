"""The title of each message: what a phone shows before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firebreak.domain.condition import Truth
from firebreak.domain.message import NoticeKind
from firebreak.postmortem import wording
from firebreak.postmortem.in_force import NOT_KNOWN, WROTE
from firebreak.postmortem.model import ActionPart, Case, StepState
from firebreak.postmortem.notice_subject import (
    call_reason,
    goes_on,
    healing,
    looks_again_at,
    named_step,
    observes,
    of_the_engine,
    step_of,
    step_words,
)
from firebreak.postmortem.verdicts import condition_words


def _named(case: Case) -> str:
    """`P1 pay`: what every title begins with."""
    severity = case.verdict.severity if case.verdict and case.verdict.severity != "none" else "Alert"
    return f"{severity} {wording.clean(case.service, 40)}{case.where}"


def _classified_title(case: Case, told: Mapping[str, Any]) -> str:
    if case.verdict is None or not case.verdict.may_act:
        doing = "may not act yet" if looks_again_at(case, told) else "may not act"
    else:
        working = "acting" if goes_on(case, told) else "has stopped"
        doing = "observes only" if observes(case, told) else working
    return f"{_named(case)}: {_worst(case)}; engine {doing}"


def _worst(case: Case) -> str:
    held = [c for c in (case.verdict.conditions if case.verdict else ()) if c.truth == Truth.TRUE]
    if held:
        return condition_words(held[0])
    return wording.clean(next((a.name for a in case.alerts if a.name), "alert without a name"), 60)


def _person_title(case: Case, told: Mapping[str, Any]) -> str:
    if (fault := of_the_engine(case)) is not None:
        return f"Firebreak itself needs a person: {wording.clean(call_reason(case, told) or fault.error, 90)}"
    why = wording.clean(call_reason(case, told) or _worst(case), 90)
    if named_step(case, told) and goes_on(case, told):  # a relapse
        return f"{_named(case)}: {why}; the engine goes on"
    return f"{_named(case)} needs a person: {why}"


def _healed_title(case: Case, told: Mapping[str, Any]) -> str:
    step = healing(case)
    if step is None:
        last = step_of(case, told)
        in_doubt = last is not None and last.state in (StepState.UNDECIDED, StepState.CHANGED)
        since = "whether it stays so is not known" if in_doubt else "has relapsed since"
        return f"{_named(case)} was healed, and {since}"
    if step.state is StepState.VERIFIED:
        return f"{_named(case)} healed by {step_words(step)}"
    return f"{_named(case)} healthy; {step_words(step)} was already so, nothing was written"


TITLES: dict[NoticeKind, Callable[[Case, Mapping[str, Any]], str]] = {
    NoticeKind.CLASSIFIED: _classified_title,
    NoticeKind.STEP_APPLIED: lambda c, b: f"{_named(c)}: {step_words(step_of(c, b))} {_written(step_of(c, b))}",
    NoticeKind.STEP_FAILED: lambda c, b: f"{_named(c)}: {step_words(step_of(c, b))} {failure(step_of(c, b))}",
    NoticeKind.STEP_UNDONE: lambda c, b: f"{_named(c)}: {step_words(step_of(c, b))} {undone(step_of(c, b))}",
    NoticeKind.WOULD_APPLY: lambda c, b: f"{_named(c)}: would {step_words(step_of(c, b))}; mode observe",
    NoticeKind.HEALED: _healed_title,
    NoticeKind.PERSON_NEEDED: _person_title,
    NoticeKind.DEADLINE: lambda c, b: f"{_named(c)} not healed in time: {_worst(c)}",
    NoticeKind.RESTORED: lambda c, b: f"{_named(c)}: {_restore_words(c)}",
    NoticeKind.CLOSED: lambda c, b: f"{_named(c)} closed: {c.outcome.replace('_', ' ')}",
}


def failure(part: ActionPart | None) -> str:
    """A failed step in a word; one whose undo has been written already still failed to verify."""
    if part is None:
        return "failed"
    return "not verified" if part.verification == "not_verified" else part.state.value


def undone(part: ActionPart | None) -> str:
    """What came of taking back a step that did not heal."""
    if part is None or part.state is StepState.UNDONE:
        return "was taken back"
    return f"is in doubt: {NOT_KNOWN}" if NOT_KNOWN in part.undo else "was NOT taken back"


def _written(part: ActionPart | None) -> str:
    """What came of a write; it is told when its outcome is not known, too."""
    if part is None or part.effect in WROTE:
        return f"applied, {'verifying' if part is None or part.state is StepState.APPLIED else part.state.value}"
    return part.effect.replace("_", " ") or part.state.value


def _restore_words(case: Case) -> str:
    ended = [r for r in case.restores if r.ended_at]
    if not ended:
        return "a step is still in force"
    last = max(ended, key=lambda r: (r.ended_at, r.tier, r.step))
    if last.taken_back:
        return f"step {last.step_id} was taken back"
    if NOT_KNOWN in last.told:
        return f"step {last.step_id} is in doubt: {NOT_KNOWN}"
    why = last.outcome if last.told != StepState.NOT_TAKEN_BACK else "mode observe"
    return f"step {last.step_id} was not taken back ({why})"

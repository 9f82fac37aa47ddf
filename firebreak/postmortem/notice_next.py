"""The last line but one of each message: what its reader is to do now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firebreak.domain.action import EffectOutcome
from firebreak.domain.message import NoticeKind
from firebreak.postmortem import wording
from firebreak.postmortem.model import Report, StepState
from firebreak.postmortem.notice_subject import observes, step_of, step_words, tried


def _after_classified(report: Report, told: Mapping[str, Any]) -> str:
    if observes(report, told):
        return "handle it by hand; in mode observe the engine writes nothing."
    if report.verdict and report.verdict.may_act:
        return "nothing yet; the engine works on it, and pages when it cannot heal it."
    return "handle it by hand; the engine may not act on this evidence."


def _after_write(report: Report, told: Mapping[str, Any]) -> str:
    part = step_of(report, told)
    if part is not None and part.effect == EffectOutcome.UNKNOWN:
        return "a person is paged; the outcome of the write is not known."
    if part is not None and part.effect == EffectOutcome.REFUSED:
        return "nothing was written; the next tier is tried."
    return "it is verified by evidence; nothing to do yet."


def _by_hand(report: Report, told: Mapping[str, Any]) -> str:
    unsure = [a for a in report.actions if a.state in (StepState.UNKNOWN, StepState.INTENDED, StepState.UNDO_FAILED)]
    if unsure:
        what = unsure[-1].target or "the target"
        return f"look at {wording.clean(what, 90)} first: what {step_words(unsure[-1])} did there is not certain."
    if report.in_force:
        return wording.clean(report.in_force[0], 280)
    if report.refusal:
        return "find the workload by hand; the labels lead to none (services.yaml)."
    if report.evidence and report.evidence.changes:
        return "look at the newest change first; the engine goes on watching and closes when the evidence is healthy."
    return "handle it by hand; the engine goes on watching and closes when the evidence is healthy."


def _after_deadline(report: Report, told: Mapping[str, Any]) -> str:
    if report.closed_at is None and tried(report) and not report.people:
        return "the engine is still trying; watch it, and be ready to take over."
    return _by_hand(report, told)


NEXT: dict[NoticeKind, Callable[[Report, Mapping[str, Any]], str]] = {
    NoticeKind.CLASSIFIED: _after_classified,
    NoticeKind.STEP_APPLIED: _after_write,
    NoticeKind.STEP_FAILED: lambda r, b: "the next tier is tried; a person is paged when none is left.",
    NoticeKind.WOULD_APPLY: lambda r, b: "do it by hand if you agree; mode observe writes nothing.",
    NoticeKind.HEALED: lambda r, b: "nothing now; find the cause when you are awake.",
    NoticeKind.PERSON_NEEDED: _by_hand,
    NoticeKind.DEADLINE: _after_deadline,
    NoticeKind.NOTHING_DONE: lambda r, b: "nothing.",
    NoticeKind.RESTORED: lambda r, b: "nothing.",
    NoticeKind.RESTORE_OVERDUE: lambda r, b: "take the step back by hand once the broken part is repaired.",
    NoticeKind.CLOSED: lambda r, b: f"read the post-mortem: firebreak postmortem {r.incident_id}",
}

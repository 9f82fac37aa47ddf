"""What a person reads on a phone at three in the morning: what was seen, decided, tried, what changed before, what to
look at next. The same text goes to the pager and into the thread; the connector escapes it for its medium."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firebreak.domain.action import EffectOutcome
from firebreak.domain.condition import Truth
from firebreak.domain.message import NoticeKind, NoticeText
from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem import wording
from firebreak.postmortem.actions import NOT_TAKEN_BACK
from firebreak.postmortem.in_force import RESTART_ACTION, plain
from firebreak.postmortem.model import ActionPart, FieldLine, Report, StepState
from firebreak.postmortem.notice_next import NEXT
from firebreak.postmortem.notice_subject import call_reason, observes, step_of, step_words, tried
from firebreak.postmortem.report import build
from firebreak.postmortem.verdicts import condition_words

TITLE = 150  # characters: the limit of a Slack header block
LINE = 300  # characters of one line
SHOW = "firebreak show {id}"


def render_notice(
    kind: NoticeKind, entries: Sequence[TimelineEntry], *, body: Mapping[str, Any] | None = None, show: str = SHOW
) -> NoticeText:
    """Text of one message, from the incident's entries so far. `body` is the message's own (`tier`, `step`,
    `reason`, `mode`); `show` is the command that shows more, with `{id}`. Title up to 150 characters, lines up to 300,
    all printable. Raises ContractError when there are no entries."""
    report = build(entries, phases=())
    told = body or {}
    title = f"{_TITLES[kind](report, told)} [{_short(report)}]"
    lines = [line for part in _PARTS[kind] for line in part(report, told)]
    next_step = NEXT[kind](report, told)
    return NoticeText(
        title=wording.clean(title, TITLE),
        lines=tuple(
            wording.clean(line, LINE)
            for line in (*lines, f"Next: {next_step}", f"More: {show.format(id=report.incident_id)}")
        ),
        thread=kind is not NoticeKind.CLASSIFIED,
    )


def _short(report: Report) -> str:
    return report.incident_id.rpartition("-")[2]


def _named(report: Report) -> str:
    """`P1 pay`: what every title begins with."""
    severity = report.verdict.severity if report.verdict and report.verdict.severity != "none" else "Alert"
    return f"{severity} {wording.clean(report.service, 40)}"


# --- titles --------------------------------------------------------------------------------------------------


def _classified_title(report: Report, told: Mapping[str, Any]) -> str:
    if report.verdict is None or not report.verdict.may_act:
        doing = "may not act"
    else:
        doing = "observes only" if observes(report, told) else "acting"
    return f"{_named(report)}: {_worst(report)}; engine {doing}"


def _worst(report: Report) -> str:
    held = [c for c in (report.verdict.conditions if report.verdict else ()) if c.truth == Truth.TRUE]
    if held:
        return condition_words(held[0])
    return wording.clean(next((a.name for a in report.alerts if a.name), "alert without a name"), 60)


def _person_title(report: Report, told: Mapping[str, Any]) -> str:
    return f"{_named(report)} needs a person: {wording.clean(call_reason(report, told) or _worst(report), 90)}"


def _healed_title(report: Report, told: Mapping[str, Any]) -> str:
    good = [a for a in report.actions if a.state is StepState.VERIFIED]
    return f"{_named(report)} healed by {step_words(good[-1])}" if good else f"{_named(report)} healed"


_TITLES: dict[NoticeKind, Callable[[Report, Mapping[str, Any]], str]] = {
    NoticeKind.CLASSIFIED: _classified_title,
    NoticeKind.STEP_APPLIED: lambda r, b: f"{_named(r)}: {step_words(step_of(r, b))} {_written(step_of(r, b))}",
    NoticeKind.STEP_FAILED: lambda r, b: f"{_named(r)}: {step_words(step_of(r, b))} {_failure(step_of(r, b))}",
    NoticeKind.WOULD_APPLY: lambda r, b: f"{_named(r)}: would {step_words(step_of(r, b))}; mode observe",
    NoticeKind.HEALED: _healed_title,
    NoticeKind.PERSON_NEEDED: _person_title,
    NoticeKind.DEADLINE: lambda r, b: f"{_named(r)} not healed in time: {_worst(r)}",
    NoticeKind.NOTHING_DONE: lambda r, b: f"{_named(r)}: over by itself, nothing was done",
    NoticeKind.RESTORED: lambda r, b: f"{_named(r)}: {_restore_words(r)}",
    NoticeKind.RESTORE_OVERDUE: lambda r, b: f"{_named(r)} needs a person: {_restore_words(r)}",
    NoticeKind.CLOSED: lambda r, b: f"{_named(r)} closed: {r.outcome.replace('_', ' ')}",
}


def _failure(part: ActionPart | None) -> str:
    """A failed step in a word; one whose undo has been written already still failed to verify."""
    if part is None:
        return "failed"
    return "not verified" if part.verification == "not_verified" else part.state.value


def _written(part: ActionPart | None) -> str:
    """What came of a write; it is told when its outcome is not known, too."""
    if part is None or part.effect in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED):
        return "applied, verifying"
    return part.effect.replace("_", " ") or part.state.value


def _restore_words(report: Report) -> str:
    ended = [r for r in report.restores if r.ended_at]
    if not ended:
        return "a step is still in force"
    last = max(ended, key=lambda r: (r.ended_at, r.tier, r.step))
    if last.taken_back:
        return f"step {last.step_id} was taken back"
    why = last.outcome if last.told != NOT_TAKEN_BACK else "mode observe"
    return f"step {last.step_id} was not taken back ({why})"


# --- lines ---------------------------------------------------------------------------------------------------

_Part = Callable[[Report, Mapping[str, Any]], list[str]]


def _seen(report: Report, told: Mapping[str, Any]) -> list[str]:
    held = [c for c in (report.verdict.conditions if report.verdict else ()) if c.truth == Truth.TRUE]
    names = ", ".join(dict.fromkeys(wording.clean(a.name, 60) for a in report.alerts if a.name)) or "an alert"
    where = f" on {wording.clean(report.target, 90)}" if report.target else ""
    lines = [f"Seen: {names}{where}, accepted {wording.clock(report.accepted_at)} UTC"]
    lines += [
        f"- {wording.clean(c.dimension, 20)}: {condition_words(c)}"
        + (f" since {wording.clock(c.since)}" if c.since else "")
        for c in held[:4]
    ]
    return lines


def _decided(report: Report, told: Mapping[str, Any]) -> list[str]:
    if report.verdict is None:
        return [f"Decided: not classified{'; ' + report.refusal if report.refusal else ''}"]
    verdict = report.verdict
    may = "may act" if verdict.may_act else "may not act"
    runbook = f"; runbook {wording.clean(report.plan.runbook, 60)}" if report.plan else ""
    name = "P1" if verdict.severity == "P1" else f"no P1 ({verdict.truth})"
    return [f"Decided: {name}, {may}: {wording.clean(verdict.act_reason or verdict.reason, 160)}{runbook}"]


def _changed(part: ActionPart) -> list[str]:
    """Before and after of each field; of a restart a person wants to know that, and not its time stamp."""
    if part.action == RESTART_ACTION:
        return ["- pods restart"] if part.changes else []
    return _fields(part.changes)


def _fields(changes: Sequence[FieldLine]) -> list[str]:
    return [f"- {wording.clean(c.path, 160)}: {plain(c.before)} -> {plain(c.after)}" for c in changes[:3]]


def _step_now(report: Report, told: Mapping[str, Any]) -> list[str]:
    part = step_of(report, told)
    if part is None:
        return []
    lines = [f"Step {part.step_id} of tier {part.tier_name}: {_failure(part)}: {wording.clean(part.reason, 200)}"]
    return [*lines, *_changed(part)]


def _tried_so_far(report: Report, told: Mapping[str, Any]) -> list[str]:
    parts = tried(report)
    if not parts:
        return ["Tried: nothing"]
    return ["Tried:", *(f"- {step_words(a)}: {a.state.value}: {wording.clean(a.reason, 140)}" for a in parts[:6])]


def _before(report: Report, told: Mapping[str, Any]) -> list[str]:
    changes = report.evidence.changes if report.evidence else ()
    if not changes:
        return []
    more = f" ({len(changes) - 3} more)" if len(changes) > 3 else ""
    return [
        f"Changed before{more}:",
        *(f"- {wording.clock(c.at)} {wording.clean(f'{c.about} {c.what}', 140)}" for c in changes[:3]),
    ]


def _why_called(report: Report, told: Mapping[str, Any]) -> list[str]:
    reason = call_reason(report, told)
    return [f"Why: {reason}"] if reason else []


def _why_ended(report: Report, told: Mapping[str, Any]) -> list[str]:
    return [f"Why: {report.reason}"] if report.reason else []


def _why_restored(report: Report, told: Mapping[str, Any]) -> list[str]:
    return [
        line
        for r in report.restores[:3]
        for line in (f"Step {r.step_id}: {r.told}" + (f": {r.reason}" if r.reason else ""), *_fields(r.changes))
    ]


def _still_in_force(report: Report, told: Mapping[str, Any]) -> list[str]:
    """One line, so that it is read: what the engine wrote, and only a person takes back."""
    left = report.in_force
    return [" ".join(wording.clean(line, LINE // len(left) - 1) for line in left)] if left else []


def _ended(report: Report, told: Mapping[str, Any]) -> list[str]:
    if report.closed_at is None:
        return []
    took = wording.span((report.closed_at - report.accepted_at).total_seconds() * 1000)
    return [f"Ended: {report.outcome.replace('_', ' ')} after {took}"]


def _open_ends(report: Report, told: Mapping[str, Any]) -> list[str]:
    left = [line for line in report.follow_ups if line not in report.in_force]
    more = [f"- {len(left) - 3} more in the post-mortem"] if len(left) > 3 else []
    return ["Left to do:", *(f"- {line}" for line in left[:3]), *more] if left else []


_WHOLE: tuple[_Part, ...] = (_why_called, _seen, _decided, _tried_so_far, _before)
_PARTS: dict[NoticeKind, tuple[_Part, ...]] = {
    NoticeKind.CLASSIFIED: (_seen, _decided, _before),
    NoticeKind.STEP_APPLIED: (_step_now,),
    NoticeKind.STEP_FAILED: (_step_now,),
    NoticeKind.WOULD_APPLY: (_step_now,),
    NoticeKind.HEALED: (_tried_so_far, _before),
    NoticeKind.PERSON_NEEDED: _WHOLE,
    NoticeKind.DEADLINE: _WHOLE,
    NoticeKind.NOTHING_DONE: (_why_ended, _seen, _decided),
    NoticeKind.RESTORED: (_why_restored,),
    NoticeKind.RESTORE_OVERDUE: (_why_restored, _tried_so_far),
    NoticeKind.CLOSED: (_ended, _why_ended, _still_in_force, _tried_so_far, _open_ends),
}

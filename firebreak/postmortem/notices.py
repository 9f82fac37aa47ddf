"""What a person reads on a phone at three in the morning: what was seen, decided, tried, what changed before, what to
look at next. The same text goes to the pager and into the thread; the connector escapes it for its medium."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firebreak.domain.action import EffectOutcome
from firebreak.domain.condition import Truth
from firebreak.domain.incident import Mode
from firebreak.domain.message import NoticeKind, NoticeText
from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.actions import PAGE_ACTION
from firebreak.postmortem.model import ActionPart, Report, StepState
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
    next_step = _NEXT[kind](report, told)
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


def _step(report: Report, told: Mapping[str, Any]) -> ActionPart | None:
    """The step that the message names, else the one that something was done to last."""
    place = (reading.whole(told, "tier"), reading.whole(told, "step"))
    named = next((a for a in report.actions if (a.tier, a.step) == place), None)
    done = [a for a in _tried(report) if a.effect_at]
    return named or (max(done, key=lambda a: (a.effect_at, a.tier, a.step)) if done else None)


def _tried(report: Report) -> list[ActionPart]:
    return [a for a in report.actions if a.state is not StepState.NOT_TRIED and a.action != PAGE_ACTION]


def _step_words(part: ActionPart | None) -> str:
    if part is None:
        return "a step"
    where = part.target.rpartition("/")[2]
    return f"{part.action}{f' {wording.clean(where, 60)}' if where else ''}"


def _call(report: Report, told: Mapping[str, Any]) -> str:
    """Why a person is called: what the message says, else what the newest call says."""
    calls = [p.detail for p in report.people if p.what == "called"]
    return reading.text(told, "reason") or (calls[-1] if calls else "")


def _observes(report: Report, told: Mapping[str, Any]) -> bool:
    return report.observed_only or reading.text(told, "mode") == Mode.OBSERVE


# --- titles --------------------------------------------------------------------------------------------------


def _classified_title(report: Report, told: Mapping[str, Any]) -> str:
    if report.verdict is None or not report.verdict.may_act:
        doing = "may not act"
    else:
        doing = "observes only" if _observes(report, told) else "acting"
    return f"{_named(report)}: {_worst(report)}; engine {doing}"


def _worst(report: Report) -> str:
    held = [c for c in (report.verdict.conditions if report.verdict else ()) if c.truth == Truth.TRUE]
    if held:
        return condition_words(held[0])
    return wording.clean(next((a.name for a in report.alerts if a.name), "alert without a name"), 60)


def _person_title(report: Report, told: Mapping[str, Any]) -> str:
    return f"{_named(report)} needs a person: {wording.clean(_call(report, told) or _worst(report), 90)}"


def _healed_title(report: Report, told: Mapping[str, Any]) -> str:
    good = [a for a in report.actions if a.state is StepState.VERIFIED]
    return f"{_named(report)} healed by {_step_words(good[-1])}" if good else f"{_named(report)} healed"


_TITLES: dict[NoticeKind, Callable[[Report, Mapping[str, Any]], str]] = {
    NoticeKind.CLASSIFIED: _classified_title,
    NoticeKind.STEP_APPLIED: lambda r, b: f"{_named(r)}: {_step_words(_step(r, b))} {_written(_step(r, b))}",
    NoticeKind.STEP_FAILED: lambda r, b: f"{_named(r)}: {_step_words(_step(r, b))} {_failure(_step(r, b))}",
    NoticeKind.WOULD_APPLY: lambda r, b: f"{_named(r)}: would {_step_words(_step(r, b))}; mode observe",
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
    good = last.outcome == "restored"
    return f"step {last.step_id} {'was taken back' if good else f'was not taken back ({last.outcome})'}"


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


def _step_now(report: Report, told: Mapping[str, Any]) -> list[str]:
    part = _step(report, told)
    if part is None:
        return []
    lines = [f"Step {part.step_id} of tier {part.tier_name}: {_failure(part)}: {wording.clean(part.reason, 200)}"]
    lines += [f"- {c.path}: {_short_value(c.before)} -> {_short_value(c.after)}" for c in part.changes[:3]]
    return lines


def _short_value(text: str) -> str:
    return "absent" if text in ("", "null") else wording.clean(text, 60)


def _tried_so_far(report: Report, told: Mapping[str, Any]) -> list[str]:
    parts = _tried(report)
    if not parts:
        return ["Tried: nothing"]
    return ["Tried:", *(f"- {_step_words(a)}: {a.state.value}: {wording.clean(a.reason, 140)}" for a in parts[:6])]


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
    reason = _call(report, told)
    return [f"Why: {reason}"] if reason else []


def _why_ended(report: Report, told: Mapping[str, Any]) -> list[str]:
    return [f"Why: {report.reason}"] if report.reason else []


def _why_restored(report: Report, told: Mapping[str, Any]) -> list[str]:
    return [f"Step {r.step_id}: {r.outcome or 'still in force'}: {r.reason}" for r in report.restores[:3]]


def _ended(report: Report, told: Mapping[str, Any]) -> list[str]:
    if report.closed_at is None:
        return []
    took = wording.span((report.closed_at - report.accepted_at).total_seconds() * 1000)
    return [f"Ended: {report.outcome.replace('_', ' ')} after {took}"]


def _open_ends(report: Report, told: Mapping[str, Any]) -> list[str]:
    left = report.follow_ups
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
    NoticeKind.CLOSED: (_ended, _why_ended, _tried_so_far, _open_ends),
}


# --- what next -----------------------------------------------------------------------------------------------


def _after_classified(report: Report, told: Mapping[str, Any]) -> str:
    if _observes(report, told):
        return "handle it by hand; in mode observe the engine writes nothing."
    if report.verdict and report.verdict.may_act:
        return "nothing yet; the engine works on it, and pages when it cannot heal it."
    return "handle it by hand; the engine may not act on this evidence."


def _after_write(report: Report, told: Mapping[str, Any]) -> str:
    part = _step(report, told)
    if part is not None and part.effect == EffectOutcome.UNKNOWN:
        return "a person is paged; the outcome of the write is not known."
    if part is not None and part.effect == EffectOutcome.REFUSED:
        return "nothing was written; the next tier is tried."
    return "it is verified by evidence; nothing to do yet."


def _by_hand(report: Report, told: Mapping[str, Any]) -> str:
    unsure = [a for a in report.actions if a.state in (StepState.UNKNOWN, StepState.INTENDED, StepState.UNDO_FAILED)]
    if unsure:
        what = unsure[-1].target or "the target"
        return f"look at {wording.clean(what, 90)} first: what {_step_words(unsure[-1])} did there is not certain."
    if report.refusal:
        return "find the workload by hand; the labels lead to none (services.yaml)."
    if report.evidence and report.evidence.changes:
        return "look at the newest change first; the engine goes on watching and closes when the evidence is healthy."
    return "handle it by hand; the engine goes on watching and closes when the evidence is healthy."


def _after_deadline(report: Report, told: Mapping[str, Any]) -> str:
    if report.closed_at is None and _tried(report) and not report.people:
        return "the engine is still trying; watch it, and be ready to take over."
    return _by_hand(report, told)


_NEXT: dict[NoticeKind, Callable[[Report, Mapping[str, Any]], str]] = {
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

"""What a person reads on a phone at three in the morning: what was seen, decided, tried, what changed before, what to
look at next. The same text goes to the pager and into the thread; the connector escapes it for its medium."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firebreak.domain.condition import Truth
from firebreak.domain.message import NoticeKind, NoticeText
from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem import wording
from firebreak.postmortem.in_force import RESTART_ACTION, plain
from firebreak.postmortem.model import ActionPart, Case, FieldLine
from firebreak.postmortem.notice_next import next_step
from firebreak.postmortem.notice_subject import (
    call_reason,
    looks_again_at,
    of_the_engine,
    step_of,
    step_words,
    tried,
)
from firebreak.postmortem.notice_titles import TITLES, failure, undone
from firebreak.postmortem.report import UNKNOWN_SERVICE, case_of
from firebreak.postmortem.verdicts import condition_words

TITLE = 150  # characters: the limit of a Slack header block
LINE = 300  # characters of one line
SHOW = "firebreak show {id}"


def render_notice(
    kind: NoticeKind,
    record: Sequence[TimelineEntry] | Case,
    *,
    body: Mapping[str, Any] | None = None,
    show: str = SHOW,
) -> NoticeText:
    """Text of one message, from the incident's entries so far, or from the Case that was made of them. `body` is the
    message's own (`tier`, `step`, `reason`, `mode`); `show` is the command that shows more, with `{id}`. Title up to
    150 characters, lines up to 300, all printable. Raises ContractError when there are no entries."""
    case = record if isinstance(record, Case) else case_of(record)
    told = body or {}
    title = f"{TITLES[kind](case, told)} [{_short(case)}]"
    parts = (_why_called,) if of_the_engine(case) else _PARTS[kind]
    lines = [line for part in parts for line in part(case, told)]
    return NoticeText(
        title=wording.clean(title, TITLE),
        lines=tuple(
            wording.clean(line, LINE)
            for line in (*lines, f"Next: {next_step(kind, case, told)}", f"More: {show.format(id=case.incident_id)}")
        ),
        service="" if case.service == UNKNOWN_SERVICE else case.service,
    )


def _short(case: Case) -> str:
    return case.incident_id.rpartition("-")[2]


# --- lines ---------------------------------------------------------------------------------------------------

_Part = Callable[[Case, Mapping[str, Any]], list[str]]


def _seen(case: Case, told: Mapping[str, Any]) -> list[str]:
    held = [c for c in (case.verdict.conditions if case.verdict else ()) if c.truth == Truth.TRUE]
    names = ", ".join(dict.fromkeys(wording.clean(a.name, 60) for a in case.alerts if a.name)) or "an alert"
    where = f" on {wording.clean(case.target, 90)}" if case.target else ""
    day = f"{case.accepted_at:%Y-%m-%d} " if case.called_after_the_end else ""  # a restore is overdue a day later
    lines = [f"Seen: {names}{where}, accepted {day}{wording.clock(case.accepted_at)} UTC"]
    lines += [
        f"- {wording.clean(c.dimension, 20)}: {condition_words(c)}"
        + (f" since {wording.clock(c.since)}" if c.since else "")
        for c in held[:4]
    ]
    return lines


def _decided(case: Case, told: Mapping[str, Any]) -> list[str]:
    if case.elsewhere:
        return [f"Decided: nothing; {case.elsewhere}"]
    if case.verdict is None:
        return [f"Decided: not classified{'; ' + case.refusal if case.refusal else ''}"]
    verdict = case.verdict
    not_yet = " yet" if looks_again_at(case, told) else ""
    may = "may act" if verdict.may_act else f"may not act{not_yet}"
    runbook = f"; runbook {wording.clean(case.plan.runbook, 60)}" if case.plan else ""
    name = "P1" if verdict.severity == "P1" else f"no P1 ({verdict.truth})"
    return [f"Decided: {name}, {may}: {wording.clean(verdict.act_reason or verdict.reason, 160)}{runbook}"]


def _changed(part: ActionPart) -> list[str]:
    """Before and after of each field; of a restart a person wants to know that, and not its time stamp."""
    if part.action == RESTART_ACTION:
        return ["- pods restart"] if part.changes else []
    return _fields(part.changes)


def _fields(changes: Sequence[FieldLine]) -> list[str]:
    return [f"- {wording.clean(c.path, 160)}: {plain(c.before)} -> {plain(c.after)}" for c in changes[:3]]


def _step_now(case: Case, told: Mapping[str, Any]) -> list[str]:
    part = step_of(case, told)
    if part is None:
        return []
    lines = [f"Step {part.step_id} of tier {part.tier_name}: {failure(part)}: {wording.clean(part.reason, 200)}"]
    return [*lines, *_changed(part)]


def _undo_now(case: Case, told: Mapping[str, Any]) -> list[str]:
    part = step_of(case, told)
    if part is None:
        return []
    why = f": {wording.clean(part.undo, 200)}" if part.undo else ""
    return [f"Step {part.step_id} of tier {part.tier_name} {undone(part)}{why}", *_fields(part.undo_changes)]


def _to_be_taken_back(case: Case, told: Mapping[str, Any]) -> list[str]:
    return [
        f"Step {wording.clean(r.step_id, 60)} stays in force until the broken part itself is well: "
        "the engine takes it back then, or calls a person"
        for r in case.restores[:3]
        if not r.outcome
    ]


def _tried_so_far(case: Case, told: Mapping[str, Any]) -> list[str]:
    parts = tried(case)
    if not parts:
        return ["Tried: nothing"]
    return ["Tried:", *(f"- {step_words(a)}: {a.state.value}: {wording.clean(a.reason, 140)}" for a in parts[:6])]


def _before(case: Case, told: Mapping[str, Any]) -> list[str]:
    """Nothing while nothing is kept; that none was found is said only where all could be looked for."""
    kept = case.evidence
    if kept is None:
        return []
    unseen = f"could not be looked for: {'; '.join(kept.changes_unseen)}" if kept.changes_unseen else ""
    none = f"{unseen}; nothing else was found" if unseen else "nothing was found"
    if not kept.changes_looked_for:
        none = unseen = "not looked for: the runbook does not name changes in its evidence"
    if not kept.changes:
        return [f"Changed before: {none}"]
    more = f" ({len(kept.changes) - 3} more)" if len(kept.changes) > 3 else ""
    return [
        f"Changed before{more}:",
        *(f"- {wording.clock(c.at)} {wording.clean(f'{c.about} {c.what}', 140)}" for c in kept.changes[:3]),
        *([f"- others {unseen}"] if unseen else []),
    ]


def _before_a_call(case: Case, told: Mapping[str, Any]) -> list[str]:
    return _before(case, told) or ["Changed before: not known; no evidence was kept"]


def _why_called(case: Case, told: Mapping[str, Any]) -> list[str]:
    reason = call_reason(case, told)
    return [f"Why: {reason}"] if reason else []


def _why_ended(case: Case, told: Mapping[str, Any]) -> list[str]:
    return [f"Why: {case.reason}"] if case.reason else []


def _why_restored(case: Case, told: Mapping[str, Any]) -> list[str]:
    return [
        line
        for r in case.restores[:3]
        for line in (f"Step {r.step_id}: {r.told}" + (f": {r.reason}" if r.reason else ""), *_fields(r.changes))
    ]


def _still_in_force(case: Case, told: Mapping[str, Any]) -> list[str]:
    """One line, so that it is read: what the engine wrote, and only a person takes back."""
    left = case.in_force
    return [" ".join(wording.clean(line, LINE // len(left) - 1) for line in left)] if left else []


def _ended(case: Case, told: Mapping[str, Any]) -> list[str]:
    if case.closed_at is None:
        return []
    took = wording.span((case.closed_at - case.accepted_at).total_seconds() * 1000)
    return [f"Ended: {case.outcome.replace('_', ' ')} after {took}"]


def _open_ends(case: Case, told: Mapping[str, Any]) -> list[str]:
    left = [line for line in case.follow_ups if line not in case.in_force]
    more = [f"- {len(left) - 3} more in the post-mortem"] if len(left) > 3 else []
    return ["Left to do:", *(f"- {line}" for line in left[:3]), *more] if left else []


_WHOLE: tuple[_Part, ...] = (_why_called, _seen, _decided, _tried_so_far, _before_a_call)
_PARTS: dict[NoticeKind, tuple[_Part, ...]] = {
    NoticeKind.CLASSIFIED: (_seen, _decided, _before),
    NoticeKind.STEP_APPLIED: (_step_now,),
    NoticeKind.STEP_FAILED: (_step_now,),
    NoticeKind.STEP_UNDONE: (_undo_now,),
    NoticeKind.WOULD_APPLY: (_step_now,),
    NoticeKind.HEALED: (_tried_so_far, _to_be_taken_back, _before),
    NoticeKind.PERSON_NEEDED: _WHOLE,
    NoticeKind.DEADLINE: _WHOLE,
    NoticeKind.RESTORED: (_why_restored,),
    NoticeKind.CLOSED: (_ended, _why_ended, _still_in_force, _tried_so_far, _open_ends),
}

"""`firebreak show`: one incident on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from firebreak.cli.reading import DataDir, IncidentText, engine_record, find_row, newest_turn, opened_store, record_of
from firebreak.domain.incident import IncidentPhase, IncidentRow
from firebreak.domain.timeline import EntryKind, TimelineEntry

if TYPE_CHECKING:
    from firebreak.postmortem.model import Report, RestorePart


def register(app: typer.Typer) -> None:
    app.command()(show)


def show(incident: IncidentText, data_dir: DataDir = None) -> None:
    """Where an incident stands: verdict, plan, people told, what is next."""
    import asyncio

    from firebreak.postmortem.report import build
    from firebreak.timeline.phases import phases_of

    async def read() -> tuple[IncidentRow | None, tuple[TimelineEntry, ...]]:
        async with opened_store(data_dir) as store:
            if own := await engine_record(store, incident):
                return None, own
            row = await find_row(store, incident)
            return row, await record_of(store, row.id)

    row, entries = asyncio.run(read())
    report = build(entries, phases=phases_of(entries))
    for line in engine_screen(report, entries) if row is None else screen(row, report, entries):
        typer.echo(line)


def screen(row: IncidentRow, report: Report, entries: tuple[TimelineEntry, ...]) -> list[str]:
    """Some thirty lines of plain text; untrusted text is cut and printable."""
    from firebreak.postmortem import wording

    lines = [
        f"{report.incident_id}  {report.headline}",
        f"state    {_state(row, report)}, {wording.several(row.alerts_firing, 'alert')} firing",
        f"since    {wording.moment(report.accepted_at)}",
        f"target   {wording.clean(report.target, 100) or 'none: ' + wording.clean(report.refusal, 200)}",
        "",
        *_verdict(report),
        "",
        *_plan(report),
        "",
        *_people(report),
    ]
    lines += [f"restore  step {wording.clean(r.step_id, 60)}: {_restore(r)}" for r in report.restores]
    over = [f"{p.phase} {wording.span(p.took_ms)} of {wording.span(p.budget_ms)}" for p in report.phases if p.over]
    lines += [f"slow     {', '.join(over)}"] if over else []
    # First what only a person takes back, whole: its last words are the ones to act on.
    after = [*report.in_force, _next(row, report, entries)]
    return [*lines, "", *(f"{'next' if i == 0 else '':<8} {line}" for i, line in enumerate(after))]


def engine_screen(report: Report, entries: tuple[TimelineEntry, ...]) -> list[str]:
    """What is wrong with the engine itself, and what to do; untrusted text is cut and printable."""
    from firebreak.domain.message import NoticeKind
    from firebreak.postmortem import reading, wording
    from firebreak.postmortem.notice_next import next_step
    from firebreak.postmortem.telling import tell

    if not report.faults:
        return [
            f"{report.incident_id}  about the engine itself",
            f"since    {wording.moment(entries[0].at)}",
            *(f"{'what' if i == 0 else '':<8} {tell(entry)}" for i, entry in enumerate(entries)),
            "",
            "next     nothing: this is a note, and called nobody",
        ]
    fault = report.faults[-1]
    ended = newest_turn(entries)
    if ended is not None and ended.kind is EntryKind.ENGINE_FAULT:  # it came back
        ended = None
    over = ended and f"over since {wording.moment(ended.at)}: {wording.clean(reading.text(ended.body, 'reason'), 200)}"
    return [
        f"{report.incident_id}  about the engine itself",
        f"state    {over or 'open'}",
        f"since    {wording.moment(report.faults[0].at)}",
        f"where    {wording.clean(fault.where, 100)}",
        f"what     {wording.clean(fault.error, 1000)}",
        "",
        *_people(report),
        "",
        f"next     {'nothing' if over else next_step(NoticeKind.PERSON_NEEDED, report, {})}",
    ]


def _restore(part: RestorePart) -> str:
    from firebreak.postmortem import wording

    if part.outcome:
        return f"{part.told}, {wording.clock(part.ended_at)}"
    if part.held_back_at:
        why = f"held back at {wording.clock(part.held_back_at)}, the part well: {wording.clean(part.reason, 200)}"
        return f"{part.told}; {why}; taken back by itself once that is over and the part healthy"
    once = "taken back by itself once the broken part is healthy and no other incident of the service open"
    return f"{part.told}; {once}"


def _state(row: IncidentRow, report: Report) -> str:
    from firebreak.postmortem import wording

    if row.closed_at is None:
        return row.phase.value.replace("_", " ")
    took = wording.span((row.closed_at - report.accepted_at).total_seconds() * 1000)
    return f"closed as {row.outcome.value.replace('_', ' ')} after {took}"


def _verdict(report: Report) -> list[str]:
    from firebreak.postmortem import wording
    from firebreak.postmortem.verdicts import condition_words

    verdict = report.verdict
    if verdict is None:
        return ["verdict  none yet"]
    lines = [
        f"verdict  {verdict.severity} ({verdict.truth}), {'may act' if verdict.may_act else 'may not act'}: "
        f"{wording.clean(verdict.act_reason or verdict.reason, 200)}"
    ]
    lines += [f"         {c.truth:<14} {wording.clean(condition_words(c), 100)}" for c in verdict.conditions[:12]]
    return lines


def _plan(report: Report) -> list[str]:
    from firebreak.postmortem import wording

    if not report.actions:
        return ["plan     none"]
    lines = [f"plan     {wording.clean(report.plan.runbook, 80)}" if report.plan else "plan     not in the record"]
    for part in report.actions:
        why = f": {wording.clean(part.reason, 120)}" if part.reason else ""
        lines.append(f"         {part.tier_name:<10} {part.step_id} ({part.action}): {part.state.value}{why}")
    return lines


def _people(report: Report) -> list[str]:
    from firebreak.postmortem import wording

    if not report.people:
        return ["people   nobody was told"]
    told = [
        " ".join(t for t in (wording.clock(p.at), p.what, p.channel, p.notice.replace("_", " "), p.detail) if t)
        for p in report.people
    ]
    return [f"{'people' if i == 0 else '':<8} {wording.clean(line, 120)}" for i, line in enumerate(told[-8:])]


def _next(row: IncidentRow, report: Report, entries: tuple[TimelineEntry, ...]) -> str:
    from firebreak.domain import ids
    from firebreak.postmortem import wording
    from firebreak.postmortem.notice_next import CLOSE
    from firebreak.postmortem.people import open_call

    if row.closed_at is not None:
        page = open_call(entries) if report.called_after_the_end else ""
        if page and not any(e.key == ids.close_key(page) for e in entries):
            return f"a call that came after the end is open; once it is handled: {CLOSE.format(id=row.id)}"
        return f"firebreak postmortem {row.id}"
    if report.asked_to_end:
        return "a close was requested; a running engine ends the incident within seconds"
    faults = [f for f in report.faults if f.next_step]
    if faults:
        return wording.clean(faults[-1].next_step, 300)
    return {
        IncidentPhase.SEEN: "the engine looks at the evidence; if this stays, look whether `firebreak up` runs",
        IncidentPhase.PENDING: _again(report),
        IncidentPhase.CLASSIFIED: "the engine keeps the evidence, then takes the first step",
        IncidentPhase.ACTING: "the engine writes a step, then verifies it by evidence",
        IncidentPhase.VERIFYING: "the engine verifies the last step by evidence",
        IncidentPhase.HOLDING: "the engine closes it when the evidence has stayed healthy",
        IncidentPhase.WAITING_FOR_PERSON: (
            f"yours: it closes when {'its alerts have resolved' if report.elsewhere else 'the evidence is healthy'}, "
            f"or by `firebreak close {row.id} --reason ...`"
        ),
    }.get(row.phase, f"firebreak timeline {row.id}")


def _again(report: Report) -> str:
    from firebreak.postmortem import wording

    at = report.verdict.again_at if report.verdict else None
    return f"the engine looks again {f'at {wording.clock(at)} UTC' if at else 'soon'}, or when the alert resolves"

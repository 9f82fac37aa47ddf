"""An incident's entries -> one Report. The same entries give the same Report, whoever builds it and whenever."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TypeVar

from firebreak.domain import ids
from firebreak.domain.condition import Truth
from firebreak.domain.errors import ContractError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.record import first, proof_of_health
from firebreak.domain.timeline import EntryKind, PhaseTiming, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.actions import ABOUT_ACTIONS, actions_of, plan_of
from firebreak.postmortem.alerts import ABOUT_ALERTS, alerts_of, left_out_of
from firebreak.postmortem.evidence import evidence_of
from firebreak.postmortem.follow_ups import follow_ups
from firebreak.postmortem.in_force import PAGE_ACTION, WROTE, in_force
from firebreak.postmortem.model import (
    SCHEMA,
    WORKFLOW_ENDED,
    ActionPart,
    AlertLine,
    Called,
    Case,
    ConditionLine,
    EntryLine,
    EvidencePart,
    ImpactPart,
    Report,
    StepState,
    VerdictPart,
    WorstLine,
)
from firebreak.postmortem.people import called_after, called_of, faults_of, people_of, with_page_tier
from firebreak.postmortem.restores import ABOUT_RESTORES, restores_of
from firebreak.postmortem.telling import tell
from firebreak.postmortem.verdicts import Verdicts, condition_words

UNKNOWN_SERVICE = "unknown service"
T = TypeVar("T")


def case_of(entries: Sequence[TimelineEntry], *, earlier: Case | None = None, told: int = 0) -> Case:
    """`entries` of one incident in order of `seq`. Of a `build` the part that notices need: no line of the timeline is
    told, no impact measured. `earlier` is the Case of the first `told` of them: what no entry since is about is taken
    from it.

    Tolerant of bodies that lack keys (older records); raises ContractError only where there is nothing to tell, or
    where the entries are of several incidents."""
    return _case(_checked(entries), Verdicts(entries), earlier, told)


def build(entries: Sequence[TimelineEntry], *, phases: Sequence[PhaseTiming], case: Case | None = None) -> Report:
    """As `case_of`, and everything else of a post-mortem. `phases` from
    `firebreak.timeline.phases.phases_of(entries)`; `case` of these very entries, where it is at hand."""
    verdicts = Verdicts(_checked(entries))
    case = case or _case(entries, verdicts, None, 0)
    opened, closed = _opened(entries), first(entries, EntryKind.INCIDENT_CLOSED)
    impact = _impact(
        entries=entries,
        case=case,
        hurt=verdicts.worst_seen(),
        worst=verdicts.worst_by_dimension(),
        left_out=left_out_of(entries),
    )
    return Report(
        **{name: getattr(case, name) for name in _OF_CASE},
        schema=SCHEMA,
        closed_by=closed.actor if closed else "",
        opened_at=opened.at,
        headline=_headline(f"{case.service}{case.where}", case.alerts, case.verdict),
        summary=tuple(
            wording.sentence(line)
            for line in (
                _seen(case, impact),
                _done(case.actions),
                *([_before(case.evidence)] if case.evidence and case.evidence.changes else []),
                _ended(case),
                *([_UNHEARD] if case.called is Called.NOT_DELIVERED else []),
            )
        ),
        impact=impact,
        phases=tuple(phases),
        timeline=tuple(_line(entry, case.accepted_at) for entry in entries),
        first_seq=entries[0].seq,
        last_seq=entries[-1].seq,
        head=entries[-1].digest,
    )


_OF_CASE = tuple(field.name for field in fields(Case))


def _checked(entries: Sequence[TimelineEntry]) -> Sequence[TimelineEntry]:
    if not entries:
        raise ContractError("there are no entries to make a post-mortem of")
    if len({entry.incident_id for entry in entries}) > 1:
        raise ContractError("a post-mortem is made of the entries of one incident")
    return entries


class _Since:
    """Which parts of an earlier Case still hold: those of whose kinds there is no entry since."""

    def __init__(self, earlier: Case | None, since: Iterable[TimelineEntry]) -> None:
        self._earlier = earlier
        self._kinds = {entry.kind for entry in since}

    def part(self, kinds: Collection[EntryKind], kept: Callable[[Case], T], make: Callable[[], T]) -> T:
        return kept(self._earlier) if self._earlier and self._kinds.isdisjoint(kinds) else make()


def _case(entries: Sequence[TimelineEntry], verdicts: Verdicts, earlier: Case | None, told: int) -> Case:
    opened, closed = _opened(entries), first(entries, EntryKind.INCIDENT_CLOSED)
    new = entries[told:] if earlier else entries
    since = _Since(earlier, new)
    verdict = since.part((EntryKind.VERDICT_REACHED,), lambda c: c.verdict, verdicts.deciding)
    plan = since.part((EntryKind.PLAN_PINNED,), lambda c: c.plan, lambda: plan_of(entries))
    evidence = since.part((EntryKind.EVIDENCE_KEPT,), lambda c: c.evidence, lambda: evidence_of(entries))
    actions = since.part(ABOUT_ACTIONS, lambda c: c.actions, lambda: actions_of(entries, plan))
    restores = since.part(ABOUT_RESTORES, lambda c: c.restores, lambda: restores_of(entries))
    people = (*(earlier.people if earlier else ()), *people_of(new))
    actions = with_page_tier(actions, people)
    faults = (*(earlier.faults if earlier else ()), *faults_of(new))
    alerts = since.part(ABOUT_ALERTS, lambda c: c.alerts, lambda: alerts_of(entries))
    asked = (earlier is not None and earlier.asked_to_end) or any(entry.key == ids.close_key() for entry in new)
    called = any(person.what == "called" for person in people)
    alone = closed is not None or asked or called or any(fault.where == WORKFLOW_ENDED for fault in faults)
    left = in_force(plan=plan, actions=actions, restores=restores, left_alone=alone)
    refusal = reading.text(opened.body, "refusal")
    elsewhere = reading.text(opened.body, "elsewhere")
    service = wording.clean(reading.text(opened.body, "service"), 60) or UNKNOWN_SERVICE
    return Case(
        incident_id=entries[0].incident_id,
        service=service,
        cluster=wording.clean(reading.text(opened.body, "bindings", "cluster"), 40),
        elsewhere=elsewhere,
        target=next((e.target for e in entries if e.target), "") or reading.target_text(opened.body, "target"),
        refusal=refusal,
        outcome=(reading.text(closed.body, "outcome") or "closed") if closed else IncidentOutcome.OPEN.value,
        reason=reading.text(closed.body, "reason") if closed else "",
        observed_only=_observed_only(actions),
        accepted_at=reading.time(opened.body, "accepted_at") or opened.at,
        closed_at=closed.at if closed else None,
        asked_to_end=asked,
        called_after_the_end=called_after(closed, entries),
        verdict=verdict,
        plan=plan,
        evidence=evidence,
        actions=actions,
        called=called_of(people),
        people=people,
        restores=restores,
        faults=faults,
        alerts=alerts,
        in_force=left,
        follow_ups=follow_ups(
            service=service,
            refusal=refusal,
            elsewhere=elsewhere,
            verdict=verdict,
            plan=plan,
            actions=actions,
            evidence=evidence,
            people=people,
            restores=restores,
            left=left,
            faults=faults,
            left_out=left_out_of(entries),
        ),
    )


def _opened(entries: Sequence[TimelineEntry]) -> TimelineEntry:
    return first(entries, EntryKind.INCIDENT_OPENED) or entries[0]


def _observed_only(actions: Sequence[ActionPart]) -> bool:
    """Steps were only told, and none was written before the mode was switched."""
    return any(a.state is StepState.WOULD_APPLY for a in actions) and not any(a.effect in WROTE for a in actions)


def _impact(
    *,
    entries: Sequence[TimelineEntry],
    case: Case,
    hurt: tuple[ConditionLine, ...],
    worst: tuple[WorstLine, ...],
    left_out: int,
) -> ImpactPart:
    """From the first known sign (the earliest true condition, else the alert's own start) to proven health."""
    outcome, alerts = case.outcome, case.alerts
    signs = [c.since for c in hurt if c.since] or [a.starts_at for a in alerts if a.starts_at]
    since = min([*signs, case.accepted_at])
    proof = None if outcome == IncidentOutcome.OPEN else proof_of_health(entries)
    until = proof.at if proof else None
    if outcome == IncidentOutcome.NOTHING_DONE and until is None:
        until = case.closed_at
    resolved = [a.resolved_at for a in alerts if a.resolved_at]
    if outcome == IncidentOutcome.NOTHING_DONE and resolved and len(resolved) == len(alerts) and not left_out:
        until = max(resolved)  # while one still fires, or may (left out), another one's end is the end of nothing
    return ImpactPart(
        dimensions=tuple(dict.fromkeys(d for d in (*(c.dimension for c in hurt), *(w.dimension for w in worst)) if d)),
        conditions=hurt,
        since=since,
        until=until,
        duration_ms=(until - since).total_seconds() * 1000 if until else None,
        alerts=len(alerts),
        left_out=left_out,
        worst=worst,
    )


def _worst(verdict: VerdictPart) -> str:
    held = [c for c in verdict.conditions if c.truth == Truth.TRUE]
    return ", ".join(condition_words(c) for c in held[:3])


def _headline(service: str, alerts: Sequence[AlertLine], verdict: VerdictPart | None) -> str:
    severity = verdict.severity if verdict and verdict.severity != "none" else "Alert"
    name = alerts[0].name if alerts and alerts[0].name else "unnamed alert"
    return wording.clean(f"{severity} on {service}: {name}", wording.CUT)


def _seen(case: Case, impact: ImpactPart) -> str:
    verdict = case.verdict
    names = list(dict.fromkeys(wording.clean(a.name, 60) for a in case.alerts if a.name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    said = f"{'Alerts' if len(names) > 1 else 'Alert'} {', '.join(names[:3]) or 'without a name'}{more}"
    seen, verb = f"{said} on {case.service}{case.where}", "were" if len(names) > 1 else "was"
    if case.elsewhere:
        return f"{seen} {verb} not judged: {case.elsewhere}"
    if verdict is None:
        return f"{seen} {verb} not classified{': ' + case.refusal if case.refusal else ''}"
    told = _worst(verdict) or verdict.reason
    pending = [condition_words(c) for c in impact.conditions if c.truth == Truth.PENDING]
    if verdict.severity == "none" and pending:
        told = f"{', '.join(pending[:3])} did not hold for its time"
    words = f"{seen} {verb} classified as {'P1' if verdict.severity == 'P1' else 'no P1'} ({verdict.truth})"
    return f"{words}: {told}" if told else words


def _done(actions: Sequence[ActionPart]) -> str:
    tried = [a for a in actions if a.state is not StepState.NOT_TRIED and a.action != PAGE_ACTION]
    if not tried:
        return "No step was tried"
    return "; ".join(f"step {a.step_id} ({a.action}) {a.state.value}" for a in tried)


def _before(evidence: EvidencePart) -> str:
    newest = evidence.changes[0]
    words = f"{wording.several(len(evidence.changes), 'change')} in the time before, the last one"
    return f"{words} {wording.clock(newest.at)} {newest.about} {newest.what}".replace("  ", " ")


def _ended(case: Case) -> str:
    who = _WHO[case.called]
    if case.closed_at is None:
        return "; ".join(t for t in ("The incident is still open", who) if t)
    took = wording.span((case.closed_at - case.accepted_at).total_seconds() * 1000)
    told = ", ".join(t for t in (f"It ended as {case.outcome.replace('_', ' ')} {took} after the alert", who) if t)
    return told + (f": {case.reason}" if case.reason else "")


_WHO = {Called.DELIVERED: "a person was called", Called.NOBODY: "nobody was called", Called.NOT_DELIVERED: ""}
_UNHEARD = "A person was to be called, but no page had been delivered when this was written"


def _line(entry: TimelineEntry, accepted_at: datetime) -> EntryLine:
    return EntryLine(
        seq=entry.seq,
        at=entry.at,
        after_ms=(entry.at - accepted_at).total_seconds() * 1000,
        kind=entry.kind.value,
        actor=entry.actor,
        target=entry.target,
        uid=entry.uid,
        duration_ms=entry.duration_ms,
        text=tell(entry),
    )

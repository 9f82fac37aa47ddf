"""An incident's entries -> one Report. The same entries give the same Report, whoever builds it and whenever."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from firebreak.domain.condition import Truth
from firebreak.domain.errors import ContractError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.timeline import EntryKind, PhaseTiming, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.actions import actions_of, plan_of
from firebreak.postmortem.evidence import evidence_of
from firebreak.postmortem.follow_ups import follow_ups
from firebreak.postmortem.in_force import PAGE_ACTION, WROTE, in_force
from firebreak.postmortem.model import (
    SCHEMA,
    ActionPart,
    AlertLine,
    ConditionLine,
    EntryLine,
    EvidencePart,
    ImpactPart,
    PersonLine,
    Report,
    StepState,
    VerdictPart,
)
from firebreak.postmortem.people import faults_of, people_of, was_called
from firebreak.postmortem.restores import restores_of
from firebreak.postmortem.telling import tell
from firebreak.postmortem.verdicts import condition_words, deciding_verdict, worst_by_dimension, worst_seen

_ALERTS = (EntryKind.INCIDENT_OPENED, EntryKind.ALERT_JOINED)


def build(entries: Sequence[TimelineEntry], *, phases: Sequence[PhaseTiming]) -> Report:
    """`entries` of one incident in order of `seq`; `phases` from `firebreak.timeline.phases.phases_of(entries)`.

    Tolerant of bodies that lack keys (older records); raises ContractError only where there is nothing to tell, or
    where the entries are of several incidents."""
    if not entries:
        raise ContractError("there are no entries to make a post-mortem of")
    if len({entry.incident_id for entry in entries}) > 1:
        raise ContractError("a post-mortem is made of the entries of one incident")
    first = next((e for e in entries if e.kind is EntryKind.INCIDENT_OPENED), entries[0])
    accepted_at = reading.time(first.body, "accepted_at") or first.at
    closed = next((e for e in entries if e.kind is EntryKind.INCIDENT_CLOSED), None)
    outcome = (reading.text(closed.body, "outcome") or "closed") if closed else IncidentOutcome.OPEN.value
    verdict, plan, evidence = deciding_verdict(entries), plan_of(entries), evidence_of(entries)
    actions, people, restores = actions_of(entries, plan), people_of(entries), restores_of(entries)
    faults, alerts = faults_of(entries), _alerts(entries)
    left = in_force(plan=plan, actions=actions, restores=restores, closed=closed is not None)
    refusal = reading.text(first.body, "refusal")
    service = wording.clean(reading.text(first.body, "service"), 60) or "unknown service"
    impact = _impact(
        entries=entries,
        accepted_at=accepted_at,
        hurt=worst_seen(entries),
        alerts=alerts,
        truncated=reading.whole(first.body, "truncated"),
        outcome=outcome,
    )
    reason = reading.text(closed.body, "reason") if closed else ""
    return Report(
        schema=SCHEMA,
        incident_id=entries[0].incident_id,
        service=service,
        target=next((e.target for e in entries if e.target), "") or reading.target_text(first.body, "target"),
        refusal=refusal,
        outcome=outcome,
        reason=reason,
        closed_by=closed.actor if closed else "",
        observed_only=_observed_only(actions),
        accepted_at=accepted_at,
        opened_at=first.at,
        closed_at=closed.at if closed else None,
        headline=_headline(service, alerts, verdict),
        summary=tuple(
            wording.sentence(line)
            for line in (
                _seen(service, alerts, verdict, refusal, impact),
                _done(actions),
                *([_before(evidence)] if evidence and evidence.changes else []),
                _ended(outcome, reason, closed.at if closed else None, accepted_at, people),
            )
        ),
        impact=impact,
        verdict=verdict,
        plan=plan,
        evidence=evidence,
        actions=actions,
        people=people,
        restores=restores,
        faults=faults,
        alerts=alerts,
        phases=tuple(phases),
        in_force=left,
        follow_ups=follow_ups(
            service=service,
            refusal=refusal,
            verdict=verdict,
            plan=plan,
            actions=actions,
            evidence=evidence,
            people=people,
            restores=restores,
            left=left,
            faults=faults,
            left_out=impact.left_out,
        ),
        timeline=tuple(_line(entry, accepted_at) for entry in entries),
        first_seq=entries[0].seq,
        last_seq=entries[-1].seq,
        head=entries[-1].digest,
    )


def _observed_only(actions: Sequence[ActionPart]) -> bool:
    """Steps were only told, and none was written before the mode was switched."""
    return any(a.state is StepState.WOULD_APPLY for a in actions) and not any(a.effect in WROTE for a in actions)


def _alerts(entries: Sequence[TimelineEntry]) -> tuple[AlertLine, ...]:
    """Distinct alert instances in order of joining; the opening one may be told of twice."""
    found: dict[tuple[str, str], AlertLine] = {}
    for entry in entries:
        alert = reading.mapping(entry.body, "alert")
        key = (reading.text(alert, "fingerprint"), reading.text(alert, "starts_at"))
        if entry.kind in _ALERTS and alert and key not in found:
            found[key] = AlertLine(
                name=reading.text(alert, "labels", "alertname"),
                fingerprint=key[0],
                starts_at=reading.time(alert, "starts_at"),
                joined_at=entry.at,
                labels={str(k): str(v) for k, v in sorted(reading.mapping(alert, "labels").items())},
            )
        elif entry.kind is EntryKind.ALERT_RESOLVED and key in found and found[key].resolved_at is None:
            known = found[key]
            found[key] = AlertLine(
                name=known.name,
                fingerprint=known.fingerprint,
                starts_at=known.starts_at,
                joined_at=known.joined_at,
                labels=known.labels,
                resolved_at=entry.at,
            )
    return tuple(found.values())


def _impact(
    *,
    entries: Sequence[TimelineEntry],
    accepted_at: datetime,
    hurt: tuple[ConditionLine, ...],
    alerts: Sequence[AlertLine],
    truncated: int,
    outcome: str,
) -> ImpactPart:
    """From the first known sign (the earliest true condition, else the alert's own start) to proven health."""
    signs = [c.since for c in hurt if c.since] or [a.starts_at for a in alerts if a.starts_at]
    since = min([*signs, accepted_at])
    until = None if outcome == IncidentOutcome.OPEN else _proven_healthy(entries)
    if outcome == IncidentOutcome.NOTHING_DONE and until is None:
        until = next(e.at for e in entries if e.kind is EntryKind.INCIDENT_CLOSED)
    if outcome == IncidentOutcome.NOTHING_DONE and (resolved := [a.resolved_at for a in alerts if a.resolved_at]):
        until = max(resolved)
    worst = worst_by_dimension(entries)
    return ImpactPart(
        dimensions=tuple(dict.fromkeys(d for d in (*(c.dimension for c in hurt), *(w.dimension for w in worst)) if d)),
        conditions=hurt,
        since=since,
        until=until,
        duration_ms=(until - since).total_seconds() * 1000 if until else None,
        alerts=len(alerts),
        left_out=max(truncated, 0),
        worst=worst,
    )


def _proven_healthy(entries: Sequence[TimelineEntry]) -> datetime | None:
    """The last verification or recovery that no relapse took back."""
    healthy: datetime | None = None
    for entry in entries:
        verified = entry.body.get("outcome") == "verified"
        if entry.kind is EntryKind.RECOVERY_SEEN or (entry.kind is EntryKind.VERIFICATION and verified):
            healthy = entry.at
        elif entry.kind is EntryKind.HOLD_ENDED and not verified:
            healthy = None
    return healthy


def _worst(verdict: VerdictPart | None) -> str:
    held = [c for c in (verdict.conditions if verdict else ()) if c.truth == Truth.TRUE]
    return ", ".join(condition_words(c) for c in held[:3])


def _headline(service: str, alerts: Sequence[AlertLine], verdict: VerdictPart | None) -> str:
    severity = verdict.severity if verdict and verdict.severity != "none" else "Alert"
    name = alerts[0].name if alerts and alerts[0].name else "unnamed alert"
    return wording.clean(f"{severity} on {service}: {name}", wording.CUT)


def _seen(
    service: str, alerts: Sequence[AlertLine], verdict: VerdictPart | None, refusal: str, impact: ImpactPart
) -> str:
    names = list(dict.fromkeys(wording.clean(a.name, 60) for a in alerts if a.name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    seen = f"{'Alerts' if len(names) > 1 else 'Alert'} {', '.join(names[:3]) or 'without a name'}{more} on {service}"
    verb = "were" if len(names) > 1 else "was"
    if verdict is None:
        return f"{seen} {verb} not classified{': ' + refusal if refusal else ''}"
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


def _ended(
    outcome: str, reason: str, closed_at: datetime | None, accepted_at: datetime, people: Sequence[PersonLine]
) -> str:
    who = "a person was called" if was_called(people) else "nobody was called"
    if closed_at is None:
        return f"The incident is still open; {who}"
    took = wording.span((closed_at - accepted_at).total_seconds() * 1000)
    return f"It ended as {outcome.replace('_', ' ')} {took} after the alert, {who}" + (f": {reason}" if reason else "")


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

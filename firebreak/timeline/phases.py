"""How long each phase of an incident took, against its budget (row D5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from firebreak.domain.codec import parse_time
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.record import first, looks, proof_of_health
from firebreak.domain.timeline import EntryKind, PhaseTiming, TimelineEntry
from firebreak.domain.verdict import Severity


class Phase(StrEnum):
    """The stamps of an incident after `accepted` (the alert was on disk), in their usual order."""

    SEEN = "seen"  # the incident was opened
    CLASSIFIED = "classified"  # the verdict that decided
    PLANNED = "planned"  # the runbook was pinned
    EVIDENCE_KEPT = "evidence kept"
    FIRST_ACTION = "first action"  # the first effect, or in mode observe what would have been written
    VERIFIED = "verified"
    PERSON_CALLED = "person called"
    CLOSED = "closed"


DELIVERY_MS = 1_000
"""What a page that goes out at its deadline may take until it is delivered: a look at the outbox, and the pager."""


class Since(StrEnum):
    ACCEPTED = "accepted"
    CLASSIFIED = "classified"
    """The verdict that set the paging deadline, else the one that decided, else when the look was due that had not come
    yet (`accepted` for the first one). A call is counted from what had come before it: also from a relapse."""
    PHASE_BEFORE = "phase before"  # the latest stamp that there is before this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`limit_ms` milliseconds for one phase, counted from `since`; it is over when they and `allowance_ms` are."""

    limit_ms: float
    since: Since
    source: str
    allowance_ms: float = 0


_PAGING = "paging deadline, 60 s after the classification"

# Alert to durable plan has 50 ms at p99 (speed target of the first issue); it is shared out over three phases.
BUDGETS: Mapping[Phase, Budget] = MappingProxyType(
    {
        Phase.SEEN: Budget(limit_ms=15, since=Since.ACCEPTED, source="alert to plan in 50 ms: 15 to open"),
        Phase.CLASSIFIED: Budget(
            limit_ms=30, since=Since.PHASE_BEFORE, source="alert to plan in 50 ms: 30 to classify"
        ),
        Phase.PLANNED: Budget(limit_ms=5, since=Since.PHASE_BEFORE, source="alert to plan in 50 ms: 5 to pin the plan"),
        Phase.EVIDENCE_KEPT: Budget(limit_ms=2_000, since=Since.PHASE_BEFORE, source="evidence is kept within 2 s"),
        Phase.FIRST_ACTION: Budget(limit_ms=50, since=Since.PHASE_BEFORE, source="alert to first write in 50 ms"),
        Phase.VERIFIED: Budget(limit_ms=60_000, since=Since.CLASSIFIED, source=_PAGING),
        Phase.PERSON_CALLED: Budget(
            limit_ms=60_000,
            since=Since.CLASSIFIED,
            source=f"{_PAGING} or a relapse, and 1 s to deliver",
            allowance_ms=DELIVERY_MS,
        ),
        Phase.CLOSED: Budget(limit_ms=900_000, since=Since.ACCEPTED, source="row A6: the report within 15 min"),
    }
)


def phases_of(
    entries: Sequence[TimelineEntry], *, budgets: Mapping[Phase, Budget] = BUDGETS
) -> tuple[PhaseTiming, ...]:
    """Timings of the phases that one incident's entries (in order of `seq`) show; a missing one is left out.

    `classified` counts from when the rule allowed it: the wait that a pending condition asks for is `waited_ms`, also
    of what counts from the classification. Times are wall-clock stamps, so a clock that was set back gives a negative
    `took_ms`, which is shown and not over budget.
    """
    opened = first(entries, EntryKind.INCIDENT_OPENED)
    if opened is None:
        return ()
    accepted = _time(opened.body.get("accepted_at")) or opened.at
    stamps = _stamps(entries, opened)
    called = _called(entries)
    timings, before = [], accepted
    for phase in Phase:
        if (ended := stamps.get(phase)) is None or (budget := budgets.get(phase)) is None:
            continue
        started = accepted if budget.since is Since.ACCEPTED else before
        counted_from, waited = started, 0.0
        if phase is Phase.CLASSIFIED:
            counted_from = _when_allowed(entries, ended, started)
            waited = _ms(started, counted_from)
        elif budget.since is Since.CLASSIFIED:
            by_then = _before(called, entries) if phase is Phase.PERSON_CALLED else entries
            started = _classified_at(by_then, ended) or accepted
            waited = _ms(opened.at, _when_allowed(entries, started, opened.at))
            if phase is Phase.PERSON_CALLED:
                started = _relapsed_at(by_then) or started
            counted_from = started
        took = _ms(counted_from, ended)
        timings.append(
            PhaseTiming(
                phase=phase.value,
                started_at=started,
                ended_at=ended,
                took_ms=took,
                waited_ms=waited,
                budget_ms=budget.limit_ms,
                budget_source=budget.source,
                over=took > budget.limit_ms + budget.allowance_ms,
            )
        )
        before = ended
    return tuple(timings)


def _stamps(entries: Sequence[TimelineEntry], opened: TimelineEntry) -> dict[Phase, datetime | None]:
    seen = looks(entries)
    return {
        Phase.SEEN: opened.at,
        Phase.CLASSIFIED: seen[-1].at if seen else None,
        Phase.PLANNED: _at(first(entries, EntryKind.PLAN_PINNED)),
        Phase.EVIDENCE_KEPT: _at(first(entries, EntryKind.EVIDENCE_KEPT)),
        Phase.FIRST_ACTION: _at(first(entries, EntryKind.EFFECT_RECORDED, EntryKind.STEP_WOULD_APPLY)),
        Phase.VERIFIED: _at(proof_of_health(entries, recovery=False)),
        Phase.PERSON_CALLED: _at(_called(entries)),
        Phase.CLOSED: _at(first(entries, EntryKind.INCIDENT_CLOSED)),
    }


def _called(entries: Sequence[TimelineEntry]) -> TimelineEntry | None:
    """The first call for a person: by decision, or a page that goes out by itself (a deadline, a relapse, what nobody
    looked at in time). One that comes after the end is about something else, but for a deadline that was late."""
    closed = first(entries, EntryKind.INCIDENT_CLOSED)
    for entry in entries:
        paged = entry.kind is EntryKind.MESSAGE_DELIVERED and entry.body.get("pager") == PagerAction.TRIGGER_HIGH.value
        in_time = closed is None or entry.seq < closed.seq or entry.body.get("notice") == NoticeKind.DEADLINE.value
        if in_time and (paged or entry.kind is EntryKind.PERSON_CALLED):
            return entry
    return None


def _before(called: TimelineEntry | None, entries: Sequence[TimelineEntry]) -> Sequence[TimelineEntry]:
    return [e for e in entries if called is None or e.seq < called.seq]


def _relapsed_at(entries: Sequence[TimelineEntry]) -> datetime | None:
    """When the last relapse was seen: till then a verified healing had taken the deadline back."""
    relapses = [e for e in entries if e.kind is EntryKind.HOLD_ENDED and e.body.get("outcome") != "verified"]
    return relapses[-1].at if relapses else None


def _classified_at(entries: Sequence[TimelineEntry], ended: datetime) -> datetime | None:
    """When the paging deadline began: with the first P1, which may wait for a second dimension before it decides.
    Where nothing was a P1, with the verdict that decided, or when a look was due that had not come by then."""
    seen = looks(entries)
    severe = next((e for e in seen if _verdict(e).get("severity") == Severity.P1.value), None)
    if severe or not seen:
        return _at(severe)
    result = seen[-1].body.get("result")
    due = _time(result.get("again_at")) if isinstance(result, Mapping) else None
    return seen[-1].at if due is None or due > ended else due


def _when_allowed(entries: Sequence[TimelineEntry], ended: datetime, started: datetime) -> datetime:
    """When the deciding look could begin: at once, or when the look before said that it could hold, or (woken
    otherwise, or by the clock) at its own pinned time."""
    verdicts = [e for e in entries if e.kind is EntryKind.VERDICT_REACHED and e.at <= ended]
    if len(verdicts) < 2:
        return started
    holds_at = _time(_verdict(verdicts[-2]).get("holds_at"))
    pinned_at = _time(_verdict(verdicts[-1]).get("pinned_at"))
    for moment in (holds_at, pinned_at):
        if moment is not None and started <= moment <= ended:
            return moment
    return max(started, verdicts[-2].at)


def _verdict(entry: TimelineEntry) -> Mapping[str, Any]:
    verdict = entry.body.get("verdict")
    return verdict if isinstance(verdict, Mapping) else {}


def _at(entry: TimelineEntry | None) -> datetime | None:
    return entry.at if entry else None


def _time(text: object) -> datetime | None:
    """A stored time; None for what an older record does not have or wrote in another way."""
    if not isinstance(text, str):
        return None
    try:
        return parse_time(text)
    except ValueError:
        return None


def _ms(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() * 1000

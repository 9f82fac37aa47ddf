"""How long each phase of an incident took, against its budget (row D5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from firebreak.domain.codec import parse_time
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
    CLASSIFIED = "classified"  # the verdict that set the paging deadline, else the one that decided, else `accepted`
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
            limit_ms=60_000, since=Since.CLASSIFIED, source=f"{_PAGING}, and 1 s to deliver", allowance_ms=DELIVERY_MS
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
    opened = _first(entries, EntryKind.INCIDENT_OPENED)
    if opened is None:
        return ()
    accepted = _time(opened.body.get("accepted_at")) or opened.at
    stamps = _stamps(entries, opened)
    classified = _classified_at(entries)
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
            started = counted_from = classified or accepted
            waited = _ms(opened.at, _when_allowed(entries, started, opened.at))
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
    deciding = _deciding_verdict(entries)
    return {
        Phase.SEEN: opened.at,
        Phase.CLASSIFIED: deciding.at if deciding else None,
        Phase.PLANNED: _at(_first(entries, EntryKind.PLAN_PINNED)),
        Phase.EVIDENCE_KEPT: _at(_first(entries, EntryKind.EVIDENCE_KEPT)),
        Phase.FIRST_ACTION: _at(_first(entries, EntryKind.EFFECT_RECORDED, EntryKind.STEP_WOULD_APPLY)),
        Phase.VERIFIED: _verified_at(entries),
        Phase.PERSON_CALLED: next((e.at for e in entries if _calls_person(e)), None),
        Phase.CLOSED: _at(_first(entries, EntryKind.INCIDENT_CLOSED)),
    }


def _verified_at(entries: Sequence[TimelineEntry]) -> datetime | None:
    """The last verification that no relapse took back."""
    found: datetime | None = None
    for entry in entries:
        good = entry.body.get("outcome") == "verified"
        if entry.kind is EntryKind.VERIFICATION and good:
            found = entry.at
        elif entry.kind is EntryKind.HOLD_ENDED and not good:
            found = None
    return found


def _calls_person(entry: TimelineEntry) -> bool:
    """Called at once, or by the deadline's page, which goes out by itself."""
    by_deadline = entry.kind is EntryKind.MESSAGE_DELIVERED and entry.body.get("notice") == "deadline"
    return by_deadline or entry.kind is EntryKind.PERSON_CALLED


def _deciding_verdict(entries: Sequence[TimelineEntry]) -> TimelineEntry | None:
    """The last verdict before anything was decided on it."""
    verdicts = _verdicts(entries)
    return verdicts[-1] if verdicts else None


def _classified_at(entries: Sequence[TimelineEntry]) -> datetime | None:
    """When the paging deadline began: with the first P1, which may wait for a second dimension before it decides.
    Where nothing was a P1, with the verdict that decided."""
    severe = next((e for e in _verdicts(entries) if _verdict(e).get("severity") == Severity.P1.value), None)
    return _at(severe or _deciding_verdict(entries))


def _verdicts(entries: Sequence[TimelineEntry]) -> list[TimelineEntry]:
    """Those before anything was decided on them: plan, page or end."""
    decided = _first(entries, EntryKind.PLAN_PINNED, EntryKind.PERSON_CALLED, EntryKind.INCIDENT_CLOSED)
    return [e for e in entries if e.kind is EntryKind.VERDICT_REACHED and (decided is None or e.seq < decided.seq)]


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


def _first(entries: Iterable[TimelineEntry], *kinds: EntryKind) -> TimelineEntry | None:
    return next((e for e in entries if e.kind in kinds), None)


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

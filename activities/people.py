"""Calling a person, and ending an incident."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from temporalio import activity

from activities import notices
from activities.casebook import Casebook
from activities.failures import translated
from activities.messages import CloseInput, PersonInput
from firebreak.domain.errors import IncidentClosed, LedgerError, PermanentError
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import MessageDraft, NoticeText, PagerAction
from firebreak.domain.ports import Clock, PagerPort, RoutesPort
from firebreak.domain.timeline import EntryDraft, EntryKind

_FELL_BACK = "sent with FIREBREAK_FALLBACK_PAGER_KEY: the service's own pager_key was refused"
_HEALTHY = (IncidentOutcome.HEALED, IncidentOutcome.RECOVERED)


EvidenceForACall = Callable[[str], Awaitable[EntryDraft | None]]


class PeopleHands:
    """`person.call`, `incident.close`."""

    def __init__(
        self, *, casebook: Casebook, pager: PagerPort, routes: RoutesPort, clock: Clock, evidence: EvidenceForACall
    ) -> None:
        """`evidence`: what is kept with a call before which nothing was kept; None for nothing."""
        self._evidence = evidence
        self._casebook = casebook
        self._pager = pager
        self._routes = routes
        self._clock = clock

    @activity.defn(name="person.call")
    @translated
    async def call(self, given: PersonInput) -> None:
        """High urgency, by way of the outbox. Paging alone is exempt from `no record, no action`: when the ledger is
        down, the page goes out directly (with the same dedup key, so that the later one is not a second)."""
        kept = await self._evidence(given.incident_id)
        now = self._clock.now()
        draft = EntryDraft(
            incident_id=given.incident_id,
            key=given.key,
            kind=EntryKind.PERSON_CALLED,
            at=now,
            body={"reason": given.reason, "urgency": "high"},
        )
        try:
            await self._casebook.ledger.append(
                [draft] if kept is None else [draft, kept],
                messages=notices.person_needed(given.incident_id, given.key, given.reason, now),
                cancel=(
                    (given.incident_id, notices.DEADLINE),
                    *((given.incident_id, notices.unclassified_key(look)) for look in range(given.looks + 1)),
                ),
                phase=(given.incident_id, IncidentPhase.WAITING_FOR_PERSON),
                unless_closed=True,
            )
        except IncidentClosed:  # by hand: who closed it has it
            return
        except LedgerError as error:
            await self._page_directly(given, error)
            raise  # tried again: it must be written down in the end

    async def _page_directly(self, given: PersonInput, error: LedgerError) -> None:
        """By the service's key; where that is refused, by the one that stands in for services without a key."""
        service = self._casebook.known_service(given.incident_id)
        text = NoticeText(
            title=f"Firebreak needs a person: {given.incident_id}",
            lines=(given.reason, f"The record cannot be written: {error}", error.next_step()),
            service=service,
        )
        own, fallback = (self._routes.route(name).pager_key for name in (service, ""))
        try:
            await self._page(own, given, text, {})
        except PermanentError:
            if not fallback or fallback == own:
                raise
            await self._page(fallback, given, text, {"routing": _FELL_BACK})

    async def _page(self, key: str, given: PersonInput, text: NoticeText, details: Mapping[str, str]) -> None:
        await self._pager.send(key, PagerAction.TRIGGER_HIGH, incident_id=given.incident_id, text=text, details=details)

    @activity.defn(name="incident.close")
    @translated
    async def close(self, given: CloseInput) -> bool:
        """One keyed record. Its messages are rows of the same transaction: a repeat adds nothing. An alert that has
        joined since the last look: False when nothing was done (it must be looked at first), a page of its own when
        the incident ends as healthy (what was done is over, and the sender may not tell of the alert again for hours).
        """
        now = self._clock.now()
        draft = EntryDraft(
            incident_id=given.incident_id,
            key="close",
            kind=EntryKind.INCIDENT_CLOSED,
            at=now,
            actor=given.by,
            body={"outcome": given.outcome.value, "reason": given.reason},
        )
        messages = notices.closing(given.incident_id, now)
        late = (
            f"an alert joined {given.incident_id} just before it closed as {given.outcome.value}: no look at the "
            f"evidence has seen it (firebreak timeline {given.incident_id})"
        )
        closed = await self._casebook.ledger.close_incident(
            draft,
            given.outcome,
            messages=messages,
            cancel_all=True,
            unless_joined=given.outcome is IncidentOutcome.NOTHING_DONE,
            if_joined=_called_about(given.incident_id, late, now) if given.outcome in _HEALTHY else None,
        )
        return closed is not None


def _called_about(incident_id: str, reason: str, now: datetime) -> tuple[EntryDraft, tuple[MessageDraft, ...]]:
    """A call that comes after the incident's last word: only `firebreak close` ends it."""
    key = "person/late"
    body = {"reason": reason, "urgency": "high"}
    entry = EntryDraft(incident_id=incident_id, key=key, kind=EntryKind.PERSON_CALLED, at=now, body=body)
    return entry, notices.person_needed(incident_id, key, reason, now)

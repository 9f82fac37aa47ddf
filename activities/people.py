"""Calling a person, and ending an incident."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from temporalio import activity

from activities import notices
from activities.casebook import Casebook
from activities.failures import translated
from activities.messages import CloseInput, PersonInput
from activities.stops import HANDS_OFF
from firebreak.domain.errors import LedgerError, PermanentError
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import NoticeText, PagerAction
from firebreak.domain.ports import Clock, PagerPort, RoutesPort
from firebreak.domain.timeline import EntryDraft, EntryKind

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
                unless=HANDS_OFF,  # who closes it has it
            )
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
            await self._page(fallback, given, text, {"routing": notices.FELL_BACK})

    async def _page(self, key: str, given: PersonInput, text: NoticeText, details: Mapping[str, str]) -> None:
        await self._pager.send(key, PagerAction.TRIGGER_HIGH, incident_id=given.incident_id, text=text, details=details)

    @activity.defn(name="incident.close")
    @translated
    async def close(self, given: CloseInput) -> bool:
        """One keyed record. Its messages are rows of the same transaction: a repeat adds nothing. An alert that has
        joined since the last look, or since a person asked for the close: False when nothing was done (it must be
        looked at first), else a page of its own (what was done is over, and the sender may not tell of the alert again
        for hours)."""
        now = self._clock.now()
        draft = EntryDraft(
            incident_id=given.incident_id,
            key="close",
            kind=EntryKind.INCIDENT_CLOSED,
            at=now,
            actor=given.by,
            body={"outcome": given.outcome.value, "reason": given.reason},
        )
        nothing_done = given.outcome is IncidentOutcome.NOTHING_DONE
        closed = await self._casebook.ledger.close_incident(
            draft,
            given.outcome,
            messages=notices.closing(given.incident_id, now),
            unless_joined=nothing_done,
            if_joined=None if nothing_done else notices.joined_late(given.incident_id, given.outcome, now),
        )
        return closed is not None

"""A page that stands for as long as something lasts: begun once, ended by whichever engine runs when that is over."""

from __future__ import annotations

import contextlib
from typing import Any

import structlog

from activities import notices
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import Message, MessageDraft, NoticeKind, NoticeText, PagerAction
from firebreak.domain.ports import Clock, IncidentsPort, LedgerPort, PagerPort
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.attempts import message_entry
from firebreak.engine.told import FALLBACK, mark

log = structlog.get_logger()

_FAULTS = 100  # newest records that are searched for pages that an earlier engine left open


class StandingPage:
    """`catch_up` at each look, `begin` when it has begun, `end` when it is over.

    A page has a record of its own: `begun` is the key of its first entry, `over` of the one that ends it. When the
    ledger cannot be written (which may be the very reason of the page) it goes out directly, by `pager` and the
    fallback key, and is written down as soon as that can be."""

    def __init__(
        self,
        begun: str,
        over: str,
        *,
        ledger: LedgerPort,
        clock: Clock,
        pager: PagerPort | None = None,
        pager_key: str = "",
        incidents: IncidentsPort | None = None,
    ) -> None:
        self._begun = begun
        self._over = over
        self._ledger = ledger
        self._clock = clock
        self._pager = pager
        self._pager_key = pager_key
        self._incidents = incidents
        self._paged: tuple[str, ...] = ()  # records of the pages that are open
        self._left: tuple[str, ...] | None = None  # those of an earlier engine; None = not asked for yet
        self._unwritten: tuple[EntryDraft, ...] = ()  # of a page that went out directly: why, and that it did

    @property
    def stands(self) -> bool:
        """Whether this engine has begun it."""
        return bool(self._paged)

    @property
    def records(self) -> tuple[str, ...]:
        """Of all pages that are open, those of an earlier engine first."""
        return tuple(dict.fromkeys((*(self._left or ()), *self._paged)))

    async def catch_up(self) -> None:
        """Find what an earlier engine left open, and write down what went out directly, once that can be."""
        if self._left is None:
            with contextlib.suppress(LedgerError):  # asked again at the next look: no page waits for it
                self._left = await self._left_open()
        await self._write_down()

    async def begin(
        self,
        record: str,
        reason: str,
        *,
        title: str,
        where: str,
        next_step: str,
        unsent: LedgerError | None = None,
        **told: Any,
    ) -> None:
        """Page, under `record`. `title` is of the page that goes out directly; `told` goes into the record. Raises
        LedgerError when it cannot be written down: to be begun again at the next look. `unsent`: why nobody would send
        what is written down, which is then the error."""
        now = self._clock.now()
        entry = EntryDraft(
            incident_id=record,
            key=self._begun,
            kind=EntryKind.ENGINE_FAULT,
            at=now,
            body={"where": where, "error": reason, "next_step": next_step, **told},
        )
        key = notices.page_key(self._begun)
        page = notices.pager(record, NoticeKind.PERSON_NEEDED, key, PagerAction.TRIGGER_HIGH, now, reason=reason)
        try:
            if unsent is not None:
                raise unsent
            await self._ledger.append([entry], messages=[page])
        except LedgerError as error:
            why = () if str(error) in reason else (str(error),)
            await self._directly(entry, page, NoticeText(title=title, lines=(reason, *why, error.next_step())))
            raise
        self._paged = (*self._paged, record)  # only now: what could not be written is tried at the next look

    async def end(self, reason: str) -> None:
        """All of them, those of an earlier engine included: starting it again is what mends such things as a rule."""
        now = self._clock.now()
        for record in self.records:
            done = EntryDraft(
                incident_id=record, key=self._over, kind=EntryKind.RECOVERY_SEEN, at=now, body={"reason": reason}
            )
            end = notices.pager(record, NoticeKind.HEALED, "pager/closed-high", PagerAction.RESOLVE_HIGH, now)
            await self._ledger.append([done], messages=[end])
        self._paged, self._left = (), None if self._left is None else ()

    async def _write_down(self) -> None:
        """The outbox ends it like any other then, however long the pager is away."""
        if not self._unwritten:
            return
        try:
            await self._ledger.append(self._unwritten)
        except LedgerError as error:
            log.warning("standing_page.unwritten", record=self._unwritten[0].incident_id, error=str(error))
        else:
            self._paged = (*self._paged, self._unwritten[0].incident_id)
            self._unwritten = ()

    async def _left_open(self) -> tuple[str, ...]:
        if self._incidents is None:
            return ()
        faults = await self._incidents.engine_faults(limit=_FAULTS)
        records = [fault.incident_id for fault in faults if fault.key == self._begun]
        return tuple([r for r in records if await self._ledger.find(r, self._over) is None])

    async def _directly(self, entry: EntryDraft, page: MessageDraft, text: NoticeText) -> None:
        if self._pager is None or not self._pager_key or self._unwritten:
            return
        receipt = await self._pager.send(
            self._pager_key, PagerAction.TRIGGER_HIGH, incident_id=entry.incident_id, text=text, details={}
        )
        key: dict[str, Any] = {"routing": FALLBACK, "marks": {FALLBACK: mark(self._pager_key)}}  # whose resolve ends it
        message = Message(number=0, draft=page, attempts=0, next_try_at=entry.at)
        sent = message_entry(message, EntryKind.MESSAGE_DELIVERED, self._clock.now(), receipt=receipt, **key)
        self._unwritten = (entry, sent)

"""Watching that accepted alerts are taken up, and promised restores kept: the net under dispatchers, workers, Temporal.

An incident has its own deadline from the moment it is opened. Before that, an alert is only a row of the inbox; when
no dispatcher takes it within the time limit, a person is paged from here. After it, a restore is only a promise: when
its own workflow has neither ended it nor paged in time, a person is paged from here, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog

from activities import notices
from firebreak.documents.durations import spoken
from firebreak.domain import ids
from firebreak.domain.alert import AcceptedAlert, UnreadableDelivery
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError, LedgerError
from firebreak.domain.incident import UnreadableRestore
from firebreak.domain.message import Message, MessageDraft, NoticeKind, NoticeText, PagerAction
from firebreak.domain.ports import Clock, InboxPort, IncidentsPort, LedgerPort, PagerPort, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.attempts import message_entry
from firebreak.engine.clock import SetBack
from firebreak.engine.damage import KEPT, unreadable_restore
from firebreak.engine.told import FALLBACK, mark
from firebreak.engine.waited import IntakeWait, OpenSince
from firebreak.postmortem.notice_next import INTAKE

log = structlog.get_logger()

LOOK = 2.0  # seconds between two looks
LIMIT = timedelta(seconds=60)
_WAITING, _TAKEN_UP = "waiting", "taken-up"  # keys of the entries of a page's record
_FAULTS = 100  # newest records that are searched for pages that an earlier engine left open
_NAMED = 5  # open incidents in one page
LONG_STEP = timedelta(minutes=1)
"""A clock that was set back by less is where it was before a person could do anything."""
RESTORE_GRACE = timedelta(minutes=1)
"""After a restore's own time limit: its workflow has that long, and two of its polls, to page by itself."""


class IntakeWatch:
    """`run` until cancelled. One page for as long as the same alert waits, ended when it has been taken up.

    When the ledger cannot be written (which may be why it waits) the page goes out directly, by `pager` and the
    fallback key, and is written down as soon as that can be. `elapsed`: seconds of a clock that nobody sets."""

    def __init__(
        self,
        inbox: InboxPort,
        ledger: LedgerPort,
        clock: Clock,
        *,
        limit: timedelta = LIMIT,
        pager: PagerPort | None = None,
        pager_key: str = "",
        incidents: IncidentsPort | None = None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._clock = clock
        self._limit = limit
        self._pager = pager
        self._pager_key = pager_key
        self._incidents = incidents
        self._elapsed = elapsed
        self._set_back = SetBack(clock, elapsed)
        self._wait = IntakeWait(limit)
        self._open_since = OpenSince()
        self._overdue: set[tuple[str, str]] = set()  # restores that are known to have been paged for
        self._damaged: set[str] = set()  # records of restores that cannot be read, paged for
        self._paged: tuple[str, ...] = ()  # records of the pages that are open
        self._left: tuple[str, ...] | None = None  # those of an earlier engine; None = not asked for yet
        self._unwritten: tuple[EntryDraft, ...] = ()  # of a page that went out directly: why, and that it did

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except FirebreakError as error:
                log.error("intake_watch.failed", error=str(error), next_step=error.next_step())
            except Exception as error:  # noqa: BLE001 # the net must not end by the fault that it is there for
                log.error("intake_watch.fault", error=repr(error))
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Page when the oldest alert has waited for too long; resolve that page when it has not any more. Page once
        for every open restore whose time limit is long over, and for each long step back of the clock."""
        try:
            await self._look_at_intake()
        finally:  # an inbox that cannot be read hides no restore, nor does one of these hide a step of the clock
            try:
                await self._look_at_restores()
            finally:
                await self._look_at_clock()

    async def _look_at_clock(self) -> None:
        """Temporal fires no timer until its clock says again what it had said: who is open wakes that much later."""
        by = self._set_back.by()
        if self._incidents is None or by < LONG_STEP:
            return
        names = [incident.id for incident in await self._incidents.open_incidents()]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            reason = (
                f"the wall clock was set back by {spoken(by)}. A Temporal that shares it wakes nothing for as long: "
                f"{', '.join(names[:_NAMED])}{more} may not be looked at meanwhile. Watch what is open by hand."
            )
            now = self._clock.now()
            entry, page = notices.fault(f"clock-timers-{int(now.timestamp())}", "clock", reason, now)
            await self._ledger.append([entry], messages=[page])
        self._set_back.settled(by)  # only now: what could not be told is told at the next look

    async def _look_at_intake(self) -> None:
        now = self._clock.now()
        self._wait.looked(now, self._elapsed())
        oldest = await self._inbox.oldest()
        if self._left is None:
            with contextlib.suppress(LedgerError):  # asked again at the next look: no page waits for it
                self._left = await self._left_open()
        await self._write_down()
        late = oldest is not None and self._wait.of(oldest.receipt, oldest.accepted_at) >= self._limit
        waits = ids.delivery_record("intake", oldest.receipt, oldest.accepted_at) if oldest is not None else ""
        opened = tuple(dict.fromkeys((*(self._left or ()), *self._paged)))
        if late and oldest is not None and not self._paged:
            await self._page(waits, oldest)
            self._paged = (waits,)  # only now: what could not be written is tried at the next look
        elif not late and waits not in opened:  # else it waits on: a clock that was set back makes it look young
            for record in opened:
                done = EntryDraft(
                    incident_id=record,
                    key=_TAKEN_UP,
                    kind=EntryKind.RECOVERY_SEEN,
                    at=now,
                    body={"reason": "the waiting alerts have been taken up"},
                )
                end = notices.pager(record, NoticeKind.HEALED, "pager/closed-high", PagerAction.RESOLVE_HIGH, now)
                await self._ledger.append([done], messages=[end])
            self._paged, self._left = (), None if self._left is None else ()

    async def _write_down(self) -> None:
        """A page that went out directly, as soon as that can be: it stands for all that wait then, and the outbox ends
        it like any other, however long the pager is away."""
        if not self._unwritten:
            return
        try:
            await self._ledger.append(self._unwritten)
        except LedgerError as error:
            log.warning("intake_watch.unwritten", record=self._unwritten[0].incident_id, error=str(error))
        else:
            self._paged = (*self._paged, self._unwritten[0].incident_id)
            self._unwritten = ()

    async def _left_open(self) -> tuple[str, ...]:
        """Pages of an engine that ran before, to be ended: starting it again is what mends this as a rule. None of them
        stands for the alert that waits now, which has its own."""
        if self._incidents is None:
            return ()
        faults = await self._incidents.engine_faults(limit=_FAULTS)
        records = [fault.incident_id for fault in faults if fault.key == _WAITING]
        return tuple([r for r in records if await self._ledger.find(r, _TAKEN_UP) is None])

    async def _look_at_restores(self) -> None:
        if self._incidents is None:
            return
        now, elapsed = self._clock.now(), self._elapsed()
        late = {}
        unreadable: list[UnreadableRestore] = []
        places: set[tuple[str, str]] = set()
        for record in await self._incidents.open_restores(unreadable=unreadable):
            place = record.incident_id, ids.overdue_key(record.tier, record.step)
            places.add(place)
            limit = record.restore.within + max(RESTORE_GRACE, 2 * record.restore.poll)
            if self._open_since.of(place, record.opened_at, now, elapsed) >= limit:
                late[place] = record
        self._open_since.keep(places)
        self._overdue &= late.keys()
        for place, record in late.items():
            if place not in self._overdue:
                await self._page_for_restore(place[1], record)
                self._overdue.add(place)
        for damaged in unreadable:  # the sweeper tells of it, too: under the same key, so that it is one page
            entry, page = unreadable_restore(damaged, now)
            if entry.incident_id not in self._damaged:
                await self._ledger.append([entry], messages=[page])
                self._damaged.add(entry.incident_id)

    async def _page_for_restore(self, key: str, record: RestoreRecord) -> None:
        """Keyed: an engine that was started again finds the entry, and pages nobody a second time."""
        now = self._clock.now()
        reason = (
            f"a step in force since {record.opened_at:%Y-%m-%d %H:%M:%S} UTC (tier {record.tier}, step {record.step}) "
            f"should have been taken back within {record.restore.within}, and nothing has said what became of that: "
            "its restore workflow is gone or cannot page. Nothing was flipped."
        )
        entry = EntryDraft(
            incident_id=record.incident_id,
            key=key,
            kind=EntryKind.ENGINE_FAULT,
            at=now,
            body={
                "where": "restore",
                "error": reason,
                "next_step": "Take the step back by hand once the broken part is well; look at workers and Temporal.",
                "tier": record.tier,
                "step": record.step,
            },
        )
        page = notices.pager(
            record.incident_id,
            NoticeKind.PERSON_NEEDED,
            f"pager/{key}",
            PagerAction.TRIGGER_HIGH,
            now,
            reason=reason,
        )
        await self._ledger.append([entry], messages=[page])

    async def _page(self, incident_id: str, oldest: AcceptedAlert | UnreadableDelivery) -> None:
        now = self._clock.now()
        waiting = await self._inbox.backlog()
        since = f"{oldest.accepted_at:%H:%M:%S} UTC" if oldest.accepted_at else "nobody can read when"
        if isinstance(oldest, AcceptedAlert):
            told = {"alert": to_data(oldest.alert)}
        else:
            told = {"stored": oldest.stored[:KEPT]}
        reason = (
            f"{waiting} accepted alerts wait, the oldest since {since}: no worker takes them "
            "up. Look at the engine's workers and at Temporal; handle the alerts by hand meanwhile."
        )
        entry = EntryDraft(
            incident_id=incident_id,
            key=_WAITING,
            kind=EntryKind.ENGINE_FAULT,
            at=now,
            body={
                "where": INTAKE,
                "error": reason,
                "next_step": "Start the workers.",
                **told,
            },
        )
        page = notices.pager(
            incident_id, NoticeKind.PERSON_NEEDED, "pager/waiting", PagerAction.TRIGGER_HIGH, now, reason=reason
        )
        try:
            await self._ledger.append([entry], messages=[page])
        except LedgerError as error:
            await self._page_directly(entry, page, reason, error)
            raise

    async def _page_directly(self, entry: EntryDraft, page: MessageDraft, reason: str, error: LedgerError) -> None:
        if self._pager is None or not self._pager_key or self._unwritten:
            return
        text = NoticeText(
            title="Firebreak needs a person: alerts wait, and its record cannot be written",
            lines=(reason, str(error), error.next_step()),
        )
        receipt = await self._pager.send(
            self._pager_key, PagerAction.TRIGGER_HIGH, incident_id=entry.incident_id, text=text, details={}
        )
        key: dict[str, Any] = {"routing": FALLBACK, "marks": {FALLBACK: mark(self._pager_key)}}  # whose resolve ends it
        message = Message(number=0, draft=page, attempts=0, next_try_at=entry.at)
        sent = message_entry(message, EntryKind.MESSAGE_DELIVERED, self._clock.now(), receipt=receipt, **key)
        self._unwritten = (entry, sent)

"""Watching that accepted alerts are taken up, and promised restores kept: the net under dispatchers, workers, Temporal.

An incident has its own deadline from the moment it is opened. Before that, an alert is only a row of the inbox; when
no dispatcher takes it within the time limit, a person is paged from here. After it, a restore is only a promise: when
its own workflow has neither ended it nor paged in time, a person is paged from here, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from activities import notices
from activities.restore_ends import FLIPPED, NOT_FLIPPED
from firebreak.documents.durations import spoken
from firebreak.domain import ids
from firebreak.domain.alert import AcceptedAlert, IntakeClass, UnreadableDelivery
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError
from firebreak.domain.incident import UnreadableRestore
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.ports import Clock, InboxPort, IncidentsPort, LedgerPort, OutboxPort, PagerPort, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.clock import SetBack
from firebreak.engine.damage import KEPT, unreadable_restore
from firebreak.engine.standing_page import StandingPage
from firebreak.engine.unread import INBOX, RECORD, Unread
from firebreak.engine.waited import IntakeWait, OpenSince, Standstill
from firebreak.postmortem.notice_next import DATA_FILES, INTAKE

log = structlog.get_logger()

LOOK = 2.0  # seconds between two looks
LIMIT = timedelta(seconds=60)
_WAITING, _TAKEN_UP = "waiting", "taken-up"  # keys of the entries of a page's record: alerts wait
_REPLACED, _STARTED = "replaced", "started-again"  # a file in the place of one that was opened
_NAMED = 5  # open incidents in one page
LONG_STEP = timedelta(minutes=1)
"""A clock that was set back by less is where it was before a person could do anything."""
RESTORE_GRACE = timedelta(minutes=1)
"""After a restore's own time limit: its workflow has that long, and two of its polls, to page by itself."""


class IntakeWatch:
    """`run` until cancelled. One page for as long as the same alert waits, ended when it has been taken up; and one for
    as long as the inbox cannot be read, when nobody knows what waits, or the outbox, when nobody is called.

    When the ledger cannot be written (which may be why it waits) the page goes out directly, by `pager` and the
    fallback key. `elapsed`: seconds of a clock that nobody sets."""

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
        outbox: OutboxPort | None = None,
        elapsed: Callable[[], float] = time.monotonic,
        replaced: Callable[[], Sequence[Path]] = tuple,
    ) -> None:
        """`replaced`: files of ours in whose place there is another one by now."""
        self._inbox = inbox
        self._ledger = ledger
        self._clock = clock
        self._limit = limit
        self._incidents = incidents
        self._outbox = outbox
        self._elapsed = elapsed
        self._set_back = SetBack(clock, elapsed)
        self._wait = IntakeWait(limit)
        self._wait_behind = IntakeWait(limit)  # of the oldest alert that no open page stands for
        self._behind = Standstill()
        self._open_since = OpenSince()
        self._overdue: set[tuple[str, str]] = set()  # restores that are known to have been paged for
        self._damaged: set[str] = set()  # records of restores that cannot be read, paged for

        def page(begun: str, over: str) -> StandingPage:
            return StandingPage(
                begun, over, ledger=ledger, clock=clock, pager=pager, pager_key=pager_key, incidents=incidents
            )

        self._waiting = page(_WAITING, _TAKEN_UP)
        self._unread_inbox, self._unread_record = (
            Unread(store, page(store.begun, store.over), clock=clock, elapsed=elapsed, limit=limit)
            for store in (INBOX, RECORD)
        )
        self._files = replaced
        self._replaced = page(_REPLACED, _STARTED)

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
        for every open restore whose time limit is long over, and for each long step back of the clock. Each look has
        its turn, whatever becomes of those before it; raises the first of their errors."""
        looks = (
            self._look_at_intake,
            self._look_at_outbox,
            self._look_at_restores,
            self._look_at_clock,
            self._look_at_files,
        )
        errors = []
        for look in looks:
            try:
                await look()
            except Exception as error:  # noqa: BLE001 # raised below
                errors.append(error)
        if errors:
            raise errors[0]

    async def _look_at_files(self) -> None:
        """The engine goes on with the files that it has opened, and starts no process again that would open others."""
        await self._replaced.catch_up()
        names = ", ".join(path.name for path in self._files())
        if not names:
            await self._replaced.end("the engine has been started again")  # an earlier one's page
        elif not self._replaced.records:
            log.error("engine.files_replaced", files=names)
            await self._replaced.begin(
                f"replaced-{self._clock.now():%Y%m%d-%H%M%S}",
                f"{names} in the data directory: another file stands there, or none, while the engine runs. It goes on "
                "with the one that it has opened, and starts none of its processes again. What it writes is lost when "
                "it stops: look at its open incidents first (firebreak incidents may show the other file).",
                title="Firebreak needs a person: a file was replaced under it, and its record cannot be written",
                where=DATA_FILES,
                next_step="Stop the engine, put back a copy of the whole data directory, and start it.",
            )

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
        now, elapsed = self._clock.now(), self._elapsed()
        self._wait.looked(now, elapsed)
        self._wait_behind.looked(now, elapsed)
        for page in (self._waiting, self._unread_inbox):
            await page.catch_up()
        try:
            oldest = await self._inbox.oldest()
        except Exception as error:
            await self._unread_inbox.failed(error)
            raise
        try:
            await self._look_at_oldest(oldest)
        finally:
            await self._unread_inbox.read_well()

    async def _look_at_outbox(self) -> None:
        """As its sender does, who can only try again. Writing may go well meanwhile: no other page would go out."""
        if self._outbox is None:
            return
        await self._unread_record.catch_up()
        try:
            await self._outbox.due(self._clock.now(), limit=1)
        except Exception as error:
            await self._unread_record.failed(error)
            raise
        await self._unread_record.read_well()

    async def _look_at_oldest(self, oldest: AcceptedAlert | UnreadableDelivery | None) -> None:
        late = oldest is not None and self._wait.of(oldest.receipt, oldest.accepted_at) >= self._limit
        waits = "" if oldest is None else _record_of(oldest)
        if late and oldest is not None and not self._waiting.stands:
            self._behind.paged(_class_of(oldest))
            await self._page(oldest)
        elif late:
            await self._look_behind()
        elif waits not in self._waiting.records:  # else it waits on, and a clock that was set back makes it look young
            await self._waiting.end("the waiting alerts have been taken up")
            self._behind.over()

    async def _look_behind(self) -> None:
        """One alert that nobody can take up hides no standstill of all others."""
        known, recent = self._behind.looked(await self._inbox.newest())
        self._behind.taken_up(await self._inbox.taken_up(after=recent))
        behind = await self._inbox.oldest(after=known)
        if behind is None or self._wait_behind.of(behind.receipt, behind.accepted_at) < self._limit:
            return
        news = self._behind.is_news(_class_of(behind))
        if news:
            await self._page(behind, others=True)
            self._behind.paged(_class_of(behind))
        self._behind.stands_for_all(paged=news)

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
        began = await self._ledger.find(record.incident_id, ids.move_key("undo-intent", record.tier, record.step))
        reason = (
            f"a step in force since {record.opened_at:%Y-%m-%d %H:%M:%S} UTC (tier {record.tier}, step {record.step}) "
            f"should have been taken back within {record.restore.within}, and nothing has said what became of that: "
            f"its restore workflow is gone or cannot page. {FLIPPED if began else NOT_FLIPPED}"
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

    async def _page(self, oldest: AcceptedAlert | UnreadableDelivery, *, others: bool = False) -> None:
        """`others`: beside those that somebody was paged about."""
        try:
            waiting = f"{await self._inbox.backlog()} accepted alerts wait"
        except FirebreakError:  # the page waits for no count
            waiting = "accepted alerts wait"
        since = f"{oldest.accepted_at:%H:%M:%S} UTC" if oldest.accepted_at else "nobody can read when"
        if isinstance(oldest, AcceptedAlert):
            told = {"alert": to_data(oldest.alert)}
        else:
            told = {"stored": oldest.stored[:KEPT]}
        whose = "the oldest of which nobody was told" if others else "the oldest"
        reason = (
            f"{waiting}, {whose} since {since}: no worker takes them up. Look at the engine's workers and at Temporal; "
            "handle the alerts by hand till then: an engine that takes them up may write."
        )
        await self._waiting.begin(
            _record_of(oldest),
            reason,
            title="Firebreak needs a person: alerts wait, and its record cannot be written",
            where=INTAKE,
            next_step="Start the workers.",
            **told,
        )


def _class_of(delivery: AcceptedAlert | UnreadableDelivery) -> IntakeClass | None:
    """None: nobody can read which."""
    return delivery.intake_class if isinstance(delivery, AcceptedAlert) else None


def _record_of(oldest: AcceptedAlert | UnreadableDelivery) -> str:
    """Of the page for as long as it is the oldest that waits."""
    return ids.delivery_record("intake", oldest.receipt, oldest.accepted_at)

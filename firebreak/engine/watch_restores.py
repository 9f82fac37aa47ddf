"""Watching that promised restores are kept: the net under their own workflows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from activities import notices
from activities.restore_ends import FLIPPED, NOT_FLIPPED, UNREAD
from firebreak.domain import ids
from firebreak.domain.errors import LedgerError
from firebreak.domain.incident import UnreadableRestore
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.ports import Clock, IncidentsPort, LedgerPort, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.damage import unreadable_restore
from firebreak.engine.waited import OpenSince

RESTORE_GRACE = timedelta(minutes=1)
"""After a restore's own time limit: its workflow has that long, and two of its polls, to page by itself."""


class OverdueRestores:
    """One page for each open restore whose time limit is long over, or that cannot be read."""

    def __init__(
        self, incidents: IncidentsPort, ledger: LedgerPort, clock: Clock, elapsed: Callable[[], float]
    ) -> None:
        self._incidents = incidents
        self._ledger = ledger
        self._clock = clock
        self._elapsed = elapsed
        self._open_since = OpenSince()
        self._overdue: set[tuple[str, str]] = set()  # those that are known to have been paged for
        self._damaged: set[str] = set()  # records of those that cannot be read, paged for

    async def look(self) -> None:
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
        promises: list[RestoreRecord | UnreadableRestore] = [*late.values(), *unreadable]
        errors = []
        for promise in promises:
            try:
                await self._tell_of(promise)
            except Exception as error:  # noqa: BLE001 # raised below: a damaged record silences no other
                errors.append(error)
        if errors:
            raise errors[0]

    async def _tell_of(self, promise: RestoreRecord | UnreadableRestore) -> None:
        """Once. What cannot be read the sweeper tells of, too: under the same key, so that it is one page."""
        if isinstance(promise, UnreadableRestore):
            entry, page = unreadable_restore(promise, self._clock.now())
            if entry.incident_id not in self._damaged:
                await self._ledger.append([entry], messages=[page])
                self._damaged.add(entry.incident_id)
            return
        place = promise.incident_id, ids.overdue_key(promise.tier, promise.step)
        if place not in self._overdue:
            await self._page(place[1], promise)
            self._overdue.add(place)

    async def _page(self, key: str, record: RestoreRecord) -> None:
        """Keyed: an engine that was started again finds the entry, and pages nobody a second time."""
        now = self._clock.now()
        try:
            begun = await self._ledger.find(record.incident_id, ids.move_key("undo-intent", record.tier, record.step))
            flipped = FLIPPED if begun else NOT_FLIPPED
        except LedgerError:  # a record that cannot be read keeps no page back
            flipped = UNREAD
        reason = (
            f"a step in force since {record.opened_at:%Y-%m-%d %H:%M:%S} UTC (tier {record.tier}, step {record.step}) "
            f"should have been taken back within {record.restore.within}, and nothing has said what became of that: "
            f"its restore workflow is gone or cannot page. {flipped}"
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
            notices.page_key(key),
            PagerAction.TRIGGER_HIGH,
            now,
            reason=reason,
        )
        await self._ledger.append([entry], messages=[page])

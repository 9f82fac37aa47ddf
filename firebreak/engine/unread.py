"""A page for as long as a store cannot be read, where nobody sees what waits in it, or an inbox cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from firebreak.domain import ids
from firebreak.domain.errors import FirebreakError, LedgerError
from firebreak.domain.ports import Clock, InboxPort, OutboxPort
from firebreak.engine.standing_page import StandingPage
from firebreak.postmortem.notice_next import INBOX_FILE, KEEPING, RECORD_FILE

PROBE_PAUSE = 10.0
"""Seconds between two tries to write into the inbox: each waits for the disk, as an alert does."""

PROBE_LIMIT = 5.0
"""Seconds for one of them: a disk that hangs must not keep the other looks waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadStore:
    """Which one, in words. `name` begins the record of its page, `begun` and `over` are the keys of its entries.
    `reason` has places for `since` and `error`. `sends`: the outbox is in it, so that no row of that is sent."""

    name: str
    begun: str
    over: str
    where: str
    title: str
    reason: str
    read_again: str
    sends: bool = False


INBOX = UnreadStore(
    name="inbox",
    begun="unread",
    over="read",
    where=INBOX_FILE,
    title="Firebreak needs a person: its inbox cannot be read, nor its record written",
    reason=(
        "the inbox cannot be read since {since:%H:%M:%S} UTC ({error}): nobody takes up the alerts that were accepted. "
        "Look for them at Alertmanager, and handle them by hand meanwhile."
    ),
    read_again="the inbox can be read again",
)
UNKEPT = UnreadStore(
    name="unkept",
    begun="unkept",
    over="kept",
    where=KEEPING,
    title="Firebreak needs a person: it can keep no alert",
    reason=(
        "no alert can be kept since {since:%H:%M:%S} UTC ({error}): the gateway answers 503, and for what fires now "
        "nothing is opened and nobody called. Look at Alertmanager, and handle it by hand meanwhile."
    ),
    read_again="alerts can be kept again",
)
RECORD = UnreadStore(
    name="record",
    begun="unread-record",
    over="read-record",
    where=RECORD_FILE,
    title="Firebreak needs a person: its record cannot be read",
    reason=(
        "the record cannot be read since {since:%H:%M:%S} UTC ({error}): no call that it holds goes out. Look at "
        "Alertmanager for what fires; in mode act the engine may still heal: stop it first, or keep off what it heals. "
        "Where it goes on with another record, resolve this page at the pager."
    ),
    read_again="the record can be read again",
    sends=True,
)


class Unread:
    """`failed` or `read_well` at each look (or try to write). `elapsed`: seconds of a clock that nobody sets."""

    def __init__(
        self, store: UnreadStore, page: StandingPage, *, clock: Clock, elapsed: Callable[[], float], limit: timedelta
    ) -> None:
        self._store = store
        self._page = page
        self._clock = clock
        self._elapsed = elapsed
        self._limit = limit
        self._since: tuple[float, datetime] | None = None  # by both clocks; None = it can be read

    async def catch_up(self) -> None:
        """First of all, at each look."""
        await self._page.catch_up()

    async def failed(self, error: Exception) -> None:
        """It could not be read. Raises LedgerError where the page could not be written down."""
        began, began_at = self._since = self._since or (self._elapsed(), self._clock.now())
        if self._elapsed() - began < self._limit.total_seconds() or self._page.records:
            return
        store = self._store
        await self._page.begin(
            ids.unread_record(store.name, began_at),
            store.reason.format(since=began_at, error=error),
            title=store.title,
            where=store.where,
            next_step=error.next_step() if isinstance(error, FirebreakError) else "Look at the engine's log.",
            unsent=_as_ledgers(error) if store.sends else None,
        )

    async def read_well(self) -> None:
        self._since = None
        await self._page.end(self._store.read_again)


class UnreadOutbox:
    """Looked at as its sender does, who can only try again. Writing may go well meanwhile: no other page would go
    out."""

    def __init__(self, outbox: OutboxPort, clock: Clock, unread: Unread) -> None:
        self._outbox = outbox
        self._clock = clock
        self._unread = unread

    async def look(self) -> None:
        await self._unread.catch_up()
        try:
            await self._outbox.due(self._clock.now(), limit=1)
        except Exception as error:
            await self._unread.failed(error)
            raise
        await self._unread.read_well()


class UnkeptAlerts:
    """Looked at as the gateway does it, which can only answer 503. Alertmanager tries again for as long as that lasts,
    and tells nobody else."""

    def __init__(self, inbox: InboxPort, elapsed: Callable[[], float], unkept: Unread) -> None:
        self._inbox = inbox
        self._elapsed = elapsed
        self._unkept = unkept
        self._tried_at = float("-inf")

    async def look(self) -> None:
        await self._unkept.catch_up()
        if self._elapsed() - self._tried_at < PROBE_PAUSE:
            return
        self._tried_at = self._elapsed()
        try:
            await self._try()
        except Exception as error:
            await self._unkept.failed(error)
            raise
        await self._unkept.read_well()

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                await self._inbox.probe()
        except TimeoutError:
            raise LedgerError(
                f"the inbox took nothing within {PROBE_LIMIT:g} s", advice="Look at the disk of the data directory."
            ) from None


def _as_ledgers(error: Exception) -> LedgerError:
    return error if isinstance(error, LedgerError) else LedgerError(repr(error), advice="Look at the engine's log.")

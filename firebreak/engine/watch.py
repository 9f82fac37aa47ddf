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
from typing import Protocol

import structlog

from firebreak.domain.errors import FirebreakError
from firebreak.domain.ports import Clock, InboxPort, IncidentsPort, LedgerPort, OutboxPort, PagerPort
from firebreak.engine.standing_page import StandingPage
from firebreak.engine.unread import INBOX, RECORD, UNKEPT, UnkeptAlerts, Unread, UnreadOutbox, UnreadStore
from firebreak.engine.watch_intake import WaitingAlerts
from firebreak.engine.watch_machine import ProcessesDown, ReplacedFiles, StepsOfTheClock
from firebreak.engine.watch_restores import OverdueRestores

log = structlog.get_logger()

LOOK = 2.0  # seconds between two looks
LIMIT = timedelta(seconds=60)


class _Watched(Protocol):
    async def look(self) -> None: ...


class IntakeWatch:
    """`run` until cancelled.

    When the ledger cannot be written (which may be why an alert waits) the page goes out directly, by `pager` and the
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
        down: Callable[[], Sequence[str] | None] = tuple,
    ) -> None:
        """`replaced`: files of ours in whose place there is another one by now. `down`: processes of ours that do not
        come back; None = nobody can say."""

        def page(begun: str, over: str) -> StandingPage:
            return StandingPage(
                begun, over, ledger=ledger, clock=clock, pager=pager, pager_key=pager_key, incidents=incidents
            )

        def unread(store: UnreadStore) -> Unread:
            return Unread(store, page(store.begun, store.over), clock=clock, elapsed=elapsed, limit=limit)

        waiting = page("waiting", "taken-up")
        self._watched: list[_Watched] = [
            WaitingAlerts(inbox, clock, elapsed, limit=limit, waiting=waiting, unread=unread(INBOX)),
            UnkeptAlerts(inbox, elapsed, unread(UNKEPT)),
        ]
        if outbox is not None:
            self._watched.append(UnreadOutbox(outbox, clock, unread(RECORD)))
        if incidents is not None:
            self._watched += [
                OverdueRestores(incidents, ledger, clock, elapsed),
                StepsOfTheClock(incidents, ledger, clock, elapsed),
            ]
        self._watched += [
            ReplacedFiles(replaced, clock, page("replaced", "started-again")),
            ProcessesDown(down, clock, page("down", "back")),
        ]

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
        """At all that is watched: each has its turn, whatever becomes of those before it. Raises the first of their
        errors."""
        errors = []
        for watched in self._watched:
            try:
                await watched.look()
            except Exception as error:  # noqa: BLE001 # raised below
                errors.append(error)
        if errors:
            raise errors[0]

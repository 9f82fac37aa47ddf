"""What waits for its time must not wait for as much longer as the wall clock was set back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from firebreak.domain.age import LastSeenRight
from firebreak.domain.codec import format_time
from firebreak.domain.ports import Clock, OutboxPort
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.clock import SetBack

log = structlog.get_logger()


class WaitingTimes:
    """Asked at each look of the sender; a step of before this process ran is seen at its first."""

    def __init__(self, outbox: OutboxPort, clock: Clock, elapsed: Callable[[], float]) -> None:
        self._outbox = outbox
        self._clock = clock
        self._set_back = SetBack(clock, elapsed)
        self._knows_before = False  # what the wall clock said before this process ran
        self._right: tuple[int, datetime] | None = None  # newest message when it was last seen right, and what it said
        self._noticed: int | None = None  # newest message when a step was noticed, until it has been moved for that

    async def moved(self) -> timedelta:
        """By how much what waits in the store was moved back just now; zero when the clock was not set back, and when
        the store cannot do it: what is due already goes out all the same, and the next look asks again."""
        try:
            if not self._knows_before:  # nobody who ran then is here to tell of a step since
                before = await self._outbox.wall_clock_was()
                if before is not None:
                    self._set_back.said(before)
                self._knows_before = True
            newest = await self._outbox.newest_message()  # first: all up to it is of the clock that is looked at now
            by = self._set_back.by()
            if self._set_back.right_at is not None:
                self._right, self._noticed = (newest, self._set_back.right_at), None
            if by:
                await self._move(by)
        except Exception as error:  # noqa: BLE001 # whatever it is: without these looks nobody is ever called again
            log.error("outbox.times_not_moved", error=repr(error))
            return timedelta(0)
        return by

    async def _move(self, by: timedelta) -> None:
        now = self._clock.now()
        times = {"before": format_time(now + by), "after": format_time(now)}
        entry = EntryDraft(
            incident_id=f"clock-{int((now + by).timestamp())}",
            key=f"set-back/{int(now.timestamp())}",
            kind=EntryKind.CLOCK_SET_BACK,
            at=now,
            body=times,
        )
        if self._noticed is None:
            self._noticed = await self._outbox.newest_message()
        # Never seen right: a step from before this process ran, or right after the last one. All is of before it.
        newest, at = self._right or (self._noticed, now)
        seen = LastSeenRight(newest=newest, at=at, noticed=self._noticed)
        moved = await self._outbox.set_back(by, entry=entry, seen=seen)
        self._set_back.settled(by)
        self._right = self._noticed = None
        log.warning("outbox.clock_set_back", **times, moved=moved)

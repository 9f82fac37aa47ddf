"""What waits for its time must not wait for as much longer as the wall clock was set back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

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

    async def moved(self) -> timedelta:
        """By how much what waits in the store was moved back just now; zero when the clock was not set back, and when
        the store cannot do it: what is due already goes out all the same, and the next look asks again."""
        try:
            if not self._knows_before:  # nobody who ran then is here to tell of a step since
                before = await self._outbox.wall_clock_was()
                if before is not None:
                    self._set_back.said(before)
                self._knows_before = True
            by = self._set_back.by()
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
        moved = await self._outbox.set_back(by, entry=entry)
        self._set_back.settled(by)
        log.warning("outbox.clock_set_back", **times, moved=moved)

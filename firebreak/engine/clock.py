"""The wall clock, and how somebody notices that it was set back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from firebreak.domain.age import STEP
from firebreak.domain.ports import Clock

_AT_ONCE = 0.5
"""Seconds. Between two readings that took longer the process was stopped: they say nothing about each other."""


class SystemClock:
    """`Clock` of the ports, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SetBack:
    """Compares the wall clock with one that only goes on (`elapsed`, in seconds): cheap enough for every look."""

    def __init__(self, clock: Clock, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._began: datetime | None = None  # what the wall clock would have said when `elapsed` was 0
        self.right_at: datetime | None = None
        """What the wall clock said at the last `by`; None where that told of a step, or could tell nothing."""

    def said(self, at: datetime) -> None:
        """The wall clock has said `at` before this process ran. However long ago that was, it has gone on since: what
        it lies behind now is the least by which it was set back."""
        self._began = at - timedelta(seconds=self._elapsed())

    def by(self) -> timedelta:
        """How far the wall clock was set back since the last `settled`, in one step or in many; zero below STEP. When
        it was set forward, that is where it is from then on."""
        self.right_at = None
        looked = self._look()
        if looked is None:
            return timedelta(0)
        now, began = looked
        if self._began is None or began > self._began:
            self._began = began
        gone = self._began - began
        if gone > STEP:
            return gone
        self.right_at = now
        return timedelta(0)

    def settled(self, by: timedelta) -> None:
        """What hung on the time before has been moved by that."""
        if self._began is not None:
            self._began -= by

    def _look(self) -> tuple[datetime, datetime] | None:
        """What the wall clock says, and would have said when `elapsed` was 0."""
        before = self._elapsed()
        now = self._clock.now()
        return None if self._elapsed() - before > _AT_ONCE else (now, now - timedelta(seconds=before))

"""Reading ahead: work that only reads, begun before its turn, so that its wait passes beside another one.

The first look at the evidence runs while Temporal starts the workflow; the first step's check while the plan is being
written. What was read ahead is used once, by the same process, and only while it is fresh; an activity that finds
nothing here reads by itself. Nothing is decided and nothing is written here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from firebreak.domain.errors import FirebreakError

FRESH = timedelta(seconds=1)
MOST = 1_000  # readings kept; the oldest goes first
CROWD = 10
"""Fresh readings of one kind that may wait to be taken: as many as the P1 process has slots by default. In a storm a
further one would be too old before its turn, and all its work be done twice."""


class Foresight:
    """`begin` a reading, `take` it later. A reading that failed, or is too old, is as if it had never been begun."""

    def __init__(self, *, fresh: timedelta = FRESH) -> None:
        self._fresh = fresh.total_seconds()
        self._running: OrderedDict[str, tuple[float, asyncio.Task[Any]]] = OrderedDict()
        self._crowds: defaultdict[str, dict[str, float]] = defaultdict(dict)  # by kind: key -> when it was begun

    def begin(self, key: str, read: Callable[[], Awaitable[Any]], *, kind: str = "") -> None:
        """Start `read` now. A second call under the same key replaces the first. With a `kind`, nothing is begun while
        CROWD fresh readings of that kind wait to be taken."""
        self.drop(key)
        now = time.monotonic()
        if kind and not self._has_place(key, kind, now):
            return
        self._running[key] = (now, asyncio.ensure_future(_quietly(read)))
        while len(self._running) > MOST:
            self.drop(next(iter(self._running)))

    async def take(self, key: str) -> Any | None:
        """What was read, or None: then read it yourself."""
        begun, task = self._running.pop(key, (0.0, None))
        if task is None:
            return None
        if time.monotonic() - begun > self._fresh:
            task.cancel()
            return None
        return await task

    async def soon(self, key: str, within: timedelta) -> Any | None:
        """`take`, when it is read within that time; else None, and it is left to be taken later."""
        _, task = self._running.get(key, (0.0, None))
        if task is None:
            return None
        done, _ = await asyncio.wait((task,), timeout=within.total_seconds())
        return await self.take(key) if done and not task.cancelled() and task.exception() is None else None

    def drop(self, key: str) -> None:
        """Nobody will take it."""
        _, task = self._running.pop(key, (0.0, None))
        if task is not None:
            task.cancel()

    def _has_place(self, key: str, kind: str, now: float) -> bool:
        """True = `key` has taken a place. What has been taken, dropped, or grown old gives its place back."""
        crowd = self._crowds[kind]
        for other, begun in list(crowd.items()):
            if other not in self._running or now - begun > self._fresh:
                del crowd[other]
        if len(crowd) >= CROWD:
            return False
        crowd[key] = now
        return True


async def _quietly(read: Callable[[], Awaitable[Any]]) -> Any | None:
    """None for an error of the world: the activity reads again and meets it itself."""
    try:
        return await read()
    except FirebreakError:
        return None

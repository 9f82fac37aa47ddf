"""The processes of the engine: what ends is started again, what hangs is killed first, what does not come back is told.

Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from firebreak.domain.errors import FirebreakError
from firebreak.engine.beats import ASLEEP, Beats, OwnBeats
from firebreak.processes import last_beat
from firebreak.servers.process import ManagedProcess

log = structlog.get_logger()

LOOK = 0.1  # seconds between two looks at the children
LONGEST_WAIT = 30.0
"""Seconds before a child that keeps ending is started again, and for which it must run before it counts as back: one
that ends again and again never does."""

DOWN = 60.0
"""Seconds without one of them after which a person is told, as of an alert that nobody takes up."""


@dataclass(kw_only=True)
class _Child:
    process: ManagedProcess
    started_at: float
    beats: Beats
    fails: int = 0
    start_at: float = 0.0
    away_since: float | None = None  # None = it does what it is for
    beat_file: Path | None = None  # None = a server, which has none

    def hung(self, now: float, *, kept: bool) -> bool:
        """True once: a child that was killed may take a moment to end."""
        if self.beat_file is None or not self.beats.hung(last_beat(self.beat_file), now, kept=kept):
            return False
        self.begun(now)
        return True

    def begun(self, now: float) -> None:
        if self.beat_file is not None:
            self.beats.started(last_beat(self.beat_file), now)

    def ended(self, now: float) -> None:
        """It does nothing for anybody, from now on or for a while already."""
        self.away_since = now if self.away_since is None else self.away_since

    def runs(self, now: float) -> None:
        """It is alive. Back is who has also beaten, and lasted."""
        beats = self.beat_file is None or self.beats.beat_at is not None
        if beats and now - self.started_at > LONGEST_WAIT:
            self.fails, self.away_since = 0, None


class Children:
    """Of one engine. Nothing is started while one of its files is another one: it would open that, and what it took on
    nobody else would see."""

    def __init__(
        self, own_file: Path, replaced: Callable[[], Sequence[Path]], elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        """`own_file`: where this process leaves its own beats. `replaced`: files of ours in whose place there is
        another one by now. `elapsed`: seconds of a clock that nobody sets."""
        self._own_file = own_file
        self._replaced = replaced
        self._elapsed = elapsed
        self._ours = OwnBeats()
        self._children: list[_Child] = []
        self._looked_at: float | None = None

    def add(self, process: ManagedProcess, beat_file: Path | None = None) -> None:
        """It has just been started."""
        now = self._elapsed()
        self._children.append(_Child(process=process, started_at=now, beats=Beats(began_at=now), beat_file=beat_file))

    def down(self) -> Sequence[str] | None:
        """Names of those that had done nothing for DOWN seconds at the last look. None = nobody can say: they are still
        being started, or nothing may be started, which is told by itself."""
        now = self._looked_at
        if now is None or self._replaced():
            return None
        return [c.process.name for c in self._children if c.away_since is not None and now - c.away_since >= DOWN]

    async def keep(self, stop: asyncio.Event) -> None:
        """All are ready: look after them until `stop`."""
        for child in self._children:
            child.beats.ready(self._elapsed())
        while not stop.is_set():
            self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await stop.wait()

    def look(self) -> None:
        """Once: what ended is started again, at once the first time, later after growing waits."""
        now = self._elapsed()
        slept = self._looked_at is not None and now - self._looked_at > ASLEEP
        kept = self._ours.kept(last_beat(self._own_file), now)
        for child in self._children:
            if slept and child.away_since is not None:
                child.away_since = now  # it was we who stood still
            self._look(child, now, kept=kept)
        self._looked_at = now

    def _look(self, child: _Child, now: float, *, kept: bool) -> None:
        if child.process.alive:
            child.runs(now)
            if child.hung(now, kept=kept):
                log.error("engine.child_hangs", name=child.process.name, pid=child.process.pid, killed=True)
                child.ended(now)
                child.process.kill()
            return
        child.ended(now)
        if not child.start_at:
            wait = 0.0 if not child.fails else min(0.5 * 2**child.fails, LONGEST_WAIT)
            log.error("engine.child_ended", name=child.process.name, code=child.process.exit_code, again_in=wait)
            child.start_at, child.fails = now + wait, child.fails + 1
        if now >= child.start_at and not self._replaced():
            child.start_at, child.started_at = 0.0, now
            child.begun(now)
            try:
                child.process.start_again()
            except (OSError, FirebreakError) as error:  # a full disk: what runs must go on, this is tried again
                log.error("engine.child_not_started", name=child.process.name, error=str(error))

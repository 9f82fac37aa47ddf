"""Whether a child still lives by what it does, and not only by its pid. Pure, with the clock passed in.

Each child touches a file once a second from the event loop that does its work (`firebreak.processes.beat`). One that is
stopped, or whose loop never comes back, is alive for the kernel and does nothing for anybody: it is killed, and started
again as if it had ended.
"""

from __future__ import annotations

from dataclasses import dataclass

HUNG = 20.0
"""Seconds without a beat after which a child is killed: many times what a loop is late on a machine that is full, and
soon enough that the one that is started again takes up alerts before their own 60 s are over."""

STARTING = 60.0
"""Seconds that a child may take to its first beat."""

ASLEEP = 5.0
"""Seconds between two looks after which it was we who were stopped, or the whole machine: no silence counts."""


@dataclass(slots=True)
class Beats:
    """Of one child. Times are monotonic seconds; a `mark` is whatever changes with each beat, None = none yet."""

    began_at: float
    mark: int | None = None
    beat_at: float | None = None  # since it was started
    looked_at: float | None = None

    def started(self, mark: int | None, now: float) -> None:
        """It is started, or has been killed: what the one before has left says nothing."""
        self.began_at, self.mark, self.beat_at, self.looked_at = now, mark, None, None

    def ready(self, now: float) -> None:
        """It has said that it is ready: from here on its silence counts, even before its first beat was seen."""
        self.beat_at = now

    def hung(self, mark: int | None, now: float, *, kept: bool = True) -> bool:
        """Look at it once. Not `kept`: not even ours are (a disk that takes nothing), so that silence says nothing."""
        slept = not kept or (self.looked_at is not None and now - self.looked_at > ASLEEP)
        self.looked_at = now
        if mark != self.mark:
            self.mark, self.beat_at = mark, now
        elif slept:
            self.began_at = now
            self.beat_at = None if self.beat_at is None else now
        if self.beat_at is None:
            return now - self.began_at > STARTING
        return now - self.beat_at > HUNG


@dataclass(slots=True)
class OwnBeats:
    """The parent beats, too: where that leaves no mark, no child can leave one."""

    mark: int | None = None
    changed_at: float | None = None

    def kept(self, mark: int | None, now: float) -> bool:
        """Whether the disk has taken one of ours lately."""
        if mark is not None and mark != self.mark:
            self.mark, self.changed_at = mark, now
        return self.changed_at is not None and now - self.changed_at <= ASLEEP

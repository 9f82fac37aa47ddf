"""How long ago a stored time was, by a wall clock that may have been set back since. Pure; the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

STEP = timedelta(seconds=5)
"""A clock that went back by less was set right in passing: what waits for its time is late by that at most."""

_COMMIT = timedelta(seconds=10)
"""So long a write may wait for another process' transaction: a time in it may be older by that."""


def is_to_come(at: datetime, now: datetime) -> bool:
    """Whether the clock was set back since it said `at`. How long ago that was, it cannot tell then."""
    return at - now > STEP


def counted_from(at: datetime, since: datetime | None, now: datetime) -> datetime:
    """From when a wait counts that began `at`: where that was still to come at an earlier look, from that look on, as
    it said (`since`). So each step of the clock costs a wait at most its own length once more, however far it goes
    back: whoever looks hands the answer on to the next look."""
    return min(at, since or at, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeenRight:
    """Which messages are of before a step back. `newest`: number of the newest when the clock was last seen right, and
    said `at`; `noticed`: number of the newest when the step was noticed, a look later."""

    newest: int
    at: datetime
    noticed: int

    def is_before_step(self, number: int, due_at: datetime, by: timedelta) -> bool:
        """Up to `newest` surely, and after `noticed` surely not. Between the two the clock of before gave nothing that
        is due before `at`, and the clock since gives times that are `by` earlier. A delay of about `by` that is given
        in that one look passes for a time of before, and is over at once: a call too early rather than too late."""
        if not self.newest < number <= self.noticed:
            return number <= self.newest
        return due_at >= self.at - min(_COMMIT, by / 2)

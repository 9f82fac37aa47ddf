"""How long ago a stored time was, by a wall clock that may have been set back since. Pure; the clock is passed in."""

from __future__ import annotations

from datetime import datetime, timedelta

STEP = timedelta(seconds=5)
"""A clock that went back by less was set right in passing: what waits for its time is late by that at most."""


def is_to_come(at: datetime, now: datetime) -> bool:
    """Whether the clock was set back since it said `at`. How long ago that was, it cannot tell then."""
    return at - now > STEP


def counted_from(at: datetime, since: datetime | None, now: datetime) -> datetime:
    """From when a wait counts that began `at`: where that was still to come at an earlier look, from that look on, as
    it said (`since`). So each step of the clock costs a wait at most its own length once more, however far it goes
    back: whoever looks hands the answer on to the next look."""
    return min(at, since or at, now)

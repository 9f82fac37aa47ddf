"""How long ago a stored time was, by a wall clock that may have been set back since. Pure; the clock is passed in."""

from __future__ import annotations

from datetime import datetime, timedelta

STEP = timedelta(seconds=5)
"""A clock that went back by less was set right in passing: what waits for its time is late by that at most."""


def is_to_come(at: datetime, now: datetime) -> bool:
    """Whether the clock was set back since it said `at`. How long ago that was, it cannot tell then."""
    return at - now > STEP

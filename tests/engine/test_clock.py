"""Noticing that the wall clock was set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from firebreak.domain.age import STEP
from firebreak.engine.clock import SetBack

NOTHING = timedelta(0)
HOUR = timedelta(hours=1)


class Clocks:
    """A wall clock that can be set, and one that only goes on; `stops` seconds go by while the wall clock is read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, 9, tzinfo=UTC)
        self.gone = 0.0
        self.stops = 0.0

    def now(self) -> datetime:
        self.pass_by(self.stops)
        return self.at

    def elapsed(self) -> float:
        return self.gone

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.gone += seconds


def test_time_that_goes_by_is_no_step() -> None:
    """However long it was not looked at."""
    clocks = Clocks()
    watch = SetBack(clocks, clocks.elapsed)
    for seconds in (0.2, 60, 86_400):
        assert watch.by() == NOTHING
        clocks.pass_by(seconds)


def test_a_step_back_is_told_until_it_is_settled() -> None:
    """Whoever could not act on it yet hears of it again."""
    clocks = Clocks()
    watch = SetBack(clocks, clocks.elapsed)
    watch.by()
    clocks.pass_by(10)
    clocks.at -= HOUR
    assert watch.by() == HOUR
    clocks.pass_by(10)
    assert watch.by() == HOUR
    watch.settled(HOUR)
    clocks.pass_by(10)
    assert watch.by() == NOTHING


def test_many_small_steps_are_one() -> None:
    """A machine whose clock is put right by seconds, again and again."""
    clocks = Clocks()
    watch = SetBack(clocks, clocks.elapsed)
    watch.by()
    clocks.at -= STEP
    assert watch.by() == NOTHING
    clocks.at -= STEP
    assert watch.by() == 2 * STEP


def test_a_step_forward_is_where_the_clock_is_from_then_on() -> None:
    """As after the sleep of a machine, which the other clock does not count."""
    clocks = Clocks()
    watch = SetBack(clocks, clocks.elapsed)
    watch.by()
    clocks.at += 3 * HOUR
    assert watch.by() == NOTHING
    clocks.at -= HOUR
    assert watch.by() == HOUR


def test_a_process_that_is_stopped_between_two_readings_sees_no_step() -> None:
    """Neither then nor at the next look."""
    clocks = Clocks()
    watch = SetBack(clocks, clocks.elapsed)
    watch.by()
    clocks.stops = 60
    assert watch.by() == NOTHING
    clocks.stops = 0
    assert watch.by() == NOTHING


def test_what_it_said_before_this_process_is_known_counts() -> None:
    """A record that ends an hour ahead: it was set back by that at least. One that ends in the past says nothing."""
    clocks = Clocks()
    clocks.pass_by(77)
    watch = SetBack(clocks, clocks.elapsed)
    watch.said(clocks.at - HOUR)
    assert watch.by() == NOTHING
    again = SetBack(clocks, clocks.elapsed)
    again.said(clocks.at + HOUR)
    assert again.by() == HOUR

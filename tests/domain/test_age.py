"""Stored times, and a clock that was set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from firebreak.domain.age import STEP, LastSeenRight, counted_from, is_to_come

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def test_only_a_time_that_is_well_ahead_tells_of_a_clock_that_was_set_back() -> None:
    """One that was put right in passing leaves the time of a moment ago a little ahead."""
    assert is_to_come(NOW + timedelta(hours=1), NOW)
    assert not is_to_come(NOW + STEP, NOW)
    assert not is_to_come(NOW, NOW)
    assert not is_to_come(NOW - timedelta(days=1), NOW)


def test_what_is_still_to_come_counts_from_the_look_that_sees_it() -> None:
    """And does not slide along with each look; a second step back counts anew."""
    begun = NOW + timedelta(hours=1)
    first = counted_from(begun, None, NOW)
    assert first == NOW
    assert counted_from(begun, first, NOW + timedelta(minutes=1)) == NOW
    assert counted_from(begun, first, begun + timedelta(minutes=1)) == NOW
    assert counted_from(begun, first, NOW - timedelta(hours=1)) == NOW - timedelta(hours=1)
    assert counted_from(NOW, None, NOW + timedelta(minutes=1)) == NOW


def test_what_was_written_around_a_step_back_is_told_by_number_and_time() -> None:
    """Number 10 was the newest when the clock was last right, 20 when the step of an hour was noticed."""
    hour = timedelta(hours=1)
    seen = LastSeenRight(newest=10, at=NOW, noticed=20)
    assert seen.is_before_step(10, NOW - timedelta(days=1), hour)
    assert seen.is_before_step(11, NOW, hour)
    assert not seen.is_before_step(11, NOW - hour + timedelta(seconds=60), hour)
    assert not seen.is_before_step(21, NOW + hour, hour)

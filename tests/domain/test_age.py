"""Stored times, and a clock that was set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from firebreak.domain.age import STEP, is_to_come

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def test_only_a_time_that_is_well_ahead_tells_of_a_clock_that_was_set_back() -> None:
    """One that was put right in passing leaves the time of a moment ago a little ahead."""
    assert is_to_come(NOW + timedelta(hours=1), NOW)
    assert not is_to_come(NOW + STEP, NOW)
    assert not is_to_come(NOW, NOW)
    assert not is_to_come(NOW - timedelta(days=1), NOW)

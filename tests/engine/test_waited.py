"""How long the oldest alert has waited, whatever the wall clock does."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from firebreak.engine.waited import IntakeWait, OpenSince

START = datetime(2026, 11, 21, 9, tzinfo=UTC)
LIMIT = timedelta(seconds=60)


def wall(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_clock_that_is_set_forward_makes_no_alert_old() -> None:
    """It was accepted a moment before the step: by the wall clock it has waited an hour."""
    wait = IntakeWait(LIMIT)
    for gone in range(0, 90, 2):
        wait.looked(wall(gone), gone)
    wait.looked(wall(90 + 3600), 90)
    assert wait.of(7, wall(89)) == timedelta(0)
    wait.looked(wall(150 + 3600), 150)
    assert wait.of(7, wall(89)) == LIMIT


def test_what_waited_before_this_process_ran_has_waited() -> None:
    """A minute ago by the wall clock, which nobody here can gainsay."""
    wait = IntakeWait(LIMIT)
    wait.looked(wall(0), 500)
    assert wait.of(7, wall(-61)) == timedelta(seconds=61)


def test_a_clock_that_is_set_back_makes_no_alert_old() -> None:
    """It is accepted at a time that was before, when it was not there yet."""
    wait = IntakeWait(LIMIT)
    for gone in range(0, 90, 2):
        wait.looked(wall(gone), gone)
    wait.looked(wall(90 - 30), 90)
    assert wait.of(7, wall(90 - 31)) == timedelta(0)


def test_what_is_seen_to_wait_is_what_waits() -> None:
    """Random arrivals, a queue that is slow now and then, and a clock that is set forward: never more than it waited,
    and never less by more than a look, up to the limit."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    wait, ahead = IntakeWait(LIMIT), 0.0
    waiting: list[tuple[int, float, datetime]] = []
    receipt = 0
    for gone in range(2, 3000, 2):
        moments = sorted(gone - 2 + 2 * rng.random() for _ in range(rng.randrange(3)))
        step_at = gone - 2 + 2 * rng.random() if rng.random() < 0.05 else None
        step = rng.choice([1, 45, 90, 3600])
        for moment in moments:
            stepped = step if step_at is not None and moment > step_at else 0
            receipt += 1
            waiting.append((receipt, moment, wall(moment + ahead + stepped)))
        ahead += step if step_at is not None else 0
        wait.looked(wall(gone + ahead), gone)
        if waiting and gone > LIMIT.total_seconds() + 2:
            number, accepted, said = waiting[0]
            seen = wait.of(number, said).total_seconds()
            assert seen <= gone - accepted + 1e-6
            assert seen >= min(gone - accepted - 2, LIMIT.total_seconds())
        slow = (gone // 200) % 2
        del waiting[: rng.randrange(2 if slow else 4)]


def test_a_promise_that_is_still_to_come_is_open_since_it_was_seen() -> None:
    """A year ahead: its time limit is not a year later for that. One that is over is forgotten."""
    since = OpenSince()
    opened = wall(365 * 86_400)
    assert since.of("a", opened, wall(0), 100) <= timedelta(0)
    assert since.of("a", opened, wall(600), 700) == timedelta(seconds=600)
    assert since.of("b", wall(0), wall(600), 700) == timedelta(seconds=600)
    since.keep({"b"})
    assert since.of("a", opened, wall(660), 760) <= timedelta(0)

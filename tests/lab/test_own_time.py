"""What the shop takes for the duration of a call."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from firebreak.lab import control
from firebreak.lab.own_time import OwnTime


class Hand:
    """A clock that moves by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_time_passes_as_it_does_while_the_process_runs() -> None:
    """A call of 0.7 s takes 0.7 s, also where the ticks come late."""
    hand = Hand()
    clock = OwnTime(hand)
    began = clock.now()
    for _ in range(7):
        hand.at += 0.1
        clock.tick()
    assert clock.now() - began == pytest.approx(0.7)


@pytest.mark.parametrize("ticked", [False, True], ids=["read before the tick", "read after it"])
def test_a_stall_counts_for_a_fifth_of_a_second(ticked: bool) -> None:
    """However long it is, and whether the answer or the tick is first to run after it."""
    hand = Hand()
    clock = OwnTime(hand)
    began = clock.now()
    hand.at += 30.0
    if ticked:
        clock.tick()
    assert clock.now() - began == pytest.approx(0.2)


async def test_it_ticks_by_itself() -> None:
    """Else it would stand still after a fifth of a second."""
    clock = OwnTime()
    ticking = asyncio.create_task(clock.run())
    began, then = time.perf_counter(), clock.now()

    async def half_a_second() -> bool:
        return clock.now() - then >= 0.5

    await control.until(half_a_second, timedelta(seconds=30), "half a second")
    assert time.perf_counter() - began >= 0.5
    ticking.cancel()

"""A clock that is set back (a time daemon, a machine that was restored) silences nobody."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from firebreak.domain.errors import LedgerError, TransientError
from firebreak.domain.message import PagerAction
from firebreak.domain.timeline import EntryKind
from firebreak.engine.waiting_times import WaitingTimes

HOUR = 3600
CALL = ("pager", "trigger_high")


async def test_a_deadline_is_as_far_away_as_before(desk: Any) -> None:
    """Not sooner, and not an hour later."""
    await desk.tell(*desk.classified(60))
    await desk.all()
    desk.clock.forward(30)
    await desk.all()
    desk.set_clock_back(HOUR)
    await desk.all()
    desk.clock.forward(29)
    await desk.all()
    assert CALL not in desk.people.sent
    desk.clock.forward(1)
    await desk.all()
    assert CALL in desk.people.sent


async def test_what_is_tried_again_is_tried_when_it_would_have_been(desk: Any) -> None:
    """Its pause was a second, and still is."""
    desk.people.fail["pager"] = [TransientError("the pager is away")]
    await desk.tell(*desk.classified(0))
    await desk.all()
    desk.set_clock_back(HOUR)
    await desk.all()
    desk.clock.forward(1)
    await desk.all()
    assert CALL in desk.people.sent


async def test_a_store_that_cannot_be_written_then_is_asked_again(desk: Any, monkeypatch: Any) -> None:
    """The step is not forgotten; and what could not be counted meanwhile waits no longer than it had to."""
    await desk.tell(*desk.classified(60))
    await desk.all()
    desk.set_clock_back(HOUR)

    async def full(*_: object, **__: object) -> int:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "set_back", full)
        await desk.all()
    desk.clock.forward(60)
    await desk.all()
    assert CALL in desk.people.sent


async def test_pauses_that_the_store_could_not_keep_are_moved_too(desk: Any, monkeypatch: Any) -> None:
    """They are kept in memory alone."""
    desk.people.fail["pager"] = [TransientError("the pager is away")]

    async def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "failed", full)
        await desk.tell(*desk.classified(0))
        await desk.sender.drain()
    desk.set_clock_back(HOUR)
    await desk.all()
    desk.clock.forward(121)
    await desk.all()
    assert CALL in desk.people.sent


async def test_a_step_while_nothing_ran_is_seen_at_the_start(desk: Any) -> None:
    """By what the record says last: no page is early for it, and none later than the engine was away."""
    await desk.tell(*desk.classified(60))
    desk.clock.forward(20)
    await desk.all()  # writes down what it sent
    desk.clock.forward(30 - HOUR)  # half a minute in which nothing runs
    desk.with_pace(0)
    await desk.all()
    desk.clock.forward(39)
    await desk.all()
    assert CALL not in desk.people.sent
    desk.clock.forward(1)
    await desk.all()
    assert CALL in desk.people.sent


async def test_the_same_step_counts_once(desk: Any) -> None:
    """However often it is started since, and though nothing else was written."""
    await desk.tell(*desk.classified(60))
    await desk.all()
    desk.set_clock_back(HOUR)
    await desk.all()
    for _ in range(3):
        desk.with_pace(0)
        await desk.all()
    assert CALL not in desk.people.sent
    (entry,) = await desk.store.entries(f"clock-{int(desk.now.timestamp()) + HOUR}")
    assert entry.kind is EntryKind.CLOCK_SET_BACK
    assert entry.body == {"before": "2026-11-21T09:00:00.000000Z", "after": "2026-11-21T08:00:00.000000Z"}


async def test_a_call_after_the_step_goes_out_after_the_resolve_of_before(desk: Any) -> None:
    """The pager is away: what ends the first call has waited since before, and must not end the second one."""
    await desk.tell(desk.pager("first", PagerAction.TRIGGER_HIGH))
    await desk.all()
    desk.people.fail["pager"] = [TransientError("the pager is away")]
    await desk.tell(desk.pager("over", PagerAction.RESOLVE_HIGH))
    await desk.all()
    desk.set_clock_back(HOUR)
    desk.clock.forward(0.1)
    await desk.tell(desk.pager("second", PagerAction.TRIGGER_HIGH))
    desk.clock.forward(0.1)
    await desk.all()
    desk.clock.forward(2)
    await desk.all()
    assert [what for _, what in desk.people.sent] == ["trigger_high", "resolve_high", "trigger_high"]


async def test_a_deadline_of_after_the_step_is_not_over_at_once(desk: Any) -> None:
    """It was given by the new clock, and seen together with the step."""
    await desk.all()
    desk.set_clock_back(HOUR)
    desk.clock.forward(0.1)
    await desk.tell(*desk.classified(60))
    desk.clock.forward(59)
    await desk.all()
    assert CALL not in desk.people.sent
    desk.clock.forward(1)
    await desk.all()
    assert CALL in desk.people.sent


async def test_what_waits_is_due_when_it_would_have_been(desk: Any, monkeypatch: Any) -> None:
    """Random messages around a step back of any size, looks at any time, and a store that takes none for a while: each
    is due at its own moment and in its own order. Only a delay of about the step, given in the very look in which it
    came, may be over too early; nothing is ever late."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    move = desk.store.set_back
    away = [False]

    async def set_back(*args: Any, **more: Any) -> int:
        if away[0]:
            raise LedgerError("the disk is full")
        return int(await move(*args, **more))

    monkeypatch.setattr(desk.store, "set_back", set_back)
    for scene in range(12):
        by = rng.choice([6, 10, 61, 90, HOUR, 400 * 86_400]) + rng.random()
        times = WaitingTimes(desk.store, desk.clock, lambda: desk.clock.at.timestamp() + desk.set_back_by)
        start, moment = desk.clock.at, 0.0
        told: dict[str, tuple[float, float, int]] = {}
        step_at, away_until = 5 + rng.random(), 5 + rng.choice([0.0, 0.0, 8.0])
        began = desk.set_back_by
        next_look, last_look_before = 0.0, 0.0
        while moment < 20:
            moment += rng.random() / 10
            desk.clock.at = start + timedelta(seconds=moment - (desk.set_back_by - began))
            if moment >= step_at and desk.set_back_by == began:
                desk.set_clock_back(by)
            if rng.random() < 0.4:
                delay = rng.choice([0, 0, 0, 60])
                action = rng.choice([PagerAction.TRIGGER_HIGH, PagerAction.RESOLVE_HIGH])
                key = f"{scene}/{len(told)}"
                told[key] = (moment + delay, moment, delay)
                await desk.tell(desk.pager(key, action, delay))
            if moment >= next_look:
                away[0] = moment < away_until
                await times.moved()
                last_look_before = moment if moment < step_at else last_look_before
                next_look = moment + rng.uniform(0.1, 0.3)
        await times.moved()
        due = {
            key: (at - desk.clock.at).total_seconds() + moment for key, at in desk.due_times().items() if key in told
        }
        for key, (expected, written, delay) in told.items():
            assert due[key] <= expected + 1e-3, (scene, key)
            if not (delay and by < delay + 11 and last_look_before <= written <= step_at + 0.5):
                assert due[key] >= expected - 1e-3, (scene, key)


async def test_a_record_that_cannot_be_read_at_the_start_is_asked_again(desk: Any, monkeypatch: Any) -> None:
    """Till then the step is not known."""
    await desk.tell(*desk.classified(60))
    desk.clock.forward(-HOUR)
    desk.with_pace(0)

    async def away() -> None:
        raise LedgerError("locked")

    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "wall_clock_was", away)
        await desk.all()
    await desk.all()
    desk.clock.forward(60)
    await desk.all()
    assert CALL in desk.people.sent

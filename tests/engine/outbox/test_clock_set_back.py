"""A clock that is set back (a time daemon, a machine that was restored) silences nobody."""

from __future__ import annotations

from typing import Any

from firebreak.domain.errors import LedgerError, TransientError
from firebreak.domain.timeline import EntryKind

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

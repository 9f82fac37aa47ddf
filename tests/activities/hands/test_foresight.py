"""Reading ahead makes it quicker and nothing else: what it read decides nothing that has changed since."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from activities.foresight import CROWD, MOST, Foresight
from firebreak.domain.errors import TransientError
from firebreak.domain.incident import Mode
from firebreak.domain.plan import StepStatus
from firebreak.domain.timeline import EntryKind


async def act(world: Any, incident: Any, **how: Any) -> Any:
    return await world.run(world.steps.act, world.step(incident), **how)


async def read(world: Any) -> None:
    """Let what was begun come to its end."""
    running = [task for _, task in world.foresight._running.values()]  # it tells nobody when it is done
    await asyncio.gather(*running)


async def test_a_step_read_ahead_is_written_once(world: Any) -> None:
    """The check is not asked a second time; intent, effect and write are as without."""
    world.again(ahead=True)
    incident = await world.planned()
    await read(world)
    asked = len(world.metrics.asked)
    assert (await act(world, incident)).status is StepStatus.APPLIED
    assert len(world.metrics.asked) == asked
    assert (world.cluster.writes, world.flag) == (1, "false")
    assert len(await world.bodies(incident, EntryKind.INTENT_RECORDED)) == 1


async def test_a_field_that_moved_since_is_not_written_over(world: Any) -> None:
    """Somebody set the flag between reading ahead and acting: refused, and theirs stays."""
    world.again(ahead=True)
    incident = await world.planned()
    await read(world)
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "maybe"}})
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert (world.cluster.writes, world.flag) == (0, "maybe")


async def test_another_field_that_moved_since_does_not_matter(world: Any) -> None:
    """A stale resourceVersion is read again; only touched fields bind."""
    world.again(ahead=True)
    incident = await world.planned()
    await read(world)
    world.cluster.change(world.flags, {"data": {"other": "1"}})
    assert (await act(world, incident)).status is StepStatus.APPLIED
    assert (world.cluster.writes, world.flag) == (1, "false")


async def test_a_target_replaced_since_is_refused(world: Any, fake_world: Any) -> None:
    """The same name, another UID: not the object that was planned for."""
    world.again(ahead=True)
    incident = await world.planned()
    await read(world)
    await fake_world.replace(world.flags)
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert world.cluster.writes == 0


async def test_a_target_that_is_held_by_another_is_refused_all_the_same(world: Any) -> None:
    """The lock is taken when it is acted, not when it was read."""
    world.again(ahead=True)
    incident = await world.planned()
    await read(world)
    await world.store.lock_target(incident.target, "inc-other")
    assert (await act(world, incident)).status is StepStatus.REFUSED
    assert world.cluster.writes == 0


async def test_a_reading_that_failed_is_made_again(world: Any) -> None:
    """The API server was busy for a moment: the step itself reads, and goes on."""
    world.again(ahead=True)
    world.cluster.fail["get"] = [TransientError("busy")]
    incident = await world.planned()
    await read(world)
    assert world.cluster.fail["get"] == []
    assert (await act(world, incident)).status is StepStatus.APPLIED


async def test_observing_reads_ahead_and_writes_nothing(world: Any) -> None:
    """Not even a dry run."""
    world.again(mode=Mode.OBSERVE, ahead=True)
    incident = await world.planned()
    await read(world)
    assert (await act(world, incident)).status is StepStatus.WOULD_APPLY
    assert (world.cluster.writes, world.cluster.dry_runs) == (0, 0)


async def test_the_first_look_read_ahead_is_the_verdicts(world: Any, monkeypatch: Any) -> None:
    """Begun by the dispatcher, used by the first look, and by no second one."""
    monkeypatch.setattr("activities.evidence.QUICK_LOOK", timedelta(seconds=30))  # however busy the machine
    world.sick()
    incident = await world.opened()
    first = await world.evidence.foresee(incident)
    asked = len(world.metrics.asked)
    seen = await world.gather(incident)
    assert seen == first
    assert seen.plan is not None
    assert len(world.metrics.asked) == asked
    world.clock.forward(5)
    await world.gather(incident, 1)
    assert len(world.metrics.asked) == asked + 1


async def test_a_first_look_that_takes_its_time_is_left_to_the_story(world: Any, monkeypatch: Any) -> None:
    """The workflow's start does not wait for it, and the story takes the very look that was begun."""
    world.sick()
    incident = await world.opened()
    monkeypatch.setattr("activities.evidence.QUICK_LOOK", timedelta(0))
    assert await world.evidence.foresee(incident) is None
    assert (await world.gather(incident)).plan is not None
    assert len(world.metrics.asked) == 1


async def test_a_first_look_that_fails_is_left_to_the_story(world: Any, monkeypatch: Any) -> None:
    """A fault of the world, or one of ours: the dispatcher goes on, and the activity meets it with its retries."""
    incident = await world.opened()
    for fault in (TransientError("away"), RuntimeError("ours")):
        with monkeypatch.context() as broken:
            broken.setattr(world.evidence, "_gather", failing(fault))
            assert await world.evidence.foresee(incident) is None


async def test_killed_after_a_reading_ahead_the_step_is_done_once(world: Any) -> None:
    """What was read ahead dies with the process; the intent on disk binds."""
    world.again(ahead=True)
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again(ahead=True)
    assert (await act(world, incident, local=False)).status is StepStatus.APPLIED
    assert world.cluster.writes == 1


# --- the thing itself ------------------------------------------------------------------------------------------


async def value(answer: object) -> object:
    return answer


def failing(fault: Exception) -> Any:
    async def read(*_: object) -> object:
        raise fault

    return read


async def test_what_was_begun_is_taken_once() -> None:
    """The second one to ask reads by itself."""
    foresight = Foresight()
    foresight.begin("k", lambda: value(1))
    assert await foresight.take("k") == 1
    assert await foresight.take("k") is None


async def test_what_is_soon_read_is_taken_and_what_is_not_is_left() -> None:
    """`soon` takes nothing away that somebody else could still use."""
    foresight, come = Foresight(), asyncio.Event()

    async def slow() -> object:
        await come.wait()
        return 2

    foresight.begin("quick", lambda: value(1))
    foresight.begin("slow", slow)
    assert await foresight.soon("quick", timedelta(seconds=5)) == 1
    assert await foresight.soon("quick", timedelta(seconds=5)) is None
    assert await foresight.soon("slow", timedelta(0)) is None
    come.set()
    assert await foresight.take("slow") == 2


async def test_what_is_too_old_is_not_taken() -> None:
    """Evidence of a second ago is none."""
    foresight = Foresight(fresh=timedelta(0))
    foresight.begin("k", lambda: value(1))
    await asyncio.sleep(0.001)
    assert await foresight.take("k") is None


async def test_a_second_beginning_replaces_the_first() -> None:
    """The newest reading counts."""
    foresight = Foresight()
    foresight.begin("k", lambda: value(1))
    foresight.begin("k", lambda: value(2))
    assert await foresight.take("k") == 2


async def test_readings_that_nobody_takes_are_let_go() -> None:
    """Incidents whose look never comes leave nothing behind."""
    foresight = Foresight()
    for number in range(MOST + 5):
        foresight.begin(str(number), lambda: value(1))
    await asyncio.sleep(0)
    assert await foresight.take("0") is None
    assert await foresight.take(str(MOST + 4)) == 1


async def test_in_a_crowd_nothing_more_is_begun() -> None:
    """In a storm it would be too old before its turn: the step reads once, by itself."""
    foresight = Foresight()
    begun: list[str] = []

    def reading(key: str) -> None:
        async def read() -> str:
            begun.append(key)
            return key

        foresight.begin(key, read, kind="check")

    for number in range(CROWD + 2):
        reading(str(number))
    await asyncio.sleep(0)
    assert await foresight.take(str(CROWD)) is None
    assert begun == [str(number) for number in range(CROWD)]
    assert await foresight.take("0") == "0"
    reading("next")
    assert await foresight.take("next") == "next"


async def test_a_crowd_of_one_kind_is_none_of_another() -> None:
    """A first look is always begun: what it finds is written down at once."""
    foresight = Foresight()
    for number in range(CROWD):
        foresight.begin(f"check/{number}", lambda: value(1), kind="check")
    foresight.begin("look", lambda: value(2))
    foresight.begin("object", lambda: value(3), kind="object")
    assert (await foresight.take("look"), await foresight.take("object")) == (2, 3)


async def test_readings_that_grew_old_are_no_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody took them; those that come later are read ahead again."""
    now = [0.0]
    monkeypatch.setattr("activities.foresight.time", SimpleNamespace(monotonic=lambda: now[0]))
    foresight = Foresight(fresh=timedelta(seconds=1))
    for number in range(CROWD):
        foresight.begin(str(number), lambda: value(1), kind="check")
    now[0] = 0.9
    foresight.begin("too many", lambda: value(2), kind="check")
    assert await foresight.take("too many") is None
    now[0] = 1.1
    foresight.begin("later", lambda: value(2), kind="check")
    assert await foresight.take("later") == 2

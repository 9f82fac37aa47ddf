"""A story that is started anew, since Temporal has lost it, does nothing more once a person had been called."""

from __future__ import annotations

from typing import Any

import pytest

from activities.messages import PersonInput, RecoveryInput
from firebreak.domain.plan import MoveKind, StepStatus
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import NextLook
from firebreak.plans.next_move import next_move


async def called(world: Any, incident: Any) -> None:
    await world.run(world.people.call, PersonInput(incident_id=incident.id, key="person/high", reason="a hand failed"))


async def killed_after_its_intent(world: Any, hand: Any, incident: Any) -> None:
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await world.run(hand, world.step(incident))
    world.again()


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "killed after its intent"])
async def test_no_step_is_written_under_a_persons_hands(world: Any, begun: bool) -> None:
    """Neither one that was never begun, nor one of which nobody knows whether it was sent: that is said."""
    incident = await world.planned()
    if begun:
        await killed_after_its_intent(world, world.steps.act, incident)
    await called(world, incident)
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert record.status is (StepStatus.FAILED if begun else StepStatus.REFUSED)
    assert "a person has been called" in record.reason
    assert world.cluster.writes == 0
    assert len(await world.bodies(incident, EntryKind.INTENT_RECORDED)) == int(begun)


async def test_a_call_between_the_check_and_the_intent_comes_first(world: Any) -> None:
    """Two stories of one incident, the new one a moment behind."""
    incident = await world.planned()
    read = world.cluster.get

    async def get(ref: Any, **more: Any) -> Any:
        world.cluster.get = read
        await called(world, incident)
        return await read(ref, **more)

    world.cluster.get = get
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.REFUSED, 0)
    assert await world.bodies(incident, EntryKind.INTENT_RECORDED) == []


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "killed after its intent"])
async def test_nothing_is_undone_under_a_persons_hands(world: Any, begun: bool) -> None:
    """What is in force stays in force."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    if begun:
        await killed_after_its_intent(world, world.steps.undo, incident)
    await called(world, incident)
    record = await world.run(world.steps.undo, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.UNDO_FAILED, 1)
    assert "a person has been called" in record.reason


async def test_what_was_written_before_the_call_is_still_found(world: Any) -> None:
    """The record says what the world says."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [world.Killed("now")]
    with pytest.raises(world.Killed):
        await world.run(world.steps.act, world.step(incident))
    await called(world, incident)
    world.again()
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.APPLIED, 1)


async def test_a_look_that_was_never_made_leaves_it_to_the_person(world: Any) -> None:
    """No verdict, no plan, no deadline anew: the story waits for recovery, which is watched as ever."""
    world.sick()
    incident = await world.opened()
    await called(world, incident)
    before = await world.kinds(incident), world.messages(incident)
    seen = await world.gather(incident)
    assert (seen.next, seen.plan) == (NextLook.CALL_PERSON, None)
    await called(world, incident)
    assert (await world.kinds(incident), world.messages(incident)) == before
    world.healthy(since=world.clock.at)
    world.clock.forward(30)
    watch = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=1))
    assert watch.quiet_since is not None


async def test_a_look_that_was_made_is_found_all_the_same(world: Any) -> None:
    """The story goes the way that it went, up to where the person was called."""
    incident = await world.planned()
    first = await world.gather(incident)
    await called(world, incident)
    assert await world.gather(incident) == first


@pytest.mark.parametrize("hand", ["verify", "hold"])
async def test_what_was_not_decided_is_the_persons_to_decide(world: Any, hand: str) -> None:
    """It is healthy by now, perhaps by the person's work: no healing of ours, no promise, and the walk pages."""
    world.sick()
    incident = await world.opened()
    plan = (await world.gather(incident)).plan
    world.digest = plan.digest
    records = [await world.run(world.steps.act, world.step(incident))]
    world.healthy(since=world.clock.at)
    world.clock.forward(8)
    if hand == "hold":
        records.append((await world.run(world.verification.verify, world.look(incident))).record)
    await called(world, incident)
    before = await world.kinds(incident)
    world.clock.forward(60)
    seen = await world.run(getattr(world.verification, hand), world.look(incident))
    assert seen.record.status is StepStatus.UNDECIDED
    assert next_move(plan, (*records, seen.record)).kind is MoveKind.PAGE
    assert await world.kinds(incident) == before
    assert len(await world.store.open_restores()) == (1 if hand == "hold" else 0)

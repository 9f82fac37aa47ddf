"""Nothing more is done once a person has it: was called by an earlier run of the story, which Temporal has lost, or has
asked for the end, which the story hears a moment later, or after a hand's last try."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from activities.messages import PersonInput, RecoveryInput
from firebreak.domain import ids
from firebreak.domain.plan import MoveKind, StepStatus
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import NextLook
from firebreak.plans.next_move import next_move


async def called(world: Any, incident: Any) -> None:
    await world.run(world.people.call, PersonInput(incident_id=incident.id, key="person/high", reason="a hand failed"))


async def asked(world: Any, incident: Any) -> None:
    """As `firebreak close` writes it; no signal has been sent yet."""
    wish = EntryDraft(
        incident_id=incident.id,
        key=ids.close_key(),
        kind=EntryKind.CLOSE_REQUESTED,
        at=world.clock.at,
        actor="person:ada",
        body={"reason": "mine", "by": "ada"},
    )
    await world.store.append([wish])


Handed = Callable[[Any, Any], Awaitable[None]]
HANDED = pytest.mark.parametrize("handed", [called, asked])


async def killed_after_its_intent(world: Any, hand: Any, incident: Any) -> None:
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await world.run(hand, world.step(incident))
    world.again()


@HANDED
@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "killed after its intent"])
async def test_no_step_is_written_under_a_persons_hands(world: Any, begun: bool, handed: Handed) -> None:
    """Neither one that was never begun, nor one of which nobody knows whether it was sent: that is said. Of the other
    nothing is: there is nothing that a person need hear of it."""
    incident = await world.planned()
    if begun:
        await killed_after_its_intent(world, world.steps.act, incident)
    await handed(world, incident)
    before = await world.kinds(incident), world.messages(incident)
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert record.status is (StepStatus.FAILED if begun else StepStatus.REFUSED)
    assert "a person has" in record.reason
    assert world.cluster.writes == 0
    assert len(await world.bodies(incident, EntryKind.INTENT_RECORDED)) == int(begun)
    assert ((await world.kinds(incident), world.messages(incident)) == before) is not begun


@HANDED
async def test_what_is_handed_over_between_the_check_and_the_intent_comes_first(world: Any, handed: Handed) -> None:
    """Of two stories of one incident the new one is a moment behind; a check takes its time."""
    incident = await world.planned()
    read = world.cluster.get

    async def get(ref: Any, **more: Any) -> Any:
        world.cluster.get = read
        await handed(world, incident)
        return await read(ref, **more)

    world.cluster.get = get
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.REFUSED, 0)
    assert await world.bodies(incident, EntryKind.INTENT_RECORDED) == []


@HANDED
@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "killed after its intent"])
async def test_nothing_is_undone_under_a_persons_hands(world: Any, begun: bool, handed: Handed) -> None:
    """What is in force stays in force."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    if begun:
        await killed_after_its_intent(world, world.steps.undo, incident)
    await handed(world, incident)
    record = await world.run(world.steps.undo, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.UNDO_FAILED, 1)
    assert "a person has" in record.reason


@HANDED
async def test_what_was_written_before_is_still_found(world: Any, handed: Handed) -> None:
    """The record says what the world says."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [world.Killed("now")]
    with pytest.raises(world.Killed):
        await world.run(world.steps.act, world.step(incident))
    await handed(world, incident)
    world.again()
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.APPLIED, 1)


@HANDED
async def test_a_look_that_was_never_made_leaves_it_to_the_person(world: Any, handed: Handed) -> None:
    """No verdict, no plan, no deadline anew, no further call: the story waits for recovery, which is watched as ever,
    or for the end."""
    world.sick()
    incident = await world.opened()
    await handed(world, incident)
    before = await world.kinds(incident), world.messages(incident)
    seen = await world.gather(incident)
    assert (seen.next, seen.plan) == (NextLook.CALL_PERSON, None)
    await called(world, incident)
    assert (await world.kinds(incident), world.messages(incident)) == before
    world.healthy(since=world.clock.at)
    world.clock.forward(30)
    watch = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=1))
    assert watch.quiet_since is not None


@HANDED
async def test_a_look_that_was_made_is_found_all_the_same(world: Any, handed: Handed) -> None:
    """The story goes the way that it went, up to where the person was called."""
    incident = await world.planned()
    first = await world.gather(incident)
    await handed(world, incident)
    assert await world.gather(incident) == first


@HANDED
@pytest.mark.parametrize("hand", ["verify", "hold"])
async def test_what_was_not_decided_is_the_persons_to_decide(world: Any, hand: str, handed: Handed) -> None:
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
    await handed(world, incident)
    before = await world.kinds(incident)
    world.clock.forward(60)
    seen = await world.run(getattr(world.verification, hand), world.look(incident))
    assert seen.record.status is StepStatus.UNDECIDED
    assert next_move(plan, (*records, seen.record)).kind is MoveKind.PAGE
    assert await world.kinds(incident) == before
    assert len(await world.store.open_restores()) == (1 if hand == "hold" else 0)

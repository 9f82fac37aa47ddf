"""Traffic goes back only to a side with ready pods for it: an undo calls a person, a restore waits for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.messages import CloseInput
from firebreak.domain.errors import TransientError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.plan import StepStatus
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryKind

FLAG = 'action: set_flag\n        params: {config_map: $flags, key: recommend.enabled, value: "false"}'
SHIFT = "action: shift_traffic\n        params: {route: pay, away_from: pay-v2}"
ROUTE = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.HTTP_ROUTE, name="pay")


@pytest.fixture
async def shop(world: Any, fake_world: Any) -> Any:
    """The first tier moves all traffic from pay-v2 to pay-v1, each with two ready pods."""
    world.edit("catalog/heal.yaml", FLAG, SHIFT)
    world.again()
    for name in ("pay-v1", "pay-v2"):
        await fake_world.scale(name, 2)
    backends = [{"name": "pay-v1", "weight": 0}, {"name": "pay-v2", "weight": 100}]
    good = [{"type": t, "status": "True", "observedGeneration": 9} for t in ("Accepted", "ResolvedRefs")]
    parents = [{"parentRef": {"name": "edge"}, "conditions": good}]
    body = {"metadata": {"name": "pay"}, "spec": {"rules": [{"backendRefs": backends}]}, "status": {"parents": parents}}
    await fake_world.create(ROUTE.kind, body)
    return fake_world


def weights(world: Any) -> list[int]:
    rules = world.cluster.objects[ROUTE.kind, ROUTE.namespace, ROUTE.name]["spec"]["rules"]
    return [b["weight"] for b in rules[0]["backendRefs"]]


async def promised(world: Any) -> tuple[Any, datetime]:
    """Healed by the shift and closed; the version that was left answers again, and has been for the hold time."""
    incident = await world.verified()
    ending = CloseInput(incident_id=incident.id, outcome=IncidentOutcome.HEALED, reason="held")
    await world.run(world.people.close, ending)
    (record,) = await world.store.open_restores()
    assert weights(world) == [100, 0]
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    return incident, record.opened_at


async def check(world: Any, incident: Any, opened_at: datetime, **how: Any) -> Any:
    return await world.run(world.restores.check, world.restore(incident, opened_at), **how)


async def test_a_restore_waits_for_ready_pods(world: Any, shop: Any) -> None:
    """One pod answers the probe, and is not given all of the load; once the others stand, it is."""
    incident, opened = await promised(world)
    await shop.scale("pay-v2", 1)
    seen = await check(world, incident, opened)
    assert (seen.ended, seen.again_at) == (False, world.clock.at + timedelta(seconds=1))
    assert (weights(world), world.cluster.writes) == ([100, 0], 1)
    assert await world.store.open_restores()
    assert await world.store.lock_target(ROUTE, "inc-next") == "inc-next", "others may heal it meanwhile"
    await world.store.release_targets("inc-next")
    await shop.scale("pay-v2", 2)
    assert (await check(world, incident, opened)).outcome == "restored"
    assert (weights(world), world.cluster.writes) == ([0, 100], 2)


async def test_ready_pods_that_never_come_are_a_page_at_the_time_limit(world: Any, shop: Any) -> None:
    """Nothing is flipped, and the person reads what is missing."""
    incident, opened = await promised(world)
    await shop.scale("pay-v2", 1)
    world.clock.at = opened + timedelta(hours=1)
    assert (await check(world, incident, opened)).outcome == "overdue"
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert "pay-v2 has 1 ready pods and needs 2" in body["reason"]
    assert body["reason"].endswith("act by hand. Nothing was flipped.")
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "trigger_high"
    assert (weights(world), world.cluster.writes) == ([100, 0], 1)


async def test_what_can_never_be_taken_back_is_not_waited_for(world: Any, shop: Any) -> None:
    """The route was replaced: pods for it would not help, so a person is called now."""
    incident, opened = await promised(world)
    await shop.scale("pay-v2", 1)
    await shop.replace(ROUTE)
    assert (await check(world, incident, opened)).outcome == "refused"
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "trigger_high"


async def test_a_restore_whose_pods_go_under_its_write_waits_for_them(world: Any, shop: Any) -> None:
    """Its intent is on record and its write met a conflict: judged again, and done when they are back."""
    incident, opened = await promised(world)

    async def meanwhile() -> None:
        await shop.scale("pay-v2", 1)
        await shop.edit(ROUTE, {"metadata": {"labels": {"seen-by": "somebody"}}})

    world.cluster.before_patch = [meanwhile]
    assert not (await check(world, incident, opened)).ended
    assert (weights(world), world.cluster.writes) == ([100, 0], 1)
    await shop.scale("pay-v2", 2)
    assert (await check(world, incident, opened)).outcome == "restored"
    assert (weights(world), world.cluster.writes) == ([0, 100], 2)


async def test_a_restore_killed_before_its_write_waits_for_pods_that_went(world: Any, shop: Any) -> None:
    """What the dead process had judged is old."""
    incident, opened = await promised(world)
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await check(world, incident, opened)
    await shop.scale("pay-v2", 1)
    world.again()
    assert not (await check(world, incident, opened, local=False)).ended
    assert (weights(world), world.cluster.writes) == ([100, 0], 1)
    await shop.scale("pay-v2", 2)
    assert (await check(world, incident, opened, local=False)).outcome == "restored"


async def test_a_tier_is_not_undone_onto_pods_that_are_not_there(world: Any, shop: Any) -> None:
    """The walk ends with a person, who reads why."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    await shop.scale("pay-v2", 0)
    record = await world.run(world.steps.undo, world.step(incident))
    assert record.status is StepStatus.UNDO_FAILED
    assert "pay-v2 has 0 ready pods and needs 1" in record.reason
    assert (weights(world), world.cluster.writes) == ([100, 0], 1)
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert body["effect"]["outcome"] == "refused"


async def test_a_tier_that_did_not_heal_is_undone_onto_fewer_pods(world: Any, shop: Any) -> None:
    """An autoscaler took what had no load, or one is not ready: the next tier may heal, so it is not held back."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    await shop.scale("pay-v2", 1)
    record = await world.run(world.steps.undo, world.step(incident))
    assert record.status is StepStatus.UNDONE
    assert (weights(world), world.cluster.writes) == ([0, 100], 2)


async def test_a_step_killed_before_its_write_is_not_sent_when_the_pods_went(world: Any, shop: Any) -> None:
    """Its intent is some seconds old, and so is what it was judged on. Whether it was sent then, nobody knows."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await world.run(world.steps.act, world.step(incident))
    await shop.scale("pay-v1", 1)
    world.again()
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, record.wrote) == (StepStatus.FAILED, True)
    assert "pay-v1 has 1 ready pods and needs 2" in record.reason
    assert "it may still land: look at" in record.reason
    assert world.cluster.writes == 0


async def test_capacity_that_cannot_be_read_before_the_write_is_asked_again(world: Any, shop: Any) -> None:
    """A busy API server is no answer: nothing is written on none, and the next look goes on."""
    incident, opened = await promised(world)
    world.cluster.fail["list"] = [TransientError("timed out")]
    with pytest.raises(ApplicationError, match="timed out"):
        await check(world, incident, opened)
    assert world.cluster.writes == 1
    assert (await check(world, incident, opened, local=False)).outcome == "restored"

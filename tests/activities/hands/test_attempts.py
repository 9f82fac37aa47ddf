"""Two attempts at one hand: what they record excludes each other, and none outlives its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.messages import CloseInput, GatherInput, KeepInput, RecoveryInput
from activities.restore_ends import give_up
from firebreak.domain.condition import AnswerStatus
from firebreak.domain.incident import IncidentOutcome, Mode
from firebreak.domain.plan import StepStatus
from firebreak.domain.timeline import EntryKind

Meanwhile = Callable[[], Awaitable[Any]]


def beside(place: Any, name: str, other: Meanwhile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call of `name` waits until `other` is over; those that follow do not."""
    real = getattr(place, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(place, name, real)
        await other()
        return await real(*args, **kwargs)

    monkeypatch.setattr(place, name, call)


async def never(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


async def outcomes(world: Any, incident: Any, kind: EntryKind) -> list[str]:
    return [str(body["effect"]["outcome"]) for body in await world.bodies(incident, kind)]


async def test_a_late_refusal_gives_way_to_an_intent(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt's check is in doubt; the first one writes meanwhile: the step is applied, and says so."""
    incident = await world.planned()
    first = world.steps
    world.again()

    async def writes() -> None:
        await world.run(first.act, world.step(incident), local=False)
        world.metrics.status["app_probe"] = (AnswerStatus.UNAVAILABLE, "timed out")

    beside(world.metrics, "range_batch", writes, monkeypatch)
    record = await world.run(world.steps.act, world.step(incident), local=False)
    assert (record.status, record.wrote) == (StepStatus.APPLIED, True)
    assert await world.bodies(incident, EntryKind.STEP_REFUSED) == []
    assert (world.cluster.writes, "chat/refused/0.0" in world.messages(incident)) == (1, False)


@pytest.mark.parametrize("mode", Mode)
async def test_an_intent_gives_way_to_what_another_attempt_answered(
    world: Any, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow has heard that nothing was written, and goes on: so nothing is written."""
    incident = await world.planned()
    slow = world.steps
    world.again(mode=mode)
    said: list[Any] = []

    async def answers() -> None:
        if mode is Mode.ACT:
            world.metrics.status["app_probe"] = (AnswerStatus.UNAVAILABLE, "timed out")
        said.append(await world.run(world.steps.act, world.step(incident), local=False))

    beside(world.cluster, "get", answers, monkeypatch)
    record = await world.run(slow.act, world.step(incident), local=False)
    assert [record] == said
    assert record.status is (StepStatus.REFUSED if mode is Mode.ACT else StepStatus.WOULD_APPLY)
    assert (world.cluster.writes, await world.bodies(incident, EntryKind.INTENT_RECORDED)) == (0, [])


async def test_a_late_refusal_to_undo_gives_way_to_its_intent(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt has put it back and died before it could say so: nothing is said beside it, and the next one
    records it as what it is."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    first = world.steps
    world.again()

    async def undone() -> None:
        world.cluster.fail_after_commit = [world.Killed("now")]
        with pytest.raises(world.Killed):
            await world.run(first.undo, world.step(incident), local=False)

    beside(world.store, "append", undone, monkeypatch)
    old = replace(world.step(incident), rests_on=world.clock.now() - timedelta(seconds=61))
    with pytest.raises(ApplicationError, match="another attempt") as caught:
        await world.run(world.steps.undo, old, local=False)
    assert not caught.value.non_retryable
    assert await outcomes(world, incident, EntryKind.UNDO_RECORDED) == []
    record = await world.run(world.steps.undo, old, local=False, attempt=2)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDONE, "true", 2)
    assert await outcomes(world, incident, EntryKind.UNDO_RECORDED) == ["applied"]


async def test_an_undo_gives_way_to_what_another_attempt_recorded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused, and a person is on the way: nothing is put back under their hands."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    slow = world.steps
    world.again()
    old = replace(world.step(incident), rests_on=world.clock.now() - timedelta(seconds=61))
    beside(world.cluster, "get", lambda: world.run(world.steps.undo, old, local=False), monkeypatch)
    record = await world.run(slow.undo, world.step(incident), local=False)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDO_FAILED, "false", 1)
    assert await outcomes(world, incident, EntryKind.UNDO_RECORDED) == ["refused"]


async def promised(world: Any) -> Any:
    """Healed and closed; the part has been well for the hold time: what a look at the restore is given."""
    incident = await world.verified()
    ending = CloseInput(incident_id=incident.id, outcome=IncidentOutcome.HEALED, reason="held")
    await world.run(world.people.close, ending)
    (record,) = await world.store.open_restores()
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    return incident, record


async def test_a_restore_that_has_ended_is_not_begun(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person was told that nothing was flipped: so nothing is."""
    incident, record = await promised(world)
    end = give_up(world.store, record, "its workflow has ended", world.clock.now())
    beside(world.cluster, "get", lambda: end, monkeypatch)
    seen = await world.run(world.restores.check, world.restore(incident, record.opened_at), local=False)
    assert (seen.ended, seen.outcome) == (True, "abandoned")
    assert (world.flag, world.cluster.writes) == ("false", 1)


async def test_a_restore_that_was_begun_does_not_end_without_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the time limit another attempt has just taken it back: nobody is told that nothing was flipped."""
    incident, record = await promised(world)
    given = world.restore(incident, record.opened_at)
    first = world.restores
    world.again(mode=Mode.OBSERVE)
    world.clock.at = record.opened_at + timedelta(hours=1)

    async def taken_back() -> None:
        world.cluster.fail_after_commit = [world.Killed("now")]
        with pytest.raises(world.Killed):
            await world.run(first.check, given, local=False)

    beside(world.store, "end_restore", taken_back, monkeypatch)
    assert not (await world.run(world.restores.check, given, local=False)).ended
    world.again()
    assert (await world.run(world.restores.check, given, local=False)).outcome == "restored"
    assert (world.flag, world.cluster.writes) == ("true", 2)


# --- its turn --------------------------------------------------------------------------------------------------

HANDS = (
    ("evidence", "gather"),
    ("keeping", "keep"),
    ("steps", "act"),
    ("steps", "undo"),
    ("verification", "verify"),
    ("verification", "hold"),
    ("recovery", "watch_recovery"),
    ("restores", "check"),
)


@pytest.mark.parametrize(("hands", "hand"), HANDS, ids=[hand for _, hand in HANDS])
async def test_an_attempt_is_over_before_the_next_begins(
    world: Any, hands: str, hand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever does not answer: it is cut off within its start-to-close time, in a way that is tried again."""
    incident = await world.planned()
    look = world.look(incident)
    given = {
        "gather": GatherInput(incident_id=incident.id, round=1),
        "keep": KeepInput(incident_id=incident.id, plan_digest=world.digest),
        "verify": look,
        "hold": look,
        "watch_recovery": RecoveryInput(incident_id=incident.id, round=0),
        "check": world.restore(incident, world.clock.at),
    }.get(hand, world.step(incident))
    monkeypatch.setattr(world.store, "find_first", never)
    with pytest.raises(ApplicationError, match=r"cut off after 0\.09 s") as caught:
        await asyncio.wait_for(world.run(getattr(getattr(world, hands), hand), given, local=False, limit=0.1), 30)
    assert (caught.value.type, caught.value.non_retryable) == ("TransientError", False)


async def test_a_write_that_is_cut_off_is_found_by_the_next_attempt(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server took it and did not answer in time: unknown until the world is read."""
    incident = await world.planned()
    patch = world.cluster.patch

    async def mute(*args: Any, **kwargs: Any) -> Any:
        answer = await patch(*args, **kwargs)
        return answer if kwargs.get("dry_run") else await never()

    monkeypatch.setattr(world.cluster, "patch", mute)
    with pytest.raises(ApplicationError, match="cut off"):
        await asyncio.wait_for(world.run(world.steps.act, world.step(incident), local=False, limit=0.5), 30)
    assert await outcomes(world, incident, EntryKind.EFFECT_RECORDED) == []
    record = await world.run(world.steps.act, world.step(incident), local=False, attempt=2)
    assert (record.status, world.cluster.writes) == (StepStatus.APPLIED, 1)


def both_at_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server and Prometheus answer once both have been asked."""
    asked = asyncio.Barrier(2)
    for place, name in ((world.cluster, "get"), (world.metrics, "range_batch")):
        real = getattr(place, name)

        async def call(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            await asked.wait()
            return await real(*args, **kwargs)

        monkeypatch.setattr(place, name, call)


async def test_a_slow_verification_asks_all_at_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other their time limits would be more than a turn, and it would never be decided."""
    incident = await world.planned()
    await world.run(world.steps.act, world.step(incident))
    world.clock.forward(60)
    both_at_once(world, monkeypatch)
    seen = await world.run(world.verification.verify, world.look(incident), local=False)
    assert seen.record.status is StepStatus.NOT_VERIFIED


async def test_a_slow_restore_asks_all_at_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier try is read back while the part's health is asked for."""
    incident, record = await promised(world)
    given = world.restore(incident, record.opened_at)
    world.cluster.fail_after_commit = [world.Killed("now")]
    with pytest.raises(world.Killed):
        await world.run(world.restores.check, given)
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    world.again()
    both_at_once(world, monkeypatch)
    seen = await world.run(world.restores.check, given, local=False)
    assert (seen.outcome, world.cluster.writes) == ("restored", 2)

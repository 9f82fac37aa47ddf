"""Two attempts at one hand: what they record excludes each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from activities.messages import CloseInput
from firebreak.domain.condition import AnswerStatus
from firebreak.domain.incident import IncidentOutcome, Mode
from firebreak.domain.plan import StepStatus
from firebreak.domain.timeline import EntryDraft, EntryKind

Meanwhile = Callable[[], Awaitable[Any]]


def beside(place: Any, name: str, other: Meanwhile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call of `name` waits until `other` is over; those that follow do not."""
    real = getattr(place, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(place, name, real)
        await other()
        return await real(*args, **kwargs)

    monkeypatch.setattr(place, name, call)


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
    """Another attempt has put it back and died before it could say so: it is found, and recorded as what it is."""
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
    record = await world.run(world.steps.undo, old, local=False)
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
    key = "restore-ended/0.0"
    body = {"tier": 0, "step": 0, "outcome": "overdue", "reason": "too late"}
    draft = EntryDraft(incident_id=incident.id, key=key, kind=EntryKind.RESTORE_ENDED, at=world.clock.now(), body=body)
    end = world.store.end_restore(record, outcome="overdue", entry=draft, messages=())
    beside(world.cluster, "get", lambda: end, monkeypatch)
    seen = await world.run(world.restores.check, world.restore(incident, record.opened_at), local=False)
    assert (seen.ended, seen.outcome) == (True, "overdue")
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

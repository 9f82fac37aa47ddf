"""Taking back what a tier wrote that did not heal: once, only what it wrote, and not on old evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from firebreak.domain.errors import PermissionDenied, TargetNotFound, TransientError
from firebreak.domain.incident import Mode
from firebreak.domain.plan import StepStatus
from firebreak.domain.timeline import Appended, EntryKind


async def act(world: Any, incident: Any, tier: int = 0, **how: Any) -> Any:
    return await world.run(world.steps.act, world.step(incident, tier), **how)


async def undo(world: Any, incident: Any, **how: Any) -> Any:
    return await world.run(world.steps.undo, world.step(incident), **how)


async def test_undo_puts_back_what_was_there(world: Any) -> None:
    """Two writes in all, and the flag is as before."""
    incident = await world.planned()
    await act(world, incident)
    record = await undo(world, incident)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDONE, "true", 2)
    assert "chat/undone/0.0" in world.messages(incident)
    world.again()
    assert await undo(world, incident) == record
    assert world.cluster.writes == 2


@pytest.mark.parametrize(("when", "append"), [(w, n) for w in ("die_before", "die_after") for n in (1, 2)])
async def test_killed_at_any_write_of_ours_an_undo_is_done_once(world: Any, when: str, append: int) -> None:
    """As for the step itself: exactly one write back."""
    incident = await world.planned()
    await act(world, incident)
    getattr(world.ledger, when)["append"] = world.ledger.calls["append"] + append
    with pytest.raises(world.Killed):
        await undo(world, incident)
    world.again()
    record = await undo(world, incident, local=False)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDONE, "true", 2)
    assert len(await world.bodies(incident, EntryKind.UNDO_RECORDED)) == 1


@pytest.mark.parametrize(
    ("after", "outcome"), [(0, "unknown"), (129, "unknown"), (130, "would_apply"), (130, "applied")]
)
async def test_an_undo_that_was_begun_is_not_carried_out_by_an_engine_that_observes(
    world: Any, after: int, outcome: str
) -> None:
    """Killed after its intent, started again in observe to stop it: what it left is recorded, and nothing written."""
    incident = await world.planned()
    await act(world, incident)
    if outcome == "applied":
        world.cluster.fail_after_commit = [world.Killed("now")]
    else:
        world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await undo(world, incident)
    writes = world.cluster.writes
    world.again(mode=Mode.OBSERVE)
    world.ledger.die_before["append"] = 3  # it does not try for ever
    world.clock.forward(after)
    record = await undo(world, incident, local=False)
    assert record.status is (StepStatus.UNDONE if outcome == "applied" else StepStatus.UNDO_FAILED)
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert (body["effect"]["outcome"], world.cluster.writes) == (outcome, writes)


async def test_an_undo_that_is_not_begun_is_not_begun_by_an_engine_that_observes(world: Any) -> None:
    """It says so, and what was written stays in force."""
    incident = await world.planned()
    await act(world, incident)
    world.again(mode=Mode.OBSERVE)
    record = await undo(world, incident)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDO_FAILED, "false", 1)
    assert "mode observe" in record.reason


async def test_an_undo_that_gives_way_for_ever_is_left_to_the_next_attempt(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason is: it ends at once, in a way that is tried again."""
    incident = await world.planned()
    await act(world, incident)
    append = world.store.append
    (effect,) = [e for e in await world.store.entries(incident.id) if e.kind is EntryKind.EFFECT_RECORDED]

    async def another(drafts: Any, **more: Any) -> Any:
        if drafts[0].kind is EntryKind.UNDO_RECORDED:
            return [Appended(entry=effect, found=True)]
        return await append(drafts, **more)

    monkeypatch.setattr(world.store, "append", another)
    world.ledger.die_before["append"] = world.ledger.calls["append"] + 3
    with pytest.raises(ApplicationError, match="another attempt") as caught:
        await undo(world, incident, local=False)
    assert (caught.value.type, caught.value.non_retryable) == ("TransientError", False)


async def test_an_undo_whose_reply_was_lost_is_found(world: Any) -> None:
    """The API server had put it back: read back, not written a third time."""
    incident = await world.planned()
    await act(world, incident)
    world.cluster.fail_after_commit = [TransientError("timed out")]
    with pytest.raises(ApplicationError):
        await undo(world, incident)
    record = await undo(world, incident, local=False)
    assert (record.status, world.flag, world.cluster.writes) == (StepStatus.UNDONE, "true", 2)


@pytest.mark.parametrize("error", [PermissionDenied("no get any more"), TargetNotFound("gone")])
async def test_an_undo_that_cannot_be_read_back_is_unknown(world: Any, error: Exception) -> None:
    """It was put back, and nobody can tell any more: not refused, for then nothing would have been written."""
    incident = await world.planned()
    await act(world, incident)
    world.cluster.fail_after_commit = [world.Killed("now")]
    with pytest.raises(world.Killed):
        await undo(world, incident)
    world.again()
    world.cluster.fail["get"] = [error]
    record = await undo(world, incident, local=False)
    assert record.status is StepStatus.UNDO_FAILED
    assert str(error) in record.reason
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert (body["effect"]["outcome"], world.cluster.writes) == ("unknown", 2)


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "begun"])
async def test_an_undo_that_never_gets_to_its_end_is_recorded_where_it_was_begun(world: Any, begun: bool) -> None:
    """At the last attempt nobody knows what became of what was sent; where nothing was, there is nothing to record."""
    incident = await world.planned()
    await act(world, incident)
    world.cluster.fail["patch" if begun else "get"] = [TransientError("timed out")] * 2
    with pytest.raises(ApplicationError, match="timed out"):
        await undo(world, incident, local=False, attempt=7)
    assert await world.bodies(incident, EntryKind.UNDO_RECORDED) == []
    if not begun:
        with pytest.raises(ApplicationError, match="timed out"):
            await undo(world, incident, local=False, attempt=8)
        return
    record = await undo(world, incident, local=False, attempt=8)
    assert (record.status, record.wrote, "timed out" in record.reason) == (StepStatus.UNDO_FAILED, True, True)
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert body["effect"]["outcome"] == "unknown"


async def test_what_somebody_changed_since_is_not_undone(world: Any) -> None:
    """Another hand was there after ours: left alone, and said."""
    incident = await world.planned()
    await act(world, incident)
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "maybe"}})
    record = await undo(world, incident)
    assert record.status is StepStatus.UNDO_FAILED
    assert "somebody else" in record.reason
    assert world.flag == "maybe"


@pytest.mark.parametrize("killed", [False, True], ids=["not begun", "killed after its intent"])
async def test_nothing_is_undone_after_the_close(world: Any, killed: bool) -> None:
    """Closed by hand: what is in force stays in force, and the record says why."""
    incident = await world.planned()
    await act(world, incident)
    if killed:
        world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
        with pytest.raises(world.Killed):
            await undo(world, incident)
        world.again()
    await world.closed_by_hand(incident)
    record = await undo(world, incident, local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.UNDO_FAILED, 1)
    assert "closed" in record.reason


@pytest.mark.parametrize(("after", "outcome"), [(61, "unknown"), (129, "unknown"), (130, "refused")])
async def test_an_undo_that_is_let_go_is_unknown_while_it_may_land(world: Any, after: int, outcome: str) -> None:
    """Killed between its intent and the answer: what was sent at the last moment may still be carried out."""
    incident = await world.planned()
    await act(world, incident)
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await undo(world, incident)
    world.again()
    world.clock.forward(after)
    assert (await undo(world, incident, local=False)).status is StepStatus.UNDO_FAILED
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert (body["effect"]["outcome"], world.cluster.writes) == (outcome, 1)


@pytest.mark.parametrize(("age", "status"), [(59, StepStatus.UNDONE), (61, StepStatus.UNDO_FAILED)])
async def test_nothing_is_undone_on_old_evidence(world: Any, age: int, status: StepStatus) -> None:
    """An hour after the verification failed a person has it: it is left as it is, and the walk pages."""
    incident = await world.planned()
    await act(world, incident)
    seen_at = world.clock.now() - timedelta(seconds=age)
    record = await world.run(world.steps.undo, replace(world.step(incident), rests_on=seen_at))
    assert record.status is status
    assert world.cluster.writes == (2 if status is StepStatus.UNDONE else 1)


async def test_an_undo_that_was_not_carried_out_is_let_go_when_it_is_old(world: Any) -> None:
    """Killed between its intent and the call, back an hour later."""
    incident = await world.planned()
    await act(world, incident)
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await undo(world, incident)
    world.again()
    world.clock.forward(3600)
    assert (await undo(world, incident, local=False)).status is StepStatus.UNDO_FAILED
    assert world.cluster.writes == 1


async def test_an_undo_that_grows_old_before_its_call_is_not_carried_out(world: Any) -> None:
    """The machine stood still between its intent and its call."""
    incident = await world.planned()
    await act(world, incident)

    async def minutes() -> None:
        world.clock.forward(61)

    world.ledger.meanwhile = minutes
    assert (await undo(world, incident)).status is StepStatus.UNDO_FAILED
    (body,) = await world.bodies(incident, EntryKind.UNDO_RECORDED)
    assert (body["effect"]["outcome"], world.cluster.writes) == ("refused", 1)


async def test_a_close_between_an_undo_and_its_call_comes_first(world: Any) -> None:
    """What is in force stays in force."""
    incident = await world.planned()
    await act(world, incident)
    world.ledger.meanwhile = lambda: world.closed_by_hand(incident)
    record = await undo(world, incident)
    assert (record.status, world.cluster.writes) == (StepStatus.UNDO_FAILED, 1)
    assert "the incident has been closed" in record.reason


async def test_an_undo_that_was_refused_leaves_its_restore_open(world: Any) -> None:
    """What is still in place is still to be taken back."""
    incident = await world.verified()
    long_ago = world.clock.now() - timedelta(hours=1)
    await world.run(world.steps.undo, replace(world.step(incident), rests_on=long_ago))
    assert await world.store.open_restores()


async def test_undoing_what_was_never_done_is_an_error_for_good(world: Any) -> None:
    """Without an effect there is nothing to take back."""
    incident = await world.planned()
    with pytest.raises(ApplicationError) as caught:
        await undo(world, incident)
    assert caught.value.non_retryable


async def test_undo_of_a_step_that_wrote_nothing_writes_nothing(world: Any) -> None:
    """It was so already when we came: it is not ours to flip."""
    incident = await world.planned()
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "false"}})
    await act(world, incident)
    await undo(world, incident)
    assert (world.flag, world.cluster.writes) == ("false", 0)


async def test_a_relapse_that_is_undone_ends_its_restore(world: Any) -> None:
    """Taken back already: the durable promise must not take it back a second time."""
    incident = await world.verified()
    assert len(await world.store.open_restores()) == 1
    await undo(world, incident)
    assert await world.store.open_restores() == ()
    assert world.cluster.writes == 2


@pytest.mark.parametrize("method", ["append", "end_restore"])
async def test_a_relapse_whose_undo_is_killed_still_ends_its_restore(world: Any, method: str) -> None:
    """Killed between the undo and the end of the promise: the next attempt ends it."""
    incident = await world.verified()
    world.ledger.die_before[method] = world.ledger.calls[method] + (2 if method == "append" else 1)
    with pytest.raises(world.Killed):
        await undo(world, incident)
    world.again()
    await undo(world, incident, local=False)
    assert await world.store.open_restores() == ()
    assert world.cluster.writes == 2

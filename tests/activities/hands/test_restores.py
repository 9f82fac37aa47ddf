"""Taking a step back: by evidence of the broken part itself, once, and never by the clock alone."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.messages import CloseInput
from firebreak.domain import ids
from firebreak.domain.errors import PermissionDenied, TransientError
from firebreak.domain.incident import IncidentOutcome, Mode, UnreadableRow
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.watch import IntakeWatch


async def check(world: Any, incident: Any, opened_at: datetime, **how: Any) -> Any:
    return await world.run(world.restores.check, world.restore(incident, opened_at), **how)


async def promised(world: Any) -> tuple[Any, datetime]:
    """A healed and closed incident whose flag is off, and when the promise to take it back was made."""
    incident = await world.verified()
    await close(world, incident)
    (record,) = await world.store.open_restores()
    return incident, record.opened_at


async def close(world: Any, incident: Any) -> None:
    ending = CloseInput(incident_id=incident.id, outcome=IncidentOutcome.HEALED, reason="held")
    await world.run(world.people.close, ending)


async def test_a_healthy_part_takes_the_step_back(world: Any) -> None:
    """The part answers for the hold time: the flag is on again, the promise is kept, the thread is told."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    seen = await check(world, incident, opened)
    assert (seen.ended, seen.outcome) == (True, "restored")
    assert (world.flag, world.cluster.writes) == ("true", 2)
    assert await world.store.open_restores() == ()
    assert "chat/restore-ended/0.0" in world.messages(incident)


async def test_a_healthy_symptom_takes_nothing_back(world: Any) -> None:
    """The service is well because the part is switched off: that says nothing about the part."""
    incident, opened = await promised(world)
    world.clock.forward(60)
    seen = await check(world, incident, opened)
    assert not seen.ended
    assert seen.again_at == world.clock.at + timedelta(seconds=1)
    assert world.cluster.writes == 1


async def test_a_part_must_stay_healthy_for_the_hold_time(world: Any) -> None:
    """One good probe is not enough."""
    incident, opened = await promised(world)
    world.clock.forward(60)
    world.metrics.say("app_probe", 1.0, since=world.clock.at - timedelta(seconds=4))
    assert not (await check(world, incident, opened)).ended
    assert world.cluster.writes == 1


async def test_doubt_takes_nothing_back(world: Any) -> None:
    """No samples of the part: nobody knows."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", None)
    world.clock.forward(60)
    assert not (await check(world, incident, opened)).ended
    assert world.cluster.writes == 1


async def test_the_time_limit_pages_and_does_not_flip(world: Any) -> None:
    """After an hour a person is called; the flag stays as it is."""
    incident, opened = await promised(world)
    world.clock.at = opened + timedelta(minutes=59, seconds=59)
    almost = await check(world, incident, opened)
    assert (almost.ended, almost.again_at) == (False, opened + timedelta(hours=1))
    world.clock.at = opened + timedelta(hours=1)
    seen = await check(world, incident, opened)
    assert (seen.ended, seen.outcome) == (True, "overdue")
    assert (world.flag, world.cluster.writes) == ("false", 1)
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert body["reason"].startswith("not taken back within 60 min: part_answers: 0")
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "trigger_high"
    assert await world.store.open_restores() == ()


async def test_what_somebody_changed_since_is_left_alone_and_pages(world: Any) -> None:
    """The flag has another value by now: refused, and a person decides."""
    incident, opened = await promised(world)
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "maybe"}})
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    seen = await check(world, incident, opened)
    assert seen.outcome == "refused"
    assert (world.flag, world.cluster.writes) == ("maybe", 1)
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)  # its first words are a page's title
    assert body["reason"].startswith("not taken back: lab/shop/ConfigMap/shop-flags was changed by somebody else")
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "trigger_high"


async def test_the_end_is_found_again(world: Any) -> None:
    """A repeat after a crash answers the same and writes nothing."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    first = await check(world, incident, opened)
    world.again()
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    assert await check(world, incident, opened) == first
    assert world.cluster.writes == 2


@pytest.mark.parametrize(
    ("method", "when"), [(m, w) for m in ("append", "end_restore") for w in ("die_before", "die_after")]
)
async def test_killed_at_any_write_of_ours_it_is_taken_back_once(world: Any, method: str, when: str) -> None:
    """At the undo's intent or at the end of the promise: exactly one write back, one end."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    getattr(world.ledger, when)[method] = world.ledger.calls[method] + 1
    with pytest.raises(world.Killed):
        await check(world, incident, opened)
    world.again()
    seen = await check(world, incident, opened, local=False)
    assert seen.outcome == "restored"
    assert (world.flag, world.cluster.writes) == ("true", 2)
    assert len(await world.bodies(incident, EntryKind.RESTORE_ENDED)) == 1


async def reply_lost(world: Any) -> tuple[Any, datetime]:
    """The part was well, and the step was taken back; the API server's answer did not come."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    world.cluster.fail_after_commit = [TransientError("timed out")]
    with pytest.raises(ApplicationError):
        await check(world, incident, opened)
    return incident, opened


async def test_a_restore_that_grows_old_before_its_call_judges_afresh(world: Any) -> None:
    """The machine stood still between its intent and its call: the part may be ill again, and here it is."""
    incident, opened_at = await promised(world)
    world.metrics.say("app_probe", 1.0, since=opened_at)
    world.clock.forward(30)

    async def minutes() -> None:
        world.metrics.say("app_probe", 0.0, since=world.clock.now())
        world.clock.forward(61)

    world.ledger.meanwhile = minutes
    assert not (await check(world, incident, opened_at)).ended
    assert not (await check(world, incident, opened_at)).ended
    assert world.flag == "false"
    world.metrics.say("app_probe", 1.0, since=world.clock.now())
    world.clock.forward(30)
    assert (await check(world, incident, opened_at)).outcome == "restored"
    assert (world.flag, world.cluster.writes) == ("true", 2)


async def test_a_lost_reply_is_read_back(world: Any) -> None:
    """The API server had taken it back: found by its mark, not written again."""
    incident, opened = await reply_lost(world)
    seen = await check(world, incident, opened, local=False)
    assert seen.outcome == "restored"
    assert world.cluster.writes == 2


async def test_a_lost_reply_is_read_back_also_when_the_part_is_ill_again(world: Any) -> None:
    """It was taken back: the promise is over, and its targets are free for what heals the part now."""
    incident, opened = await reply_lost(world)
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    seen = await check(world, incident, opened, local=False)
    assert (seen.outcome, world.flag, world.cluster.writes) == ("restored", "true", 2)
    assert await world.store.lock_target(world.flags, "inc-next") == "inc-next"


@pytest.mark.parametrize("mode", Mode)
async def test_a_lost_reply_is_read_back_whatever_holds_a_write_back(world: Any, mode: Mode) -> None:
    """The engine was started again, in mode observe, or another incident has its target by now: it was taken back, and
    nobody is told at the time limit that this is not known."""
    incident, opened = await reply_lost(world)
    await world.store.release_targets(f"restore/{incident.id}/0.0")
    await world.store.lock_target(incident.target, "inc-other")
    world.again(mode=mode)
    seen = await check(world, incident, opened, local=False)
    assert (seen.outcome, world.flag, world.cluster.writes) == ("restored", "true", 2)
    assert "pager/restore-ended/0.0" not in world.messages(incident)


@pytest.mark.parametrize("error", [TransientError("away"), PermissionDenied("no get any more")])
async def test_a_lost_reply_that_cannot_be_read_back_ends_as_overdue(world: Any, error: Exception) -> None:
    """Asked again at each look, nobody's targets meanwhile; at the time limit a person is told what is not known."""
    incident, opened = await reply_lost(world)
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    world.cluster.fail["get"] = [error, error]
    assert not (await check(world, incident, opened, local=False)).ended
    assert await world.store.lock_target(world.flags, "inc-next") == "inc-next"
    world.clock.at = opened + timedelta(hours=1)
    assert (await check(world, incident, opened, local=False)).outcome == "overdue"
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert "look at the target" in body["reason"]


async def test_a_restore_that_cannot_be_read_back_is_unknown(world: Any) -> None:
    """The part is well, and the step was taken back; nobody can tell any more: a person looks."""
    incident, opened = await reply_lost(world)
    denied = PermissionDenied("no get any more")
    world.cluster.fail["get"] = [denied, denied]
    seen = await check(world, incident, opened, local=False)
    assert (seen.ended, seen.outcome, world.cluster.writes) == (True, "unknown", 2)
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert body["effect"]["outcome"] == "unknown"
    assert "no get any more" in body["reason"]
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "trigger_high"


async def test_a_write_that_failed_leaves_its_targets_to_others(world: Any) -> None:
    """It is tried again one day; until then an incident may heal what the promise is about."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    world.cluster.fail["patch"] = [TransientError("timed out")]
    with pytest.raises(ApplicationError):
        await check(world, incident, opened)
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    assert not (await check(world, incident, opened, local=False)).ended
    assert (world.flag, world.cluster.writes) == ("false", 1)
    assert await world.store.lock_target(world.flags, "inc-next") == "inc-next"


async def test_a_write_whose_answer_is_lost_at_the_time_limit_is_not_denied(world: Any) -> None:
    """The person who is called is not told that nothing was flipped: it was, and nobody has heard of it."""
    incident, opened = await promised(world)
    world.clock.at = opened + timedelta(hours=1)
    world.metrics.say("app_probe", 1.0, since=opened)
    world.cluster.fail_after_commit = [TransientError("timed out")]
    seen = await check(world, incident, opened, local=False)
    assert (seen.outcome, world.flag) == ("overdue", "true")
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert "not taken back" not in body["reason"]
    assert "Nothing was flipped" not in body["reason"]
    assert "look at the target" in body["reason"]
    assert body["begun"] is True


class EmptyInbox:
    """Nothing waits, and all can be kept: the watch looks at restores alone."""

    async def oldest(self) -> None:
        return None

    async def probe(self) -> None:
        return None


Told = tuple[tuple[str, EntryKind, dict[str, Any]], ...]

HANDLED: Told = (
    ("person/late", EntryKind.PERSON_CALLED, {"reason": "why"}),
    (ids.close_key("pager/person/late"), EntryKind.CLOSE_REQUESTED, {"reason": "done", "by": "ada"}),
)
CAME_BACK: Told = (
    ("restore-overdue/1.0", EntryKind.ENGINE_FAULT, {"error": "late"}),
    ("restore-ended/1.0", EntryKind.RESTORE_ENDED, {"outcome": "restored", "tier": 1, "step": 0}),
)


async def tell(world: Any, incident: Any, told: Told) -> None:
    for key, kind, body in told:
        draft = EntryDraft(incident_id=incident.id, key=key, kind=kind, at=world.clock.at, body=body)
        await world.store.append([draft])


async def watched(world: Any, before: Told = ()) -> tuple[Any, datetime]:
    """Workers or Temporal were away: the time limit is over, and the engine's own watch has called a person."""
    incident, opened = await promised(world)
    await tell(world, incident, before)
    world.clock.at = opened + timedelta(hours=1, minutes=2)
    inbox: Any = EmptyInbox()
    await IntakeWatch(inbox, world.store, world.clock, incidents=world.store).look()
    assert world.messages(incident)["pager/restore-overdue/0.0"][0] == "trigger_high"
    world.metrics.say("app_probe", 1.0, since=opened)
    return incident, opened


async def test_a_late_restore_ends_the_page_about_it(world: Any) -> None:
    """Its workflow came back and took the step back: what the person was called for is done."""
    incident, opened = await watched(world)
    assert (await check(world, incident, opened)).outcome == "restored"
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "resolve_high"


@pytest.mark.parametrize("other", ["person/late", "restore-overdue/1.0", "restore-ended/1.0"])
async def test_a_late_restore_ends_no_page_about_something_else(world: Any, other: str) -> None:
    """All of an incident's calls are one page at the pager."""
    incident, opened = await watched(world)
    kinds = {"person": EntryKind.PERSON_CALLED, "restore-overdue": EntryKind.ENGINE_FAULT}
    kind = kinds.get(other.partition("/")[0], EntryKind.RESTORE_ENDED)
    body = {"reason": "why", "outcome": "refused"}
    await world.store.append([EntryDraft(incident_id=incident.id, key=other, kind=kind, at=world.clock.at, body=body)])
    assert (await check(world, incident, opened)).outcome == "restored"
    assert "pager/restore-ended/0.0" not in world.messages(incident)


@pytest.mark.parametrize("before", [(), HANDLED])
@pytest.mark.parametrize("after", [(), CAME_BACK])
async def test_a_late_restore_ends_the_page_when_nothing_else_is_open(world: Any, before: Told, after: Told) -> None:
    """What a person has handled, and another restore that was late and came back, call nobody any more."""
    incident, opened = await watched(world, before)
    await tell(world, incident, after)
    assert (await check(world, incident, opened)).outcome == "restored"
    assert world.messages(incident)["pager/restore-ended/0.0"][0] == "resolve_high"


async def test_a_call_after_the_end_counts_though_the_clock_was_set_back(world: Any) -> None:
    """By the wall clock it came before the close, and is open all the same."""
    incident, opened = await watched(world)
    closed = next(e for e in await world.store.entries(incident.id) if e.kind is EntryKind.INCIDENT_CLOSED)
    other = EntryDraft(
        incident_id=incident.id,
        key="restore-ended/1.0",
        kind=EntryKind.RESTORE_ENDED,
        at=closed.at - timedelta(minutes=5),
        body={"reason": "why", "outcome": "refused"},
    )
    await world.store.append([other])
    assert (await check(world, incident, opened)).outcome == "restored"
    assert "pager/restore-ended/0.0" not in world.messages(incident)


async def test_a_clock_that_is_set_back_costs_a_restore_its_limit_once_more(world: Any) -> None:
    """A year back: overdue in an hour all the same, which is its limit. The part was well then, before it ever died."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=opened - timedelta(days=400))
    world.clock.forward(-365 * 86_400)
    since = None
    for ended in (False, False, True):
        seen = await world.run(world.restores.check, dataclasses.replace(world.restore(incident, opened), since=since))
        assert (seen.ended, seen.outcome) == (ended, "overdue" if ended else "")
        since = seen.since
        world.clock.forward(1800)
    assert world.cluster.writes == 1


async def test_a_restore_in_an_open_incident_ends_no_page(world: Any) -> None:
    """A person may have been called for the incident itself; its close ends all of it."""
    incident = await world.verified()
    (record,) = await world.store.open_restores()
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.at = record.opened_at + timedelta(hours=1, minutes=2)
    inbox: Any = EmptyInbox()
    await IntakeWatch(inbox, world.store, world.clock, incidents=world.store).look()
    await world.store.release_targets(incident.id)
    assert (await check(world, incident, record.opened_at)).outcome == "restored"
    assert "pager/restore-ended/0.0" not in world.messages(incident)


async def test_a_restore_in_time_says_nothing_to_the_pager(world: Any) -> None:
    """Nobody was called, so nothing is ended."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    await check(world, incident, opened)
    assert "pager/restore-ended/0.0" not in world.messages(incident)


async def test_observing_takes_nothing_back_and_pages_when_it_is_overdue(world: Any) -> None:
    """Switched to observe while a promise is open: it says that it was not taken back, and the flag stays."""
    incident, opened = await promised(world)
    world.again(mode=Mode.OBSERVE)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    assert not (await check(world, incident, opened)).ended
    world.clock.at = opened + timedelta(hours=1)
    seen = await check(world, incident, opened)
    assert seen.outcome == "overdue"
    (body,) = await world.bodies(incident, EntryKind.RESTORE_ENDED)
    assert "observe" in body["reason"]
    assert (world.flag, world.cluster.writes) == ("false", 1)


async def test_a_target_in_other_hands_is_waited_for(world: Any) -> None:
    """Its own incident is still open, or another has it: one actor per target; taken back when it is free."""
    incident = await world.verified()
    (record,) = await world.store.open_restores()
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    seen = await check(world, incident, record.opened_at)
    assert (seen.ended, world.cluster.writes) == (False, 1)
    assert await world.bodies(incident, EntryKind.RESTORE_HELD_BACK) == [], "its own incident is as usual"
    await close(world, incident)
    await world.store.lock_target(incident.target, "inc-other")
    assert not (await check(world, incident, record.opened_at)).ended
    await world.store.release_targets("inc-other")
    assert (await check(world, incident, record.opened_at)).outcome == "restored"
    assert await world.store.lock_target(incident.target, "inc-next") == "inc-next", "the restore lets go, too"


@pytest.mark.parametrize(
    ("labels", "waits"),
    [({}, True), ({"service": "order", "deployment": "order-v1"}, False), ({"cluster": "elsewhere"}, False)],
    ids=["of this service", "of another service", "of another cluster"],
)
async def test_another_open_incident_of_the_service_is_waited_for(
    labels: dict[str, str], waits: bool, world: Any
) -> None:
    """What is taken back changes what that one is judged by, and it may be in a person's hands."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)
    other = await world.opened(alertname="PaySlow", **labels)
    assert (other.service == "pay") is ("service" not in labels)
    seen = await check(world, incident, opened)
    assert (seen.ended, world.cluster.writes) == ((False, 1) if waits else (True, 2))
    if waits:
        await check(world, incident, opened)
        (body,) = await world.bodies(incident, EntryKind.RESTORE_HELD_BACK)
        assert (body["step_id"], body["reason"]) == ("flag-off", f"incident {other.id} of pay is open"), "told once"
        await close(world, other)
        assert (await check(world, incident, opened)).outcome == "restored"


async def test_an_open_incident_that_cannot_be_read_is_waited_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one of this service; the time limit calls a person."""
    incident, opened = await promised(world)
    world.metrics.say("app_probe", 1.0, since=world.clock.at)
    world.clock.forward(11)

    async def damaged(*_: Any) -> tuple[UnreadableRow, ...]:
        return (UnreadableRow(id="inc-damaged", fault="no JSON"),)

    with monkeypatch.context() as patched:
        patched.setattr(type(world.store), "open_incidents", damaged)
        assert (await check(world, incident, opened)).ended is False
    assert world.cluster.writes == 1
    assert (await check(world, incident, opened)).outcome == "restored"


async def test_a_step_without_a_restore_rule_cannot_be_restored(world: Any) -> None:
    """An error for good, and nothing written."""
    incident, opened = await promised(world)
    given = world.restore(incident, opened)
    with pytest.raises(ApplicationError) as caught:
        await world.run(world.restores.check, dataclasses.replace(given, tier=1))
    assert caught.value.non_retryable

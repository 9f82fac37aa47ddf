"""Doing one step: refused, or applied once whatever dies when. The cluster counts the writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from firebreak.domain.condition import AnswerStatus
from firebreak.domain.errors import LedgerError, PermissionDenied, TransientError
from firebreak.domain.incident import Mode
from firebreak.domain.message import NoticeKind
from firebreak.domain.plan import StepStatus
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryKind
from firebreak.postmortem.notices import render_notice


async def act(world: Any, incident: Any, tier: int = 0, **how: Any) -> Any:
    return await world.run(world.steps.act, world.step(incident, tier), **how)


async def intents(world: Any, incident: Any) -> int:
    return len(await world.bodies(incident, EntryKind.INTENT_RECORDED))


async def effects(world: Any, incident: Any) -> list[str]:
    return [str(b["effect"]["outcome"]) for b in await world.bodies(incident, EntryKind.EFFECT_RECORDED)]


async def test_a_step_writes_once_and_says_so(world: Any) -> None:
    """Intent, check and effect on disk, one write at the cluster, one line in the thread."""
    incident = await world.planned()
    record = await act(world, incident)
    assert (record.status, record.wrote) == (StepStatus.APPLIED, True)
    assert (world.cluster.writes, world.flag) == (1, "false")
    kinds = await world.kinds(incident)
    assert kinds[-3:] == ["intent.recorded", "step.checked", "effect.recorded"]
    assert "chat/applied/0.0" in world.messages(incident)


async def test_a_repeat_answers_from_the_store(world: Any) -> None:
    """The second attempt asks the cluster nothing and writes nothing."""
    incident = await world.planned()
    first = await act(world, incident)
    world.again()
    world.cluster.fail = {"get": [TransientError("not to be asked")], "patch": [TransientError("not to be asked")]}
    assert await act(world, incident) == first
    assert world.cluster.writes == 1


# Appends of one act: 1 = intent, 2 = effect.
@pytest.mark.parametrize(("when", "append"), [(w, n) for w in ("die_before", "die_after") for n in (1, 2)])
async def test_killed_at_any_write_of_ours_the_step_is_done_once(world: Any, when: str, append: int) -> None:
    """kill -9 before or after the intent, before or after the effect: the next attempt ends with exactly one write."""
    incident = await world.planned()
    getattr(world.ledger, when)["append"] = world.ledger.calls["append"] + append
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    record = await act(world, incident, local=False)
    assert (record.status, record.wrote) == (StepStatus.APPLIED, True)
    assert (world.cluster.writes, world.flag) == (1, "false")
    assert await intents(world, incident) == 1
    assert len(await effects(world, incident)) == 1
    world.again()
    assert await act(world, incident) == record


@pytest.mark.parametrize(
    "death", [lambda world: world.Killed("now"), lambda world: asyncio.CancelledError()], ids=["killed", "cancelled"]
)
async def test_killed_after_the_commit_the_write_is_found(world: Any, death: Callable[[Any], BaseException]) -> None:
    """The API server took it, the reply was never read: read back, not written again."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [death(world)]
    with pytest.raises((world.Killed, asyncio.CancelledError)):
        await act(world, incident)
    assert world.cluster.writes == 1
    world.again()
    record = await act(world, incident, local=False)
    assert record.status is StepStatus.APPLIED
    assert world.cluster.writes == 1
    assert await effects(world, incident) == ["applied"]


async def test_killed_before_the_call_the_write_is_made(world: Any) -> None:
    """The intent is on disk, the cluster knows nothing: written by the next attempt, by the same intent."""
    incident = await world.planned()
    world.cluster.fail["patch"] = [world.Killed("before the call")]
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    world.clock.forward(30)
    record = await act(world, incident, local=False)
    assert record.status is StepStatus.APPLIED
    assert world.cluster.writes == 1
    (body,) = await world.bodies(incident, EntryKind.INTENT_RECORDED)
    assert body["intent"]["stamp"] == "2026-11-21T09:00:00.000000Z"


async def test_after_a_crash_nothing_is_decided_anew(world: Any) -> None:
    """The check of the step no longer holds by the time of the second attempt: the intent binds all the same."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.metrics.say("app_probe", 1.0)
    world.again()
    assert (await act(world, incident, local=False)).status is StepStatus.APPLIED
    assert world.cluster.writes == 1


async def test_after_a_crash_a_target_that_is_gone_stays_unknown(world: Any) -> None:
    """Nobody can tell any more whether the write happened: failed, and counted as written."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    del world.cluster.objects[world.flags.kind, world.flags.namespace, world.flags.name]
    world.again()
    record = await act(world, incident, local=False)
    assert (record.status, record.wrote) == (StepStatus.FAILED, True)
    assert await effects(world, incident) == ["unknown"]


@pytest.mark.parametrize("spec", [{"paused": True}, {"strategy": {"type": "Recreate"}}, {"replicas": 0}])
async def test_what_must_not_be_restarted_any_more_is_not(world: Any, spec: dict[str, Any]) -> None:
    """Between the intent and the write a worker died, and somebody took the workload in hand."""
    incident = await world.planned()
    world.metrics.say("app_probe", 1.0)  # so that the step of tier 0 is not the one
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await world.run(world.steps.act, world.step(incident, 1))
    workload = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v1")
    world.cluster.change(workload, {"spec": spec})
    world.again()
    record = await world.run(world.steps.act, world.step(incident, 1), local=False)
    assert record.status is StepStatus.REFUSED, record.reason
    assert world.cluster.writes == 0


async def test_two_attempts_at_once_write_once(world: Any) -> None:
    """The local attempt is slow, the patient one starts: one intent binds both, one write at the cluster."""
    incident = await world.planned()
    first = world.steps
    world.again()
    records = await asyncio.gather(
        world.run(first.act, world.step(incident)), world.run(world.steps.act, world.step(incident), local=False)
    )
    assert [r.status for r in records] == [StepStatus.APPLIED] * 2
    assert world.cluster.writes == 1
    assert await intents(world, incident) == 1
    assert len(await effects(world, incident)) == 1


async def test_a_step_that_asks_for_approval_is_refused(world: Any) -> None:
    """Approvals are not taken yet: refused with the reason, nothing written."""
    world.edit("catalog/heal.yaml", "check: [part_is_dead]", "check: [part_is_dead]\n        approval: on-call")
    incident = await world.planned()
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "approval by on-call" in record.reason
    assert world.cluster.writes == 0
    body, entries = world.told(incident, "chat/refused/0.0"), await world.store.entries(incident.id)
    lines = render_notice(NoticeKind.STEP_FAILED, entries, body=body).lines
    assert "Next: no later tier is tried without the approval; a person is paged." in lines


@pytest.mark.parametrize(("age", "status"), [(59, StepStatus.APPLIED), (61, StepStatus.REFUSED)])
async def test_nothing_is_begun_on_old_evidence(world: Any, age: int, status: StepStatus) -> None:
    """Workers or Temporal were away: what was true over a minute ago is a person's by then."""
    incident = await world.planned()
    rests_on = world.clock.now() - timedelta(seconds=age)
    record = await world.run(world.steps.act, replace(world.step(incident), rests_on=rests_on))
    assert record.status is status
    assert world.cluster.writes == (1 if status is StepStatus.APPLIED else 0)
    if status is StepStatus.REFUSED:
        assert "more than 60 s ago" in record.reason


async def test_evidence_that_grows_old_during_the_check_is_too_old(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh when the attempt began; a patient check took its time: judged again right before the intent."""
    incident = await world.planned()
    ask = world.metrics.range_batch

    async def slow(*args: Any, **kwargs: Any) -> Any:
        answers = await ask(*args, **kwargs)
        world.clock.forward(9)
        return answers

    monkeypatch.setattr(world.metrics, "range_batch", slow)
    rests_on = world.clock.now() - timedelta(seconds=55)
    record = await world.run(world.steps.act, replace(world.step(incident), rests_on=rests_on), local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.REFUSED, 0)
    assert "more than 60 s ago" in record.reason
    assert await intents(world, incident) == 0


async def test_an_intent_that_was_not_carried_out_is_let_go_when_it_is_old(world: Any) -> None:
    """Killed between intent and call, back an hour later: nothing is on the object, and nothing is written any more."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    world.clock.forward(3600)
    assert (await act(world, incident)).status is StepStatus.REFUSED
    assert world.cluster.writes == 0
    assert await effects(world, incident) == ["refused"]


async def test_an_intent_that_grows_old_before_its_call_is_not_carried_out(world: Any) -> None:
    """Paused between the two, and on again minutes later: this very attempt has sent nothing, and sends nothing."""
    incident = await world.planned()

    async def minutes() -> None:
        world.clock.forward(61)

    world.ledger.meanwhile = minutes
    record = await act(world, incident)
    assert (record.status, record.wrote, world.cluster.writes) == (StepStatus.REFUSED, False, 0)
    assert "not written then; after 60 s not any more" in record.reason


async def test_a_close_between_the_intent_and_the_call_comes_first(world: Any) -> None:
    """A person who has been told that nothing is written any more finds nothing written."""
    incident = await world.planned()
    world.ledger.meanwhile = lambda: world.closed_by_hand(incident)
    record = await act(world, incident)
    assert (record.status, record.wrote, world.cluster.writes) == (StepStatus.REFUSED, False, 0)
    assert "the incident has been closed" in record.reason


@pytest.mark.parametrize(("ahead", "status"), [(5, StepStatus.APPLIED), (6, StepStatus.REFUSED)])
async def test_nothing_is_begun_on_evidence_of_an_unknown_age(world: Any, ahead: int, status: StepStatus) -> None:
    """It is of a time that is still to come, so the clock was set back since: it may be ten minutes old."""
    incident = await world.planned()
    rests_on = world.clock.now() + timedelta(seconds=ahead)
    record = await world.run(world.steps.act, replace(world.step(incident), rests_on=rests_on))
    assert record.status is status
    assert world.cluster.writes == (1 if status is StepStatus.APPLIED else 0)
    if status is StepStatus.REFUSED:
        assert "set back" in record.reason


async def test_an_intent_of_an_unknown_age_is_let_go(world: Any) -> None:
    """Killed between intent and call, and the clock is set back half an hour before the next attempt: nor can anybody
    tell whether it is still on its way."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    world.clock.forward(-1800)
    record = await act(world, incident)
    assert (record.status, record.wrote) == (StepStatus.FAILED, True)
    assert world.cluster.writes == 0


async def test_a_write_is_found_however_long_ago_it_was(world: Any) -> None:
    """Killed between the API server's commit and the effect, back an hour later: it is recorded as what it is."""
    incident = await world.planned()
    given = replace(world.step(incident), rests_on=world.clock.now())
    world.cluster.fail_after_commit = [world.Killed("now")]
    with pytest.raises(world.Killed):
        await world.run(world.steps.act, given)
    world.again()
    world.clock.forward(3600)
    assert (await world.run(world.steps.act, given)).status is StepStatus.APPLIED
    assert world.cluster.writes == 1


async def test_nothing_is_written_for_a_closed_incident(world: Any) -> None:
    """A person closed it by hand while the engine was at work."""
    incident = await world.planned()
    await world.closed_by_hand(incident)
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "closed" in record.reason
    assert world.cluster.writes == 0


@pytest.mark.parametrize("mode", Mode)
async def test_a_close_between_the_check_and_the_intent_comes_first(world: Any, mode: Mode) -> None:
    """Neither the write nor the hold on its target: nobody would ever let go of that again."""
    world.again(mode=mode)
    incident = await world.planned()
    read = world.cluster.get

    async def get(ref: Any, **more: Any) -> Any:
        world.cluster.get = read
        await world.closed_by_hand(incident)
        return await read(ref, **more)

    world.cluster.get = get
    record = await act(world, incident, local=False)
    assert (record.status, world.cluster.writes) == (StepStatus.REFUSED, 0)
    assert "closed" in record.reason
    assert await intents(world, incident) == 0
    assert await world.store.lock_target(incident.target, "inc-another") == "inc-another"


# An intent is sent for 60 s, by attempts of 10 s; the API server works at a request for 60 s.
SOON_AND_LATE = ((0, StepStatus.FAILED), (129, StepStatus.FAILED), (130, StepStatus.REFUSED))


@pytest.mark.parametrize(("after", "status"), SOON_AND_LATE)
async def test_what_was_not_written_before_the_close_is_not_written_after_it(
    world: Any, after: int, status: StepStatus
) -> None:
    """Killed between intent and answer, then closed by hand: the repeat finds nothing in the world, and leaves it so.
    Unknown for as long as what the first attempt may have sent can still land."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    await world.closed_by_hand(incident)
    world.clock.forward(after)
    record = await act(world, incident, local=False)
    assert (record.status, world.cluster.writes) == (status, 0)
    assert "closed" in record.reason
    assert ("it may still land: look at" in record.reason) is record.wrote is (status is StepStatus.FAILED)


@pytest.mark.parametrize(("after", "status"), [(61, StepStatus.FAILED), *SOON_AND_LATE[1:]])
async def test_an_old_intent_is_of_an_unknown_outcome_while_it_may_land(
    world: Any, after: int, status: StepStatus
) -> None:
    """A PATCH that was sent at the last moment is still in the API server's hands."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again()
    world.clock.forward(after)
    record = await act(world, incident, local=False)
    assert (record.status, record.wrote, world.cluster.writes) == (status, status is StepStatus.FAILED, 0)


async def test_a_target_that_another_incident_holds_is_refused(world: Any) -> None:
    """One actor per target, by name of the one who has it."""
    incident = await world.planned()
    assert incident.target is not None
    await world.store.lock_target(incident.target, "inc-other")
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "inc-other" in record.reason
    assert world.cluster.writes == 0


async def test_a_step_whose_check_does_not_hold_is_refused(world: Any) -> None:
    """The part that the flag would switch off is alive: no reason to switch it off."""
    incident = await world.planned()
    world.metrics.say("app_probe", 1.0)
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "part_is_dead" in record.reason
    assert world.cluster.writes == 0


async def test_doubt_in_a_check_is_a_refusal(world: Any) -> None:
    """Prometheus does not answer: nothing is done on evidence that is not there."""
    incident = await world.planned()
    world.metrics.status["app_probe"] = (AnswerStatus.UNAVAILABLE, "timed out")
    record = await act(world, incident, local=False)
    assert record.status is StepStatus.REFUSED
    assert world.cluster.writes == 0


async def test_what_the_api_server_forbids_is_a_refusal_before_any_intent(world: Any) -> None:
    """403 at the dry run: refused with what to grant, nothing recorded as intended."""
    incident = await world.planned()
    world.cluster.fail["dry run"] = [PermissionDenied("configmaps: patch is forbidden")]
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "forbidden" in record.reason
    assert "Grant" in record.reason
    assert await intents(world, incident) == 0


async def test_what_the_api_server_refuses_at_the_write_is_recorded(world: Any) -> None:
    """403 after the intent: an effect that says refused, and counts as not written."""
    incident = await world.planned()
    world.cluster.fail["patch"] = [PermissionDenied("configmaps: patch is forbidden")]
    record = await act(world, incident)
    assert (record.status, record.wrote) == (StepStatus.REFUSED, False)
    assert await effects(world, incident) == ["refused"]


async def test_what_is_so_already_writes_nothing_and_is_verified_all_the_same(world: Any) -> None:
    """Somebody else has switched it off: recorded, not written, and its verification goes on."""
    incident = await world.planned()
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "false"}})
    record = await act(world, incident)
    assert (record.status, record.wrote) == (StepStatus.APPLIED, False)
    assert world.cluster.writes == 0
    assert await effects(world, incident) == ["not_applied"]


async def test_observing_writes_nothing(world: Any) -> None:
    """Mode observe: not even a dry run; it says what it would have done."""
    world.again(mode=Mode.OBSERVE)
    incident = await world.planned()
    record = await act(world, incident)
    assert (record.status, record.wrote) == (StepStatus.WOULD_APPLY, False)
    assert (world.cluster.writes, world.cluster.dry_runs, world.flag) == (0, 0, "true")
    assert await intents(world, incident) == 0
    (body,) = await world.bodies(incident, EntryKind.STEP_WOULD_APPLY)
    assert body["check"]["changes"]
    world.again(mode=Mode.OBSERVE)
    assert await act(world, incident) == record


@pytest.mark.parametrize(("after", "status"), [*SOON_AND_LATE[:2], (130, StepStatus.WOULD_APPLY)])
async def test_an_intent_of_act_is_not_carried_out_by_an_engine_that_observes(
    world: Any, after: int, status: StepStatus
) -> None:
    """Killed between intent and write, started again in observe to stop it: nothing is written any more."""
    incident = await world.planned()
    world.ledger.die_after["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await act(world, incident)
    world.again(mode=Mode.OBSERVE)
    world.clock.forward(after)
    record = await act(world, incident, local=False)
    assert (record.status, record.wrote) == (status, status is StepStatus.FAILED)
    assert (world.cluster.writes, world.flag) == (0, "true")


async def test_no_recorded_intent_no_action(world: Any) -> None:
    """The store is down: the cluster is not touched."""
    incident = await world.planned()
    world.ledger.fail["append"] = LedgerError("disk full")
    with pytest.raises(ApplicationError):
        await act(world, incident)
    assert world.cluster.writes == 0


# --- unknown outcomes ------------------------------------------------------------------------------------------


async def test_a_time_out_of_a_local_attempt_is_left_to_the_patient_one(world: Any) -> None:
    """Locally there is no time to look: the error goes up, and the next attempt reads before it writes."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [TransientError("timed out")]
    with pytest.raises(ApplicationError) as caught:
        await act(world, incident, local=True)
    assert not caught.value.non_retryable
    assert await effects(world, incident) == []
    record = await act(world, incident, local=False)
    assert record.status is StepStatus.APPLIED
    assert world.cluster.writes == 1


async def test_a_time_out_of_a_patient_attempt_is_read_back_at_once(world: Any) -> None:
    """The write had happened: found by its mark."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [TransientError("timed out")]
    record = await act(world, incident, local=False)
    assert record.status is StepStatus.APPLIED
    assert world.cluster.writes == 1
    assert await effects(world, incident) == ["applied"]


async def test_a_write_that_did_not_happen_is_tried_again(world: Any) -> None:
    """Read back as not applied: a retry, which writes it once."""
    incident = await world.planned()
    world.cluster.fail["patch"] = [TransientError("timed out")]
    with pytest.raises(ApplicationError) as caught:
        await act(world, incident, local=False)
    assert not caught.value.non_retryable
    assert (await act(world, incident, local=False, attempt=2)).status is StepStatus.APPLIED
    assert world.cluster.writes == 1


async def test_an_outcome_that_nobody_may_read_back_is_unknown_at_once(world: Any) -> None:
    """The reply was lost, and the object may not be read any more: no later attempt would tell more."""
    incident = await world.planned()
    world.cluster.fail_after_commit = [TransientError("timed out")]
    get = world.cluster.get

    async def forbidden(*args: Any, **kwargs: Any) -> Any:
        if not world.cluster.fail_after_commit:
            raise PermissionDenied("no get any more")
        return await get(*args, **kwargs)

    world.cluster.get = forbidden
    record = await act(world, incident, local=False)
    assert (record.status, record.wrote) == (StepStatus.FAILED, True)
    assert await effects(world, incident) == ["unknown"]
    assert world.cluster.writes == 1


@pytest.mark.parametrize(("after", "status"), SOON_AND_LATE)
async def test_a_write_that_never_happens_is_recorded_in_the_end(world: Any, after: int, status: StepStatus) -> None:
    """The API server reads, and never answers a write: what the last attempt sent may land. Nobody is told that it is
    tried again."""
    incident = await world.planned()
    world.cluster.fail["patch"] = [TransientError("timed out")] * 2
    with pytest.raises(ApplicationError, match="it is tried again"):
        await act(world, incident, local=False, attempt=7)
    read = world.cluster.get

    async def slow(*args: Any, **kwargs: Any) -> Any:
        if not world.cluster.fail["patch"]:
            world.clock.forward(after)
        return await read(*args, **kwargs)

    world.cluster.get = slow
    record = await act(world, incident, local=False, attempt=8)
    assert (record.status, record.wrote) == (status, status is StepStatus.FAILED)
    assert ("timed out" in record.reason, "tried again" in record.reason) == (True, False)
    assert ("it may still land: look at" in record.reason) is record.wrote
    assert (len(await effects(world, incident)), world.cluster.writes) == (1, 0)


async def test_an_outcome_that_stays_unknown_fails_in_the_end(world: Any) -> None:
    """Neither the write nor reading back is answered: retried, and at the last attempt failed, never taken as done."""
    incident = await world.planned()
    world.cluster.fail["patch"] = [TransientError("timed out")]
    get = world.cluster.get

    async def deaf(*args: Any, **kwargs: Any) -> Any:
        if not world.cluster.fail["patch"]:
            raise TransientError("no answer")
        return await get(*args, **kwargs)

    world.cluster.get = deaf
    with pytest.raises(ApplicationError):
        await act(world, incident, local=False, attempt=1)
    with pytest.raises(ApplicationError):
        await act(world, incident, local=False, attempt=7)
    record = await act(world, incident, local=False, attempt=8)
    assert (record.status, record.wrote) == (StepStatus.FAILED, True)
    assert await effects(world, incident) == ["unknown"]


async def test_a_budget_that_others_share_is_held_like_a_target(world: Any) -> None:
    """Each restart alone is within it, and both are checked before either is written."""
    spec, status = {"minAvailable": 1, "selector": {}}, {"expectedPods": 4}
    budget = {"metadata": {"name": "both"}, "spec": spec, "status": status}
    ref = world.cluster.put(ResourceKind.POD_DISRUPTION_BUDGET, budget)
    for number in range(2):
        meta, ready = {"name": f"api-{number}", "labels": {"app": "api"}}, [{"type": "Ready", "status": "True"}]
        world.cluster.put(ResourceKind.POD, {"metadata": meta, "status": {"conditions": ready}})
    incident = await world.planned()
    await world.store.lock_target(ref, "inc-other")
    refused = await world.run(world.steps.act, world.step(incident, tier=1))
    assert (refused.status, world.cluster.writes) == (StepStatus.REFUSED, 0)
    assert "PodDisruptionBudget/both is being handled by inc-other" in refused.reason

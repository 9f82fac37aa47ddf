"""Whether a step helped: looked at from its effect on, decided once, and held for as long as the plan says."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from firebreak.domain.condition import AnswerStatus
from firebreak.domain.errors import TransientError
from firebreak.domain.message import NoticeKind
from firebreak.domain.plan import MoveKind, StepStatus
from firebreak.domain.timeline import EntryKind
from firebreak.plans.next_move import next_move
from firebreak.postmortem.notices import render_notice


async def act(world: Any, incident: Any, tier: int = 0, **how: Any) -> Any:
    return await world.run(world.steps.act, world.step(incident, tier), **how)


async def test_healthy_for_the_hold_time_is_verified(world: Any) -> None:
    """Settle 2 s, hold 5 s: too early at first, with the time to look again; then verified, and the deadline falls."""
    incident = await world.planned()
    await act(world, incident)
    world.healthy(since=world.clock.at)
    world.clock.forward(4)
    early = await world.run(world.verification.verify, world.look(incident))
    assert early.record is None
    assert world.start + timedelta(seconds=7) <= early.again_at <= world.start + timedelta(seconds=8)
    world.clock.forward(4)
    seen = await world.run(world.verification.verify, world.look(incident, round=1))
    assert seen.record.status is StepStatus.VERIFIED
    messages = world.messages(incident)
    assert messages["deadline"][1] == "cancelled"
    assert messages["pager/healed/0.0/low"][0] == "resolve_low"


async def test_a_verification_is_decided_once(world: Any) -> None:
    """Found again after a crash, also when the evidence says otherwise by then."""
    incident = await world.verified()
    world.sick(since=world.clock.at)
    world.again()
    seen = await world.run(world.verification.verify, world.look(incident, round=5))
    assert seen.record.status is StepStatus.VERIFIED
    assert len(await world.bodies(incident, EntryKind.VERIFICATION)) == 1


@pytest.mark.parametrize("when", ["die_before", "die_after"])
async def test_a_verification_killed_at_its_write_opens_one_restore(world: Any, when: str) -> None:
    """The promise to take the flag back is made once, with the verification."""
    incident = await world.planned()
    await act(world, incident)
    world.healthy(since=world.clock.at)
    world.clock.forward(8)
    getattr(world.ledger, when)["append"] = world.ledger.calls["append"] + 1
    with pytest.raises(world.Killed):
        await world.run(world.verification.verify, world.look(incident))
    world.again()
    seen = await world.run(world.verification.verify, world.look(incident, round=1))
    assert seen.record.status is StepStatus.VERIFIED
    (record,) = await world.store.open_restores()
    assert (record.incident_id, record.tier, record.step) == (incident.id, 0, 0)


async def test_what_does_not_heal_in_time_is_not_verified(world: Any) -> None:
    """Still sick when the limit has passed: says what is wrong, by its name, and no restore is opened."""
    incident = await world.planned()
    await act(world, incident)
    world.clock.forward(59)
    assert (await world.run(world.verification.verify, world.look(incident))).record is None
    world.clock.forward(1)
    seen = await world.run(world.verification.verify, world.look(incident, round=1))
    assert seen.record.status is StepStatus.NOT_VERIFIED
    assert seen.record.reason.startswith("not within 60 s: few_errors: 0.5, not < 0.1")
    assert await world.store.open_restores() == ()
    assert world.messages(incident)["deadline"][1] == "waiting"


async def test_no_samples_after_the_effect_verify_nothing(world: Any) -> None:
    """An exporter that stopped looks healthy by its last value: nobody can tell."""
    incident = await world.planned()
    await act(world, incident)
    world.healthy(since=world.clock.at)
    world.metrics.newest["app_errors"] = world.clock.at
    world.clock.forward(60)
    seen = await world.run(world.verification.verify, world.look(incident))
    assert seen.record.status is StepStatus.UNDECIDED


async def test_what_cannot_be_seen_undoes_nothing_and_begins_no_other_tier(world: Any) -> None:
    """It helped, and then Prometheus went away: a person is called, on top of the one write."""
    world.sick()
    incident = await world.opened()
    plan = (await world.gather(incident)).plan
    world.digest = plan.digest
    applied = await act(world, incident)
    world.healthy(since=world.clock.at)
    world.clock.forward(4)
    for name in ("app_errors", "app_latency", "app_probe"):
        world.metrics.status[name] = (AnswerStatus.UNAVAILABLE, "connection refused")
    world.clock.forward(57)
    seen = await world.run(world.verification.verify, world.look(incident, round=9), local=False)
    assert (seen.record.status, seen.record.seen_at) == (StepStatus.UNDECIDED, None)
    assert next_move(plan, (applied, seen.record)).kind is MoveKind.PAGE
    assert (world.cluster.writes, world.flag) == (1, "false")


async def test_one_measured_fault_among_what_cannot_be_seen_is_not_verified(world: Any) -> None:
    """Still broken by one condition is broken, and evidence for the next tier."""
    incident = await world.planned()
    await act(world, incident)
    world.metrics.status["app_latency"] = (AnswerStatus.UNAVAILABLE, "connection refused")
    world.clock.forward(60)
    seen = await world.run(world.verification.verify, world.look(incident), local=False)
    assert (seen.record.status, seen.record.seen_at) == (StepStatus.NOT_VERIFIED, world.clock.at)


async def test_what_became_healthy_late_has_its_hold_time(world: Any) -> None:
    """At the limit it is healthy and has not been so for long enough: no tier is written on a healthy service."""
    incident = await world.planned()
    await act(world, incident)
    world.clock.forward(58)
    world.healthy(since=world.clock.at)
    world.clock.forward(2)
    at_limit = await world.run(world.verification.verify, world.look(incident))
    assert at_limit.record is None
    assert at_limit.again_at > world.clock.at
    world.clock.forward((at_limit.again_at - world.clock.at).total_seconds())
    seen = await world.run(world.verification.verify, world.look(incident, round=1))
    assert seen.record.status is StepStatus.VERIFIED


async def decided_after_late_health(world: Any, incident: Any) -> Any:
    """The record of a step whose service is well for good since two seconds before the limit."""
    world.clock.forward(58)
    world.healthy(since=world.clock.at)
    world.clock.forward(2)
    seen = await world.run(world.verification.verify, world.look(incident))
    while seen.record is None:
        world.clock.forward((seen.again_at - world.clock.at).total_seconds())
        seen = await world.run(world.verification.verify, world.look(incident, round=1))
    return seen.record


async def test_what_became_healthy_late_has_a_conditions_own_time_too(world: Any) -> None:
    """A condition with a `for` longer than the hold is given that."""
    world.edit("catalog/heal.yaml", "  few_errors:\n", "  few_errors:\n    for: 20s\n")
    world.again()
    incident = await world.planned()
    await act(world, incident)
    assert (await decided_after_late_health(world, incident)).status is StepStatus.VERIFIED
    assert (world.clock.at - world.start).total_seconds() < 90


async def test_late_health_gets_its_hold_in_whole_steps(world: Any) -> None:
    """Healthy for good since two seconds before the limit; a hold of 5 s in steps of 4 s takes two of them."""
    world.edit("catalog/heal.yaml", "step: 1s", "step: 4s")
    world.again()
    incident = await world.planned()
    await act(world, incident)
    assert (await decided_after_late_health(world, incident)).status is StepStatus.VERIFIED


async def test_what_wavers_at_the_limit_gets_its_hold_time_once(world: Any) -> None:
    """Each look finds it healthy since a moment ago: that ends as undecided, and does not go on for ever."""
    incident = await world.planned()
    await act(world, incident)
    world.clock.forward(60)
    for _ in range(12):
        world.sick(since=world.clock.at - timedelta(seconds=2))
        world.healthy(since=world.clock.at - timedelta(seconds=1))
        seen = await world.run(world.verification.verify, world.look(incident))
        if seen.record is not None:
            break
        world.clock.forward((seen.again_at - world.clock.at).total_seconds())
    assert seen.record is not None
    assert seen.record.status is StepStatus.UNDECIDED
    assert world.clock.at == world.start + timedelta(seconds=66)


async def watched(world: Any, hand: Any, incident: Any) -> tuple[Any, float]:
    """Looked at as the story does it, until it is decided: the record, and after how many seconds."""
    since, gone, look = None, 0.0, 0
    while gone < 7200:
        seen = await world.run(hand, dataclasses.replace(world.look(incident, round=look), since=since))
        if seen.record is not None:
            return seen.record, gone
        wait = (seen.again_at - world.clock.at).total_seconds()
        world.clock.forward(wait)
        since, gone, look = seen.since, gone + wait, look + 1
    raise AssertionError("it is never decided")


@pytest.mark.parametrize("back", [3600, 5 * 86_400])
async def test_a_clock_that_is_set_back_costs_a_verification_its_limit_once_more(world: Any, back: float) -> None:
    """And verifies nothing: the service was healthy at that time before, when it had not been broken yet."""
    world.metrics.say("app_errors", 0.0, since=world.start - timedelta(days=30))
    incident = await world.planned()
    await act(world, incident)
    world.clock.forward(30 - back)
    record, gone = await watched(world, world.verification.verify, incident)
    assert record.status is StepStatus.UNDECIDED, record.reason
    assert gone <= 60 + 6  # within, and once the hold in whole steps


async def test_a_clock_that_is_put_right_costs_a_verification_that_time(world: Any) -> None:
    """Ten seconds back: what is healthy from its effect on is verified, by the evidence of then."""
    incident = await world.planned()
    await act(world, incident)
    world.clock.forward(-10)
    world.healthy(since=world.clock.at + timedelta(seconds=5))
    record, gone = await watched(world, world.verification.verify, incident)
    assert record.status is StepStatus.VERIFIED, record.reason
    assert gone <= 10 + 2 + 5 + 1  # the step, settle and hold, in whole steps


@pytest.mark.parametrize(("back", "status"), [(3600, StepStatus.UNDECIDED), (8, StepStatus.VERIFIED)])
async def test_a_clock_that_is_set_back_costs_a_hold_its_limit_once_more(
    world: Any, back: float, status: StepStatus
) -> None:
    """Nobody can tell whether it stays healed: a page, in three times the hold; after a small step it is seen."""
    incident = await world.verified()
    world.clock.forward(-back)
    record, gone = await watched(world, world.verification.hold, incident)
    assert record.status is status, record.reason
    assert gone <= 15
    assert ("pager/relapse/0.0" in world.messages(incident)) is (status is StepStatus.UNDECIDED)


async def test_a_relapse_is_seen_though_the_clock_was_set_back(world: Any) -> None:
    """The page was cancelled with the verification: it is looked for all the while, and not in an hour."""
    incident = await world.verified()
    world.clock.forward(-3600)
    world.sick(since=world.clock.at + timedelta(seconds=3))
    record, gone = await watched(world, world.verification.hold, incident)
    assert record.status is StepStatus.NOT_VERIFIED, record.reason
    assert gone <= 5


async def test_an_api_server_that_is_away_is_no_failed_roll_out(world: Any) -> None:
    """Healthy, and the roll-out cannot be read: nobody can tell."""
    incident = await world.planned()
    await act(world, incident, tier=1)
    world.healthy(since=world.clock.at)
    world.cluster.fail["get"] = [TransientError("the API server is away")]
    world.clock.forward(60)
    seen = await world.run(world.verification.verify, world.look(incident, tier=1))
    assert seen.record.status is StepStatus.UNDECIDED
    assert "away" in seen.record.reason


@pytest.mark.parametrize(("sick", "status"), [(True, StepStatus.NOT_VERIFIED), (False, StepStatus.UNDECIDED)])
async def test_a_stuck_roll_out_is_a_failure(world: Any, sick: bool, status: StepStatus) -> None:
    """The restart was written, its pods never come: said long before the time limit. On a service that is healthy all
    the same no further tier is tried."""
    incident = await world.planned()
    assert (await act(world, incident, tier=1)).status is StepStatus.APPLIED
    stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    generation = next(o for k, o in world.cluster.objects.items() if k[2] == "pay-v1")["metadata"]["generation"]
    world.cluster.change(
        incident.target, {"status": {"observedGeneration": generation, "updatedReplicas": 0, "conditions": [stuck]}}
    )
    if not sick:
        world.healthy(since=world.clock.at)
    world.clock.forward(10)
    seen = await world.run(world.verification.verify, world.look(incident, tier=1))
    assert seen.record is not None, seen.reason
    assert seen.record.status is status
    assert "stuck" in seen.record.reason


@pytest.mark.parametrize("cured", [False, True], ids=["ill", "cured by somebody"])
@pytest.mark.parametrize("how", ["put back", "replaced", "deleted"])
async def test_what_is_not_in_force_any_more_is_not_judged_by_what_followed(
    world: Any, fake_world: Any, how: str, cured: bool
) -> None:
    """Somebody else is at work: neither did the step fail, so that the next tier may act, nor did it heal, so that it
    is to be taken back one day. Told at the first look."""
    world.sick()
    incident = await world.opened()
    plan = (await world.gather(incident)).plan
    world.digest = plan.digest
    applied = await act(world, incident)
    if how == "put back":
        world.cluster.change(world.flags, {"data": {"recommend.enabled": "true"}})
    elif how == "replaced":
        await fake_world.replace(world.flags)
    else:
        del world.cluster.objects[world.flags.kind, world.flags.namespace, world.flags.name]
    if cured:
        world.healthy(since=world.clock.at)
    world.clock.forward(8)
    seen = await world.run(world.verification.verify, world.look(incident))
    assert seen.record.status is StepStatus.UNDECIDED
    assert {"put back": "changed by somebody else", "replaced": "another object", "deleted": "gone"}[how] in (
        seen.record.reason
    )
    assert next_move(plan, (applied, seen.record)).kind is MoveKind.PAGE
    assert await world.store.open_restores() == ()
    assert world.messages(incident)["deadline"][1] == "waiting"


async def test_there_is_nothing_to_verify_before_an_effect(world: Any) -> None:
    """A look without an effect is an error for good, not a verification."""
    incident = await world.planned()
    with pytest.raises(ApplicationError) as caught:
        await world.run(world.verification.verify, world.look(incident))
    assert caught.value.non_retryable


# --- hold ------------------------------------------------------------------------------------------------------


async def test_what_stays_healthy_holds(world: Any) -> None:
    """Early: look again; after the hold time: over."""
    incident = await world.verified()
    world.clock.forward(2)
    early = await world.run(world.verification.hold, world.look(incident))
    assert early.record is None
    assert early.again_at > world.clock.at
    world.clock.forward(4)
    seen = await world.run(world.verification.hold, world.look(incident, round=1))
    assert seen.record.status is StepStatus.VERIFIED


async def test_a_relapse_is_a_relapse_at_once(world: Any) -> None:
    """Sick again during the hold: a person hears of it, and the record says what relapsed."""
    incident = await world.verified()
    world.sick(since=world.clock.at)
    world.clock.forward(2)
    seen = await world.run(world.verification.hold, world.look(incident))
    assert seen.record.status is StepStatus.NOT_VERIFIED
    assert seen.record.reason.startswith("relapsed: few_errors: 0.5, not < 0.1")
    assert "trigger_high" in {pager for pager, _, _ in world.messages(incident).values()}


async def test_the_page_of_a_relapse_says_that_the_engine_goes_on(world: Any) -> None:
    """The step is undone next, and the next tier is tried: nobody is asked to write by hand meanwhile."""
    incident = await world.verified()
    world.sick(since=world.clock.at)
    world.clock.forward(2)
    await world.run(world.verification.hold, world.look(incident))
    body, entries = world.told(incident, "pager/relapse/0.0"), await world.store.entries(incident.id)
    lines = render_notice(NoticeKind.PERSON_NEEDED, entries, body=body).lines
    assert any(line.startswith("Next: the engine takes back what tier degrade wrote, then tries") for line in lines)


async def test_a_step_that_wrote_nothing_relapses_without_an_undo(world: Any) -> None:
    """A person had set the flag already: what was never written is not taken back, the next tier is tried."""
    world.cluster.change(world.flags, {"data": {"recommend.enabled": "false"}})
    world.sick()
    incident = await world.opened()
    plan = (await world.gather(incident)).plan
    world.digest = plan.digest
    acted = await act(world, incident)
    world.healthy(since=world.clock.at)
    world.clock.forward(8)
    verified = (await world.run(world.verification.verify, world.look(incident))).record
    assert (verified.status, verified.wrote) == (StepStatus.VERIFIED, False)
    world.sick(since=world.clock.at)
    world.clock.forward(2)
    held = (await world.run(world.verification.hold, world.look(incident))).record
    assert (held.status, held.wrote) == (StepStatus.NOT_VERIFIED, False)
    move = next_move(plan, (acted, verified, held))
    assert (move.kind, move.tier) == (MoveKind.ACT, 1)


async def test_a_step_that_wrote_relapses_with_an_undo(world: Any) -> None:
    """The hold says of the write what the verification said."""
    world.sick()
    incident = await world.opened()
    plan = (await world.gather(incident)).plan
    world.digest = plan.digest
    acted = await act(world, incident)
    world.healthy(since=world.clock.at)
    world.clock.forward(8)
    verified = (await world.run(world.verification.verify, world.look(incident))).record
    world.sick(since=world.clock.at)
    world.clock.forward(2)
    held = (await world.run(world.verification.hold, world.look(incident))).record
    assert held.wrote
    assert next_move(plan, (acted, verified, held)).kind is MoveKind.UNDO


async def test_doubt_during_the_hold_is_borne_three_times_its_length(world: Any) -> None:
    """No answer from Prometheus is no relapse, at first; none for ever calls a person, and undoes nothing."""
    incident = await world.verified()
    world.metrics.status["app_errors"] = (AnswerStatus.UNAVAILABLE, "timed out")
    world.clock.forward(14)
    assert (await world.run(world.verification.hold, world.look(incident), local=False)).record is None
    world.clock.forward(1)
    seen = await world.run(world.verification.hold, world.look(incident, round=1), local=False)
    assert seen.record.status is StepStatus.UNDECIDED
    assert "trigger_high" in {pager for pager, _, _ in world.messages(incident).values()}


async def test_a_hold_is_decided_once(world: Any) -> None:
    """A repeat after a crash finds it."""
    incident = await world.verified()
    world.clock.forward(6)
    first = await world.run(world.verification.hold, world.look(incident))
    world.sick(since=world.clock.at)
    world.again()
    assert await world.run(world.verification.hold, world.look(incident, round=1)) == first

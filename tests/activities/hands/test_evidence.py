"""Looking: what is asked once is found again, and what it leads to is written down with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities import notices
from activities.keeping import KeepLimits
from activities.messages import CloseInput, GatherInput, KeepInput, RecoveryInput
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import AnswerStatus
from firebreak.domain.errors import LedgerError, PermissionDenied
from firebreak.domain.incident import IncidentOutcome, Mode
from firebreak.domain.target import ResourceKind
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import Facts, NextLook
from firebreak.triage.classify import JUDGED_BY, classify
from firebreak.triage.tree import tree_from_bytes
from workflows.options import SWIFT_LIMIT


async def test_a_confirmed_alert_pins_a_plan_and_notifies_at_once(world: Any) -> None:
    """Verdict, facts and plan in one look; low urgency now, high urgency at the deadline."""
    incident = await world.planned()
    assert await world.kinds(incident) == ["incident.opened", "verdict.reached", "facts.gathered", "plan.pinned"]
    messages = world.messages(incident)
    assert messages["pager/classified"] == ("trigger_low", "waiting", world.due())
    assert messages["deadline"] == ("trigger_high", "waiting", world.due(60))


async def test_the_pinned_plan_is_kept_by_its_digest(world: Any) -> None:
    """A new process reads the very same plan from the store."""
    await world.planned()
    before = await world.casebook.plan(world.digest)
    world.again()
    assert await world.casebook.plan(world.digest) == before


async def test_a_repeated_look_is_found_and_asks_nothing(world: Any) -> None:
    """After a crash the stored verdict stands, whatever the metrics say by then."""
    incident = await world.planned()
    first = await world.gather(incident)
    world.healthy()
    world.again()
    asked = len(world.metrics.asked)
    assert await world.gather(incident) == first
    assert len(world.metrics.asked) == asked
    assert len(await world.bodies(incident, EntryKind.VERDICT_REACHED)) == 1


@pytest.mark.parametrize("when", ["die_before", "die_after"])
async def test_a_look_that_is_killed_at_its_write_decides_once(world: Any, when: str) -> None:
    """Killed just before or just after the write: the next attempt ends with one verdict and one set of messages."""
    world.sick()
    incident = await world.opened()
    getattr(world.ledger, when)["append"] = 1
    with pytest.raises(world.Killed):
        await world.gather(incident)
    world.again()
    seen = await world.gather(incident)
    assert seen.next is NextLook.ACT
    assert len(await world.bodies(incident, EntryKind.VERDICT_REACHED)) == 1
    assert len(await world.bodies(incident, EntryKind.PLAN_PINNED)) == 1
    assert set(world.messages(incident)) == {"chat/classified", "pager/classified", "deadline"}


async def test_two_attempts_at_one_look_agree(world: Any) -> None:
    """A slow local attempt and its patient successor both run: the one that wrote first is what both answer."""
    world.sick()
    incident = await world.opened()
    slow = world.evidence
    world.again()
    first = await world.gather(incident)
    world.healthy()
    stored = slow._casebook.found  # the slow one looked for a stored result before the other wrote it

    async def not_yet(incident_id: str, *keys: str) -> Any:
        return None if keys == ("verdict/0",) else await stored(incident_id, *keys)

    slow._casebook.found = not_yet
    second = await world.run(slow.gather, _round(incident, 0))
    assert second == first


async def test_pending_says_when_to_look_again(world: Any) -> None:
    """Sick since 4 s, held for 10 s: in 6 s, or one step later."""
    world.sick(since=world.start - timedelta(seconds=4))
    incident = await world.opened()
    seen = await world.gather(incident)
    assert seen.next is NextLook.AGAIN
    wait = (seen.again_at - world.clock.at).total_seconds()
    assert 5 <= wait <= 7
    messages = world.messages(incident)
    assert list(messages) == ["deadline/unclassified/1"], "the net for the case that nobody looks again"
    assert messages["deadline/unclassified/1"] == ("trigger_high", "waiting", world.due(wait + 60))
    assert world.told(incident, "deadline/unclassified/1")["mode"] == "act", "what the engine may do is told"


async def test_what_was_pending_and_resolves_ends_with_nothing(world: Any) -> None:
    """The alert is over before the verdict held."""
    world.sick(since=world.start - timedelta(seconds=4))
    incident = await world.opened()
    await world.gather(incident)
    await world.resolve(incident)
    world.clock.forward(1)
    seen = await world.gather(incident, 1)
    assert seen.next is NextLook.NOTHING
    assert "resolved before" in seen.reason


async def test_one_dimension_pages_and_pins_no_plan(world: Any) -> None:
    """Errors alone: a person is called, nothing can be acted on."""
    world.metrics.say("app_errors", 0.5)
    incident = await world.opened()
    seen = await world.gather(incident)
    assert seen.next is NextLook.CALL_PERSON
    assert seen.plan is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"deployment": ""}, "no label deployment"),
        ({"cluster": "another"}, "cluster"),
        ({"deployment": "../kube-system"}, "is not the name of a Deployment"),
    ],
)
async def test_labels_that_lead_to_no_target_page(world: Any, labels: dict[str, str], says: str) -> None:
    """A P1 without a target is a person's."""
    world.sick()
    incident = await world.opened(**labels)
    seen = await world.gather(incident)
    assert seen.next is NextLook.CALL_PERSON
    assert says in seen.reason


async def test_no_fitting_runbook_pages(world: Any) -> None:
    """The verdict may act, but nobody has written down how."""
    world.edit(
        "catalog/heal.yaml",
        "match: {severity: P1, params: [flags]}",
        "match: {severity: P1, services: [x], params: [flags]}",
    )
    world.sick()
    seen = await world.gather(await world.opened())
    assert seen.next is NextLook.CALL_PERSON
    assert "no runbook" in seen.reason


async def test_doubt_is_borne_for_a_while_and_then_pages(world: Any) -> None:
    """Prometheus is away: inconclusive, looked at again, then a person."""
    for metric in ("app_errors", "app_latency"):
        world.metrics.status[metric] = (AnswerStatus.UNAVAILABLE, "timed out")
    incident = await world.opened()
    with pytest.raises(ApplicationError, match="did not answer in time"):
        await world.gather(incident)  # the swift look leaves it to the patient one
    first = await world.gather(incident, local=False)
    assert first.next is NextLook.AGAIN
    assert first.doubtful_since == world.clock.at
    world.clock.forward(10)
    second = await world.gather(incident, 1, doubtful_since=first.doubtful_since, local=False)
    assert second.next is NextLook.CALL_PERSON
    assert "timed out" in second.reason


async def test_classification_takes_back_the_page_for_unclassified_alerts(world: Any) -> None:
    """The engine is alive: its own deadline falls."""
    world.sick()
    incident = await world.opened()
    net = notices.unclassified(incident.id, 0, world.clock.at, timedelta(seconds=60), Mode.ACT)
    await world.store.append([], messages=[net])
    await world.gather(incident)
    assert world.messages(incident)["deadline/unclassified/0"][1] == "cancelled"


async def test_a_local_look_is_short_and_a_patient_one_is_not(world: Any) -> None:
    """The local activity must not outlast the workflow task; the regular one may wait for a slow Prometheus."""
    incident = await world.opened()
    await world.run(world.evidence.gather, _round(incident, 0), local=True)
    await world.run(world.evidence.gather, _round(incident, 1), local=False)
    swift, patient = world.metrics.timeouts
    assert swift < timedelta(milliseconds=900) < patient


async def test_a_store_that_is_down_is_tried_again(world: Any) -> None:
    """Nothing is decided without a record, and the error says that a retry may help."""
    world.sick()
    incident = await world.opened()
    world.ledger.fail["append"] = LedgerError("disk full")
    with pytest.raises(ApplicationError) as caught:
        await world.gather(incident)
    assert caught.value.type == "LedgerError"
    assert not caught.value.non_retryable


async def test_a_closed_incident_is_not_looked_at_any_more(world: Any) -> None:
    """Closed by hand before the first look: no verdict, no message, no plan."""
    world.sick()
    incident = await world.opened()
    await world.run(
        world.people.close,
        CloseInput(incident_id=incident.id, outcome=IncidentOutcome.CLOSED_BY_HAND, reason="false alarm"),
    )
    before = await world.kinds(incident)
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON  # and the call finds that there is no need
    assert await world.kinds(incident) == before


# --- keeping what a restart destroys ---------------------------------------------------------------------------


async def test_evidence_is_kept_once(world: Any) -> None:
    """A repeat finds it; what could not be had is in it as missing."""
    incident = await world.planned()
    world.cluster.fail["list pods"] = [PermissionDenied("pods: 403 Forbidden")]
    given = KeepInput(incident_id=incident.id, plan_digest=world.digest)
    await world.run(world.keeping.keep, given)
    world.again()
    await world.run(world.keeping.keep, given)
    (kept,) = await world.bodies(incident, EntryKind.EVIDENCE_KEPT)
    assert "403" in str(kept["missing"])


async def test_a_hanging_api_server_costs_the_time_limit_and_no_more(world: Any) -> None:
    """What does not answer is missing; the healing goes on."""
    incident = await world.planned()
    world.cluster.hanging = {ResourceKind.POD, ResourceKind.EVENT}
    async with asyncio.timeout(30):  # for a hang
        await world.run(world.keeping.keep, KeepInput(incident_id=incident.id, plan_digest=world.digest))
    assert timedelta(0) < max(world.cluster.limits) <= KeepLimits().swift < SWIFT_LIMIT
    (kept,) = await world.bodies(incident, EntryKind.EVIDENCE_KEPT)
    assert {m["reason"] for m in kept["missing"]} >= {"no answer within the time limit"}


# --- while a person has it -------------------------------------------------------------------------------------


async def test_recovery_must_last_while_the_alert_fires(world: Any) -> None:
    """Healthy for the quiet time, then it is over; a sick look in between starts anew."""
    incident = await world.planned()
    sick = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=0))
    assert (sick.recovered, sick.quiet_since) == (False, None)
    world.healthy(since=world.clock.at)
    world.clock.forward(1)
    first = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=1))
    assert (first.recovered, first.quiet_since) == (False, world.clock.at)
    world.clock.forward(20)
    given = RecoveryInput(incident_id=incident.id, round=2, quiet_since=first.quiet_since)
    last = await world.run(world.recovery.watch_recovery, given)
    assert last.recovered
    assert last.reason.endswith("; 1 alert still fires")
    assert len(await world.bodies(incident, EntryKind.RECOVERY_SEEN)) == 1


async def test_a_clock_that_is_set_back_costs_a_recovery_its_quiet_time_once_more(world: Any) -> None:
    """An hour back: healthy since a time that is still to come counts from the next look on, and not for an hour."""
    incident = await world.planned()
    world.healthy(since=world.clock.at)
    since = None
    for number, (seconds, recovered) in enumerate([(1, False), (5 - 3600, False), (19, False), (1, True)]):
        world.clock.forward(seconds)
        given = RecoveryInput(incident_id=incident.id, round=number, quiet_since=since)
        seen = await world.run(world.recovery.watch_recovery, given)
        since = seen.quiet_since
        assert seen.recovered is recovered


async def test_a_service_that_nobody_calls_any_more_has_not_recovered(world: Any) -> None:
    """Too few calls to say anything of it, while its alert fires: the person keeps it, however long."""
    for metric in ("app_errors", "app_latency"):
        old = f"    inputs: ['{metric}{{service=$service}}']\n"
        world.edit("severity.yaml", old, f"{old}    volume: {{query: 'app_probe{{service=$service}}', at_least: 20}}\n")
    world.again()
    world.metrics.say("app_probe", 500.0)
    incident = await world.planned()
    world.metrics.say("app_probe", 0.0, since=world.clock.at)
    for number in range(10):
        world.clock.forward(5)
        given = RecoveryInput(incident_id=incident.id, round=number)
        seen = await world.run(world.recovery.watch_recovery, given)
        assert (seen.recovered, seen.quiet_since) == (False, None)
    await world.resolve(incident)
    for number in (10, 11):
        world.clock.forward(5)
        given = RecoveryInput(incident_id=incident.id, round=number, quiet_since=seen.quiet_since)
        seen = await world.run(world.recovery.watch_recovery, given)
    assert seen.recovered


async def test_a_quiet_service_recovers_though_alerts_were_left_out(world: Any) -> None:
    """All that are known have resolved; that others may fire asks for the quiet time, not for calls."""
    for metric in ("app_errors", "app_latency"):
        old = f"    inputs: ['{metric}{{service=$service}}']\n"
        world.edit("severity.yaml", old, f"{old}    volume: {{query: 'app_probe{{service=$service}}', at_least: 20}}\n")
    world.again()
    world.metrics.say("app_probe", 0.0)
    incident = await world.opened(truncated=2)
    await world.resolve(incident)
    first = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=0))
    assert not first.recovered
    world.clock.forward(20)
    given = RecoveryInput(incident_id=incident.id, round=1, quiet_since=first.quiet_since)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered


async def test_a_resolved_alert_with_two_healthy_looks_is_recovery(world: Any) -> None:
    """Both the source and the evidence say so; one look alone is not enough."""
    incident = await world.opened()
    await world.resolve(incident)
    first = await world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=0))
    assert not first.recovered
    world.clock.forward(5)
    given = RecoveryInput(incident_id=incident.id, round=1, quiet_since=first.quiet_since)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered


async def test_an_edit_does_not_end_what_a_person_has(world: Any) -> None:
    """Somebody raises the thresholds while the service is sick: the tree of its verdict still judges it, and what ended
    it can be recomputed."""
    incident = await world.planned()
    world.edit("severity.yaml", "thresholds: {errors: 0.1, seconds: 1}", "thresholds: {errors: 0.9, seconds: 9}")
    world.again()
    for number in (1, 2):
        world.clock.forward(30)
        given = RecoveryInput(incident_id=incident.id, round=number, quiet_since=world.start)
        assert not (await world.run(world.recovery.watch_recovery, given)).recovered
    world.healthy(since=world.clock.at)
    world.clock.forward(30)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered
    (seen,) = await world.bodies(incident, EntryKind.RECOVERY_SEEN)
    (verdict,) = await world.bodies(incident, EntryKind.VERDICT_REACHED)
    facts = from_data(Facts, seen["facts"])
    assert facts.tree_digest == verdict["verdict"]["tree_digest"]
    again = classify(facts, tree_from_bytes(await world.store.document(facts.tree_digest)))
    assert [to_data(condition) for condition in again.conditions] == seen["conditions"]


async def test_an_edit_that_mends_a_tree_in_doubt_lets_the_incident_end(world: Any) -> None:
    """Its verdict was inconclusive, so that the old tree decided nothing: today's judges the recovery."""
    for metric in ("app_errors", "app_latency"):
        world.metrics.say(metric, None)
    incident = await world.opened()
    first = await world.gather(incident)
    world.clock.forward(10)
    assert (await world.gather(incident, 1, doubtful_since=first.doubtful_since)).next is NextLook.CALL_PERSON
    world.edit("severity.yaml", "query: app_errors", "query: app_probe")
    world.edit("severity.yaml", "inputs: ['app_errors{", "inputs: ['app_probe{")
    world.again()
    for metric in ("app_probe", "app_latency"):
        world.metrics.say(metric, 0.0, since=world.clock.at)
    world.clock.forward(30)
    given = RecoveryInput(incident_id=incident.id, round=2, quiet_since=world.start)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered


@pytest.mark.parametrize("damage", ["DELETE FROM documents", "UPDATE documents SET content = 'x'"])
async def test_a_recovery_is_seen_though_the_kept_tree_is_damaged(world: Any, damage: str) -> None:
    """Today's documents judge it: a person's page must have an end."""
    incident = await world.planned()
    await world.store._write(lambda raw: [raw.execute(f"DROP TRIGGER documents_never_{w}") for w in ("change", "go")])
    await world.store._write(lambda raw: raw.execute(damage))
    world.again()
    world.healthy(since=world.clock.at)
    world.clock.forward(30)
    given = RecoveryInput(incident_id=incident.id, round=2, quiet_since=world.start)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered


async def test_a_damaged_entry_keeps_no_recovery_from_being_seen(world: Any) -> None:
    """Which tree decided is read from the last verdict alone."""
    incident = await world.planned()

    def damage(raw: Any) -> None:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("UPDATE entries SET body = '{' WHERE key = 'plan'")

    await world.store._write(damage)
    world.again()
    world.healthy(since=world.clock.at)
    world.clock.forward(30)
    given = RecoveryInput(incident_id=incident.id, round=2, quiet_since=world.start)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered


async def test_facts_say_by_which_rules_they_were_judged(world: Any) -> None:
    """So that a later program knows whether its own rules must give the same verdict."""
    incident = await world.planned()
    (gathered,) = await world.bodies(incident, EntryKind.FACTS_GATHERED)
    assert from_data(Facts, gathered["facts"]).judged_by == JUDGED_BY


async def test_what_takes_the_evidence_away_may_resolve_the_alert_too(world: Any) -> None:
    """The service dies wholly: its series go, so its ratio alert resolves. That is doubt, which pages, and no end."""
    incident = await world.opened()
    await world.resolve(incident)
    for metric in ("app_errors", "app_latency"):
        world.metrics.say(metric, None)
    first = await world.gather(incident)
    assert (first.next, first.doubtful_since) == (NextLook.AGAIN, world.clock.at)
    world.clock.forward(10)
    second = await world.gather(incident, 1, doubtful_since=first.doubtful_since)
    assert second.next is NextLook.CALL_PERSON


async def test_a_resolved_alert_is_not_over_while_another_condition_cannot_be_judged(world: Any) -> None:
    """Its series are gone, and beside that latency was about to hold: that one is not waited for, the doubt is."""
    incident = await world.opened()
    await world.resolve(incident)
    world.sick(since=world.start - timedelta(seconds=4))
    world.metrics.say("app_errors", None)
    seen = await world.gather(incident)
    assert (seen.next, seen.doubtful_since) == (NextLook.AGAIN, world.clock.at)
    assert "failing" in seen.reason


async def test_a_doubt_is_looked_at_again_while_something_else_is_pending(world: Any) -> None:
    """Latency could hold in 10 s; whether calls fail was not to be had, which may be over after a recheck."""
    world.sick(since=world.start)
    world.metrics.status["app_errors"] = (AnswerStatus.WARNED, "partial")
    seen = await world.gather(await world.opened())
    assert (seen.next, (seen.again_at - world.clock.at).total_seconds()) == (NextLook.AGAIN, 5)


async def test_a_firing_alert_about_what_nobody_can_reach_ends_with_a_person(world: Any) -> None:
    """Too few calls to say anything of the service: not shown to be well, however long it is watched."""
    for metric in ("app_errors", "app_latency"):
        old = f"    inputs: ['{metric}{{service=$service}}']\n"
        world.edit("severity.yaml", old, f"{old}    volume: {{query: 'app_probe{{service=$service}}', at_least: 20}}\n")
    world.again()
    world.metrics.say("app_probe", 0.0)
    incident = await world.opened()
    first = await world.gather(incident)
    assert (first.next, "nothing of the service itself" in first.reason) == (NextLook.AGAIN, True)
    world.clock.forward(3600)
    last = await world.gather(incident, 1000, quiet_since=first.quiet_since)
    assert last.next is NextLook.CALL_PERSON
    assert "nothing of the service itself can be measured" in last.reason


async def test_doubt_is_no_recovery(world: Any) -> None:
    """No samples at all look just as quiet as health: never taken for it."""
    incident = await world.opened()
    await world.resolve(incident)
    for metric in ("app_errors", "app_latency"):
        world.metrics.say(metric, None)
    given = RecoveryInput(incident_id=incident.id, round=0, quiet_since=world.start - timedelta(hours=1))
    seen = await world.run(world.recovery.watch_recovery, given)
    assert (seen.recovered, seen.quiet_since) == (False, None)


async def test_observing_looks_and_notifies_as_acting_does(world: Any) -> None:
    """Mode observe changes what is written to the cluster, not what is seen and said."""
    world.again(mode=Mode.OBSERVE)
    incident = await world.planned()
    assert "pager/classified" in world.messages(incident)


def _round(incident: Any, number: int) -> GatherInput:
    return GatherInput(incident_id=incident.id, round=number)

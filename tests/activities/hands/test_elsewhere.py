"""Alerts of another cluster, or of nobody knows which: an incident of their own, of which nothing is measured here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from activities.messages import CloseInput, RecoveryInput
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.incident import Incident, IncidentOutcome
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import Facts, NextLook, Verdict
from firebreak.triage.classify import classify
from firebreak.triage.tree import tree_from_bytes

TRUSTING = """
kind: policy
name: default
summary: for tests
baseline: {offset: 7d}
trusted_labels:
  - {label: business_impact, in: [blocked]}
"""
ELSEWHERE = pytest.mark.parametrize("cluster", ["prod", ""])


def recovery(world: Any, incident: Any, round: int = 1) -> Any:
    return world.run(world.recovery.watch_recovery, RecoveryInput(incident_id=incident.id, round=round))


@ELSEWHERE
async def test_the_label_of_another_clusters_alert_lets_nothing_act_here(world: Any, cluster: str) -> None:
    """Ours is a P1 in one dimension, which is not enough; the other one says the word that the policy trusts."""
    world.write("policy.yaml", TRUSTING)
    world.again()
    world.sick()
    world.metrics.say("app_latency", 0.1)
    ours = await world.opened()
    other = await world.opened(alertname="PayBlocked", cluster=cluster, business_impact="blocked")
    assert await world.store.firing_alerts(ours.id) == {ours.alert.key}
    assert await world.store.firing_alerts(other.id) == {other.alert.key}
    for incident in (ours, other):
        assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    assert world.cluster.writes == 0


@ELSEWHERE
@pytest.mark.parametrize("sick", [False, True])
async def test_another_clusters_alert_is_a_persons_at_once(world: Any, cluster: str, sick: bool) -> None:
    """Whether our service of that name is well or ill: nothing is asked, and no plan is made."""
    if sick:
        world.sick()
    incident = await world.opened(cluster=cluster, business_impact="blocked")
    seen = await world.gather(incident)
    assert (seen.next, seen.plan) == (NextLook.CALL_PERSON, None)
    assert seen.reason == f"{incident.elsewhere}; nothing was judged, since nothing of it is measured here"
    assert [queries for queries in world.metrics.asked if queries] == []
    assert set(world.messages(incident)) == {"deadline/unclassified/1"}


@ELSEWHERE
async def test_an_outage_of_ours_is_healed_beside_an_incident_elsewhere(world: Any, cluster: str) -> None:
    """The other one came first, and has no target."""
    other = await world.opened(cluster=cluster)
    await world.gather(other)
    world.sick()
    ours = await world.opened()
    assert (await world.gather(ours)).next is NextLook.ACT


async def test_an_unknown_service_elsewhere_is_a_persons_at_once(world: Any) -> None:
    """Its name may be that of a service which is measured here."""
    incident = await world.opened(service="unheard-of", cluster="prod")
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    assert [queries for queries in world.metrics.asked if queries] == []


async def test_an_alert_elsewhere_that_resolved_first_calls_nobody(world: Any) -> None:
    """It is over before the first look; one that its source left out may not be."""
    incident = await world.opened(cluster="prod")
    await world.resolve(incident)
    seen = await world.gather(incident)
    assert (seen.next, incident.elsewhere in seen.reason) == (NextLook.NOTHING, True)
    cut = await world.opened(cluster="test", truncated=2)
    await world.resolve(cut)
    assert (await world.gather(cut)).next is NextLook.CALL_PERSON


async def test_the_verdict_elsewhere_is_reached_again_from_the_record(world: Any) -> None:
    """`firebreak explain` finds the same, by facts and tree alone."""
    incident = await world.opened(cluster="prod")
    await world.gather(incident)
    (told,) = await world.bodies(incident, EntryKind.VERDICT_REACHED)
    (gathered,) = await world.bodies(incident, EntryKind.FACTS_GATHERED)
    facts = from_data(Facts, gathered["facts"])
    tree = tree_from_bytes(await world.store.document(facts.tree_digest))
    assert classify(facts, tree) == from_data(Verdict, told["verdict"])


async def test_what_is_elsewhere_ends_when_all_its_alerts_have_resolved(world: Any) -> None:
    """Not by the evidence of ours, however long that is healthy; and not by that of ours, however ill."""
    incident = await world.opened(cluster="prod")
    further = await world.opened(alertname="PaySlow", cluster="prod")
    await world.gather(incident)
    for look in (1, 2):
        world.clock.forward(600)
        seen = await recovery(world, incident, look)
        assert (seen.recovered, "it ends when its alerts have resolved" in seen.reason) == (False, True)
        await world.resolve(further)
    world.sick()
    await world.resolve(incident)
    over = await recovery(world, incident, 3)
    assert over.recovered
    assert await recovery(world, incident, 4) == dataclasses.replace(over, again_at=world.clock.at)
    assert len(await world.bodies(incident, EntryKind.RECOVERY_SEEN)) == 1
    assert [queries for queries in world.metrics.asked if queries] == []


async def test_what_is_elsewhere_waits_for_a_person_while_alerts_were_left_out(world: Any) -> None:
    """Nobody tells when those have resolved."""
    incident = await world.opened(cluster="prod")
    await world.gather(incident)
    await world.resolve(incident, truncated=2)
    seen = await recovery(world, incident)
    assert not seen.recovered
    assert "the source left out 2 of its alerts: `firebreak close` ends it" in seen.reason


async def test_an_alert_elsewhere_that_joins_as_it_ends_is_a_page(world: Any) -> None:
    """All had resolved, and that was written down; one that comes before the close has been looked at by nobody."""
    incident = await world.opened(cluster="prod")
    await world.gather(incident)
    await world.resolve(incident)
    assert (await recovery(world, incident)).recovered
    await world.opened(alertname="PaySlow", cluster="prod")
    ending = CloseInput(incident_id=incident.id, outcome=IncidentOutcome.RECOVERED, reason="over", by="engine")
    await world.run(world.people.close, ending)
    assert world.messages(incident)["pager/person/late"][:2] == ("trigger_high", "waiting")


async def test_an_incident_of_an_older_version_is_one_of_our_cluster(world: Any) -> None:
    """It has no word of where it is, and goes on as it began."""
    stored = to_data(await world.opened())
    del stored["elsewhere"]
    assert from_data(Incident, stored).elsewhere == ""

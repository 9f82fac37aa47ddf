"""Labels that the tree or the policy asks for: said by alerts that still fire, by no other."""

from __future__ import annotations

from typing import Any

import pytest

from activities.messages import RecoveryInput
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import NextLook

POLICY = """
kind: policy
name: default
summary: for tests
baseline: {offset: 7d}
trusted_labels:
  - {label: business_impact, in: [blocked]}
"""


@pytest.fixture
def one_dimension(world: Any) -> Any:
    """Errors alone are bad, which classifies; the policy trusts a label to make that enough to act."""
    world.write("policy.yaml", POLICY)
    world.sick()
    world.metrics.say("app_latency", 0.1)
    world.again()
    return world


@pytest.fixture
def label_in_the_tree(world: Any) -> Any:
    """All is well, and the label alone makes it a P1 that is acted upon, as in the shipped tree and policy."""
    world.write("policy.yaml", POLICY)
    condition = "  blocked: {dimension: business, label: business_impact, in: [blocked]}\n"
    world.edit("severity.yaml", "tree: {any: [failing, slow]}", f"{condition}tree: {{any: [failing, slow, blocked]}}")
    world.healthy()
    world.again()
    return world


async def test_a_trusted_label_of_the_opener_lets_it_act(one_dimension: Any) -> None:
    incident = await one_dimension.opened(business_impact="blocked")
    assert (await one_dimension.gather(incident)).next is NextLook.ACT


async def test_a_trusted_label_of_an_alert_that_joined_lets_it_act(one_dimension: Any) -> None:
    incident = await one_dimension.opened()
    await one_dimension.opened(alertname="Checkout", business_impact="blocked")
    assert (await one_dimension.gather(incident)).next is NextLook.ACT


@pytest.mark.parametrize("value", ["blocked", "degraded"])
async def test_each_entry_of_the_policy_counts_for_an_alert_that_joined(one_dimension: Any, value: str) -> None:
    """The policy trusts one label by two entries, with a value each."""
    one_dimension.write("policy.yaml", f"{POLICY}  - {{label: business_impact, in: [degraded]}}\n")
    one_dimension.again()
    incident = await one_dimension.opened()
    await one_dimension.opened(alertname="Checkout", business_impact=value)
    assert (await one_dimension.gather(incident)).next is NextLook.ACT


@pytest.mark.parametrize("value", ["blocked", "degraded"])
async def test_each_condition_of_a_label_counts_for_an_alert_that_joined(world: Any, value: str) -> None:
    """The tree asks for one label by two conditions, with a value each."""
    label = "  {0}: {{dimension: business, label: business_impact, in: [{0}]}}\n"
    conditions = label.format("blocked") + label.format("degraded")
    tree = "tree: {any: [failing, slow, blocked, degraded]}"
    world.edit("severity.yaml", "tree: {any: [failing, slow]}", conditions + tree)
    world.again()
    incident = await world.opened()
    await world.opened(alertname="Checkout", business_impact=value)
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON


async def test_a_label_that_nobody_asks_for_does_not_come_from_others(one_dimension: Any) -> None:
    """What the evidence keeps as the labels is the opener's, but for those."""
    incident = await one_dimension.opened()
    await one_dimension.opened(alertname="Checkout", business_impact="blocked", team="others")
    await one_dimension.gather(incident)
    (body,) = await one_dimension.bodies(incident, EntryKind.FACTS_GATHERED)
    labels = body["facts"]["labels"]
    assert (labels["alertname"], labels["business_impact"], labels.get("team")) == ("PayDown", "blocked", None)


async def test_a_joined_alert_that_has_resolved_says_nothing_any_more(one_dimension: Any) -> None:
    """Two others still fire, and neither says that business is blocked."""
    incident = await one_dimension.opened()
    joined = await one_dimension.opened(alertname="Checkout", business_impact="blocked")
    await one_dimension.opened(alertname="Third")
    await one_dimension.resolve(joined)
    assert (await one_dimension.gather(incident)).next is NextLook.CALL_PERSON


async def test_an_opener_that_has_resolved_says_nothing_any_more(one_dimension: Any) -> None:
    """The alert that joined still fires; it says something else."""
    incident = await one_dimension.opened(business_impact="blocked")
    await one_dimension.opened(alertname="Third", business_impact="none")
    await one_dimension.resolve(incident)
    assert (await one_dimension.gather(incident)).next is NextLook.CALL_PERSON


async def test_a_healthy_service_is_left_alone_once_its_alert_has_resolved(label_in_the_tree: Any) -> None:
    """Resolved before the first look: a label is no evidence, and nothing else is wrong."""
    world = label_in_the_tree
    incident = await world.opened(business_impact="blocked")
    await world.resolve(incident)
    assert (await world.gather(incident)).next is NextLook.NOTHING


async def test_what_a_label_classified_recovers_when_its_alert_resolves(label_in_the_tree: Any) -> None:
    """Else it would stay open for ever, and swallow every later alert of its service."""
    world = label_in_the_tree
    incident = await world.opened(business_impact="blocked")
    assert (await world.gather(incident)).next is NextLook.ACT
    first = await _recovery(world, incident, 1)
    assert not first.recovered
    await world.resolve(incident)
    world.clock.forward(60)
    quiet = await _recovery(world, incident, 2)
    world.clock.forward(60)
    assert (await _recovery(world, incident, 3, quiet.quiet_since)).recovered


async def test_what_a_label_classified_waits_for_a_person_while_alerts_were_left_out(label_in_the_tree: Any) -> None:
    """One of those that the source left out may say the label still."""
    world = label_in_the_tree
    incident = await world.opened(business_impact="blocked", truncated=2)
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    await world.resolve(incident)
    quiet_since = None
    for look in range(1, 5):
        world.clock.forward(60)
        seen = await _recovery(world, incident, look, quiet_since)
        quiet_since = seen.quiet_since
        assert not seen.recovered


async def _recovery(world: Any, incident: Any, round: int, quiet_since: Any = None) -> Any:
    given = RecoveryInput(incident_id=incident.id, round=round, quiet_since=quiet_since)
    return await world.run(world.recovery.watch_recovery, given)

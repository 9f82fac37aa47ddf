"""What alerts and people say, in the check of a step: looked at as it is said by then, ahead of the step or at it."""

from __future__ import annotations

from typing import Any

import pytest

from firebreak.domain import ids
from firebreak.domain.plan import StepStatus
from firebreak.domain.timeline import EntryDraft, EntryKind

BLOCKED = """\
conditions:
  blocked: {dimension: business, label: business_impact, in: [blocked]}
"""
UNWELL = """\
conditions:
  unwell:
    dimension: business
    score:
      flows:
        pay: {weight: 1, success: "app_probe{service=$service}", volume_ratio: "app_probe{service=$service}"}
    op: "<"
    threshold: 50
"""


@pytest.fixture(params=[False, True], ids=["at_the_step", "ahead"])
def ahead(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def checked(world: Any, conditions: str, check: str, *, ahead: bool) -> None:
    """The first step's check asks for `check`, which `conditions` say beside those of the runbook."""
    world.edit("catalog/heal.yaml", "conditions:\n", conditions)
    world.edit("catalog/heal.yaml", "check: [part_is_dead]", f"check: [{check}]")
    world.edit("catalog/heal.yaml", "check: action", "check: [part_is_dead]")  # used somewhere
    world.again(ahead=ahead)
    world.sick()


async def planned(world: Any, incident: Any) -> None:
    seen = await world.gather(incident)
    assert seen.plan is not None, seen.reason
    world.digest = seen.plan.digest


async def act(world: Any, incident: Any) -> Any:
    return await world.run(world.steps.act, world.step(incident))


async def scored(world: Any, incident: Any, score: float) -> None:
    """As `firebreak score` does it."""
    draft = EntryDraft(
        incident_id=incident.id,
        key=ids.score_key(1),
        kind=EntryKind.SCORE_SET,
        at=world.clock.at,
        body={"score": score},
    )
    await world.store.append([draft])


async def test_a_step_is_taken_for_what_its_alert_says(world: Any, ahead: bool) -> None:
    """The opener's label is true in a check as it is in a tree."""
    checked(world, BLOCKED, "part_is_dead, blocked", ahead=ahead)
    incident = await world.opened(business_impact="blocked")
    await planned(world, incident)
    assert (await act(world, incident)).status is StepStatus.APPLIED
    assert world.flag == "false"


async def test_a_step_is_taken_for_what_a_joined_alert_says(world: Any, ahead: bool) -> None:
    """Neither tree nor policy asks for that label."""
    checked(world, BLOCKED, "blocked", ahead=ahead)
    incident = await world.opened()
    await world.opened(alertname="Checkout", business_impact="blocked")
    await planned(world, incident)
    assert (await act(world, incident)).status is StepStatus.APPLIED


async def test_a_step_is_not_taken_for_what_no_alert_says(world: Any, ahead: bool) -> None:
    """Refused with what the alert does say; nothing is written."""
    checked(world, BLOCKED, "blocked", ahead=ahead)
    incident = await world.opened(business_impact="some")
    await planned(world, incident)
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "the alert says business_impact=some, not blocked" in record.reason
    assert world.cluster.writes == 0


async def test_a_step_is_not_taken_for_what_an_alert_said_that_has_resolved(world: Any, ahead: bool) -> None:
    """Another one of its incident still fires, and says nothing of it."""
    checked(world, BLOCKED, "blocked", ahead=ahead)
    incident = await world.opened(business_impact="blocked")
    await world.opened(alertname="Checkout")
    await world.resolve(incident)
    await planned(world, incident)
    record = await act(world, incident)
    assert record.status is StepStatus.REFUSED
    assert "the alert has no label business_impact" in record.reason


async def test_the_openers_word_counts_in_a_check_while_alerts_are_left_out(world: Any) -> None:
    """As for a verdict: nobody knows that none of those says what the opener said."""
    checked(world, BLOCKED, "blocked", ahead=False)
    incident = await world.opened(business_impact="blocked")
    await planned(world, incident)
    await world.resolve(incident, truncated=2)
    assert (await act(world, incident)).status is StepStatus.APPLIED


@pytest.mark.parametrize(("score", "status"), [(None, StepStatus.REFUSED), (30, StepStatus.APPLIED)])
async def test_a_persons_score_counts_in_a_check(world: Any, ahead: bool, score: float | None, status: Any) -> None:
    """Row A2: by its flows the service is well."""
    world.metrics.say("app_probe", 1.0)
    checked(world, UNWELL, "unwell", ahead=ahead)
    incident = await world.opened()
    if score is not None:
        await scored(world, incident, score)
    await planned(world, incident)
    assert (await act(world, incident)).status is status


async def test_a_check_that_asks_for_nothing_said_reads_nothing_for_it(world: Any) -> None:
    """Between the verdict and the write each read of the store counts."""
    incident = await world.planned()
    await scored(world, incident, 30)
    before = {name: world.ledger.calls[name] for name in ("firing_alerts", "truncated", "entries")}
    found = world.ledger.calls["find"]
    assert (await act(world, incident)).status is StepStatus.APPLIED
    assert {name: world.ledger.calls[name] for name in before} == before
    assert world.ledger.calls["find"] == found

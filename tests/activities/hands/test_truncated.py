"""Alerts that a body after the opening one left out: what each look makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from activities.messages import RecoveryInput
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import NextLook


async def test_a_healthy_service_is_watched_on_when_a_resolution_left_alerts_out(world: Any) -> None:
    """The known alert is over, the others may fire: nothing is closed because of it, and the facts say why."""
    incident = await world.opened()
    assert (await world.gather(incident)).next is NextLook.AGAIN
    await world.resolve(incident, truncated=2)
    assert (await world.gather(incident, round=1)).next is NextLook.AGAIN
    told = await world.bodies(incident, EntryKind.FACTS_GATHERED)
    assert [body["facts"]["truncated"] for body in told] == [0, 2]


async def test_an_alert_that_resolves_during_a_look_is_not_seen_without_what_was_left_out(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolved once the look has read what was left out: it goes by the alert that fired then, and looks again."""
    incident = await world.opened()
    score = world.casebook.person_score

    async def over_meanwhile(incident_id: str) -> float | None:
        await world.resolve(incident, truncated=2)
        found: float | None = await score(incident_id)
        return found

    monkeypatch.setattr(world.casebook, "person_score", over_meanwhile)
    assert (await world.gather(incident)).next is NextLook.AGAIN
    assert (await world.gather(incident, round=1)).next is NextLook.AGAIN
    told = await world.bodies(incident, EntryKind.FACTS_GATHERED)
    assert [body["facts"]["truncated"] for body in told] == [0, 2]


async def test_a_repeat_that_leaves_alerts_out_keeps_the_engine_from_acting(world: Any) -> None:
    """All dimensions hold; what the others say is not known, so a person is called."""
    world.sick()
    incident = await world.opened()
    await world.opened(truncated=2)
    seen = await world.gather(incident)
    assert seen.next is NextLook.CALL_PERSON
    assert "left out 2 alerts" in seen.reason


async def test_the_openers_label_counts_while_a_later_body_left_alerts_out(world: Any) -> None:
    """The opener is over, but nobody knows that none of the others says it still."""
    world.edit("severity.yaml", "tree: {any: [failing, slow]}", LABEL + "tree: {any: [failing, slow, blocked]}")
    world.again()
    incident = await world.opened(business_impact="blocked")
    await world.resolve(incident, truncated=2)
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    (told,) = await world.bodies(incident, EntryKind.FACTS_GATHERED)
    assert told["facts"]["labels"]["business_impact"] == "blocked"


async def test_a_recovery_waits_for_quiet_when_a_resolution_left_alerts_out(world: Any) -> None:
    """A resolved alert with healthy evidence ends it at the second look; here it must stay healthy as if one fired."""
    incident = await world.opened()
    await world.resolve(incident, truncated=2)
    first = await _recovery(world, incident, 1)
    world.clock.forward(5)
    assert not (await _recovery(world, incident, 2, first.quiet_since)).recovered
    world.clock.forward(20)
    last = await _recovery(world, incident, 3, first.quiet_since)
    assert last.recovered
    assert last.reason.endswith("0 alerts still fire, of those that its source told of (2 were left out)")


LABEL = "  blocked: {dimension: business, label: business_impact, in: [blocked]}\n"


async def _recovery(world: Any, incident: Any, round: int, quiet_since: Any = None) -> Any:
    given = RecoveryInput(incident_id=incident.id, round=round, quiet_since=quiet_since)
    return await world.run(world.recovery.watch_recovery, given)

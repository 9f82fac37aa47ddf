"""What a hand reads about its incident: from memory where it cannot have changed, from the store otherwise."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from activities.casebook import step_body
from firebreak.domain import ids
from firebreak.domain.errors import LedgerError
from firebreak.domain.timeline import EntryDraft, EntryKind


async def test_an_incident_is_read_once(world: Any) -> None:
    """The second question is answered from memory, with the same value."""
    incident = await world.opened()
    assert await world.casebook.incident(incident.id) == incident
    assert await world.casebook.incident(incident.id) == incident
    assert world.ledger.calls["incident"] == 1


async def test_what_is_not_in_the_store_is_an_error(world: Any) -> None:
    """Neither an unknown incident nor an unknown plan is guessed."""
    with pytest.raises(LedgerError, match="inc-unknown"):
        await world.casebook.incident("inc-unknown")
    with pytest.raises(LedgerError, match="no document"):
        await world.casebook.plan("0" * 64)


async def test_a_plan_is_the_bytes_that_were_pinned(world: Any) -> None:
    """A kept document that was changed on disk is refused, not run."""
    await world.planned()
    with closing(sqlite3.connect(world.folder / "timeline.sqlite")) as raw, raw:
        raw.execute("DROP TRIGGER documents_never_change")
        raw.execute("UPDATE documents SET content = CAST(content || ' ' AS BLOB) WHERE digest = ?", (world.digest,))
    world.again()
    with pytest.raises(LedgerError, match="was changed"):
        await world.casebook.plan(world.digest)


async def test_the_last_score_of_a_person_counts(world: Any) -> None:
    """Set twice: the second one; never set: none."""
    incident = await world.opened()
    assert await world.casebook.person_score(incident.id) is None
    for number, score in ((1, 20), (2, 90)):
        draft = EntryDraft(
            incident_id=incident.id,
            key=ids.score_key(number),
            kind=EntryKind.SCORE_SET,
            at=world.clock.at,
            body={"score": score},
        )
        await world.store.append([draft])
    assert await world.casebook.person_score(incident.id) == 90.0


async def test_the_first_key_that_is_there_is_found(world: Any) -> None:
    """In the order asked for, not in the order written."""
    incident = await world.planned()
    found = await world.casebook.found(incident.id, "not there", "plan", "opened")
    assert found.key == "plan"
    assert await world.casebook.found(incident.id, "not there") is None


async def test_the_service_is_known_without_the_store_once_it_was_read(world: Any) -> None:
    """For the page that goes out while the store is down."""
    incident = await world.opened()
    assert world.casebook.known_service(incident.id) == ""
    await world.casebook.incident(incident.id)
    world.ledger.fail["incident"] = LedgerError("disk full")
    assert world.casebook.known_service(incident.id) == "pay"


async def test_memory_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is let go, and read again when asked for."""
    monkeypatch.setattr("activities.casebook._CACHED", 2)
    first = await world.opened()
    await world.casebook.incident(first.id)
    for number in range(2):
        world.casebook.remember(dataclasses.replace(first, id=f"inc-{number}"))
    assert world.casebook.known_service(first.id) == ""
    assert await world.casebook.incident(first.id) == first


async def test_every_entry_about_a_step_says_which(world: Any) -> None:
    """Tier and step by number and by name, and the action."""
    await world.planned()
    plan = await world.casebook.plan(world.digest)
    assert step_body(plan, 0, 0, more=1) == {
        "tier": 0,
        "step": 0,
        "tier_name": "degrade",
        "step_id": "flag-off",
        "action": "set_flag",
        "more": 1,
    }

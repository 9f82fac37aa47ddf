"""Alerts about the engine itself: a page that ends with its alert."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from firebreak.domain.alert import ENGINE_SERVICE, Disposition, IntakeClass
from firebreak.engine import own_alerts

pytestmark = pytest.mark.servers


def waiting(office: Any, record: str) -> dict[str, str]:
    """Waiting messages: key -> pager action."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        query = "SELECT key, pager FROM messages WHERE incident_id = ? AND state = 'waiting'"
        return dict(raw.execute(query, (record,)).fetchall())


async def test_a_page_about_the_engine_ends_with_its_alert(office: Any) -> None:
    """A rule that watches it from outside resolves, and may fire again with the same start: told each time; deliveries
    that are handled again, as after a crash, change nothing."""
    fires = office.alert("GatewayBacklog", service=ENGINE_SERVICE)
    ends = office.alert("GatewayBacklog", service=ENGINE_SERVICE, resolved=True)
    receipts = await office.accept(fires, fires, ends, ends, fires)
    _, _, last, _, again = receipts
    deliveries = await office.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    async with office.dispatching():
        told = await office.settled(*receipts)
    assert [disposition for disposition, _ in told] == [
        Disposition.PAGED,
        Disposition.PAGED,
        Disposition.RESOLVED,
        Disposition.RESOLVED,
        Disposition.PAGED,
    ]
    (record,) = {where for _, where in told}
    messages = {
        "pager/fault": "trigger_high",
        f"pager/ended/{last}": "resolve_high",
        f"pager/fault/{again}": "trigger_high",
    }
    assert waiting(office, record) == messages
    for delivery in deliveries:
        await own_alerts.take(office.parts, delivery)
    assert waiting(office, record) == messages
    assert [entry.key for entry in await office.store.entries(record)] == ["fault", f"ended/{last}", f"fault/{again}"]


async def test_the_end_of_what_nobody_was_paged_about_is_ignored(office: Any) -> None:
    """Its firing went to an engine before this one, or was lost."""
    alert = office.alert("GatewayBacklog", service=ENGINE_SERVICE, resolved=True)
    async with office.dispatching():
        ((disposition, _),) = await office.settled(*await office.accept(alert))
    assert disposition is Disposition.IGNORED

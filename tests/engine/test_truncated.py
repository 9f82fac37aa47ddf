"""Alerts that a later body leaves out: the dispatcher heeds them, whatever its delivery turns out to be."""

from __future__ import annotations

from typing import Any

import pytest

from firebreak.domain.alert import Disposition
from firebreak.domain.timeline import EntryKind

pytestmark = pytest.mark.servers


async def test_a_resolution_that_leaves_alerts_out_is_not_the_end_of_all(office: Any) -> None:
    """Two of the group may fire still: no signal, and the figure is there for the next look and in the record."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        over = await office.settled(*await office.accept(office.alert(resolved=True), truncated=2))
    assert over == [(Disposition.RESOLVED, incident_id)]
    assert await office.signals(incident_id) == []
    assert await office.store.truncated(incident_id) == 2
    last = (await office.store.entries(incident_id))[-1]
    assert (last.kind, last.body["truncated"]) == (EntryKind.ALERT_RESOLVED, 2)


@pytest.mark.parametrize(("name", "disposition"), [("PayDown", Disposition.DUPLICATE), ("PaySlow", Disposition.JOINED)])
async def test_a_later_body_that_leaves_alerts_out_is_heeded(office: Any, name: str, disposition: Disposition) -> None:
    """A repeat, or an alert that joins; then all that is known resolves, by a body that is whole: no signal either."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        later = await office.settled(*await office.accept(office.alert(name), truncated=2))
        over = [office.alert(each, resolved=True) for each in {"PayDown", name}]
        await office.settled(*await office.accept(*over))
    assert later == [(disposition, incident_id)]
    assert await office.store.truncated(incident_id) == 2
    assert await office.store.firing(incident_id) == 0
    assert await office.signals(incident_id) == []

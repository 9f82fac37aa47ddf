"""One damaged row of the stores, with the dispatcher at work: all else has its turn, and a person hears of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firebreak.domain import ids
from firebreak.domain.alert import Disposition
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryKind
from firebreak.engine.sweeper import Sweeper

pytestmark = pytest.mark.servers

Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


def change(office: Any, file: str, statement: str) -> None:
    with closing(sqlite3.connect(office.folder / file)) as raw, raw:
        assert raw.execute(statement).rowcount == 1


def pages(office: Any) -> dict[str, str]:
    """Waiting calls about faults of the engine itself: record -> what it says."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        query = """SELECT m.incident_id, e.body FROM messages m JOIN entries e USING (incident_id)
            WHERE m.pager = 'trigger_high' AND m.state = 'waiting' AND e.kind = ?"""
        return dict(raw.execute(query, (EntryKind.ENGINE_FAULT.value,)).fetchall())


def promised(incident_id: str, step: int) -> RestoreRecord:
    span = timedelta(minutes=1)
    return RestoreRecord(
        incident_id=incident_id,
        tier=1,
        step=step,
        plan_digest="d",
        opened_at=datetime.now(UTC),
        restore=Restore(conditions=(), hold=span, within=span, poll=span),
    )


async def test_a_delivery_that_cannot_be_read_is_parked_and_pages(office: Any) -> None:
    """The alert behind it opens its incident; what is stored of it is in the record, for a person."""
    damaged, good = await office.accept(office.alert("Spoilt"), office.alert())
    change(office, "inbox.sqlite", f"UPDATE deliveries SET alert = substr(alert, 1, 90) WHERE receipt = {damaged}")
    async with office.dispatching():
        (parked, opened) = await office.settled(damaged, good)
    assert (parked[0], opened[0]) == (Disposition.PARKED, Disposition.OPENED)
    ((record, says),) = pages(office).items()
    assert record.startswith(f"parked-{damaged}-")
    assert "cannot be read" in says
    (entry,) = await office.store.entries(record)
    assert entry.body["stored"].startswith('{"fingerprint"')


async def test_a_delivery_whose_time_cannot_be_read_is_parked(office: Any) -> None:
    """Under a name that stays the same after a restart, so that one page goes out."""
    (damaged,) = await office.accept(office.alert())
    change(office, "inbox.sqlite", "UPDATE deliveries SET accepted_at = 'soon'")
    async with office.dispatching():
        ((disposition, _),) = await office.settled(damaged)
    assert disposition is Disposition.PARKED
    assert set(pages(office)) == {f"parked-{damaged}-unknown"}


async def test_a_damaged_delivery_that_cannot_be_told_holds_up_no_alert(office: Any, eventually: Eventually) -> None:
    """The ledger refuses the fault at first: it is told in a later round."""

    class Picky:
        refused = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(office.store, name)

        async def append(self, drafts: Any, **more: Any) -> Any:
            if drafts and drafts[0].incident_id.startswith("parked-") and self.refused < 2:
                self.refused += 1
                raise ValueError("a bug of ours")
            return await office.store.append(drafts, **more)

    ledger = Picky()
    damaged, good = await office.accept(office.alert("Spoilt"), office.alert())
    change(office, "inbox.sqlite", f"UPDATE deliveries SET alert = '{{' WHERE receipt = {damaged}")
    async with office.dispatching(ledger=ledger):
        ((disposition, _),) = await office.settled(good)
        assert disposition is Disposition.OPENED
        ((disposition, _),) = await office.settled(damaged)
    assert (disposition, ledger.refused) == (Disposition.PARKED, 2)


async def test_a_restore_that_cannot_be_read_pages_once_and_hides_no_other(office: Any, eventually: Eventually) -> None:
    """The other step's promise has its workflow; a new dispatcher pages no second time."""
    incident = office.fresh_id()
    await office.store.append([], restores=[promised(incident, 0), promised(incident, 1)])
    change(office, "timeline.sqlite", "UPDATE restores SET restore = '{' WHERE step = 0")
    watched = ids.restore_workflow_id(incident, 1, 1)
    for _ in range(2):
        async with office.dispatching():

            async def both() -> bool:
                return bool(pages(office)) and bool(await office.events(watched))

            await eventually(both)
            await office.settled(*await office.accept(office.alert("Further")))
    await office.client.get_workflow_handle(watched).terminate()
    ((record, says),) = pages(office).items()
    assert record == f"damaged-restore-{incident}-1.0"
    assert "step 1.0" in says
    assert await office.events(ids.restore_workflow_id(incident, 1, 0)) == []


async def test_a_fault_in_one_part_of_a_sweep_leaves_the_others_their_turn(
    office: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours in the first part: a close by hand is told all the same, at the next sweep, too. One page a day
    says what is not done."""
    looks: list[Sweeper] = []

    async def broken(sweeper: Sweeper) -> None:
        looks.append(sweeper)
        raise RuntimeError("a bug of ours")

    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    monkeypatch.setattr(Sweeper, "_documents", broken)
    await office.asked_to_close(incident_id)
    async with office.dispatching():

        async def told() -> bool:
            return "close_requested" in await office.signals(incident_id) and len(looks) >= 2

        await eventually(told)
    ((record, says),) = pages(office).items()
    assert record.startswith("sweeper-")
    assert "documents cannot be looked after" in says
    assert "a bug of ours" in says


async def test_a_restore_that_cannot_be_watched_leaves_the_others_their_turn(
    office: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is about it, the next one has its workflow."""
    incident = office.fresh_id()
    await office.store.append([], restores=[promised(incident, 0), promised(incident, 1)])
    watch = Sweeper._watch_restore

    async def picky(sweeper: Sweeper, record: RestoreRecord, *, look: bool) -> None:
        if record.step == 0:
            raise KeyError("what nobody foresaw")
        await watch(sweeper, record, look=look)

    monkeypatch.setattr(Sweeper, "_watch_restore", picky)
    watched = ids.restore_workflow_id(incident, 1, 1)
    async with office.dispatching():

        async def started() -> bool:
            return bool(await office.events(watched))

        await eventually(started)
    await office.client.get_workflow_handle(watched).terminate()


async def test_a_wish_to_close_that_cannot_be_read_pages_and_hides_no_other(
    office: Any, eventually: Eventually
) -> None:
    """One byte of it is no UTF-8: the other incident hears of its own, and a person of this one, once."""
    other = office.alert("OrderDown", service="order", deployment="order-v1")
    async with office.dispatching():
        (_, damaged), (_, whole) = await office.settled(*await office.accept(office.alert(), other))
    for incident in (damaged, whole):
        await office.asked_to_close(incident)
    with closing(sqlite3.connect(office.folder / "timeline.sqlite")) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        spoilt = "UPDATE entries SET body = CAST(X'7B22FF' AS TEXT) WHERE key = 'close-requested' AND incident_id = ?"
        assert raw.execute(spoilt, (damaged,)).rowcount == 1
    for _ in range(2):
        async with office.dispatching():

            async def both() -> bool:
                return "close_requested" in await office.signals(whole) and bool(pages(office))

            await eventually(both)
    ((record, says),) = pages(office).items()
    assert record.startswith("sweeper-")
    assert f"close of {damaged} cannot be looked after" in says
    assert await office.signals(damaged) == []

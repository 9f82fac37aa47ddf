"""A restore beyond its limit that nobody ended pages once, and no fault beside it hides that."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from activities import notices
from firebreak.domain import ids
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.watch import IntakeWatch
from tests.engine.watch.conftest import pages


def promised(clock: Any, *, step: int = 0, poll: float = 10) -> RestoreRecord:
    """A step that is to be taken back within ten minutes."""
    within = Restore(
        conditions=(), hold=timedelta(seconds=10), within=timedelta(minutes=10), poll=timedelta(seconds=poll)
    )
    return RestoreRecord(
        incident_id="inc-1", tier=1, step=step, plan_digest="d" * 64, opened_at=clock.at, restore=within
    )


def draft(key: str, clock: Any) -> EntryDraft:
    return EntryDraft(incident_id="inc-1", key=key, kind=EntryKind.RESTORE_OPENED, at=clock.at, body={})


async def test_an_overdue_restore_that_nobody_ended_pages_once(inbox: Any, store: Any, clock: Any) -> None:
    """A minute after its limit, once for each step, under the incident's own id; a new engine pages no second time."""
    await store.append([draft("r", clock)], restores=[promised(clock), promised(clock, step=1)])
    watch = IntakeWatch(inbox, store, clock, incidents=store)
    clock.forward(659)
    await watch.look()
    assert await pages(store, clock) == []
    clock.forward(1)
    await watch.look()
    await watch.look()
    faults = [e for e in await store.entries("inc-1") if e.kind is EntryKind.ENGINE_FAULT]
    assert [e.key for e in faults] == ["restore-overdue/1.0", "restore-overdue/1.1"]
    assert "within 0:10:00" in faults[0].body["error"]
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH] * 2
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == []


@pytest.mark.parametrize("begun", [False, True])
async def test_of_an_overdue_restore_that_was_begun_nobody_says_that_nothing_was_flipped(
    inbox: Any, store: Any, clock: Any, begun: bool
) -> None:
    """Its write may have been taken before its worker was killed."""
    await store.append([draft("r", clock)], restores=[promised(clock)])
    if begun:
        await store.append([draft(ids.move_key("undo-intent", 1, 0), clock)])
    clock.forward(660)
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    said = (await store.entries("inc-1"))[-1].body["error"]
    assert ("Nothing was flipped." in said, "It was begun" in said) == (not begun, begun)


@pytest.mark.parametrize(("damaged", "told"), [("undo-intent/1.0", [0, 1]), ("restore-overdue/1.0", [1])])
async def test_a_damaged_record_of_an_overdue_restore_hides_no_other_and_is_no_good_news(
    inbox: Any, store: Any, clock: Any, damaged: str, told: list[int]
) -> None:
    """Whether its write was begun nobody can read, and that is what is said."""
    written = [draft(key, clock) for key in {"r", "undo-intent/1.0", damaged}]
    await store.append(written, restores=[promised(clock), promised(clock, step=1)])
    await store._write(lambda raw: raw.execute("DROP TRIGGER entries_never_change"))
    await store._write(lambda raw: raw.execute("UPDATE entries SET at = '?' WHERE key = ?", (damaged,)))
    clock.forward(660)
    watch = IntakeWatch(inbox, store, clock, incidents=store)
    for _ in range(2):
        with suppress(LedgerError):
            await watch.look()
    said = {}
    while due := await store.due(clock.at, limit=9):
        for message in due:
            said[message.draft.key] = message.draft.body["reason"]
            await store.failed(message, next_try_at=None, entry=None)
    assert list(said) == [notices.page_key(ids.overdue_key(1, step)) for step in told]
    for key, reason in said.items():
        assert ("Whether that was begun cannot be read" in reason) == key.endswith("1.0")
        assert "It was begun" not in reason
        assert ("Nothing was flipped" in reason) == key.endswith("1.1")


async def test_a_restore_is_overdue_also_when_the_clock_was_set_back(inbox: Any, store: Any, clock: Any) -> None:
    """A year back: it is late by what this process has seen of it, not in a year."""
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, incidents=store, elapsed=lambda: gone[-1])
    await store.append([draft("r", clock)], restores=[promised(clock)])
    clock.forward(-365 * 86_400)
    for seconds in (0.0, 659.0):
        gone.append(seconds)
        await watch.look()
    assert await pages(store, clock) == []
    gone.append(660.0)
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_a_restore_that_cannot_be_read_pages_once_and_hides_no_other(inbox: Any, store: Any, clock: Any) -> None:
    """The overdue one beside it is paged about as ever; a new engine pages no second time."""
    await store.append([draft("r", clock)], restores=[promised(clock), promised(clock, step=1)])
    await store._write(lambda raw: raw.execute("UPDATE restores SET restore = '{' WHERE step = 0"))
    clock.forward(660)
    watch = IntakeWatch(inbox, store, clock, incidents=store)
    await watch.look()
    await watch.look()
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    faults = [e.key for e in await store.entries("inc-1") if e.kind is EntryKind.ENGINE_FAULT]
    assert faults == ["restore-overdue/1.1"]
    assert len(await store.entries("damaged-restore-inc-1-1.0")) == 1
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH] * 2


async def test_a_restore_that_has_ended_pages_nobody(inbox: Any, store: Any, clock: Any) -> None:
    """Its workflow said what became of it, in time or with a page of its own."""
    record = promised(clock)
    await store.append([draft("r", clock)], restores=[record])
    await store.end_restore(
        (record.tier, record.step), outcome="restored", entry=draft("restore-ended/1.0", clock), messages=()
    )
    clock.forward(3600)
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == []


async def test_a_restore_that_is_polled_seldom_has_its_last_poll(inbox: Any, store: Any, clock: Any) -> None:
    """Its own page comes up to one poll after the limit: no second page just before it."""
    await store.append([draft("r", clock)], restores=[promised(clock, poll=300)])
    watch = IntakeWatch(inbox, store, clock, incidents=store)
    clock.forward(600 + 599)
    await watch.look()
    assert await pages(store, clock) == []
    clock.forward(1)
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_a_restore_is_seen_though_the_inbox_cannot_be_read(inbox: Any, store: Any, clock: Any) -> None:
    """One net with a hole does not take the other down; and what could not be written is paged at the next look."""

    class Broken:
        async def oldest(self) -> Any:
            raise LedgerError("damaged")

    class Away:
        away = True

        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if self.away:
                raise LedgerError("locked")
            return await store.append(*args, **kwargs)

        async def find(self, incident_id: str, key: str) -> Any:
            return await store.find(incident_id, key)

    await store.append([draft("r", clock)], restores=[promised(clock)])
    clock.forward(660)
    broken: Any = Broken()
    ledger: Any = Away()
    watch = IntakeWatch(broken, ledger, clock, incidents=store)
    with pytest.raises(LedgerError):
        await watch.look()
    ledger.away = False
    with pytest.raises(LedgerError):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]

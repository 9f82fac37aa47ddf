"""An inbox that cannot be read, or that can keep no alert, pages once, and the page ends by itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from firebreak.domain import ids
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.domain.timeline import EntryKind
from firebreak.engine.watch import IntakeWatch
from tests.engine.watch.conftest import Full, Pager, Unreadable, pages


@pytest.mark.parametrize("fault", [LedgerError("the file is damaged"), RuntimeError("a bug of ours")])
async def test_an_inbox_that_cannot_be_read_pages_once(inbox: Any, store: Any, clock: Any, fault: Exception) -> None:
    """Nobody knows what waits in it: after a minute by the clock that nobody sets, ended at the first good look."""
    gone = [0.0]
    unreadable: Any = Unreadable(inbox, fault)
    watch = IntakeWatch(unreadable, store, clock, incidents=store, elapsed=lambda: gone[-1])
    for seconds, expected in ((0.0, []), (59.0, []), (61.0, [PagerAction.TRIGGER_HIGH]), (90.0, [])):
        gone.append(seconds)
        with pytest.raises(type(fault)):
            await watch.look()
        assert await pages(store, clock) == expected
    unreadable.fault = None
    for expected in ([PagerAction.RESOLVE_HIGH], []):
        await watch.look()
        assert await pages(store, clock) == expected
    begun, over = await store.entries(ids.unread_record("inbox", clock.at))
    assert str(fault) in begun.body["error"]
    assert over.kind is EntryKind.RECOVERY_SEEN


async def test_an_inbox_that_can_be_read_now_and_then_pages_nobody(inbox: Any, store: Any, clock: Any) -> None:
    """Each good look shows what waits; the time counts from the last one."""
    gone = [0.0]
    unreadable: Any = Unreadable(inbox, LedgerError("the disk refused to read"))
    watch = IntakeWatch(unreadable, store, clock, elapsed=lambda: gone[-1])
    for _ in range(3):
        unreadable.fault, fault = LedgerError("the disk refused to read"), None
        with pytest.raises(LedgerError):
            await watch.look()
        gone.append(gone[-1] + 40)
        unreadable.fault = fault
        await watch.look()
        gone.append(gone[-1] + 2)
    assert await pages(store, clock) == []


async def test_a_page_for_an_inbox_that_cannot_be_read_outlives_the_engine(inbox: Any, store: Any, clock: Any) -> None:
    """One that is started meanwhile pages nobody anew, and ends the page once it can read."""
    unreadable: Any = Unreadable(inbox, LedgerError("the file is damaged"))
    gone = [0.0]
    for expected in ([PagerAction.TRIGGER_HIGH], []):
        watch = IntakeWatch(unreadable, store, clock, incidents=store, elapsed=lambda: gone[-1])
        for seconds in (0.0, 61.0):
            gone.append(gone[-1] + seconds)
            with pytest.raises(LedgerError):
                await watch.look()
        assert await pages(store, clock) == expected
        clock.forward(120)
    unreadable.fault = None
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


class Unwritable:
    """The inbox, which takes nothing for a while: it says why, or does not even answer (`fault` None)."""

    def __init__(self, inbox: Any, fault: Exception | None) -> None:
        self._inbox = inbox
        self.fault = fault
        self.full = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    async def probe(self) -> None:
        if not self.full:
            await self._inbox.probe()
        elif self.fault is None:
            await asyncio.Event().wait()
        else:
            raise self.fault


@pytest.mark.parametrize("fault", [LedgerError("the disk is full"), None])
async def test_an_inbox_that_can_keep_no_alert_pages_once(
    inbox: Any, store: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    """The gateway answers 503 to each, and nobody is called for what fires: after a minute by the clock that nobody
    sets, ended once one could be kept again."""
    monkeypatch.setattr("firebreak.engine.unread.PROBE_LIMIT", 0.01)
    gone = [0.0]
    unwritable: Any = Unwritable(inbox, fault)
    watch = IntakeWatch(unwritable, store, clock, incidents=store, elapsed=lambda: gone[-1])
    for seconds, expected in ((0.0, []), (50.0, []), (61.0, [PagerAction.TRIGGER_HIGH]), (90.0, [])):
        gone.append(seconds)
        with pytest.raises(LedgerError):
            await watch.look()
        assert await pages(store, clock) == expected
    unwritable.full = False
    monkeypatch.setattr("firebreak.engine.unread.PROBE_LIMIT", 30.0)
    gone.append(101.0)
    for expected in ([PagerAction.RESOLVE_HIGH], []):
        await watch.look()
        assert await pages(store, clock) == expected
    begun, over = await store.entries(ids.unread_record("unkept", clock.at))
    assert ("the disk is full" if fault else "took nothing within") in begun.body["error"]
    assert over.kind is EntryKind.RECOVERY_SEEN


async def test_a_full_disk_that_keeps_no_alert_is_a_direct_page(inbox: Any, store: Any, clock: Any) -> None:
    """The record takes nothing, either: one page by the fallback key, which is ended once both have room again."""
    ledger, unwritable, pager = Full(store), Unwritable(inbox, LedgerError("the disk is full")), Pager()
    gone = [0.0]
    parts: Any = (unwritable, ledger, clock)
    watch = IntakeWatch(*parts, pager=cast(Any, pager), pager_key="fallback", elapsed=lambda: gone[-1])
    for seconds in (0.0, 61.0, 72.0):
        gone.append(seconds)
        with pytest.raises(LedgerError):
            await watch.look()
    record = ids.unread_record("unkept", clock.at)
    assert pager.sent == [("fallback", PagerAction.TRIGGER_HIGH, record)]
    ledger.full = unwritable.full = False
    gone.append(83.0)
    await watch.look()
    (end,) = await store.due(clock.at, limit=9)
    assert (end.draft.incident_id, end.draft.pager) == (record, PagerAction.RESOLVE_HIGH)


async def test_the_inbox_is_not_written_into_at_each_look(inbox: Any, store: Any, clock: Any) -> None:
    """A look comes every two seconds, and each try waits for the disk."""
    gone = [0.0]
    tries: list[int] = []
    watched: Any = Unwritable(inbox, None)
    watched.full = False
    watched.probe = lambda: _noted(tries)
    watch = IntakeWatch(watched, store, clock, elapsed=lambda: gone[-1])
    for _ in range(10):
        await watch.look()
        gone.append(gone[-1] + 2)
    assert len(tries) == 2


async def _noted(tries: list[int]) -> None:
    tries.append(1)

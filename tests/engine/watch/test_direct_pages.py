"""A page that cannot be written down goes out by the fallback key at once, and is ended by the outbox later."""

from __future__ import annotations

from typing import Any

import pytest

from firebreak.domain import ids
from firebreak.domain.alert import Disposition
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.domain.timeline import EntryKind
from firebreak.engine.told import FALLBACK, needless, triggered
from firebreak.engine.watch import IntakeWatch
from tests.engine.watch.conftest import Full, Pager, Unreadable, accept, pages


async def test_a_page_that_cannot_be_written_goes_out_directly(inbox: Any, store: Any, clock: Any) -> None:
    """The ledger stays full: one page by the fallback key; with room again it is written down, and resolved."""
    ledger: Any = Full(store)
    pager: Any = Pager()
    watch = IntakeWatch(inbox, ledger, clock, pager=pager, pager_key="fallback")
    receipt = await accept(inbox, clock)
    record = ids.delivery_record("intake", receipt, clock.at)
    clock.forward(61)
    for _ in range(2):
        with pytest.raises(LedgerError):
            await watch.look()
    assert pager.sent == [("fallback", PagerAction.TRIGGER_HIGH, record)]
    ledger.full = False
    await inbox.settle([(receipt, Disposition.OPENED, "")])
    await watch.look()
    await watch.look()
    assert pager.sent[1:] == []
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]
    waiting, sent, _ = await store.entries(record)
    assert "1 accepted alerts wait" in waiting.body["error"]
    assert (sent.kind, sent.body["pager"]) == (EntryKind.MESSAGE_DELIVERED, PagerAction.TRIGGER_HIGH)


async def test_the_end_of_a_page_that_went_out_directly_is_needed(inbox: Any, store: Any, clock: Any) -> None:
    """The record says that it was delivered, and with which key: else the sender would drop what ends it."""
    ledger: Any = Full(store)
    watch = IntakeWatch(inbox, ledger, clock, pager=Pager(), pager_key="fallback")
    receipt = await accept(inbox, clock)
    clock.forward(61)
    with pytest.raises(LedgerError):
        await watch.look()
    ledger.full = False
    await inbox.settle([(receipt, Disposition.OPENED, "")])
    await watch.look()
    (end,) = await store.due(clock.at, limit=9)
    entries = await store.entries(end.draft.incident_id)
    assert not needless(end.draft, entries)
    assert triggered(entries, PagerAction.RESOLVE_HIGH) == {FALLBACK}


async def test_a_page_that_went_out_directly_is_not_sent_again_once_there_is_room(
    inbox: Any, store: Any, clock: Any
) -> None:
    """Its alert still waits, then the next one: the page stands for both, and a new engine ends it."""
    ledger: Any = Full(store)
    pager: Any = Pager()
    watch = IntakeWatch(inbox, ledger, clock, pager=pager, pager_key="fallback", incidents=store)
    first, second = await accept(inbox, clock), await accept(inbox, clock)
    clock.forward(61)
    with pytest.raises(LedgerError):
        await watch.look()
    ledger.full = False
    await watch.look()
    await inbox.settle([(first, Disposition.PARKED, "")])
    await watch.look()
    assert await pages(store, clock) == []
    again = IntakeWatch(inbox, store, clock, incidents=store)
    await inbox.settle([(second, Disposition.PARKED, "")])
    await again.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]
    assert [action for _, action, _ in pager.sent] == [PagerAction.TRIGGER_HIGH]


async def test_a_page_that_went_out_directly_is_ended_beside_a_later_one(inbox: Any, store: Any, clock: Any) -> None:
    """There is room for a moment, in which the next alert's page is written and not the first one's: both end."""
    ledger: Any = Full(store)
    watch = IntakeWatch(inbox, ledger, clock, pager=Pager(), pager_key="fallback")
    first, second = await accept(inbox, clock), await accept(inbox, clock)
    clock.forward(61)
    with pytest.raises(LedgerError):
        await watch.look()
    await inbox.settle([(first, Disposition.PARKED, "")])
    append, tries = ledger.append, []

    async def once_more_full(*args: Any, **kwargs: Any) -> Any:
        tries.append(1)
        ledger.full = len(tries) == 1
        return await append(*args, **kwargs)

    ledger.append = once_more_full
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await inbox.settle([(second, Disposition.PARKED, "")])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH, PagerAction.RESOLVE_HIGH]


async def test_neither_inbox_nor_ledger_is_a_direct_page(inbox: Any, store: Any, clock: Any) -> None:
    """A broken disk: one page by the fallback key, ended by the outbox once both work again."""
    ledger: Any = Full(store)
    pager: Any = Pager()
    unreadable: Any = Unreadable(inbox, LedgerError("the disk refused to read"))
    gone = [0.0]
    watch = IntakeWatch(unreadable, ledger, clock, pager=pager, pager_key="fallback", elapsed=lambda: gone[-1])
    for seconds in (0.0, 61.0, 63.0):
        gone.append(seconds)
        with pytest.raises(LedgerError):
            await watch.look()
    record = ids.unread_record("inbox", clock.at)
    assert pager.sent == [("fallback", PagerAction.TRIGGER_HIGH, record)]
    ledger.full, unreadable.fault = False, None
    await watch.look()
    (end,) = await store.due(clock.at, limit=9)
    assert (end.draft.incident_id, end.draft.pager) == (record, PagerAction.RESOLVE_HIGH)
    assert not needless(end.draft, await store.entries(record))


class Unsendable:
    """The outbox of a record that cannot be read for a while, though it can be written."""

    def __init__(self, store: Any, fault: Exception | None) -> None:
        self._store = store
        self.fault = fault

    async def due(self, *args: Any, **kwargs: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return await self._store.due(*args, **kwargs)


@pytest.mark.parametrize("fault", [LedgerError("the file is damaged"), RuntimeError("a bug of ours")])
async def test_a_record_that_can_be_written_and_not_read_is_a_direct_page(
    inbox: Any, store: Any, clock: Any, fault: Exception
) -> None:
    """No row of the outbox would be sent, that of this page neither: one by the fallback key after a minute by the
    clock that nobody sets, written down all the same, and ended by the outbox once that is read again."""
    pager: Any = Pager()
    outbox: Any = Unsendable(store, fault)
    gone = [0.0]
    watch = IntakeWatch(
        inbox,
        store,
        clock,
        pager=pager,
        pager_key="fallback",
        incidents=store,
        outbox=outbox,
        elapsed=lambda: gone[-1],
    )
    record = ids.unread_record("record", clock.at)
    for seconds, sent_by_then in ((0.0, 0), (59.0, 0), (61.0, 1), (63.0, 1), (90.0, 1)):
        gone.append(seconds)
        with pytest.raises(LedgerError if seconds == 61.0 else type(fault)):
            await watch.look()
        assert len(pager.sent) == sent_by_then
    assert pager.sent == [("fallback", PagerAction.TRIGGER_HIGH, record)]
    outbox.fault = None
    for expected in ([PagerAction.RESOLVE_HIGH], []):
        await watch.look()
        assert await pages(store, clock) == expected
    begun, sent, over = await store.entries(record)
    assert "no call that it holds goes out" in begun.body["error"]
    assert "in mode act the engine may still heal: stop it first" in begun.body["error"], "workers may write"
    assert (sent.kind, over.kind) == (EntryKind.MESSAGE_DELIVERED, EntryKind.RECOVERY_SEEN)


async def test_a_record_that_can_be_read_ends_no_page_about_an_inbox_that_cannot(
    inbox: Any, store: Any, clock: Any
) -> None:
    """Also where an earlier engine began that page."""
    unreadable: Any = Unreadable(inbox, LedgerError("the file is damaged"))
    gone = [0.0]
    for expected in ([PagerAction.TRIGGER_HIGH], []):
        watch = IntakeWatch(unreadable, store, clock, incidents=store, outbox=store, elapsed=lambda: gone[-1])
        for seconds in (0.0, 61.0):
            gone.append(gone[-1] + seconds)
            with pytest.raises(LedgerError):
                await watch.look()
        assert await pages(store, clock) == expected

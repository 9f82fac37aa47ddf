"""An accepted alert that nobody takes up pages somebody, once, and the page ends when the alert has its end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain import ids
from firebreak.domain.alert import Disposition
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.engine.watch import IntakeWatch
from firebreak.storage.sqlite_store import InboxStore
from tests.engine.watch.conftest import Unreadable, accept, pages


async def test_a_waiting_alert_pages_once_and_resolves_when_it_is_taken(inbox: Any, store: Any, clock: Any) -> None:
    """Silent for 60 s, one page however often it looks, ended when the alert has its end."""
    watch = IntakeWatch(inbox, store, clock, limit=timedelta(seconds=60))
    receipt = await accept(inbox, clock)
    clock.forward(59)
    await watch.look()
    assert await pages(store, clock) == []
    clock.forward(1)
    await watch.look()
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await inbox.settle([(receipt, Disposition.PARKED, "")])
    await watch.look()
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_a_new_inbox_that_counts_from_one_again_pages_again(
    inbox: Any, store: Any, clock: Any, tmp_path: Path
) -> None:
    """Its first alert has the receipt of one that somebody was paged about long ago."""
    receipt = await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    clock.forward(3600)
    async with await InboxStore.open(tmp_path / "new.sqlite") as new:
        assert await accept(new, clock) == receipt
        clock.forward(61)
        await IntakeWatch(new, store, clock).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_an_alert_from_before_the_clock_was_set_back_pages(inbox: Any, store: Any, clock: Any) -> None:
    """Accepted in what is the future now, it has waited since it was first seen; the next one, which is seen later, has
    not."""
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, elapsed=lambda: gone[-1])
    receipt = await accept(inbox, clock)
    await watch.look()
    clock.forward(-3600)
    for seconds in (30.0, 59.0):
        gone.append(seconds)
        await watch.look()
        assert await pages(store, clock) == []
    gone.append(60.0)
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await accept(inbox, clock)
    await inbox.settle([(receipt, Disposition.PARKED, "")])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_a_clock_that_is_set_forward_pages_nobody(inbox: Any, store: Any, clock: Any) -> None:
    """An alert of a moment ago is an hour old by the wall clock; the next look finds it taken up."""
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, elapsed=lambda: gone[-1])
    for _ in range(31):
        await watch.look()
        gone.append(gone[-1] + 2)
        clock.forward(2)
    receipt = await accept(inbox, clock)
    clock.forward(3600)
    await watch.look()
    await inbox.settle([(receipt, Disposition.OPENED, "inc-1")])
    await watch.look()
    assert await pages(store, clock) == []


async def test_the_page_says_how_many_wait_and_keeps_the_alert(inbox: Any, store: Any, clock: Any) -> None:
    """A person can handle it by hand: the alert itself is in the entry, and whose hands may be in the way."""
    watch = IntakeWatch(inbox, store, clock)
    record = ids.delivery_record("intake", await accept(inbox, clock), clock.at)
    await accept(inbox, clock)
    clock.forward(61)
    await watch.look()
    (entry,) = await store.entries(record)
    assert entry.body["error"].startswith("2 accepted alerts wait")
    assert "by hand till then: an engine in mode act may write" in entry.body["error"]
    assert entry.body["alert"]["labels"]["alertname"] == "PayDown"


async def test_a_page_waits_for_no_count(inbox: Any, store: Any, clock: Any) -> None:
    """The oldest alert can be read, and not how many wait behind it."""

    class Uncounted(Unreadable):
        async def backlog(self) -> int:
            raise LedgerError("the file is damaged")

    uncounted: Any = Uncounted(inbox, None)
    await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(uncounted, store, clock).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_a_new_engine_does_not_page_again_for_the_same_alert(inbox: Any, store: Any, clock: Any) -> None:
    """Restarted while it waits: the record knows that somebody was paged."""
    await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock).look()
    await pages(store, clock)
    await IntakeWatch(inbox, store, clock).look()
    assert await pages(store, clock) == []


async def test_a_page_ends_also_when_a_new_engine_takes_the_alert_up(inbox: Any, store: Any, clock: Any) -> None:
    """Starting the engine again is what mends it: the page of the one before is resolved, once, and no new one sent."""
    receipt = await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    again = IntakeWatch(inbox, store, clock, incidents=store)
    await again.look()
    assert await pages(store, clock) == []
    await inbox.settle([(receipt, Disposition.OPENED, "inc-1")])
    await again.look()
    await again.look()
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_an_old_page_that_nobody_ended_silences_no_new_one(inbox: Any, store: Any, clock: Any) -> None:
    """Weeks ago an engine paged, and was stopped: today's alert has its own page, and both end when it is taken."""
    receipt = await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await inbox.settle([(receipt, Disposition.OPENED, "inc-1")])
    clock.forward(30 * 86_400)
    today = await accept(inbox, clock)
    clock.forward(61)
    watch = IntakeWatch(inbox, store, clock, incidents=store)
    await watch.look()
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await inbox.settle([(today, Disposition.OPENED, "inc-2")])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH, PagerAction.RESOLVE_HIGH]


async def test_a_clock_that_is_set_back_ends_no_page_of_what_waits_on(inbox: Any, store: Any, clock: Any) -> None:
    """Just after a restart, when the wall clock alone says how long it has waited: one page, ended once it is taken."""
    receipt = await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    gone = [0.0]
    again = IntakeWatch(inbox, store, clock, incidents=store, elapsed=lambda: gone[-1])
    await again.look()
    clock.forward(-3600)
    for seconds in (2.0, 90.0):
        gone.append(seconds)
        await again.look()
    clock.forward(3600)
    assert await pages(store, clock) == []
    await inbox.settle([(receipt, Disposition.OPENED, "inc-1")])
    await again.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_a_page_whose_writing_failed_is_written_later(inbox: Any, store: Any, clock: Any) -> None:
    """The store was away at the very moment: the next look pages."""

    class Away:
        def __init__(self) -> None:
            self.away = True

        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if self.away:
                raise LedgerError("locked")
            return await store.append(*args, **kwargs)

    ledger: Any = Away()
    watch = IntakeWatch(inbox, ledger, clock)
    await accept(inbox, clock)
    clock.forward(61)
    with pytest.raises(LedgerError):
        await watch.look()
    ledger.away = False
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_a_waiting_alert_that_cannot_be_read_pages(inbox: Any, store: Any, clock: Any) -> None:
    """Whatever it says, nobody takes it up; where its time cannot be read, it waits since it was first seen."""
    receipt = await accept(inbox, clock)
    await inbox._write(lambda raw: raw.execute("UPDATE deliveries SET alert = '{', accepted_at = 'soon'"))
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, elapsed=lambda: gone[-1])
    await watch.look()
    gone.append(59.0)
    await watch.look()
    assert await pages(store, clock) == []
    gone.append(60.0)
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    (entry,) = await store.entries(ids.delivery_record("intake", receipt, None))
    assert entry.body["stored"] == "{"
    await inbox.settle([(receipt, Disposition.PARKED, "")])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]

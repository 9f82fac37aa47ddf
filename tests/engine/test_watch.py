"""The net under the dispatchers: an accepted alert that nobody takes up pages somebody, once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import Alert, AlertStatus, Disposition, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.incident import UnreadableRow
from firebreak.domain.message import PagerAction
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.told import FALLBACK, needless, triggered
from firebreak.engine.watch import IntakeWatch
from firebreak.storage.sqlite_store import InboxStore


def late(clock: Any) -> Alert:
    return Alert(fingerprint="f", status=AlertStatus.FIRING, labels={"alertname": "PayDown"}, starts_at=clock.at)


async def accept(inbox: Any, clock: Any) -> int:
    (receipt,) = await inbox.accept(
        [(late(clock), IntakeClass.OTHER)], source="test", truncated=0, accepted_at=clock.at
    )
    return int(receipt)


async def pages(store: Any, clock: Any) -> list[PagerAction]:
    """What has been asked of the pager so far; each is counted as sent."""
    found = []
    while due := await store.due(clock.at, limit=9):
        for message in due:
            found.append(message.draft.pager)
            await store.failed(message, next_try_at=None, entry=None)
    return found


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


async def test_a_flood_that_waits_is_one_page(inbox: Any, store: Any, clock: Any) -> None:
    """One alert after the other is parked while the rest waits: nobody is paged for each of them."""
    watch = IntakeWatch(inbox, store, clock)
    receipts = [await accept(inbox, clock) for _ in range(3)]
    clock.forward(61)
    for receipt in receipts:
        await watch.look()
        await inbox.settle([(receipt, Disposition.PARKED, "")])
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


async def test_an_alert_that_is_stuck_hides_no_later_standstill(inbox: Any, store: Any, clock: Any) -> None:
    """All others are taken up at once, until nothing is any more: that is a page of its own, one for all of them; both
    end with what waits."""
    watch = IntakeWatch(inbox, store, clock)
    stuck = await accept(inbox, clock)
    clock.forward(61)
    await watch.look()
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    for _ in range(3):
        await inbox.settle([(await accept(inbox, clock), Disposition.OPENED, "inc-1")])
        clock.forward(120)
        await watch.look()
    assert await pages(store, clock) == []
    first, second = await accept(inbox, clock), await accept(inbox, clock)
    record = ids.delivery_record("intake", first, clock.at)
    for expected in ([PagerAction.TRIGGER_HIGH], [], []):
        clock.forward(61)
        await watch.look()
        await accept(inbox, clock)
        assert await pages(store, clock) == expected
    (entry,) = await store.entries(record)
    assert "3 accepted alerts wait, the oldest of which nobody was told since" in entry.body["error"]
    waiting = await inbox.claim(IntakeClass.OTHER, limit=9)
    assert [one.receipt for one in waiting][:3] == [stuck, first, second]
    await inbox.settle([(one.receipt, Disposition.PARKED, "") for one in waiting])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH] * 2


async def test_one_standstill_is_one_page_however_long(inbox: Any, store: Any, clock: Any) -> None:
    """Alerts keep coming, and grow old behind the first; the other class goes on all the while."""
    watch = IntakeWatch(inbox, store, clock)
    for _ in range(9):
        await accept(inbox, clock)
        (urgent,) = await inbox.accept(
            [(late(clock), IntakeClass.P1_CANDIDATE)], source="test", truncated=0, accepted_at=clock.at
        )
        await inbox.settle([(urgent, Disposition.OPENED, "inc-1")])
        clock.forward(40)
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


@pytest.mark.parametrize("stuck", list(IntakeClass))
async def test_a_page_about_one_class_hides_no_standstill_of_the_other(
    inbox: Any, store: Any, clock: Any, stuck: IntakeClass
) -> None:
    """Nothing of that class came since, so that nobody saw it being taken up: it is a page of its own, and one for all
    that come behind it, of either class."""
    (other,) = set(IntakeClass) - {stuck}
    watch = IntakeWatch(inbox, store, clock)

    async def accepted(of: IntakeClass) -> None:
        await inbox.accept([(late(clock), of)], source="test", truncated=0, accepted_at=clock.at)

    await accepted(stuck)
    clock.forward(61)
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    for of, expected in ((stuck, []), (other, [PagerAction.TRIGGER_HIGH]), (other, []), (stuck, [])):
        await accepted(of)
        clock.forward(61)
        for _ in range(2):
            await watch.look()
        assert await pages(store, clock) == expected


@pytest.mark.parametrize("stuck", list(IntakeClass))
async def test_what_is_no_news_hides_nothing_of_the_other_class_behind_it(
    inbox: Any, store: Any, clock: Any, stuck: IntakeClass
) -> None:
    """Half a minute lies between them, and nothing comes after: each is looked at by itself."""
    (other,) = set(IntakeClass) - {stuck}
    watch = IntakeWatch(inbox, store, clock)
    for of, seconds, expected in (
        (stuck, 61, [PagerAction.TRIGGER_HIGH]),
        (None, 3600, []),
        (stuck, 30, []),
        (stuck, 0, []),
        (other, 31, []),
        (None, 30, [PagerAction.TRIGGER_HIGH]),
        (None, 3600, []),
    ):
        if of is not None:
            await inbox.accept([(late(clock), of)], source="test", truncated=0, accepted_at=clock.at)
        clock.forward(seconds)
        for _ in range(2):
            await watch.look()
        assert await pages(store, clock) == expected


async def test_a_page_behind_a_stuck_alert_that_cannot_be_written_is_tried_again(
    inbox: Any, store: Any, clock: Any
) -> None:
    """The ledger was away at the very moment."""
    ledger: Any = Full(store)
    ledger.full = False
    watch = IntakeWatch(inbox, ledger, clock)
    await accept(inbox, clock)
    clock.forward(61)
    await watch.look()
    await watch.look()
    await inbox.settle([(await accept(inbox, clock), Disposition.OPENED, "inc-1")])
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await accept(inbox, clock)
    clock.forward(61)
    ledger.full = True
    with pytest.raises(LedgerError):
        await watch.look()
    ledger.full = False
    await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]


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


class Full:
    """The ledger of a store whose disk is full."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.full = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        if self.full:
            raise LedgerError("no space left")
        return await self._store.append(*args, **kwargs)


class Pager:
    """Takes everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, PagerAction, str]] = []

    async def send(self, routing_key: str, action: PagerAction, *, incident_id: str, **_: Any) -> str:
        self.sent.append((routing_key, action, incident_id))
        return incident_id


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


class Unreadable:
    """The inbox, which cannot be read for a while."""

    def __init__(self, inbox: Any, fault: Exception | None) -> None:
        self._inbox = inbox
        self.fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    async def oldest(self, **which: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return await self._inbox.oldest(**which)


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


async def test_a_file_that_is_replaced_pages_once_until_the_engine_is_started_again(
    inbox: Any, store: Any, clock: Any
) -> None:
    """However often it looks; the engine that is started then ends the page."""
    replaced: list[Path] = []
    watch = IntakeWatch(inbox, store, clock, incidents=store, replaced=lambda: replaced)
    await watch.look()
    assert await pages(store, clock) == []
    replaced.append(Path("data/inbox.sqlite"))
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_a_process_that_does_not_come_back_pages_once_until_it_runs_again(
    inbox: Any, store: Any, clock: Any
) -> None:
    """Also by an engine that is started later, not by one that does not start. The page names what is not done
    meanwhile, and where the reason is; another process that follows has one of its own."""
    down = ["gateway"]
    watch = IntakeWatch(inbox, store, clock, incidents=store, down=lambda: down)
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    (fault,) = await store.engine_faults(limit=9)
    assert "its process gateway does not come back: no alert is taken in" in fault.body["error"]
    assert "run/gateway.log" in fault.body["next_step"]
    down.append("p1")
    clock.forward(2)
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await IntakeWatch(inbox, store, clock, incidents=store, down=lambda: None).look()
    assert await pages(store, clock) == []
    down.clear()
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH] * 2


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


class Open:
    """The incidents of the store, and two that are open."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open_incidents(self) -> Any:
        return tuple(UnreadableRow(id=name, fault="") for name in ("inc-1", "inc-2"))


async def test_a_clock_that_is_set_back_pages_for_what_is_open(inbox: Any, store: Any, clock: Any) -> None:
    """Temporal's timers stand still for as long: once for each step, and for none of some seconds."""
    gone = [0.0]
    incidents: Any = Open(store)
    watch = IntakeWatch(inbox, store, clock, incidents=incidents, elapsed=lambda: gone[-1])
    await watch.look()
    for back, expected in ((30, []), (3600, [PagerAction.TRIGGER_HIGH]), (0, [])):
        clock.forward(2 - back)
        gone.append(gone[-1] + 2)
        await watch.look()
        assert await pages(store, clock) == expected
    (fault,) = await store.engine_faults(limit=9)
    assert "set back by" in fault.body["error"]
    assert "inc-1, inc-2" in fault.body["error"]


async def test_a_clock_that_is_set_back_while_nothing_is_open_pages_nobody(inbox: Any, store: Any, clock: Any) -> None:
    """There is nothing to watch by hand."""
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, incidents=store, elapsed=lambda: gone[-1])
    await watch.look()
    clock.forward(-3600)
    gone.append(2.0)
    await watch.look()
    assert await pages(store, clock) == []


async def test_a_step_of_the_clock_is_seen_though_restores_cannot_be_read(inbox: Any, store: Any, clock: Any) -> None:
    """One net with a hole does not take the others down."""

    class Broken(Open):
        async def open_restores(self, **_: Any) -> Any:
            raise LedgerError("damaged")

    gone = [0.0]
    incidents: Any = Broken(store)
    watch = IntakeWatch(inbox, store, clock, incidents=incidents, elapsed=lambda: gone[-1])
    for back in (0, 3600):
        clock.forward(2 - back)
        gone.append(gone[-1] + 2)
        with pytest.raises(LedgerError):
            await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]

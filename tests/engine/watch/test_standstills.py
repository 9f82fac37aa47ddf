"""However many alerts wait: one page for each standstill, and a stuck one hides no later standstill."""

from __future__ import annotations

from typing import Any

import pytest

from firebreak.domain import ids
from firebreak.domain.alert import Disposition, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.engine.watch import IntakeWatch
from tests.engine.watch.conftest import Full, accept, late, pages


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

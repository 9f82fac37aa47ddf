"""The net under the dispatchers: an accepted alert that nobody takes up pages somebody, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from firebreak.domain.alert import Alert, AlertStatus, Disposition, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.engine.watch import IntakeWatch


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


async def test_the_page_says_how_many_wait_and_keeps_the_alert(inbox: Any, store: Any, clock: Any) -> None:
    """A person can handle it by hand: the alert itself is in the entry."""
    watch = IntakeWatch(inbox, store, clock)
    receipt = await accept(inbox, clock)
    await accept(inbox, clock)
    clock.forward(61)
    await watch.look()
    (entry,) = await store.entries(f"intake-{receipt}")
    assert entry.body["error"].startswith("2 accepted alerts wait")
    assert entry.body["alert"]["labels"]["alertname"] == "PayDown"


async def test_a_new_engine_does_not_page_again_for_the_same_alert(inbox: Any, store: Any, clock: Any) -> None:
    """Restarted while it waits: the record knows that somebody was paged."""
    await accept(inbox, clock)
    clock.forward(61)
    await IntakeWatch(inbox, store, clock).look()
    await pages(store, clock)
    await IntakeWatch(inbox, store, clock).look()
    assert await pages(store, clock) == []


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


async def test_a_page_that_cannot_be_written_goes_out_directly(inbox: Any, store: Any, clock: Any) -> None:
    """The ledger stays full: one page by the fallback key; with room again it is written down, and resolved."""

    class Full:
        full = True

        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if self.full:
                raise LedgerError("no space left")
            return await store.append(*args, **kwargs)

    class Pager:
        def __init__(self) -> None:
            self.sent: list[tuple[str, PagerAction, str]] = []

        async def send(self, key: str, action: PagerAction, *, incident_id: str, **_: Any) -> str:
            self.sent.append((key, action, incident_id))
            return incident_id

    ledger: Any = Full()
    pager: Any = Pager()
    watch = IntakeWatch(inbox, ledger, clock, pager=pager, pager_key="fallback")
    receipt = await accept(inbox, clock)
    clock.forward(61)
    for _ in range(2):
        with pytest.raises(LedgerError):
            await watch.look()
    assert pager.sent == [("fallback", PagerAction.TRIGGER_HIGH, f"intake-{receipt}")]
    ledger.full = False
    await inbox.settle([(receipt, Disposition.OPENED, "")])
    await watch.look()
    await watch.look()
    assert pager.sent[1:] == [("fallback", PagerAction.RESOLVE_HIGH, f"intake-{receipt}")]
    (entry,) = await store.entries(f"intake-{receipt}")
    assert "1 accepted alerts wait" in entry.body["error"]

"""Doubles of what the watch looks at, and what it has asked of the pager."""

from __future__ import annotations

from typing import Any

from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction


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

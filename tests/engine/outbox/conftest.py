"""The sender over a real store and a clock that is set, with people who answer as told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import notices
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import parse_time, to_data
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.message import MessageDraft, NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.outbox import OutboxSender
from firebreak.engine.sending import OutboxParts

INCIDENT = "inc-20261121-090000-1f0a9c3e"


class People:
    """Chat, pager and routes in one; `sent` in order, `tried` with its address and whether it was taken or not; `fail`
    gives errors once each and `dead` for ever, by channel, action or address."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.tried: list[tuple[str, str]] = []
        self.threads: list[str] = []
        self.dedups: list[str] = []
        self.keys: list[str] = []
        self.texts: list[NoticeText] = []
        self.fail: dict[str, list[Exception]] = {}
        self.dead: dict[str, Exception] = {}
        self.routes = {"pay": Route(team="payments", chat_channel="C0PAY", pager_key="paykey")}

    def _maybe(self, what: str) -> None:
        if self.fail.get(what):
            raise self.fail[what].pop(0)
        if what in self.dead:
            raise self.dead[what]

    async def post(self, channel: str, text: NoticeText, *, thread: str, dedup: str) -> str:
        self.tried.append((channel, dedup))
        self._maybe("chat")
        self._maybe(channel)
        self.sent.append(("chat", dedup.rpartition("chat/")[2]))
        self.threads.append(thread)
        self.dedups.append(dedup)
        self.texts.append(text)
        return f"ts-{len(self.sent)}"

    async def send(
        self,
        routing_key: str,
        action: PagerAction,
        *,
        incident_id: str,
        text: NoticeText,
        details: Mapping[str, Any],
    ) -> str:
        self.tried.append((routing_key, f"{incident_id}/{action.value}"))
        self._maybe("pager")
        self._maybe(action.value)
        self.sent.append(("pager", action.value))
        self.keys.append(routing_key)
        self.texts.append(text)
        return "receipt"

    def route(self, service: str) -> Route:
        return self.routes.get(service, Route(pager_key="fallback"))


class Desk:
    """The sender over a real store, with people who answer as told."""

    incident_id = INCIDENT

    def __init__(self, store: Any, clock: Any, folder: Path) -> None:
        self.store, self.clock, self.folder = store, clock, folder
        self.people = People()
        self.set_back_by = 0.0  # seconds
        self.sender = self._sender(self.people)

    def _sender(self, chat: People | None) -> OutboxSender:
        return OutboxSender(
            OutboxParts(
                outbox=self.store,
                ledger=self.store,
                chat=chat,
                pager=self.people,
                routes=self.people,
                clock=self.clock,
                elapsed=lambda: self.clock.at.timestamp() + self.set_back_by,
                postmortems=self.folder / "postmortems",
            )
        )

    def with_fallback(self, pager: Any) -> OutboxSender:
        """A new sender, as after a restart, with a fallback key and this pager."""
        return OutboxSender(replace(self.sender._parts, pager=pager, fallback_key="fallback-key"))

    def with_pace(self, seconds: float, **changed: Any) -> None:
        """A new sender, as after a restart, that leaves a chat channel alone for that long after each message."""
        self.sender = OutboxSender(replace(self.sender._parts, chat_pace=timedelta(seconds=seconds), **changed))

    def without_chat(self) -> None:
        self.sender = self._sender(None)

    def set_clock_back(self, seconds: float) -> None:
        """As a time daemon does it."""
        self.clock.forward(-seconds)
        self.set_back_by += seconds

    async def all(self) -> None:
        """Send until nothing is due now."""
        while await self.sender.drain():
            pass

    def opened(self, incident_id: str = INCIDENT, service: str = "pay") -> EntryDraft:
        """The first entry of an incident."""
        body = to_data(self._incident(incident_id, service))
        return EntryDraft(
            incident_id=incident_id, key="opened", kind=EntryKind.INCIDENT_OPENED, at=self.clock.at, body=body
        )

    async def open(self, *incident_ids: str, service: str = "pay") -> None:
        """Incidents of a service, with nothing to tell yet."""
        await self.store.append([self.opened(incident_id, service) for incident_id in incident_ids])

    async def open_one(self) -> None:
        """The incident that most tests tell of, as the dispatcher opens it."""
        opened = self.opened()
        await self.store.open_or_join(self._incident(INCIDENT, "pay"), opened=opened, joined=opened, messages=())

    def _incident(self, incident_id: str, service: str) -> Incident:
        at = self.clock.at
        labels = {"alertname": "PayDown", "service": service}
        return Incident(
            id=incident_id,
            opened_at=at,
            accepted_at=at,
            intake_class=IntakeClass.P1_CANDIDATE,
            correlation_key=f"lab/{service}",
            service=service,
            target=None,
            alert=Alert(fingerprint="f", status=AlertStatus.FIRING, labels=labels, starts_at=at),
        )

    async def tell(self, *drafts: Any, cancel: tuple[str, ...] = ()) -> None:
        await self.store.append([], messages=drafts, cancel=[(INCIDENT, key) for key in cancel])

    @property
    def now(self) -> Any:
        return self.clock.at

    def state(self, key: str) -> tuple[str, int]:
        """(state, attempts) of a message."""
        with closing(sqlite3.connect(f"file:{self.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            row = raw.execute("SELECT state, attempts FROM messages WHERE key = ?", (key,)).fetchone()
            return (row[0], row[1])

    async def entries(self, kind: EntryKind, incident_id: str = INCIDENT) -> list[Mapping[str, Any]]:
        return [e.body for e in await self.store.entries(incident_id) if e.kind is kind]

    def classified(self, deadline: float = 60) -> Any:
        """The messages of a verdict, with `deadline` seconds until a person is called."""
        return notices.classified(INCIDENT, self.now, timedelta(seconds=deadline), Mode.ACT)

    def pager(self, key: str, action: PagerAction, delay: float = 0) -> MessageDraft:
        """One for the pager, due in `delay` seconds."""
        return notices.pager(INCIDENT, NoticeKind.PERSON_NEEDED, key, action, self.now + timedelta(seconds=delay))

    def due_times(self) -> dict[str, datetime]:
        """When each message is due, by key."""
        with closing(sqlite3.connect(f"file:{self.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            return {key: parse_time(due) for key, due in raw.execute("SELECT key, due_at FROM messages")}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The sender's loops at work."""
        task = asyncio.create_task(self.sender.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def sent_by(self, what: tuple[str, str], count: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.people.sent.count(what) < count:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.01)


@pytest.fixture
async def desk(store: Any, clock: Any, tmp_path: Path) -> Desk:
    made = Desk(store, clock, tmp_path)
    await made.open_one()
    return made

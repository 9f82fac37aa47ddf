"""The stores of an engine that starts. One that cannot be opened stops the start, and calls a person. One that is gone
is begun anew, and calls a person: the engine knows nothing of what was in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from activities import notices
from firebreak.domain.errors import LedgerError
from firebreak.engine.clock import SystemClock
from firebreak.engine.start_checks import RECORD, RECORD_STOPS, or_paged
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore

log = structlog.get_logger()

INBOX = "inbox"
TEMPORAL_FILE = "temporal.sqlite"
"""The embedded server's own database. An engine has both stores before it."""


@asynccontextmanager
async def opened_record(settings: Settings) -> AsyncIterator[TimelineStore]:
    """The timeline, made where there is none. LedgerError when it cannot be opened."""
    database = TimelineStore.database(settings.data_dir / TIMELINE_FILE)
    async with AsyncExitStack() as stack:
        async with or_paged(settings, RECORD, RECORD_STOPS):
            made = await asyncio.to_thread(database.is_new)
            store = await stack.enter_async_context(await TimelineStore.open(database.path))
            if not await store.newest() and await _was_used(settings.data_dir, made=made):
                await _tell(
                    store,
                    RECORD,
                    f"{TIMELINE_FILE} is gone: the engine starts with an empty record, and knows neither what was open "
                    "nor which of its steps are in force",
                    "Look at Alertmanager, and in the cluster for annotations firebreak.dev/step-...; or stop the "
                    "engine and restore the whole directory from a copy.",
                )
        yield store


@asynccontextmanager
async def opened_inbox(settings: Settings, record: TimelineStore) -> AsyncIterator[InboxStore]:
    """The inbox, made where there is none. LedgerError when it cannot be opened. One that was put back from a copy,
    beside a record that knows of later receipts, gets a new name: it counts them again, and each alert that gets such a
    receipt would pass for one that has been handled."""
    database = InboxStore.database(settings.data_dir / INBOX_FILE)
    async with AsyncExitStack() as stack:
        async with or_paged(settings, INBOX, "Firebreak does not start: its inbox cannot be used"):
            if await asyncio.to_thread(database.is_new) and await _knows_more(record):
                await _tell(  # before there is a new one: after a kill in between it is still gone
                    record,
                    INBOX,
                    f"{INBOX_FILE} is gone: alerts that were accepted and not handled yet may be lost with it",
                    "Look at Alertmanager for what fires, and handle what no incident tells of (firebreak incidents).",
                )
            inbox = await stack.enter_async_context(await InboxStore.open(database.path))
            await _name_anew(record, inbox)
        yield inbox


async def _name_anew(record: TimelineStore, inbox: InboxStore) -> None:
    name = await inbox.name()
    newest = await record.newest_of_inbox(name) if name else None
    if newest is not None and not await inbox.holds(*newest):
        await inbox.rename()
        log.warning("engine.inbox_named_anew", known_up_to=newest[0], holds_up_to=await inbox.newest())


async def _was_used(data_dir: Path, *, made: bool) -> bool:
    """Whether an engine handled alerts here before, whose record is empty now. `made`: the timeline was missing. (One
    that nothing was written into yet is no loss: Temporal's database is there after any first start.)"""
    if made and (data_dir / TEMPORAL_FILE).exists():
        return True
    inbox = InboxStore.database(data_dir / INBOX_FILE)
    try:
        if await asyncio.to_thread(inbox.is_new):
            return False
        async with await InboxStore.open(inbox.path) as store:
            return await store.was_handled()
    except LedgerError:  # doubt calls a person; why, the opening of the inbox tells
        return made


async def _knows_more(record: TimelineStore) -> bool:
    """Whether anything stands in it but that it is new itself: then that page is about both."""
    return bool(await record.newest()) and not await record.entries(_record(RECORD, SystemClock().now()))


async def _tell(store: TimelineStore, what: str, reason: str, next_step: str) -> None:
    """By the outbox: it is tried until somebody is called. Once a day."""
    now = SystemClock().now()
    entry, page = notices.fault(_record(what, now), what, reason, now)
    await store.append([replace(entry, body={**entry.body, "next_step": next_step})], messages=[page])


def _record(what: str, now: datetime) -> str:
    """Of the page about it."""
    return f"lost-{what}-{now:%Y%m%d}"

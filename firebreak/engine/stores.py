"""The stores of an engine that starts. One that cannot be opened stops the start, and calls a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from firebreak.engine.start_checks import RECORD, RECORD_STOPS, or_paged
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore

INBOX = "inbox"
TEMPORAL_FILE = "temporal.sqlite"
"""The embedded server's own database. An engine has both stores before it."""


@asynccontextmanager
async def opened_record(settings: Settings) -> AsyncIterator[TimelineStore]:
    """The timeline, made where there is none. LedgerError when it cannot be opened."""
    database = TimelineStore.database(settings.data_dir / TIMELINE_FILE)
    async with AsyncExitStack() as stack:
        async with or_paged(settings, RECORD, RECORD_STOPS):
            store = await stack.enter_async_context(await TimelineStore.open(database.path))
        yield store


@asynccontextmanager
async def opened_inbox(settings: Settings) -> AsyncIterator[InboxStore]:
    """The inbox, made where there is none. LedgerError when it cannot be opened."""
    database = InboxStore.database(settings.data_dir / INBOX_FILE)
    async with AsyncExitStack() as stack:
        async with or_paged(settings, INBOX, "Firebreak does not start: its inbox cannot be used"):
            inbox = await stack.enter_async_context(await InboxStore.open(database.path))
        yield inbox

"""No query of the running engine reads a table that grows for ever from end to end."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from firebreak.domain.alert import IntakeClass
from firebreak.domain.message import Channel
from firebreak.storage.database import driver
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def _scans(
    store: TimelineStore | InboxStore, path: Path, queries: list[Callable[[], Awaitable[object]]]
) -> list[str]:
    """Query plan lines that read a whole table, of everything that `queries` ran on the reading connection."""
    seen: list[str] = []
    await store._read(lambda connection: driver(connection).set_trace_callback(seen.append))
    for query in queries:
        await query()
    await store._read(lambda connection: driver(connection).set_trace_callback(None))
    assert len(seen) >= len(queries)
    with closing(sqlite3.connect(path)) as raw:
        plans = [row[3] for statement in seen for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]
    tables = ("entries", "documents", "incidents", "alerts", "messages", "restores", "deliveries")
    return [line for line in plans if line.startswith("SCAN") and line.split()[1] in tables and "INDEX" not in line]


async def test_timeline_queries_use_an_index(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """What is polled or asked in the path of an alert costs what is open, not what ever was."""
    scans = await _scans(
        store,
        timeline_path,
        [
            lambda: store.find("inc-a", "k"),
            lambda: store.entries("inc-a"),
            lambda: store.due(make.time(), limit=9),
            lambda: store.due(make.time(), limit=9, channel=Channel.PAGER),
            store.next_due,
            lambda: store.receipt("inc-a", "k"),
            lambda: store.incident("inc-a"),
            store.open_incidents,
            store.open_restores,
            store.close_requests,
            lambda: store.firing("inc-a"),
            lambda: store.rows(limit=9),
        ],
    )
    assert scans == []


async def test_inbox_queries_use_an_index(inbox: InboxStore, inbox_path: Path) -> None:
    """Claiming and counting look at unsettled deliveries alone."""
    scans = await _scans(
        inbox,
        inbox_path,
        [lambda: inbox.claim(IntakeClass.OTHER, limit=9), inbox.backlog, lambda: inbox.disposition(1)],
    )
    assert scans == []

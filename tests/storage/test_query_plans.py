"""No query of the running engine reads a table that grows for ever from end to end."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from firebreak.domain.alert import Disposition, IntakeClass
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import Channel
from firebreak.storage.database import driver
from firebreak.storage.entries import few_entries_after
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def _scans(
    store: TimelineStore | InboxStore, path: Path, queries: list[Callable[[], Awaitable[object]]]
) -> list[str]:
    """Query plan lines that read a whole table, of everything that `queries` ran on any connection of the store."""
    seen: list[str] = []
    await store._peek(lambda raw: None)  # opens the connection of the reads that run at once
    await store._read(lambda connection: driver(connection).set_trace_callback(seen.append))
    await store._peek(lambda raw: raw.set_trace_callback(seen.append))
    await store._write(lambda raw: raw.set_trace_callback(seen.append))
    for query in queries:
        before = len(seen)
        await query()
        assert len(seen) > before, "a query that is not seen"
    statements = [statement for statement in seen if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]
    with closing(sqlite3.connect(path)) as raw:
        plans = [row[3] for statement in statements for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]
    tables = ("entries", "documents", "incidents", "alerts", "messages", "restores", "deliveries", "target_locks")
    return [line for line in plans if line.startswith("SCAN") and line.split()[1] in tables and "INDEX" not in line]


async def test_timeline_queries_use_an_index(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """What is polled or asked in the path of an alert costs what is open, not what ever was."""
    scans = await _scans(
        store,
        timeline_path,
        [
            lambda: store.find("inc-a", "k"),
            lambda: store.find_first("inc-a", ("k", "l")),
            lambda: store.entries("inc-a"),
            lambda: store.entries_after("inc-a", 1),
            lambda: store.due(make.time(), limit=9),
            lambda: store.due(make.time(), limit=9, channel=Channel.PAGER),
            store.next_due,
            lambda: store.incident("inc-a"),
            store.open_incidents,
            store.open_restores,
            store.close_requests,
            lambda: store.firing("inc-a"),
            lambda: store.firing_alerts("inc-a"),
            lambda: store.truncated("inc-a"),
            lambda: store.rows(limit=9),
            lambda: store.records("engine-f1-"),
        ],
    )
    assert scans == []


async def test_new_entries_of_an_incident_are_found_by_the_incident(store: TimelineStore, make: Make) -> None:
    """Not by walking what was written since, of whatever incident: an old one may be told of again after days."""
    plans: list[str] = []

    def explained(raw: sqlite3.Connection) -> None:
        asked: list[str] = []
        raw.set_trace_callback(asked.append)
        few_entries_after(raw, "inc-a", 1)
        raw.set_trace_callback(None)
        plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {asked[0]}"))

    await store._read(lambda connection: explained(driver(connection)))
    assert plans == ["SEARCH entries USING INDEX sqlite_autoindex_entries_1 (incident_id=?)"]


async def test_what_waits_for_its_time_is_read_from_the_index_alone(store: TimelineStore, make: Make) -> None:
    """Every look passes over the deadlines of all open incidents: their rows are not touched."""
    asked: list[str] = []
    await store._read(lambda connection: driver(connection).set_trace_callback(asked.append))
    await store._peek(lambda raw: None)
    await store._peek(lambda raw: raw.set_trace_callback(asked.append))
    await store.due(make.time(), limit=9, channel=Channel.PAGER)
    (count,) = asked

    def read_of_rows(raw: sqlite3.Connection) -> list[int]:
        (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
        steps = raw.execute(f"EXPLAIN {count}").fetchall()
        table = {p1 for _, step, p1, p2, *_ in steps if step == "OpenRead" and p2 == root}
        return [p2 for _, step, p1, p2, *_ in steps if step == "Column" and p1 in table]

    assert await store._read(lambda connection: read_of_rows(driver(connection))) == []


async def test_what_is_due_of_one_channel_passes_over_no_other(store: TimelineStore, make: Make) -> None:
    """A chat that is behind has thousands of lines waiting, and the pager is looked at many times a second."""
    asked: list[str] = []
    await store._peek(lambda raw: None)
    await store._peek(lambda raw: raw.set_trace_callback(asked.append))
    await store.due(make.time(), limit=9, channel=Channel.PAGER)
    (count,) = asked
    plan = await store._read(lambda connection: driver(connection).execute(f"EXPLAIN QUERY PLAN {count}").fetchall())
    assert "messages_due (channel=? AND due_at<?)" in " ".join(row[3] for row in plan)


async def test_timeline_writes_use_an_index(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """An incident costs its writer the same, however many there were before."""
    incident = make.incident()

    async def deliver() -> None:
        (message,) = await store.due(make.time(9), limit=9)
        await store.delivered(message, "r", entry=make.draft(incident.id, "delivered"))

    scans = await _scans(
        store,
        timeline_path,
        [
            lambda: store.open_or_join(
                incident,
                opened=make.draft(incident.id, "opened"),
                joined=make.draft(incident.id, "joined"),
                messages=[make.message("m", incident=incident.id)],
            ),
            lambda: store.append(
                [make.draft(incident.id)],
                messages=[make.message("n", incident=incident.id, due=60)],
                cancel=[(incident.id, "none")],
                documents=[b"plan"],
                restores=[make.restore(incident.id)],
                phase=(incident.id, IncidentPhase.ACTING),
                holding=[make.target()],
            ),
            lambda: store.set_back(timedelta(hours=1), entry=make.draft("clock-1", "set-back/1")),
            deliver,
            lambda: store.lock_target(make.target(), incident.id),
            lambda: store.resolve_alert(make.alert(), at=make.time(9), truncated=2),
            lambda: store.close_incident(
                make.draft(incident.id, "close"),
                IncidentOutcome.HEALED,
                messages=[],
                unless_joined=True,
            ),
        ],
    )
    assert scans == []


async def test_inbox_queries_use_an_index(inbox: InboxStore, inbox_path: Path) -> None:
    """Claiming and counting look at unsettled deliveries alone."""
    scans = await _scans(
        inbox,
        inbox_path,
        [
            lambda: inbox.claim(IntakeClass.OTHER, limit=9),
            lambda: inbox.claim(IntakeClass.P1_CANDIDATE, limit=9),
            inbox.oldest,
            lambda: inbox.oldest(after=1),
            lambda: inbox.taken_up(after=1),
            inbox.newest,
            inbox.backlog,
            inbox.backlogs,
            lambda: inbox.disposition(1),
            lambda: inbox.settle([(1, Disposition.IGNORED, "")]),
        ],
    )
    assert scans == []

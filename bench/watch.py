"""Seeing from outside when an engine's record is on disk, and when a PATCH reached the API server."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from firebreak.domain.codec import format_time
from firebreak.domain.plan import Plan
from firebreak.plans.pin import plan_from_bytes

LOOK = 0.002
"""Seconds between two looks at the store: what is seen is at most that much later than it was. More looks
take processor time from what is measured."""


class RecordWatch:
    """Time (Unix seconds) at which another process could first read the entries of one key. A thread of its own looks
    at SQLite's data version; use it as a context manager around a measurement."""

    def __init__(self, timeline: Path, key: str) -> None:
        self.seen: dict[str, float] = {}  # by incident
        self._timeline = timeline
        self._key = key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="record-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(f"file:{self._timeline}?mode=ro", uri=True, isolation_level=None)) as store:
            (last,) = store.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()
            version = -1
            while not self._stop.is_set():
                (now_version,) = store.execute("PRAGMA data_version").fetchone()
                if now_version != version:
                    version = now_version
                    rows = store.execute("SELECT seq, incident_id, key FROM entries WHERE seq > ?", (last,)).fetchall()
                    now = time.time()
                    for seq, incident, key in rows:
                        last = seq
                        if key == self._key:
                            self.seen.setdefault(incident, now)
                time.sleep(LOOK)


@contextmanager
def reading(timeline: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{timeline}?mode=ro", uri=True, isolation_level=None)) as store:
        yield store


def incidents_since(timeline: Path, opened_after: float) -> dict[str, str]:
    """Service -> incident that was opened after that time."""
    with reading(timeline) as store:
        since = format_time(datetime.fromtimestamp(opened_after, UTC))
        return dict(store.execute("SELECT service, id FROM incidents WHERE opened_at >= ?", (since,)).fetchall())


def outcomes(timeline: Path, incidents: Iterator[str] | list[str]) -> dict[str, str]:
    """Incident -> its outcome now: `open` while the engine is at it, `waiting_for_person` once a person has it."""
    wanted = set(incidents)
    with reading(timeline) as store:
        rows = store.execute("SELECT id, outcome, phase FROM incidents").fetchall()
    return {i: p if o == "open" and p == "waiting_for_person" else o for i, o, p in rows if i in wanted}


def entry_time(timeline: Path, kind: str) -> dict[str, float]:
    """Incident -> time of its last entry of this kind."""
    with reading(timeline) as store:
        rows = store.execute("SELECT incident_id, at FROM entries WHERE kind = ? ORDER BY seq", (kind,)).fetchall()
    return {incident: _unix(at) for incident, at in rows}


def plan_of(timeline: Path, incident: str) -> Plan:
    """The plan that was pinned for it."""
    with reading(timeline) as store:
        (body,) = store.execute(
            "SELECT body FROM entries WHERE incident_id = ? AND key = 'plan'", (incident,)
        ).fetchone()
        (content,) = store.execute(
            "SELECT content FROM documents WHERE digest = ?", (json.loads(body)["digest"],)
        ).fetchone()
    return plan_from_bytes(content)


def first_writes(audit_log: Path, user: str, since: float) -> Mapping[str, float]:
    """Name of a ConfigMap -> when the API server received the first PATCH of `user` to it that was no dry run, by its
    own audit log (microseconds, the same machine's clock). Only what arrived after `since`."""
    found: dict[str, float] = {}
    with audit_log.open() as lines:
        for line in lines:
            if '"patch"' not in line or user not in line:
                continue
            event: dict[str, Any] = json.loads(line)
            what = event.get("objectRef", {})
            if event["verb"] != "patch" or event["user"]["username"] != user or what.get("resource") != "configmaps":
                continue
            at = _unix(event["requestReceivedTimestamp"])
            if at >= since and "dryRun=" not in event["requestURI"]:
                found[what["name"]] = min(at, found.get(what["name"], at))
    return found


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

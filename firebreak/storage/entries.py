"""Timeline entries inside a transaction: written once, found again, chained."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from firebreak.domain.codec import format_time, parse_time
from firebreak.domain.timeline import Appended, EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.database import driver
from firebreak.storage.schema import entries
from firebreak.timeline.canonical import canonical
from firebreak.timeline.chain import GENESIS, entry_digest

COLUMNS = tuple(entries.c)


@dataclass(frozen=True, slots=True)
class PreparedEntry:
    """A draft with the canonical bytes of its body: what can fail on its data failed before the transaction."""

    draft: EntryDraft
    body: bytes
    at: str


def prepared(drafts: Iterable[EntryDraft]) -> tuple[PreparedEntry, ...]:
    """Raises ContractError for a body that is not JSON data, ValueError for a time without a zone."""
    return tuple(PreparedEntry(draft, canonical(draft.body), format_time(draft.at)) for draft in drafts)


def append_entries(connection: Connection, drafts: Sequence[PreparedEntry]) -> tuple[Appended, ...]:
    """Write those whose (incident, key) is new, find the others. The hot path: SQL made once by Core, run by the
    driver."""
    raw = driver(connection)
    sql = _hot_sql()
    done: list[Appended] = []
    for item in drafts:
        draft = item.draft
        row = raw.execute(sql.find, (draft.incident_id, draft.key)).fetchone()
        if row is not None:
            done.append(Appended(entry=entry_of(row), found=True))
            continue
        last = raw.execute(sql.head).fetchone()
        seq, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
        duration = None if draft.duration_ms is None else float(draft.duration_ms)
        digest = entry_digest(
            seq=seq,
            incident_id=draft.incident_id,
            key=draft.key,
            kind=draft.kind,
            at=draft.at,
            actor=draft.actor,
            target=draft.target,
            uid=draft.uid,
            duration_ms=duration,
            body=item.body,
            previous=previous,
        )
        row = (
            seq,
            draft.incident_id,
            draft.key,
            draft.kind.value,
            item.at,
            draft.actor,
            draft.target,
            draft.uid,
            duration,
            item.body.decode(),
            previous,
            digest,
        )
        raw.execute(sql.insert, row)
        done.append(Appended(entry=entry_of(row), found=False))
    return tuple(done)


def find_entry(connection: Connection, incident_id: str, key: str) -> TimelineEntry | None:
    row = driver(connection).execute(_hot_sql().find, (incident_id, key)).fetchone()
    return None if row is None else entry_of(row)


def select_entries(*conditions: ColumnElement[bool]) -> Select[Any]:
    """All columns that `entry_of` takes, in order of `seq`."""
    return select(*COLUMNS).where(*conditions).order_by(entries.c.seq)


def entry_of(row: Sequence[Any]) -> TimelineEntry:
    """The entry of a row with `COLUMNS`. ValueError for one that this program cannot have written."""
    seq, incident_id, key, kind, at, actor, target, uid, duration_ms, body, previous, digest = row
    return TimelineEntry(
        seq=seq,
        incident_id=incident_id,
        key=key,
        kind=EntryKind(kind),
        at=parse_time(at),
        actor=actor,
        target=target,
        uid=uid,
        duration_ms=duration_ms,
        body=json.loads(body),
        previous=previous,
        digest=digest,
    )


@dataclass(frozen=True, slots=True)
class _HotSql:
    """SQL text with `?` parameters, for statements run so often that Core's cost per call matters."""

    find: str  # incident id, key
    head: str
    insert: str  # `COLUMNS`


@functools.cache
def _hot_sql() -> _HotSql:
    find = select(*COLUMNS).where(entries.c.incident_id == "", entries.c.key == "")
    head = select(entries.c.seq, entries.c.digest).order_by(entries.c.seq.desc()).limit(1)
    return _HotSql(
        find=_text(find),
        head=_text(head, literal_binds=True),
        insert=_text(insert(entries).values({column.name: None for column in COLUMNS})),
    )


def _text(statement: ClauseElement, *, literal_binds: bool = False) -> str:
    return str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": literal_binds}))

"""Timeline entries inside a transaction: written once, found again, chained."""

from __future__ import annotations

import functools
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, insert, select

from firebreak.domain.codec import format_time, parse_time
from firebreak.domain.errors import ChainBroken
from firebreak.domain.timeline import Appended, EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.faults import UNREADABLE
from firebreak.storage.schema import entries
from firebreak.storage.sql import Sql
from firebreak.timeline.canonical import canonical
from firebreak.timeline.chain import GENESIS, entry_digest

COLUMNS = tuple(entries.c)

FEW = 32
"""Entries that are read at once, on the event loop: some 5 us each. An incident has some 20 in all."""

SMALL = 2_000
"""Characters of a body that is decoded at once: less work than to put it off. Evidence has several times as many."""


@dataclass(frozen=True, slots=True)
class PreparedEntry:
    """A draft with the canonical bytes of its body: what can fail on its data failed before the transaction."""

    draft: EntryDraft
    body: bytes
    at: str


def prepared(drafts: Iterable[EntryDraft]) -> tuple[PreparedEntry, ...]:
    """Raises ContractError for a body that is not JSON data, ValueError for a time without a zone."""
    return tuple(PreparedEntry(draft, canonical(draft.body), format_time(draft.at)) for draft in drafts)


def append_entries(raw: sqlite3.Connection, drafts: Sequence[PreparedEntry]) -> tuple[Appended, ...]:
    """Write those whose (incident, key) is new, find the others."""
    done: list[Appended] = []
    for item in drafts:
        draft = item.draft
        found = find_entry(raw, draft.incident_id, draft.key)
        if found is not None:
            done.append(Appended(entry=found, found=True))
            continue
        last = _HEAD.run(raw).fetchone()
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
        body = item.body.decode()
        row = {
            "seq": seq,
            "incident_id": draft.incident_id,
            "key": draft.key,
            "kind": draft.kind.value,
            "at": item.at,
            "actor": draft.actor,
            "target": draft.target,
            "uid": draft.uid,
            "duration_ms": duration,
            "body": body,
            "previous": previous,
            "digest": digest,
        }
        _INSERT.run(raw, **row)
        done.append(Appended(entry=_entry(tuple(row.values()), StoredBody(body, seq)), found=False))
    return tuple(done)


def excluded(raw: sqlite3.Connection, drafts: Sequence[PreparedEntry], unless: Sequence[str]) -> Appended | None:
    """The first entry under one of the keys `unless` of the first draft's incident, as found: then nothing of `drafts`
    may be written. None when there is no such entry, or when the first draft was written before it."""
    if not unless:
        return None
    first = drafts[0].draft
    other = find_first_entry(raw, first.incident_id, unless)
    if other is None or find_entry(raw, first.incident_id, first.key) is not None:
        return None
    return Appended(entry=other, found=True)


def find_entry(raw: sqlite3.Connection, incident_id: str, key: str) -> TimelineEntry | None:
    row = _FIND.run(raw, incident=incident_id, key=key).fetchone()
    return None if row is None else _entry(row, _put_off(row))


def newest_entry_of(raw: sqlite3.Connection, incident_id: str, kind: EntryKind) -> TimelineEntry | None:
    """The incident's last entry of a kind."""
    row = _NEWEST_OF.run(raw, incident=incident_id, kind=kind.value).fetchone()
    return None if row is None else entry_of(row)


def newest_seq(raw: sqlite3.Connection) -> int:
    """`seq` of the last entry of the whole store; 0 for none."""
    last = _HEAD.run(raw).fetchone()
    return 0 if last is None else int(last[0])


def find_first_entry(raw: sqlite3.Connection, incident_id: str, keys: Sequence[str]) -> TimelineEntry | None:
    """The first of `keys`, in their order, that was written."""
    found = _find_any(len(keys)).run(raw, incident=incident_id, **{f"key{n}": key for n, key in enumerate(keys)})
    rows = {row[_KEY]: row for row in found}
    row = next((rows[key] for key in keys if key in rows), None)
    return None if row is None else _entry(row, _put_off(row))


def few_entries_after(raw: sqlite3.Connection, incident_id: str, after: int) -> list[TimelineEntry] | None:
    """Those of the incident with a greater `seq`, in order; None when there are more than FEW."""
    rows = _AFTER.run(raw, incident=incident_id, after=after, most=FEW + 1).fetchall()
    if len(rows) > FEW:
        return None
    found = (entry_of(row) if len(row[_BODY]) < SMALL else _entry(row, _put_off(row)) for row in rows)
    return sorted(found, key=lambda entry: entry.seq)


def select_entries(*conditions: ColumnElement[bool]) -> Select[Any]:
    """All columns that `entry_of` takes, in order of `seq`."""
    return select(*COLUMNS).where(*conditions).order_by(entries.c.seq)


def entry_of(row: Sequence[Any]) -> TimelineEntry:
    """The entry of a row with `COLUMNS`. ChainBroken for one that this program cannot have written."""
    return _entry(row, _decoded(row[_BODY], row[_SEQ]))


class StoredBody(Mapping[str, Any]):
    """JSON data as it was stored, decoded when it is read: of an entry that was just written, or asked for in order to
    know whether it is there, that is seldom, and evidence is large. ChainBroken when it is read and cannot be."""

    __slots__ = ("_data", "_seq", "_text")

    def __init__(self, text: str, seq: int) -> None:
        self._text = text
        self._seq = seq
        self._data: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        return self._decoded()[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._decoded().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return repr(self._decoded())

    def _decoded(self) -> dict[str, Any]:
        if self._data is None:
            self._data = _decoded(self._text, self._seq)
        return self._data


def _put_off(row: Sequence[Any]) -> StoredBody:
    return StoredBody(row[_BODY], row[_SEQ])


def _decoded(text: str, seq: int) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(seq, f"its body: {error}") from None
    if not isinstance(data, dict):
        raise _unreadable(seq, f"its body is a {type(data).__name__}, and no JSON object")
    return data


def _entry(row: Sequence[Any], body: Mapping[str, Any]) -> TimelineEntry:
    seq, incident_id, key, kind, at, actor, target, uid, duration_ms, _, previous, digest = row
    try:
        if duration_ms is not None and not math.isfinite(duration_ms):
            raise ValueError(f"a duration of {duration_ms} ms")  # SQLite stores such, JSON and clocks do not
        if strange := [
            text for text in (incident_id, key, actor, target, uid, previous, digest) if type(text) is not str
        ]:
            raise TypeError(f"a text that is {type(strange[0]).__name__}")  # one bit makes bytes of it
        return TimelineEntry(
            seq=seq,
            incident_id=incident_id,
            key=key,
            kind=EntryKind(kind),
            at=parse_time(at),
            actor=actor,
            target=target,
            uid=uid,
            duration_ms=None if duration_ms is None else float(duration_ms),
            body=body,
            previous=previous,
            digest=digest,
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(seq, str(error)) from None


def _unreadable(seq: int, why: str) -> ChainBroken:
    return ChainBroken(f"entry {seq} cannot be read: {why}", advice=UNREADABLE)


_SEQ, _KEY, _BODY = (entries.c.keys().index(name) for name in ("seq", "key", "body"))
_FIND = Sql(select(*COLUMNS).where(entries.c.incident_id == bindparam("incident"), entries.c.key == bindparam("key")))
_last = entries.alias("last")
_HEAD = Sql(
    select(entries.c.seq, entries.c.digest).where(entries.c.seq == select(func.max(_last.c.seq)).scalar_subquery())
)
_of_kind = select(func.max(_last.c.seq)).where(
    _last.c.incident_id == bindparam("incident"), _last.c.kind == bindparam("kind")
)
_NEWEST_OF = Sql(select(*COLUMNS).where(entries.c.seq == _of_kind.scalar_subquery()))
_INSERT = Sql(insert(entries))
# Not sorted: asked to sort, SQLite would rather walk all later entries, of whatever incident, in their order.
_AFTER = Sql(
    select(*COLUMNS)
    .where(entries.c.incident_id == bindparam("incident"), entries.c.seq > bindparam("after"))
    .limit(bindparam("most"))
)


@functools.cache
def _find_any(count: int) -> Sql:
    """As `_FIND`, for `key0`, `key1` ... of one incident, in no order."""
    keys: list[ColumnElement[str]] = [bindparam(f"key{n}") for n in range(count)]
    return Sql(select(*COLUMNS).where(entries.c.incident_id == bindparam("incident"), entries.c.key.in_(keys)))

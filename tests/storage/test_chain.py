"""The record cannot be changed unseen."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import ColumnElement, Select

from firebreak.domain.errors import ChainBroken, LedgerError
from firebreak.storage.entries import select_entries
from firebreak.storage.schema import entries
from firebreak.storage.sqlite_store import TimelineStore
from firebreak.storage.verify import StoreReport, verify_store

if TYPE_CHECKING:
    from tests.storage.conftest import Make

GUARDS = ("entries_never_change", "entries_never_go", "entries_without_gap", "documents_never_change")


@contextmanager
def _sql(path: Path, *, unguarded: bool = False) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for guard in GUARDS if unguarded else ():
            raw.execute(f"DROP TRIGGER {guard}")
        yield raw


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def _fill(store: TimelineStore, make: Make, count: int = 30) -> None:
    for n in range(count):
        await store.append([make.draft(f"inc-{n % 3}", f"k{n}", body={"value": n, "text": f"entry {n}"})])
    await store.append([make.draft("inc-0", "plan")], documents=[b"kind: runbook"])


async def _verified(path: Path) -> StoreReport:
    return await asyncio.to_thread(verify_store, path)


async def test_an_untouched_store_verifies(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """Also while it is open for writing; the head is the last entry's digest."""
    await _fill(store, make)
    report = await _verified(timeline_path)
    assert (report.ok, report.entries, report.documents, report.reason) == (True, 31, 1, "")
    last = await store.find("inc-0", "plan")
    assert last is not None
    assert report.head == last.digest
    assert await store.verify() == report


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = '{}' WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 3",
        "DELETE FROM entries",
        "REPLACE INTO entries SELECT * FROM entries WHERE seq = 3",
        "INSERT INTO entries SELECT seq + 100, 'x', 'y', kind, at, actor, target, uid, 1, body, previous, digest"
        " FROM entries WHERE seq = 3",
        "REPLACE INTO entries SELECT 32, incident_id, key, kind, at, actor, target, uid, 1, body, previous, digest"
        " FROM entries WHERE seq = 3",
        "UPDATE documents SET content = x'00'",
        "DELETE FROM documents",
    ],
)
async def test_the_database_itself_refuses_to_change_the_record(
    store: TimelineStore, make: Make, timeline_path: Path, statement: str
) -> None:
    """Triggers stop an update, a deletion, a replacement and a gap, from whatever program they come."""
    await _fill(store, make)
    with _sql(timeline_path) as raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute(statement)
    assert (await _verified(timeline_path)).ok


async def test_a_document_is_not_replaced(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """REPLACE of a kept document leaves the first bytes in place."""
    await _fill(store, make)
    with _sql(timeline_path) as raw:
        raw.execute("REPLACE INTO documents SELECT digest, x'00' FROM documents")
        assert raw.execute("SELECT content FROM documents").fetchall() == [(b"kind: runbook",)]


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("UPDATE entries SET body = replace(body, '6', '7') WHERE seq = 7", 7, "another digest"),
        ("UPDATE entries SET body = replace(body, ':', ': ') WHERE seq = 7", 7, "other spelling"),
        ("UPDATE entries SET at = replace(at, 'T', ' ') WHERE seq = 7", 7, "other spelling"),
        ("UPDATE entries SET kind = 'no.such' WHERE seq = 7", 7, "cannot be read: 'no.such' is not"),
        ("UPDATE entries SET at = 'yesterday' WHERE seq = 7", 7, "cannot be read: Invalid isoformat"),
        ("UPDATE entries SET body = 'x' WHERE seq = 7", 7, "cannot be read: its body: Expecting value"),
        ("UPDATE entries SET body = '[]' WHERE seq = 7", 7, "cannot be read: its body is a list"),
        ("UPDATE entries SET body = '{\"n\":NaN}' WHERE seq = 7", 7, "cannot have been written"),
        ("UPDATE entries SET body = CAST(body AS BLOB) WHERE seq = 7", 7, "other spelling"),
        ("UPDATE entries SET actor = 'person:eve' WHERE seq = 7", 7, "another digest"),
        ("UPDATE entries SET duration_ms = 1 WHERE seq = 7", 7, "another digest"),
        ("DELETE FROM entries WHERE seq = 7", 8, "missing"),
        ("DELETE FROM entries WHERE seq = 1", 2, "missing"),
    ],
)
async def test_a_change_behind_the_guards_is_found(
    store: TimelineStore, make: Make, timeline_path: Path, statement: str, seq: int, reason: str
) -> None:
    """With the triggers dropped: the first entry that is not as it was written is named, with the reason."""
    await _fill(store, make)
    with _sql(timeline_path, unguarded=True) as raw:
        raw.execute(statement)
    report = await _verified(timeline_path)
    assert (report.ok, report.first_broken_seq) == (False, seq)
    assert reason in report.reason
    with pytest.raises(ChainBroken, match=r"not as it was written"):
        await store.verify()


async def test_a_broken_entry_that_is_not_found_again_is_told_all_the_same(
    store: TimelineStore, make: Make, timeline_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file may show a row when all are read, and none by its number."""
    await _fill(store, make)
    with _sql(timeline_path, unguarded=True) as raw:
        raw.execute("UPDATE entries SET body = '{}' WHERE seq = 7")
    whole = select_entries

    def lying(*conditions: ColumnElement[bool]) -> Select[Any]:
        return whole(*conditions, entries.c.seq < 0) if conditions else whole()

    monkeypatch.setattr("firebreak.storage.verify.select_entries", lying)
    report = await _verified(timeline_path)
    assert (report.ok, report.first_broken_seq) == (False, 7)
    assert "another digest" in report.reason


async def test_a_whole_record_is_verified_without_decoding_a_body(
    store: TimelineStore, make: Make, timeline_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits for it, and nobody is called before it ends: what was hashed is the text that is stored."""

    def refused(*_: object) -> None:
        raise AssertionError("a body was decoded")

    await _fill(store, make)
    monkeypatch.setattr("firebreak.storage.entries.json.loads", refused)
    report = await _verified(timeline_path)
    assert (report.ok, report.entries) == (True, 31)


async def test_a_changed_document_is_found(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """By the verification and by whoever reads it."""
    await _fill(store, make)
    with _sql(timeline_path, unguarded=True) as raw:
        raw.execute("UPDATE documents SET content = x'00'")
        (digest,) = raw.execute("SELECT digest FROM documents").fetchone()
    report = await _verified(timeline_path)
    assert not report.ok
    assert digest in report.reason
    with pytest.raises(LedgerError, match="was changed"):
        await store.document(digest)


async def test_one_flipped_bit_in_the_file_is_found(timeline_path: Path, make: Make) -> None:
    """A bit of any entry's text, flipped in the file by whatever means, breaks the chain at that entry."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with await TimelineStore.open(timeline_path) as store:
        await _fill(store, make)
    whole = _bytes(timeline_path)
    for _ in range(10):
        n = chance.randrange(10, 30)
        marker = f'{{"text":"entry {n}","value":{n}}}'.encode()
        place = whole.index(marker) + chance.randrange(len(marker))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(7)
        _overwrite(timeline_path, bytes(flipped))
        report = await _verified(timeline_path)
        assert (report.ok, report.first_broken_seq) == (False, n + 1), (seed, n, place)
    _overwrite(timeline_path, whole)
    assert (await _verified(timeline_path)).ok


async def test_a_torn_file_is_reported_as_damage(timeline_path: Path, make: Make) -> None:
    """Pages that were overwritten are a report or a LedgerError, never a traceback of the database."""
    async with await TimelineStore.open(timeline_path) as store:
        await _fill(store, make, 200)
    whole = _bytes(timeline_path)
    for kept in (4096, len(whole) // 2):
        _overwrite(timeline_path, whole[:kept] + b"\xff" * (len(whole) - kept))
        assert "damaged" in await asyncio.to_thread(_complaint, timeline_path)


def _complaint(path: Path) -> str:
    try:
        return verify_store(path).reason
    except LedgerError as error:
        return str(error)

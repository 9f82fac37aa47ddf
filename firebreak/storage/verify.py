"""Read a whole timeline store and recompute every digest: for the CLI, while the engine runs or is stopped."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.exc import DBAPIError

from firebreak.domain.codec import format_time
from firebreak.domain.errors import ChainBroken, ContractError
from firebreak.storage.database import Database
from firebreak.storage.entries import entry_of, select_entries
from firebreak.storage.faults import sqlite_code, translated
from firebreak.storage.schema import SAME_RECORD, TIMELINE_REVISION, documents, entries
from firebreak.timeline.canonical import canonical
from firebreak.timeline.chain import GENESIS, entry_digest, verify_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """`entries` and `documents` were read and are good before the first bad one, if any. `head` is the digest of the
    last good entry: compare it with one that somebody else keeps. `reason` is empty when `ok`."""

    ok: bool
    entries: int
    documents: int
    head: str
    first_broken_seq: int | None = None
    reason: str = ""

    def raise_if_broken(self) -> None:
        """ChainBroken with the reason, unless all is well."""
        if not self.ok:
            raise ChainBroken(f"the timeline is not as it was written: {self.reason}")


class _Altered(Exception):
    """A document that is not what was kept."""


def verify_store(path: Path) -> StoreReport:
    """Reads the whole file, read-only. Raises LedgerError when it cannot be read at all (missing, other schema);
    damage inside is a report."""
    database = Database(path=path, schema="timeline", revision=TIMELINE_REVISION)
    database.check_readable(also=SAME_RECORD)
    with database.connection(read_only=True) as connection:
        return verify_connection(connection, path)


def verify_connection(connection: Connection, path: Path) -> StoreReport:
    """As `verify_store`, on an open connection."""
    head, good = GENESIS, 0
    try:
        connection.exec_driver_sql("BEGIN")  # one snapshot for all of it, whoever writes meanwhile
        try:
            report = verify_chain(
                connection.execute(select_entries().execution_options(yield_per=500)), digest_of=_digest_of
            )
            head, good = report.head, report.count
            if report.first_broken_seq is not None:
                return StoreReport(
                    ok=False,
                    entries=good,
                    documents=0,
                    head=head,
                    first_broken_seq=report.first_broken_seq,
                    reason=_unreadable(connection, report.first_broken_seq) or report.reason,
                )
            kept = _check_documents(connection)
        finally:
            connection.exec_driver_sql("COMMIT")
        return StoreReport(ok=True, entries=good, documents=kept, head=head)
    except _Altered as broken:
        return StoreReport(ok=False, entries=good, documents=0, head=head, reason=str(broken))
    except DBAPIError as error:
        if sqlite_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise translated(error, path) from None
        return StoreReport(ok=False, entries=good, documents=0, head=head, reason=f"the file is damaged: {error.orig}")


def _digest_of(row: Row[Any]) -> str:
    """Over the text as it is stored, which is what was hashed: equal data in another spelling has another digest. It is
    not decoded: a start waits for this, and nobody is called before it ends."""
    seq, incident_id, key, kind, at, actor, target, uid, duration_ms, body, previous, _ = tuple(row)
    try:
        return entry_digest(
            seq=seq,
            incident_id=incident_id,
            key=key,
            kind=kind,
            at=at,
            actor=actor,
            target=target,
            uid=uid,
            duration_ms=duration_ms,
            body=body.encode(),
            previous=previous,
        )
    except (TypeError, AttributeError):
        raise ContractError("a column that holds text holds something else") from None


def _unreadable(connection: Connection, seq: int) -> str:
    """Why the row of a broken entry cannot be one of ours at all; empty when it reads like one, or (a damaged file) is
    not found by its number."""
    row = connection.execute(select_entries(entries.c.seq == seq)).first()
    if row is None:
        return ""
    try:
        entry = entry_of(row)
        exact = canonical(entry.body).decode() == row.body and format_time(entry.at) == row.at
    except ChainBroken as error:
        return str(error)
    except (ContractError, ValueError, TypeError) as error:
        return f"entry {seq} cannot have been written like this: {error}"
    return "" if exact else f"entry {seq} ({row.key}) was changed after it was written: other spelling"


def _check_documents(connection: Connection) -> int:
    count = 0
    for row in connection.execute(select(documents).execution_options(yield_per=50)):
        if not isinstance(row.content, bytes) or hashlib.sha256(row.content).hexdigest() != row.digest:
            raise _Altered(f"the document kept as {row.digest} was changed: its SHA-256 is another")
        count += 1
    total = connection.execute(select(func.count()).select_from(documents)).scalar_one()
    if total != count:
        raise _Altered(f"{total} documents by their index, {count} by their rows")
    return count

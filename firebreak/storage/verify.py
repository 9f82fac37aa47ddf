"""Read a whole timeline store and recompute every digest: for the CLI, while the engine runs or is stopped."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from firebreak.domain.codec import format_time
from firebreak.domain.errors import ChainBroken, ContractError
from firebreak.domain.timeline import TimelineEntry
from firebreak.storage.database import Database
from firebreak.storage.entries import entry_of, select_entries
from firebreak.storage.faults import sqlite_code, translated
from firebreak.storage.schema import SAME_RECORD, TIMELINE_REVISION, documents
from firebreak.timeline.canonical import canonical
from firebreak.timeline.chain import GENESIS, verify_chain


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
    """A row that no program of ours can have written."""

    def __init__(self, seq: int | None, reason: str) -> None:
        super().__init__(reason)
        self.seq = seq


def verify_store(path: Path) -> StoreReport:
    """Reads the whole file, read-only. Raises LedgerError when it cannot be read at all (missing, other schema);
    damage inside is a report."""
    database = Database(path=path, schema="timeline", revision=TIMELINE_REVISION)
    database.check_readable(also=SAME_RECORD)
    with database.connection(read_only=True) as connection:
        return verify_connection(connection, path)


def verify_connection(connection: Connection, path: Path) -> StoreReport:
    """As `verify_store`, on an open connection."""
    good: list[int] = [0]
    try:
        connection.exec_driver_sql("BEGIN")  # one snapshot for all of it, whoever writes meanwhile
        try:
            report = verify_chain(_strict(connection, good))
            if not report.ok:
                return StoreReport(
                    ok=False,
                    entries=report.count,
                    documents=0,
                    head=report.head,
                    first_broken_seq=report.first_broken_seq,
                    reason=report.reason,
                )
            kept = _check_documents(connection)
        finally:
            connection.exec_driver_sql("COMMIT")
        return StoreReport(ok=True, entries=report.count, documents=kept, head=report.head)
    except _Altered as broken:
        return StoreReport(
            ok=False, entries=good[0], documents=0, head=GENESIS, first_broken_seq=broken.seq, reason=str(broken)
        )
    except DBAPIError as error:
        if sqlite_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise translated(error, path) from None
        return StoreReport(
            ok=False, entries=good[0], documents=0, head=GENESIS, reason=f"the file is damaged: {error.orig}"
        )


def _strict(connection: Connection, good: list[int]) -> Iterator[TimelineEntry]:
    """Entries whose stored text is exactly what we write: another spelling of equal data is an edit, too."""
    for row in connection.execute(select_entries().execution_options(yield_per=500)):
        try:
            entry = entry_of(row)
            exact = canonical(entry.body).decode() == row.body and format_time(entry.at) == row.at
        except ChainBroken as error:
            raise _Altered(row.seq, str(error)) from None
        except (ContractError, ValueError, TypeError) as error:
            raise _Altered(row.seq, f"entry {row.seq} cannot have been written like this: {error}") from None
        if not exact:
            raise _Altered(row.seq, f"entry {row.seq} ({row.key}) was changed after it was written: other spelling")
        yield entry
        good[0] += 1


def _check_documents(connection: Connection) -> int:
    count = 0
    for row in connection.execute(select(documents).execution_options(yield_per=50)):
        if not isinstance(row.content, bytes) or hashlib.sha256(row.content).hexdigest() != row.digest:
            raise _Altered(None, f"the document kept as {row.digest} was changed: its SHA-256 is another")
        count += 1
    total = connection.execute(select(func.count()).select_from(documents)).scalar_one()
    if total != count:
        raise _Altered(None, f"{total} documents by their index, {count} by their rows")
    return count

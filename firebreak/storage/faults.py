"""What SQLite's errors mean for a person: each becomes a LedgerError with a sentence and what to do now.

Codes: https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from firebreak.domain.errors import AppendConflict, ChainBroken, FirebreakError, LedgerError

_MEANING: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free disk space under the data directory; writing goes on by itself."),
    sqlite3.SQLITE_IOERR: (
        "the disk refused to read or write (full, over a quota or size limit, or broken)",
        "Check free space, quotas and the kernel log for the disk of the data directory; writing goes on by itself.",
    ),
    sqlite3.SQLITE_READONLY: (
        "the file or its directory cannot be written",
        "Give the engine's account write permission on the data directory and all files in it.",
    ),
    sqlite3.SQLITE_PERM: (
        "the file or its directory cannot be used",
        "Give the engine's account write permission on the data directory and all files in it.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened",
        "Check that the data directory exists and that this account may read and write it.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "Stop the engine, keep the data directory as it is, check the disk, and put back a copy of the whole "
        "directory: one of this file alone is of another time than the others.",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is not a Firebreak store",
        "Check the data directory setting; if it is right, keep the directory and put back a copy of all of it.",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process kept the file locked for too long",
        "Find the process that holds the file (`fuser` on it), usually a backup or a database tool, and stop it.",
    ),
    sqlite3.SQLITE_NOMEM: ("memory ran out", "Give the engine more memory, then start it again."),
}

UNREADABLE = (
    "If a newer Firebreak wrote it, read it with that one; else it was changed or damaged: stop the engine, keep the "
    "data directory as it is, and run `firebreak timeline last --verify`, which names the first bad entry."
)
"""What to do about stored data that this program cannot have written."""

STORAGE_CODES = frozenset(_MEANING)
"""Primary result codes that speak of the file, not of one statement: no further statement can be relied on."""


def sqlite_code(error: BaseException) -> int | None:
    """Primary result code of an error raised by sqlite3, bare or wrapped by SQLAlchemy; None for any other error."""
    inner = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(inner, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_storage_fault(error: BaseException) -> bool:
    """Whether the whole transaction is in doubt, not just one statement of it."""
    return sqlite_code(error) in STORAGE_CODES


def translated(error: Exception, path: Path) -> Exception:
    """The LedgerError for a database error (ChainBroken for text that is no UTF-8: waiting does not mend it); errors of
    ours and programming errors are returned as they are."""
    if isinstance(error, FirebreakError):
        return error
    code = sqlite_code(error)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return AppendConflict(f"{path.name} refused the write: {getattr(error, 'orig', error)}")
    if code in _MEANING:
        sentence, advice = _MEANING[code]
        return LedgerError(f"{path.name}: {sentence} ({getattr(error, 'orig', error)})", advice=advice)
    inner = error.orig if isinstance(error, DBAPIError) else error
    if code is None and isinstance(inner, sqlite3.OperationalError):  # none of SQLite's: the driver could not decode
        return ChainBroken(f"{path.name} holds what cannot be read: {inner}", advice=UNREADABLE)
    if isinstance(error, (sqlite3.Error, SQLAlchemyError)):
        return LedgerError(f"{path.name}: {getattr(error, 'orig', error)}")
    return error

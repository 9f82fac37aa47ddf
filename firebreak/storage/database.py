"""One SQLite file: how it is opened, and which schema revision it holds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from firebreak.domain.errors import LedgerError
from firebreak.storage.faults import sqlite_code, translated
from firebreak.storage.opened_files import identity, is_another

READ_PATIENCE_MS = 5_000
"""How long a reader waits while another process recovers the log of a killed writer."""

LOG_LIMIT = 4_000
"""Pages of 4 KiB in the log from which a commit moves them into the file itself. Four times SQLite's default: the
writer does it when it is idle, so that no commit on the way of an alert pays for it; this bounds a storm's log, and so
how long the next start reads the log of a killed engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """`schema` names the folder of its migrations, `revision` the schema that this program reads and writes. `opened`:
    which file it is; another one in its place is not opened, since it would get what is of this one."""

    path: Path
    schema: str
    revision: str
    opened: tuple[int, int] | None = None

    def prepare(self) -> Self:
        """Make or migrate the file so that it holds `revision`: that very file. LedgerError when it cannot be."""
        try:
            present = self.present_revision() if self.path.exists() else None
            if present != self.revision:
                from firebreak.storage.migrate import migrate  # alembic costs start-up time: only when needed

                migrate(self)
            return replace(self, opened=identity(self.path))
        except sqlite3.Error as error:
            raise translated(error, self.path) from None
        except OSError as error:
            raise LedgerError(f"{self.path.name}: {error.strerror} ({self.path.parent})") from None

    def check_readable(self, *, also: Collection[str] = ()) -> None:
        """LedgerError with what to do when there is no file, or one of another schema than ours or `also`. Writes
        nothing."""
        try:
            self.path.stat()
            present = self.present_revision()
        except (FileNotFoundError, NotADirectoryError):
            raise LedgerError(
                f"there is no {self.path.name} in {self.path.parent}",
                advice="Check --data-dir (FIREBREAK_DATA_DIR); the store is made when the engine first starts.",
            ) from None
        except sqlite3.Error as error:
            raise translated(error, self.path) from None
        except OSError as error:  # the engine's directory is for its owner alone
            raise LedgerError(
                f"{self.path.name}: {error.strerror} ({self.path.parent})",
                advice="Run it as the engine's account, and check --data-dir (FIREBREAK_DATA_DIR).",
            ) from None
        if present != self.revision and present not in also:
            raise LedgerError(
                f"{self.path.name} holds schema {present}, this program reads {self.revision}",
                advice="Start this version's engine once (it migrates the store), or use the version that wrote it.",
            )

    def is_new(self) -> bool:
        """Whether nothing was ever kept in it: there is no file, or one without a table, as a first start leaves it
        that is killed, or meets a full disk, before its schema is on disk. LedgerError when that cannot be read."""
        try:
            if not self.path.exists():
                return True
            with closing(self._read_only()) as raw:
                (tables,) = raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise translated(error, self.path) from None
        except OSError as error:
            raise LedgerError(f"{self.path.name}: {error.strerror} ({self.path.parent})") from None
        return not tables

    def present_revision(self) -> str | None:
        """Revision in the file; None for an empty one. Raises sqlite3.Error."""
        with closing(self._read_only()) as raw:
            try:
                row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
            except sqlite3.OperationalError as error:
                if sqlite_code(error) == sqlite3.SQLITE_ERROR:  # no such table
                    return None
                raise
        return row[0] if row else None

    @contextmanager
    def connection(self, *, read_only: bool) -> Iterator[Connection]:
        """A Core connection in driver autocommit: whoever writes says BEGIN and COMMIT itself."""
        engine = self.engine(read_only=read_only)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def engine(self, *, read_only: bool) -> Engine:
        return create_engine(
            "sqlite://",
            creator=self._read_only if read_only else self.open_writing,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )

    def open_impatient(self) -> sqlite3.Connection:
        """For reading only, by a caller that must not be kept waiting: SQLITE_BUSY at once. Opening itself may wait."""
        raw = self._read_only()
        raw.execute("PRAGMA busy_timeout = 0")
        return raw

    def open_writing(self) -> sqlite3.Connection:
        """In driver autocommit. Raises sqlite3.Error, and LedgerError where another file stands there."""
        self.refuse_another()
        raw = sqlite3.connect(self._uri("rw"), uri=True, isolation_level=None, check_same_thread=False)
        try:
            raw.execute(f"PRAGMA busy_timeout = {READ_PATIENCE_MS}")
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("PRAGMA synchronous = FULL")  # in WAL: one fsync of the log a commit
            raw.execute(f"PRAGMA wal_autocheckpoint = {LOG_LIMIT}")
            raw.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            raw.close()
            raise
        return raw

    def refuse_another(self) -> None:
        """LedgerError where another file stands, or none. Before it is opened: SQLite would recover the one by the log
        of the other."""
        if self.opened is not None and is_another(self.path, self.opened):
            raise LedgerError(
                f"{self.path.name}: another file stands in {self.path.parent} than the one that was opened, or none",
                advice="Stop engine and gateway. Where it is not the right one, put back a copy of the whole data "
                "directory. Then start them.",
            )

    def _read_only(self) -> sqlite3.Connection:
        self.refuse_another()
        try:
            return self._open_read_only(self._uri("ro"))
        except sqlite3.OperationalError as error:
            log = self.path.with_name(self.path.name + "-wal")
            untouchable = sqlite_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not untouchable or os.access(self.path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
                raise
            # A read-only directory without a log: nobody can be writing, so no lock files are needed.
            return self._open_read_only(self._uri("ro") + "&immutable=1")

    def _open_read_only(self, uri: str) -> sqlite3.Connection:
        raw = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            raw.execute(f"PRAGMA busy_timeout = {READ_PATIENCE_MS}")
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opening is lazy: fail here, not later
        except sqlite3.Error:
            raw.close()
            raise
        return raw

    def _uri(self, mode: str) -> str:
        return f"file:{quote(os.fsencode(self.path.absolute()))}?mode={mode}"  # in bytes: not every name is UTF-8


def driver(connection: Connection) -> sqlite3.Connection:
    """The driver's connection below a Core connection: for transaction control and the hot path."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)

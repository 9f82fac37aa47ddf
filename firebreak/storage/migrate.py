"""Bring one file to the schema of this program: alembic, under a file lock, in one transaction."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database, driver
from firebreak.storage.faults import translated

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Upgrade `database` to its revision. A kill half-way leaves the file as it was; a second process waits and finds
    the work done. LedgerError when the file was written by a newer program."""
    database.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _exclusive(database.path.with_name(database.path.name + ".migrating")):
        if database.path.exists() and database.present_revision() == database.revision:
            return
        _make(database.path)
        try:
            with database.connection(read_only=False) as connection, connection.begin():
                driver(connection).execute("BEGIN IMMEDIATE")  # committed or rolled back by `begin()` above
                command.upgrade(alembic_config(database.schema, connection), database.revision)
        except CommandError as error:
            raise LedgerError(
                f"{database.path.name} was written by another version of Firebreak: {error}",
                advice="Use the version that wrote it or a newer one; stores are not migrated backwards.",
            ) from None
        except DBAPIError as error:
            raise translated(error, database.path) from None
        _sync_directory(database.path.parent)


def alembic_config(schema: str, connection: object) -> Config:
    """Alembic's configuration for one of the two schemas (`timeline`, `inbox`), on an open connection."""
    config = Config()
    config.set_main_option("script_location", _escaped(_SCRIPTS))
    config.set_main_option("version_locations", _escaped(_SCRIPTS / schema))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _make(path: Path) -> None:
    """An empty file for its owner alone where there is none: SQLite would ask the umask, and gives its log the file's
    mode. One that is there is not even opened: closing it would drop this process' locks on it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """A new file's name is on disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

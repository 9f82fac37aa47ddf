"""What both stores are made of: a file, a writer thread, a reader thread."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from sqlalchemy import Connection

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database
from firebreak.storage.reader import Reader
from firebreak.storage.writer import Unit, Writer

T = TypeVar("T")

UNDECODABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""What decoding raises of a stored value that this program cannot have written."""

encode_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""ASCII JSON for columns that no digest covers: also what UTF-8 cannot carry (lone surrogates) comes back equal."""


class Store:
    """Open with `await Store.open(path)`; use as an async context manager, or `close()` at the end."""

    schema: ClassVar[str]
    revision: ClassVar[str]

    def __init__(self, database: Database, *, read_only: bool) -> None:
        self._database = database
        self._reader = Reader(database)
        self._writer = None if read_only else Writer(database)

    @classmethod
    def database(cls, path: Path) -> Database:
        return Database(path=path, schema=cls.schema, revision=cls.revision)

    @classmethod
    async def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """`path` of the SQLite file. Makes and migrates it, unless `read_only`: then nothing is written, the engine
        may run or be stopped, and a log left by a killed writer is read. Raises LedgerError."""
        database = cls.database(path)
        if read_only:
            await asyncio.to_thread(database.check_readable)
            return cls(database, read_only=True)
        store = cls(await asyncio.to_thread(database.prepare), read_only=False)
        try:
            await store._connect()
        except BaseException:
            await store.close()
            raise
        return store

    async def _connect(self) -> None:
        """All connections at once: opened when they are first needed, hours later, one could be of another file."""
        await self._peek(lambda raw: None)
        if self._writer is not None:
            await asyncio.to_thread(self._writer.connect)

    async def close(self) -> None:
        """Write what is queued, then let go of the file. Repeats do nothing."""
        await self._reader.close()  # first: the last connection moves the log into the file, and needs to write
        if self._writer is not None:
            await self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _write(self, unit: Unit[T]) -> T:
        if self._writer is None:
            raise LedgerError(
                f"{self._database.path.name} was opened for reading only",
                advice="This command only reads; use the engine or `firebreak close` to change an incident.",
            )
        return await self._writer.run(unit)

    async def _read(self, query: Callable[[Connection], T]) -> T:
        """On the reading thread: what may find much, or decode much."""
        return await self._reader.run(query)

    async def _peek(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """At once, on the event loop: a few rows by an index."""
        return await self._reader.peek(query)


def decode_json(text: str) -> Any:
    return json.loads(text)

"""Reads: one thread and one read-only connection beside the writer, so that a read never waits for an fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database
from firebreak.storage.faults import is_storage_fault, translated

T = TypeVar("T")


class Reader:
    """Sees every commit that was acknowledged before the read began (WAL; each statement its own snapshot)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"read {database.path.name}")
        self._closed = False
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    async def run(self, query: Callable[[Connection], T]) -> T:
        """What `query` returned. Faults of the file are raised as LedgerError."""
        if self._closed:
            raise LedgerError(f"{self._database.path.name} is closed", advice="Start the engine again.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, query)

    async def close(self) -> None:
        """Finish the reads that began, then end the thread. Repeats do nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._drop_connection)
            self._thread.shutdown(wait=True)

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._engine = self._database.engine(read_only=True)
                self._connection = self._engine.connect()
            return query(self._connection)
        except Exception as error:  # noqa: BLE001 - raised again, in our words
            if is_storage_fault(error):
                self._drop_connection()
            raise translated(error, self._database.path) from None

    def _drop_connection(self) -> None:
        connection, engine, self._connection, self._engine = self._connection, self._engine, None, None
        if connection is not None:
            connection.close()
        if engine is not None:
            engine.dispose()

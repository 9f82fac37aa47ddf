"""Reads beside the writer, so that none waits for an fsync: point reads at once, others on a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database, driver
from firebreak.storage.faults import is_storage_fault, sqlite_code, translated

T = TypeVar("T")


class Reader:
    """Sees every commit that was acknowledged before the read began (WAL; each statement its own snapshot)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"read {database.path.name}")
        self._closed = False
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._at_hand: sqlite3.Connection | None = None  # for `peek`: used on the event loop, never waits

    async def run(self, query: Callable[[Connection], T]) -> T:
        """What `query` returned. Faults of the file are raised as LedgerError."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, query)

    async def peek(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, but on the event loop, without a hop to the thread and back: for reads that find a few rows by an
        index, which are in the page cache and take some 10 us. What cannot be answered at once (another process
        recovers the log of a killed writer, a fault) is asked again on the thread, which waits or says what is
        wrong; so `query` may run twice."""
        self._check_open()
        raw = self._at_hand
        if raw is not None:
            try:
                return query(raw)
            except sqlite3.Error as error:
                if sqlite_code(error) != sqlite3.SQLITE_BUSY:
                    self._at_hand = None
                    raw.close()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look, query)

    async def close(self) -> None:
        """Finish the reads that began, then end the thread. Repeats do nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._drop_connections)
            self._thread.shutdown(wait=True)

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError(f"{self._database.path.name} is closed", advice="Start the engine again.")

    # --- on the thread ---

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

    def _look(self, query: Callable[[sqlite3.Connection], T]) -> T:
        found = self._read(lambda connection: query(driver(connection)))
        if self._at_hand is None:  # opened here, since opening may wait
            self._at_hand = self._read(lambda _: self._database.open_impatient())
        return found

    def _drop_connection(self) -> None:
        connection, engine, self._connection, self._engine = self._connection, self._engine, None, None
        if connection is not None:
            connection.close()
        if engine is not None:
            engine.dispose()

    def _drop_connections(self) -> None:
        self._drop_connection()
        if self._at_hand is not None:
            self._at_hand.close()
            self._at_hand = None

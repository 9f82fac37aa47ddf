"""Group commit: one thread a file takes whatever is waiting, writes it in one transaction, and syncs once.

A lone writer pays one fsync; a hundred at once share one. Each unit runs in a savepoint of its own, so that one that
fails spoils no other; a fault of the file itself (full, damaged, locked) fails the whole batch.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database, driver
from firebreak.storage.faults import is_storage_fault, sqlite_code, translated

T = TypeVar("T")
Unit = Callable[[Connection], T]
"""Work inside a transaction that somebody else begins and commits. It may run on any thread, and must not keep the
connection."""

LOCK_PATIENCE = 10.0
"""Seconds to wait for another process' transaction before giving up. Twice the 5 s that a busy store is allowed."""

BATCH_LIMIT = 256
"""Units in one transaction: bounds how long the first of them waits for the last."""


@dataclass(slots=True)
class _Job:
    unit: Unit[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None


class Writer:
    """The only writing connection of this process to one file. `run` from any event loop; `close` once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"write {database.path.name}", daemon=True)
        self._thread.start()

    async def run(self, unit: Unit[T]) -> T:
        """What `unit` returned, after the fsync that made it last. Errors of the unit are raised as they are, faults
        of the file as LedgerError. A caller that is cancelled cannot know whether it was written."""
        if self._closed:
            raise LedgerError(f"{self._database.path.name} is closed", advice="Start the engine again.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Job(unit=unit, loop=loop, future=future))
        return await future

    async def close(self) -> None:
        """Write what is queued, then end the thread. Repeats do nothing."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the thread ---

    def _work(self) -> None:
        last = False
        try:
            while not last:
                batch, last = self._next_batch()
                if batch:
                    self._commit(batch)
                    _resolve(batch)
        finally:
            self._closed = True
            self._drop_connection()
            self._refuse_rest()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        job = self._queue.get()
        batch: list[_Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) == BATCH_LIMIT:
                return batch, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Job]) -> None:
        try:
            connection = self._connection or self._connect()
            raw = driver(connection)
            _begin(raw)
            for job in batch:
                _attempt(job, connection, raw, alone=len(batch) == 1)
                if job.error is not None:
                    job.error = translated(job.error, self._database.path)
            raw.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
            # Nothing of this batch is on disk for sure. A new connection starts from what the file really holds.
            self._drop_connection()
            why = translated(error, self._database.path)
            for job in batch:
                job.value, job.error = None, job.error or why

    def _connect(self) -> Connection:
        self._engine = self._database.engine(read_only=False)
        self._connection = self._engine.connect()
        # From here on `_begin` waits by itself: SQLite's own handler sleeps up to 100 ms at a time.
        driver(self._connection).execute("PRAGMA busy_timeout = 0")
        return self._connection

    def _drop_connection(self) -> None:
        connection, engine, self._connection, self._engine = self._connection, self._engine, None, None
        if connection is not None:
            connection.invalidate()  # closes the driver's connection, which rolls back what it had begun
            connection.close()
        if engine is not None:
            engine.dispose()

    def _refuse_rest(self) -> None:
        rest = []
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.error = LedgerError(f"{self._database.path.name} is closed", advice="Start the engine again.")
                rest.append(job)
        _resolve(rest)


def _begin(raw: sqlite3.Connection) -> None:
    """BEGIN IMMEDIATE, waiting in short steps for writers of other processes."""
    deadline = time.monotonic() + LOCK_PATIENCE
    pause = 0.0002
    while True:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if sqlite_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 1.5, 0.003)
        else:
            return


def _attempt(job: _Job, connection: Connection, raw: sqlite3.Connection, *, alone: bool) -> None:
    """Run one unit; its own failure undoes it alone. Faults of the file are raised."""
    if not alone:
        raw.execute("SAVEPOINT unit")
    try:
        job.value = job.unit(connection)
    except Exception as error:
        if alone or is_storage_fault(error) or not raw.in_transaction:
            raise
        job.error = error
        raw.execute("ROLLBACK TO unit")
    if not alone:
        raw.execute("RELEASE unit")


def _resolve(batch: list[_Job]) -> None:
    """Wake the callers: one call into each loop, not one a unit."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in batch:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        if not loop.is_closed():  # else nobody is left to hear it; what was written stays written
            loop.call_soon_threadsafe(_tell, jobs)


def _tell(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # the caller was cancelled meanwhile
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)

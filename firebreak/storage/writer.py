"""Group commit: one thread a file takes whatever is waiting, writes it in one transaction, and syncs once.

A lone writer pays one fsync; a hundred at once share one. Each unit of a batch runs in a savepoint of its own, so that
one that fails spoils no other; a fault of the file itself (full, damaged, locked) fails the whole batch.

While nobody writes, a unit does not wait for the thread: it runs at once, on the event loop of its caller, and the
thread only commits. A unit is some statements on pages in memory (some 10 us each); on the thread each of them would
hand the interpreter's lock back and forth with a busy loop. Whoever uses the connection holds `_turn`.
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

from firebreak.domain.errors import LedgerError
from firebreak.storage.database import Database
from firebreak.storage.faults import is_storage_fault, sqlite_code, translated

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]
"""Work inside a transaction that somebody else begins and commits. It may run on any thread, and must not keep the
connection."""

LOCK_PATIENCE = 10.0
"""Seconds to wait for another process' transaction before giving up. Twice the 5 s that a busy store is allowed."""

BATCH_LIMIT = 256
"""Units in one transaction: bounds how long the first of them waits for the last."""

TIDY_AFTER = 50
"""Commits (of some 10 pages) from which the log is moved into the file once nothing was written for `IDLE`. Measured:
1.4 ms for 220 pages, 5 ms for 1100: what every thousandth page cost a commit that happened to come then."""

IDLE = 0.2
"""Seconds. The commits of one incident on its way from the alert to the write follow each other faster."""


@dataclass(slots=True)
class _Job:
    unit: Unit[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    begun: sqlite3.Connection | None = None  # its unit has run there, in a transaction that waits for its commit
    value: Any = None
    error: Exception | None = None


class Writer:
    """The only writing connection of this process to one file. `run` from any event loop; `close` once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._turn = threading.Lock()
        self._raw: sqlite3.Connection | None = None
        self._commits = 0  # since the log was moved
        self._thread = threading.Thread(target=self._work, name=f"write {database.path.name}", daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Open the file now, rather than for the first unit. Waits for no transaction. Raises LedgerError."""
        try:
            with self._turn:
                self._connect()
        except sqlite3.Error as error:
            raise translated(error, self._database.path) from None

    async def run(self, unit: Unit[T]) -> T:
        """What `unit` returned, after the fsync that made it last. Errors of the unit are raised as they are, faults
        of the file as LedgerError. A caller that is cancelled cannot know whether it was written."""
        if self._closed:
            raise self._is_closed()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(unit=unit, loop=loop, future=future)
        if self._queue.empty() and self._turn.acquire(blocking=False):
            try:
                job.begun = self._begin_at_once(job)
            finally:
                if job.begun is None:
                    self._turn.release()
        self._queue.put(job)
        return await future

    async def close(self) -> None:
        """Write what is queued, then end the thread. Repeats do nothing."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _is_closed(self) -> LedgerError:
        return LedgerError(f"{self._database.path.name} is closed", advice="Start the engine again.")

    def _begin_at_once(self, job: _Job) -> sqlite3.Connection | None:
        """Run the unit of `job`; the commit, and with it the turn, is left to the thread. None when there is no
        connection yet or another process writes: the thread waits for that. Raises what the unit raised, undone."""
        raw = self._raw
        if raw is None:
            return None
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:  # whatever it is, the thread meets it, too, and tells the caller
            return None
        try:
            job.value = job.unit(raw)
        except BaseException as error:
            self._undo(raw, error)
            if isinstance(error, Exception):
                raise translated(error, self._database.path) from None
            raise
        return raw

    def _undo(self, raw: sqlite3.Connection, error: BaseException) -> None:
        """Take back what a unit did; after a fault of the file only a new connection knows what it holds."""
        if is_storage_fault(error) or not raw.in_transaction:
            self._drop_connection()
            return
        try:
            raw.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_connection()

    # --- on the thread ---

    def _work(self) -> None:
        last = False
        try:
            while not last:
                begun, batch, last = self._next_batch()
                # The turn is given back before the callers hear: what they write next may begin at once.
                if begun is not None and begun.begun is not None:
                    self._finish([begun], begun.begun)
                    if not batch:
                        self._turn.release()
                    _resolve([begun])
                if batch:
                    self._commit(batch)
                    self._turn.release()
                    _resolve(batch)
        finally:
            self._closed = True
            self._drop_connection()
            self._refuse_rest()

    def _next_batch(self) -> tuple[_Job | None, list[_Job], bool]:
        """(what was begun and waits for its commit, what is still to be done, whether it is the last batch). Holds the
        turn unless there is nothing."""
        begun: _Job | None = None
        batch: list[_Job] = []
        last = False
        job = self._next_job()
        while True:
            if job is None:
                last = True
            elif job.begun is not None:
                begun = job
            else:
                batch.append(job)
            enough = last or len(batch) >= BATCH_LIMIT or self._queue.empty()
            # Without the turn somebody has just begun a unit, and is about to queue it.
            if enough and (begun is not None or not batch or self._turn.acquire(blocking=False)):
                return begun, batch, last
            job = self._queue.get()

    def _next_job(self) -> _Job | None:
        if self._commits >= TIDY_AFTER:
            try:
                return self._queue.get(timeout=IDLE)
            except queue.Empty:
                self._tidy()
        return self._queue.get()

    def _tidy(self) -> None:
        """Move the log into the file, so that it starts anew. Nothing depends on it: what was committed stays in the
        log for as long as that does not succeed, and a disk that is at fault fails the next commit."""
        if self._turn.acquire(blocking=False):
            try:
                self._commits = 0
                if self._raw is not None:
                    self._raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error:
                self._drop_connection()
            finally:
                self._turn.release()

    def _commit(self, batch: list[_Job]) -> None:
        try:
            raw = self._raw or self._connect()
            _begin(raw)
            for job in batch:
                self._attempt(job, raw)
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
            self._fail(batch, error)
        else:
            self._finish(batch, raw)

    def _attempt(self, job: _Job, raw: sqlite3.Connection) -> None:
        """Run one unit; its own failure undoes it alone. Faults of the file are raised."""
        raw.execute("SAVEPOINT unit")
        try:
            job.value = job.unit(raw)
        except Exception as error:
            if is_storage_fault(error) or not raw.in_transaction:
                raise
            job.error = translated(error, self._database.path)
            raw.execute("ROLLBACK TO unit")
        raw.execute("RELEASE unit")

    def _finish(self, batch: list[_Job], raw: sqlite3.Connection) -> None:
        """Commit what has run."""
        try:
            raw.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
            self._fail(batch, error)
        else:
            self._commits += 1

    def _fail(self, batch: list[_Job], error: Exception) -> None:
        """Nothing of this batch is on disk for sure. A new connection starts from what the file really holds."""
        self._drop_connection()
        why = translated(error, self._database.path)
        for job in batch:
            job.value, job.error = None, job.error or why

    def _connect(self) -> sqlite3.Connection:
        raw = self._database.open_writing()
        # From here on `_begin` waits by itself: SQLite's own handler sleeps up to 100 ms at a time.
        raw.execute("PRAGMA busy_timeout = 0")
        self._raw = raw
        return raw

    def _drop_connection(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()  # rolls back what it had begun

    def _refuse_rest(self) -> None:
        rest = []
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.error = self._is_closed()
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

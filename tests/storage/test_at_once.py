"""Point reads and lone writes happen on the caller's event loop, and never keep it waiting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firebreak.domain.alert import Disposition, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.timeline import EntryKind
from firebreak.storage import writer
from firebreak.storage.entries import FEW as FEW_ENTRIES
from firebreak.storage.inbox import FEW
from firebreak.storage.outbox import FEW as FEW_MESSAGES
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


def _on_the_spot(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, which does not suspend."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("it waits for something")


async def test_a_point_read_does_not_leave_the_loop(store: TimelineStore, make: Make) -> None:
    """What is asked on the way of an alert is answered without a thread, and after each commit with what it wrote."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    assert await store.find(incident.id, "verdict/0") is None  # the first read opens the connection
    (written,) = await store.append([make.draft(incident.id, "verdict/0")], restores=[make.restore(incident.id)])
    assert _on_the_spot(store.find(incident.id, "verdict/0")) == written.entry
    assert _on_the_spot(store.find_first(incident.id, ("close", "verdict/0"))) == written.entry
    assert _on_the_spot(store.incident(incident.id)) == incident
    assert _on_the_spot(store.firing(incident.id)) == 1
    assert _on_the_spot(store.close_requests()) == ()
    assert _on_the_spot(store.open_restores()) == (make.restore(incident.id),)


async def test_new_entries_come_at_once_and_are_those_of_the_whole(store: TimelineStore, make: Make) -> None:
    """Few on the spot, large ones too; many on the thread, as equal and in the same order."""
    large = {"facts": ["€" * 500] * 20}
    await store.append([make.draft("inc-b"), make.draft(key="a"), make.draft(key="large", body=large)])
    await store.entries_after("inc-a", 0)
    everything = await store.entries("inc-a")
    assert _on_the_spot(store.entries_after("inc-a", 0)) == everything
    assert everything[-1].body == large
    assert _on_the_spot(store.entries_after("inc-a", 2)) == everything[1:]
    assert _on_the_spot(store.entries_after("inc-a", 3)) == ()
    await store.append([make.draft(key=f"{n}") for n in range(FEW_ENTRIES, 0, -1)])
    everything = await store.entries("inc-a")
    with pytest.raises(AssertionError, match="waits"):
        _on_the_spot(store.entries_after("inc-a", 2))
    assert await store.entries_after("inc-a", 2) == everything[1:]
    assert _on_the_spot(store.entries_after("inc-a", 3)) == everything[2:]


async def test_a_look_at_the_outbox_does_not_leave_the_loop(store: TimelineStore, make: Make) -> None:
    """It is the sender's most frequent question; a storm of messages is read on the thread."""
    await store.append([make.draft()], messages=[make.message("m"), make.message("later", due=60)])
    await store.due(make.time(), limit=9)
    assert [m.draft.key for m in _on_the_spot(store.due(make.time(1), limit=9))] == ["m"]
    await store.append([], messages=[make.message(f"{n}", incident=f"inc-{n}") for n in range(FEW_MESSAGES)])
    with pytest.raises(AssertionError, match="waits"):
        _on_the_spot(store.due(make.time(1), limit=9))
    assert len(await store.due(make.time(1), limit=999)) == FEW_MESSAGES + 1


async def test_a_claim_of_many_is_decoded_on_the_thread(inbox: InboxStore, make: Make) -> None:
    """A few deliveries are claimed on the spot; a backlog comes whole and in order, without holding up the loop."""
    p1 = IntakeClass.P1_CANDIDATE
    await inbox.accept([(make.alert(), p1)], source="s", truncated=0, accepted_at=make.time())
    await inbox.claim(p1, limit=9)
    assert len(_on_the_spot(inbox.claim(p1, limit=9))) == 1
    await inbox.accept(
        [(make.alert(f"f{n}"), p1) for n in range(FEW)], source="s", truncated=0, accepted_at=make.time()
    )
    with pytest.raises(AssertionError, match="waits"):
        _on_the_spot(inbox.claim(p1, limit=99))
    assert [accepted.receipt for accepted in await inbox.claim(p1, limit=99)] == list(range(1, FEW + 2))


# What SQLite does while it recovers a log (wal.c): the locks WRITE, CKPT and RECOVER are bytes 120 to 122 of the
# shared memory, and both copies of its header (48 bytes each) are not to be trusted until it is done.
_RECOVER = """
import fcntl, os, sys
shared = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(shared, fcntl.LOCK_EX, 3, 120)
os.pwrite(shared, bytes(96), 0)
print("locked", flush=True)
sys.stdin.readline()
"""


@asynccontextmanager
async def _recovered_by_another_process(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    shared = f"{path}-shm"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", _RECOVER, shared, stdin=pipe, stdout=pipe)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"locked\n"
        yield child
    finally:
        await child.communicate(b"done\n")


async def test_a_read_during_an_exclusive_lock_waits_beside_the_loop(
    store: TimelineStore, make: Make, timeline_path: Path
) -> None:
    """While another process recovers the log, the read waits on its thread and the loop goes on; then it answers."""
    (written,) = await store.append([make.draft()])
    assert await store.find("inc-a", "k") == written.entry
    async with _recovered_by_another_process(timeline_path):
        reading = asyncio.create_task(store.find("inc-a", "k"))
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not reading.done(), "it was answered without the lock, or the loop was kept waiting till it gave up"
    assert await reading == written.entry
    assert _on_the_spot(store.find("inc-a", "k")) == written.entry


async def test_a_read_that_cannot_be_right_is_a_ledger_error_and_passes(store: TimelineStore, make: Make) -> None:
    """What SQLite refuses on the loop is told in our words, and the next read is answered on the spot again."""
    await store.append([make.draft()])
    await store.find("inc-a", "k")
    for _ in range(2):
        with pytest.raises(LedgerError, match="no such table"):
            await store._peek(lambda raw: raw.execute("SELECT 1 FROM nowhere"))
    await store.find("inc-a", "k")
    assert _on_the_spot(store.find("inc-a", "k")) is not None


async def test_a_clean_close_leaves_one_file(timeline_path: Path, make: Make) -> None:
    """Every connection is closed, the writing one last: the log is in the file."""
    async with await TimelineStore.open(timeline_path) as store:
        await store.append([make.draft()])
        assert await store.find("inc-a", "k") is not None
        assert len(await store.entries("inc-a")) == 1
    assert [name for name in os.listdir(timeline_path.parent) if name.endswith(("-wal", "-shm"))] == []
    with pytest.raises(LedgerError, match="is closed"):
        await store.find("inc-a", "k")


# --- writing ---


def _hold(path: Path, held: threading.Event, let_go: threading.Event) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        held.set()
        let_go.wait(5)
        raw.execute("ROLLBACK")


@asynccontextmanager
async def _written_by_another(path: Path) -> AsyncIterator[None]:
    held, let_go = threading.Event(), threading.Event()
    other = asyncio.create_task(asyncio.to_thread(_hold, path, held, let_go))
    await asyncio.to_thread(held.wait)
    try:
        yield
    finally:
        let_go.set()
        await other


async def test_a_lone_unit_runs_on_the_loop_unless_another_process_writes(
    store: TimelineStore, make: Make, timeline_path: Path
) -> None:
    """Its statements need no other thread; for the lock of another process the thread waits, not the loop."""
    await store.append([make.draft()])  # the first one connects
    assert await store._write(lambda raw: threading.get_ident()) == threading.get_ident()
    async with _written_by_another(timeline_path):
        waiting = asyncio.create_task(store._write(lambda raw: threading.get_ident()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert await waiting != threading.get_ident()


class _Stop(BaseException):
    """As a KeyboardInterrupt."""


@pytest.mark.parametrize("fault", [ZeroDivisionError, _Stop])
async def test_a_lone_unit_that_fails_leaves_nothing(
    store: TimelineStore, make: Make, fault: type[BaseException]
) -> None:
    """What it did is undone, what it raised is raised, and writing goes on."""
    await store.append([make.draft()])

    def broken(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO target_locks VALUES ('t', 'inc-a')")
        raise fault

    with pytest.raises(fault):
        await store._write(broken)
    count = await store._write(lambda raw: raw.execute("SELECT count(*) FROM target_locks").fetchone()[0])
    assert count == 0
    (done,) = await store.append([make.draft(key="next")])
    assert done.entry.seq == 2


async def test_nothing_of_a_commit_that_fails_is_there(store: TimelineStore, make: Make) -> None:
    """A unit that ran and cannot be committed fails its caller; the store goes on with what the file holds."""
    await store.append([make.draft()])

    def ends_it(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO target_locks VALUES ('t', 'inc-a')")
        raw.execute("ROLLBACK")  # as SQLite does by itself after some faults: then COMMIT is refused

    with pytest.raises(LedgerError, match="no transaction"):
        await store._write(ends_it)
    (done,) = await store.append([make.draft(key="next")])
    assert done.entry.seq == 2


async def test_two_event_loops_share_a_store(store: TimelineStore, make: Make) -> None:
    """Whoever's unit runs at once, no other thread uses the connection meanwhile, and nobody waits for ever."""

    async def write(name: str) -> None:
        for n in range(60):
            await asyncio.gather(*(store.append([make.draft(name, f"{n}/{m}")]) for m in range(n % 4)))

    def elsewhere(name: str) -> None:
        asyncio.run(write(name))

    async with asyncio.timeout(30):
        await asyncio.gather(asyncio.to_thread(elsewhere, "one"), asyncio.to_thread(elsewhere, "two"), write("three"))
    kept = [entry.seq for name in ("one", "two", "three") for entry in await store.entries(name)]
    assert sorted(kept) == list(range(1, 3 * 90 + 1))


async def test_a_duplicate_begins_no_transaction(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """The most frequent delivery of all is answered while another process writes; it left no more out than known."""

    def told(seconds: float, truncated: int = 2) -> Coroutine[Any, Any, tuple[str, Disposition]]:
        incident = replace(make.incident(accepted=seconds), truncated=truncated)
        return store.open_or_join(
            incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
        )

    incident_id, _ = await told(0)
    await told(1)
    async with _written_by_another(timeline_path):
        assert _on_the_spot(told(5)) == (incident_id, Disposition.DUPLICATE)
        assert _on_the_spot(told(6, truncated=0)) == (incident_id, Disposition.DUPLICATE)


async def test_the_log_is_moved_into_the_file_when_nothing_is_written(
    store: TimelineStore, make: Make, timeline_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a commit that happens to come when it is long; and writing goes on after it."""
    monkeypatch.setattr(writer, "TIDY_AFTER", 5)
    monkeypatch.setattr(writer, "IDLE", 0.05)

    def in_the_file() -> int:
        with closing(sqlite3.connect(f"file:{timeline_path}?mode=ro&immutable=1", uri=True)) as raw:
            (count,) = raw.execute("SELECT count(*) FROM entries").fetchone()
            return int(count)

    def until_moved() -> None:
        deadline = time.monotonic() + 10
        while in_the_file() < 8:
            assert time.monotonic() < deadline, "it is still in the log"
            time.sleep(0.01)

    before = await asyncio.to_thread(in_the_file)
    for n in range(8):
        await store.append([make.draft(key=f"k{n}", kind=EntryKind.ENGINE_FAULT)])
    await asyncio.to_thread(until_moved)
    assert before == 0
    (done,) = await store.append([make.draft(key="next")])
    assert done.entry.seq == 9

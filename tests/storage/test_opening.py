"""Opening: schema, read-only use, and files that cannot be used."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from firebreak.domain.errors import LedgerError
from firebreak.storage import writer
from firebreak.storage.migrate import alembic_config
from firebreak.storage.schema import SAME_RECORD, inbox_metadata, timeline_metadata
from firebreak.storage.sqlite_store import InboxStore, TimelineStore
from firebreak.storage.verify import verify_store

if TYPE_CHECKING:
    from tests.storage.conftest import Make


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("store_class", "metadata"), [(TimelineStore, timeline_metadata), (InboxStore, inbox_metadata)]
)
async def test_migrations_lead_to_the_schema_of_the_code(
    store_class: type[TimelineStore] | type[InboxStore], metadata: MetaData, tmp_path: Path
) -> None:
    """A migrated file differs in nothing from the tables of the queries, and its revision is the last."""
    path = tmp_path / "s.sqlite"
    async with await store_class.open(path):
        pass
    database = store_class.database(path)
    with database.connection(read_only=True) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        script = ScriptDirectory.from_config(alembic_config(store_class.schema, connection))
    assert script.get_current_head() == store_class.revision == database.present_revision()


@pytest.mark.parametrize("name", ["data #1", "data?mode=ro", "data%41", "d\u00e4ta", "data \udce4"])
async def test_a_store_is_in_its_directory_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    """Names of a Latin-1 disk, too, which no UTF-8 can carry."""
    path = tmp_path / name / "s.sqlite"
    path.parent.mkdir()
    async with await TimelineStore.open(path):
        pass
    async with await TimelineStore.open(path, read_only=True) as store:
        assert await store.open_incidents() == ()


async def test_a_new_store_is_its_owners_alone(tmp_path: Path, make: Make) -> None:
    """With its log, whatever directory it lies in: it holds alerts, evidence and logs of pods."""
    async with await TimelineStore.open(tmp_path / "s.sqlite") as store:
        await store.append([make.draft()])
        modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)}
    assert {"s.sqlite", "s.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("revision", sorted(SAME_RECORD))
async def test_an_older_store_is_migrated_with_all_that_it_holds(
    timeline_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    """The record still holds, what waited is still due; who only reads says that an engine must start once."""
    with monkeypatch.context() as older:
        older.setattr(TimelineStore, "revision", revision)
        async with await TimelineStore.open(timeline_path) as store:
            await store.append([make.draft()], messages=[make.message("m")])
    assert TimelineStore.database(timeline_path).present_revision() == revision
    with pytest.raises(LedgerError, match=f"holds schema {revision}") as refused:
        await TimelineStore.open(timeline_path, read_only=True)
    assert "Start this version's engine once" in refused.value.next_step()
    async with await TimelineStore.open(timeline_path) as store:
        assert [entry.key for entry in await store.entries("inc-a")] == ["k"]
        assert [message.draft.key for message in await store.due(make.time(1), limit=9)] == ["m"]
    assert TimelineStore.database(timeline_path).present_revision() == TimelineStore.revision
    assert verify_store(timeline_path).ok


async def test_a_store_is_found_as_it_was_left(timeline_path: Path, make: Make) -> None:
    """Closed and opened again, the numbering goes on; closing twice does nothing."""
    async with await TimelineStore.open(timeline_path) as store:
        await store.append([make.draft()])
        await store.close()
    async with await TimelineStore.open(timeline_path) as store:
        (second,) = await store.append([make.draft(key="second")])
    assert second.entry.seq == 2


async def test_a_closed_store_says_so(timeline_path: Path, make: Make) -> None:
    """Work after the close is refused with a sentence, not left waiting for ever."""
    store = await TimelineStore.open(timeline_path)
    await store.close()
    with pytest.raises(LedgerError, match="is closed"):
        await store.append([make.draft()])
    with pytest.raises(LedgerError, match="is closed"):
        await store.find("inc-a", "k")


async def test_what_is_queued_is_written_before_the_close(timeline_path: Path, make: Make) -> None:
    """A clean stop loses nothing that was asked for before it."""
    store = await TimelineStore.open(timeline_path)
    work = [asyncio.create_task(store.append([make.draft(key=f"k{n}")])) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*work)
    assert (await asyncio.to_thread(verify_store, timeline_path)).entries == 50


async def test_reading_only_writes_nothing(timeline_path: Path, make: Make) -> None:
    """The CLI's view reads everything and refuses to write."""
    async with await TimelineStore.open(timeline_path) as store:
        (appended,) = await store.append([make.draft()])
    before = _bytes(timeline_path)
    async with await TimelineStore.open(timeline_path, read_only=True) as view:
        assert await view.entries("inc-a") == (appended.entry,)
        assert await view.rows(limit=9) == ()
        with pytest.raises(LedgerError, match="reading only"):
            await view.append([make.draft(key="more")])
    assert _bytes(timeline_path) == before


async def test_a_reader_sees_what_a_running_engine_wrote(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """Each acknowledged entry is there at once, for this process and for another reader."""
    async with await TimelineStore.open(timeline_path, read_only=True) as view:
        for n in range(50):
            (appended,) = await store.append([make.draft(key=f"k{n}")])
            assert await store.find("inc-a", f"k{n}") == appended.entry
            assert await view.find("inc-a", f"k{n}") == appended.entry


async def test_a_read_only_medium_can_be_read(timeline_path: Path, make: Make) -> None:
    """A copy in a directory that nobody may write to (an archive) opens for reading, by an ordinary account too."""
    async with await TimelineStore.open(timeline_path) as store:
        await store.append([make.draft()])
    done = await asyncio.to_thread(_read_as_nobody, timeline_path)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


_READ = """
import os, sys
from pathlib import Path
import sqlalchemy
from firebreak.storage.verify import verify_store
sqlalchemy.create_engine("sqlite://").dispose()
if os.getuid() == 0:
    os.setuid(65534)
print(verify_store(Path(sys.argv[1])).entries)
"""


def _read_as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    for beside in path.parent.glob("timeline.sqlite?*"):
        beside.unlink()
    path.chmod(0o444)
    if os.getuid() == 0:  # pytest's directories are for their owner alone
        for above in path.parents[1:]:
            if not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    path.parent.chmod(0o555)
    try:
        return subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=False)
    finally:
        path.parent.chmod(0o755)


_OPEN = """
import asyncio, os, sys
from pathlib import Path
from firebreak.domain.errors import LedgerError
from firebreak.storage.sqlite_store import TimelineStore
if os.getuid() == 0:
    os.setuid(65534)
try:
    asyncio.run(TimelineStore.open(Path(sys.argv[1]), read_only=True))
except LedgerError as error:
    print(error, error.next_step())
"""


async def test_a_reader_of_another_account_is_told_which_one_may(timeline_path: Path) -> None:
    """The engine's directory is for its owner alone, so that nobody else even sees whether a store is there."""
    async with await TimelineStore.open(timeline_path):
        pass
    done = await asyncio.to_thread(_open_as_nobody, timeline_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert f"timeline.sqlite: Permission denied ({timeline_path.parent})" in done.stdout
    assert "Run it as the engine's account" in done.stdout


def _open_as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    path.parent.chmod(0 if os.getuid() else 0o700)
    try:
        return subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=False)
    finally:
        path.parent.chmod(0o755)


def _died_before_its_schema(path: Path, died: str) -> None:
    """As a kill -9, or a full disk, leaves the file of a first start."""
    if died == "while it was made":
        _overwrite(path, b"")
        return
    other = path.with_name("first-start.sqlite")
    with closing(sqlite3.connect(other, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA cache_size = 1")  # so that the log holds some of it, without a commit
        raw.execute("BEGIN IMMEDIATE")
        for number in range(50):
            raw.execute(f"CREATE TABLE t{number} (a TEXT)")
        for end in ("", "-wal"):
            _overwrite(Path(f"{path}{end}"), _bytes(Path(f"{other}{end}")))
    assert _bytes(Path(f"{path}-wal"))


@pytest.mark.parametrize("died", ["while it was made", "in its migration"])
@pytest.mark.parametrize("store_class", [TimelineStore, InboxStore])
async def test_what_a_first_start_left_before_its_schema_is_new_and_becomes_a_store(
    store_class: type[TimelineStore] | type[InboxStore], tmp_path: Path, died: str
) -> None:
    """Nothing was ever kept in it; from its first table on it is new no more."""
    path = tmp_path / "s.sqlite"
    database = store_class.database(path)
    assert database.is_new()
    _died_before_its_schema(path, died)
    assert database.is_new()
    async with await store_class.open(path):
        pass
    assert not database.is_new()
    assert database.present_revision() == store_class.revision


async def test_whether_a_file_is_new_is_not_guessed(timeline_path: Path) -> None:
    """Something else under the name is neither new nor a store."""
    _overwrite(timeline_path, b"this is a letter, not a database\n" * 200)
    with pytest.raises(LedgerError, match="not a Firebreak store"):
        TimelineStore.database(timeline_path).is_new()


async def test_a_missing_store_is_explained(tmp_path: Path) -> None:
    """Reading where nothing is makes no file and says which setting to look at."""
    with pytest.raises(LedgerError, match="there is no timeline") as caught:
        await TimelineStore.open(tmp_path / "timeline.sqlite", read_only=True)
    assert "--data-dir" in caught.value.next_step()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_store_of_a_newer_program_is_refused(timeline_path: Path, *, read_only: bool) -> None:
    """It is left as it is, and the message names the schema."""
    async with await TimelineStore.open(timeline_path):
        pass
    with closing(sqlite3.connect(timeline_path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = 'timeline_9999'")
    with pytest.raises(LedgerError, match="timeline_9999"):
        await TimelineStore.open(timeline_path, read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_file_that_is_no_store_is_refused(timeline_path: Path, *, read_only: bool) -> None:
    """Something else under the name is not overwritten."""
    _overwrite(timeline_path, b"this is a letter, not a database\n" * 200)
    with pytest.raises(LedgerError, match="not a Firebreak store") as caught:
        await TimelineStore.open(timeline_path, read_only=read_only)
    assert "put back a copy of all of it" in caught.value.next_step()
    assert _bytes(timeline_path).startswith(b"this is a letter")


async def test_a_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """A data directory below a file is a LedgerError with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"timeline\.sqlite"):
        await TimelineStore.open(tmp_path / "file" / "timeline.sqlite")


def _hold_lock(path: Path, seconds: float, held: threading.Event) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(seconds)
        raw.execute("ROLLBACK")


async def test_a_short_lock_of_another_process_is_waited_for(
    store: TimelineStore, make: Make, timeline_path: Path
) -> None:
    """A writer that holds the file for a while delays the append, and reads go on meanwhile."""
    held = threading.Event()
    other = asyncio.create_task(asyncio.to_thread(_hold_lock, timeline_path, 0.7, held))
    await asyncio.to_thread(held.wait)
    waiting = asyncio.create_task(store.append([make.draft()]))
    assert await asyncio.wait_for(store.find("inc-a", "k"), 0.5) is None
    await waiting
    await other


async def test_a_lock_held_too_long_is_an_error_and_passes(
    store: TimelineStore, make: Make, timeline_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the patience a LedgerError says who to look for; when the lock is gone, writing goes on."""
    assert writer.LOCK_PATIENCE >= 5
    monkeypatch.setattr(writer, "LOCK_PATIENCE", 0.1)
    held = threading.Event()
    other = asyncio.create_task(asyncio.to_thread(_hold_lock, timeline_path, 0.5, held))
    await asyncio.to_thread(held.wait)
    with pytest.raises(LedgerError, match="locked for too long") as caught:
        await store.append([make.draft()])
    assert "stop it" in caught.value.next_step()
    await other
    (appended,) = await store.append([make.draft()])
    assert appended.entry.seq == 1

"""Whether the files that an engine has opened are still those that stand there, and that it goes on with them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.errors import LedgerError
from firebreak.storage.opened_files import OpenedFiles
from firebreak.storage.sqlite_store import TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


@pytest.fixture
def opened(tmp_path: Path) -> tuple[OpenedFiles, Path]:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"one")
    files = OpenedFiles()
    files.add(path)
    return files, path


def test_a_file_that_is_written_is_the_same_one(opened: tuple[OpenedFiles, Path]) -> None:
    """However much it grows."""
    files, path = opened
    path.write_bytes(b"another text")
    assert files.replaced() == ()


def test_another_file_under_the_name_is_told(opened: tuple[OpenedFiles, Path], tmp_path: Path) -> None:
    """Also one of the very same bytes, and also when the former one is back: much may have happened meanwhile."""
    files, path = opened
    os.rename(path, tmp_path / "former")
    shutil.copy(tmp_path / "former", path)
    assert files.replaced() == (path,)
    os.replace(tmp_path / "former", path)
    assert files.replaced() == (path,)


def test_a_file_that_is_gone_is_told(opened: tuple[OpenedFiles, Path]) -> None:
    """Whoever opens it next makes a new one."""
    files, path = opened
    path.unlink()
    assert files.replaced() == (path,)


def test_where_nobody_can_say_nothing_is_told(
    opened: tuple[OpenedFiles, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not answer is a fault of its own."""
    files, _ = opened

    def fails(path: Path) -> os.stat_result:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "stat", fails)
    assert files.replaced() == ()


async def with_copy(path: Path, make: Make) -> Path:
    """A store at `path` with more in it than the copy has."""
    copy = path.with_name("copy")
    async with await TimelineStore.open(path) as store:
        await store.append([make.draft(key="before")])
    shutil.copy(path, copy)
    async with await TimelineStore.open(path) as store:
        await store.append([make.draft(key=f"since {n}", body={"long": "x" * 5_000}) for n in range(9)])
    return copy


@pytest.mark.parametrize("log", ["kept", "gone"])
async def test_a_store_goes_on_with_the_file_that_was_there_when_it_was_opened(
    timeline_path: Path, make: Make, log: str
) -> None:
    """Nothing was read or written before another one stood there, alone or with the rest of its directory: a call that
    is written into this one is found, and sent."""
    copy = await with_copy(timeline_path, make)
    async with await TimelineStore.open(timeline_path) as store:
        if log == "gone":
            for end in ("-wal", "-shm"):
                os.unlink(f"{timeline_path}{end}")
        os.replace(copy, timeline_path)
        (written,) = await store.append([make.draft(key="call")], messages=[make.message("call")])
        assert written.entry.seq == await store.newest() == 11
        assert [message.draft.key for message in await store.due(make.time(1), limit=9)] == ["call"]
    if log == "gone":  # else that log, which is of the former file, lies beside the other one
        with closing(sqlite3.connect(timeline_path)) as raw:
            assert raw.execute("SELECT count(*) FROM entries").fetchone() == (1,)


@pytest.mark.parametrize("there", ["another file", "none"])
async def test_no_connection_is_made_anew_to_another_file(timeline_path: Path, make: Make, there: str) -> None:
    """After a fault of the disk each is: then nothing is written, nor read, and whoever asks says so."""
    copy = await with_copy(timeline_path, make)
    async with await TimelineStore.open(timeline_path) as store:
        assert store._writer is not None
        store._writer._drop_connection()
        store._reader._drop_connections()
        if there == "none":
            os.unlink(timeline_path)
        else:
            os.replace(copy, timeline_path)
        with pytest.raises(LedgerError, match="another file stands"):
            await store.append([make.draft(key="call")])
        with pytest.raises(LedgerError, match="another file stands"):
            await store.newest()
        with pytest.raises(LedgerError, match="another file stands"):
            await store.entries("inc-a")
    assert (timeline_path.name in os.listdir(timeline_path.parent)) is (there == "another file")

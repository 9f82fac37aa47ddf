"""A file that is put in the place of an open one is noticed, by whoever has the former one open."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.alert import IntakeClass
from firebreak.storage.opened_files import EVERY, MISSING, OpenedFiles
from firebreak.storage.sqlite_store import InboxStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


@pytest.fixture
def gone() -> list[float]:
    """Seconds; the last one is now."""
    return [0.0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "inbox.sqlite"
    made.write_bytes(b"one")
    return made


def test_a_file_that_is_written_is_the_same(path: Path, gone: list[float]) -> None:
    """Whatever becomes of its content."""
    files = OpenedFiles([path], elapsed=lambda: gone[-1])
    path.write_bytes(b"two")
    gone.append(EVERY)
    assert files.replaced() is None


def test_another_file_in_its_place_is_seen_within_a_second(path: Path, gone: list[float], tmp_path: Path) -> None:
    """Moved over it, as `mv` and `os.replace` do; the file itself is the second of two."""
    (tmp_path / "timeline.sqlite").touch()
    files = OpenedFiles([tmp_path / "timeline.sqlite", path], elapsed=lambda: gone[-1])
    assert files.replaced() is None
    with path.open("rb"):  # as a store has it: else its number may be given to the new one
        (tmp_path / "new").write_bytes(b"two")
        os.replace(tmp_path / "new", path)
        assert files.replaced() is None, "it does not look at every round"
        gone.append(EVERY)
        assert files.replaced() == path


def test_a_file_that_is_gone_is_given_time_to_come_back(path: Path, gone: list[float], tmp_path: Path) -> None:
    """Moved away and back it is the same; gone for long it is another one that a start would make."""
    files = OpenedFiles([path], elapsed=lambda: gone[-1])
    for away, expected in ((MISSING - 1, None), (MISSING, path)):
        os.replace(path, tmp_path / "away")
        gone.append(gone[-1] + away)
        assert files.replaced() == expected
        os.replace(tmp_path / "away", path)
        gone.append(gone[-1] + EVERY)
        assert files.replaced() is None


async def test_the_log_of_the_former_file_is_not_written_into_the_new_one(
    inbox_path: Path, tmp_path: Path, make: Make, gone: list[float]
) -> None:
    """SQLite knows it by its name alone. It is kept: alerts may be in it that are nowhere else."""
    async with await InboxStore.open(tmp_path / "backup"):
        pass
    async with await InboxStore.open(inbox_path) as former:
        files = OpenedFiles([inbox_path], elapsed=lambda: gone[-1])
        await former.accept([(make.alert(), IntakeClass.OTHER)], source="s", truncated=0, accepted_at=make.time())
        assert files.replaced() is None
        os.replace(inbox_path, tmp_path / "former.sqlite")
        shutil.copy(tmp_path / "backup", inbox_path)
        assert files.look() == inbox_path
        files.set_logs_aside()
        async with await InboxStore.open(inbox_path) as new:
            assert await new.backlog() == 0
            await new.accept([(make.alert(), IntakeClass.OTHER)], source="s", truncated=0, accepted_at=make.time())
            log = _number(inbox_path)
            files.set_logs_aside()
            assert _number(inbox_path) == log, "that is the new one's"
    (kept,) = [name for name in os.listdir(tmp_path) if name.startswith("inbox.sqlite-wal.former-")]
    os.replace(tmp_path / kept, tmp_path / "former.sqlite-wal")
    async with await InboxStore.open(tmp_path / "former.sqlite") as former:
        assert await former.backlog() == 1


def _number(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_ino

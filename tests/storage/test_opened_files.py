"""Whether the files that an engine has opened are still those that stand there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from firebreak.storage.opened_files import OpenedFiles


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

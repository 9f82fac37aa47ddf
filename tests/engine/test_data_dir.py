"""One engine per directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firebreak.domain.errors import SettingsInvalid
from firebreak.engine.data_dir import locked


def test_a_second_engine_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """While the first one lives; afterwards the directory is free."""
    with locked(tmp_path / "data") as first:
        assert (first / "run").is_dir()
        with pytest.raises(SettingsInvalid, match="another engine uses") as caught, locked(tmp_path / "data"):
            pass
        assert "--data-dir" in caught.value.next_step()
    with locked(tmp_path / "data"):
        pass


def test_a_new_data_directory_is_its_owners_alone(tmp_path: Path) -> None:
    """Alerts, evidence and the webhook's token are in there."""
    with locked(tmp_path / "deep" / "data") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "run").stat().st_mode & 0o777 == 0o700


def test_a_killed_engine_leaves_no_lock(tmp_path: Path) -> None:
    """The kernel gives the lock back with the process: a kill -9 needs no cleaning up."""
    program = (
        "import sys, pathlib\nfrom firebreak.engine.data_dir import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SettingsInvalid), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, where: str) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="cannot be used") as caught, locked(tmp_path / where):
        pass
    assert "permissions" in caught.value.next_step()


def test_the_lock_is_given_back_after_a_failure(tmp_path: Path) -> None:
    """What runs inside fails: the next start is not refused."""
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass

"""Who may start a lab in a directory: two locks, let go by the kernel when the process that holds them is killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from firebreak.domain.errors import ContractError
from firebreak.lab.state import is_lab


@contextmanager
def sole_owner(lab_dir: Path) -> Iterator[Callable[[], bool]]:
    """Held while a lab runs in `lab_dir`, or while what a dead one left there is ended.

    Gives a question to ask at any time: is the directory still that one, neither removed nor made anew?
    ContractError at once when another process holds it.
    """
    path = lab_dir / "lock"
    with _locked(path, lab_dir) as descriptor:
        mine = os.fstat(descriptor)  # held open, so no other file gets its inode

        def ours() -> bool:
            try:
                return os.path.samestat(path.stat(), mine) and is_lab(lab_dir)
            except OSError:
                return False

        yield ours


@contextmanager
def sole_starter(lab_dir: Path) -> Iterator[None]:
    """Held from the look for a lab's owner until a new one is written down. ContractError at once when another does."""
    with _locked(lab_dir / "up.lock", lab_dir):
        yield


def already_up(lab_dir: Path) -> ContractError:
    """The refusal of a second lab in one directory."""
    return ContractError(f"a lab is up in {lab_dir} already", advice="Use it, or run `firebreak lab down` first.")


@contextmanager
def _locked(path: Path, lab_dir: Path) -> Iterator[int]:
    with open(path, "a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise already_up(lab_dir) from None
        yield handle.fileno()

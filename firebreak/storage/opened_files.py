"""Whether files are still those that were opened: a process goes on with the one it has, whatever stands in its place.

Processes that hold different ones go apart: what one of them accepts the other never sees.
"""

from __future__ import annotations

import os
from pathlib import Path


class OpenedFiles:
    """Of one engine."""

    def __init__(self) -> None:
        self._opened: dict[Path, tuple[int, int]] = {}
        self._replaced: set[Path] = set()

    def add(self, path: Path) -> None:
        """`path` has just been opened. OSError when there is no such file."""
        self._opened[path] = identity(path)

    def replaced(self) -> tuple[Path, ...]:
        """Those in whose place there was another one since, or none. With the former one back it is not as before:
        SQLite may have dropped its log, or given it to the other one."""
        self._replaced.update(path for path, opened in self._opened.items() if is_another(path, opened))
        return tuple(path for path in self._opened if path in self._replaced)


def is_another(path: Path, opened: tuple[int, int]) -> bool:
    """Whether another file, or none, stands where the one of that identity was opened."""
    try:
        return identity(path) != opened
    except FileNotFoundError:
        return True
    except OSError:  # nobody can say, and whoever needs the file says so
        return False


def identity(path: Path) -> tuple[int, int]:
    """What tells one file from another, whatever its name. OSError when there is none."""
    found = os.stat(path)
    return found.st_dev, found.st_ino

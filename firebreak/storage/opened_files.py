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

    def add(self, path: Path) -> None:
        """`path` has just been opened. OSError when there is no such file."""
        self._opened[path] = _identity(path)

    def replaced(self) -> tuple[Path, ...]:
        """Those in whose place there is another one by now, or none."""
        return tuple(path for path, opened in self._opened.items() if _is_another(path, opened))


def _is_another(path: Path, opened: tuple[int, int]) -> bool:
    try:
        return _identity(path) != opened
    except FileNotFoundError:
        return True
    except OSError:  # nobody can say, and whoever needs the file says so
        return False


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino

"""Whether files are still those that were opened: a process goes on with the one it has, whatever stands in its place.

Processes that hold different ones go apart: what one of them accepts the other never sees.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from firebreak.domain.errors import LedgerError

EVERY = 1.0  # seconds between two looks

MISSING = 10.0
"""Seconds for which there may be none before that counts. Who moves a file away puts another one there as a rule; one
that we make meanwhile would be overwritten while it is open."""


_LOGS = ("-wal", "-shm")
"""SQLite's own files beside each."""


class OpenedFiles:
    """Made right after `paths` were opened. `elapsed`: seconds of a clock that nobody sets."""

    def __init__(self, paths: Iterable[Path], *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._opened = {path: _identity(path) for path in paths}
        self._there_at = dict.fromkeys(self._opened, elapsed())  # when each was last there
        self._logs: dict[Path, tuple[int, int]] = {}  # of the opened ones, as last seen
        self._looked_at = float("-inf")
        self._replaced: Path | None = None

    def replaced(self) -> Path | None:
        """The first that is another one now, or is gone for good. Cheap enough for every round of a loop."""
        return self.look() if self._elapsed() - self._looked_at >= EVERY else self._replaced

    def look(self) -> Path | None:
        """As `replaced`, of this very moment."""
        now = self._looked_at = self._elapsed()
        self._replaced = next((path for path in self._opened if self._is_another(path, now)), None)
        return self._replaced

    def set_logs_aside(self) -> None:
        """Those that are left of files that are gone, as `<name>-wal.former-<number>`: SQLite knows a log by its name
        alone, and would write the old one into the new file. Raises LedgerError when that cannot be done."""
        for log, known in tuple(self._logs.items()):
            aside = log.with_name(f"{log.name}.former-{known[1]}")
            try:
                if self._is_another(_main(log), self._elapsed()) and _identity(log) == known:
                    os.rename(log, aside)
            except OSError as error:
                raise LedgerError(
                    f"{log.name} is of a file that was replaced, and cannot be set aside: {error.strerror}",
                    advice=f"Move {log} to {aside.name} by hand, then start again.",
                ) from None

    def _is_another(self, path: Path, now: float) -> bool:
        try:
            found = _identity(path)
            if found is None:
                return now - self._there_at[path] >= MISSING
            self._there_at[path] = now
            if found != self._opened[path]:
                return True
            for log in (path.with_name(path.name + end) for end in _LOGS):
                if (known := _identity(log)) is not None:
                    self._logs[log] = known
        except OSError:  # nobody can say, and whoever needs the file says so
            pass
        return False


def _main(log: Path) -> Path:
    return log.with_name(log.name[: -len(_LOGS[0])])


def _identity(path: Path) -> tuple[int, int] | None:
    """None when there is no such file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino

"""What a person sees while a server is had: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

STILL = 30.0
"""Seconds between two plain lines about what has no known total."""


class Reporter(Protocol):
    """Told about one server at a time."""

    def say(self, line: str) -> None:
        """One line for the person who waits."""

    def begin(self, name: str, total: int) -> None:
        """`name` starts; `total` packages or kilobytes at most, 0 = nobody knows."""

    def advance(self, done: int, what: str) -> None:
        """`done` of the total; `what` is in hand. Of a total that nobody knows `what` is the unit."""

    def end(self) -> None:
        """The server that began has ended, well or not."""


class Silent:
    """Says nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def begin(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, done: int, what: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Lines:
    """Plain lines, at most one for each tenth of the work; one each half minute where nobody knows how much it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._name = ""
        self._total = 0
        self._tenth = 0
        self._told_at = 0.0

    def say(self, line: str) -> None:
        """Write the line."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def begin(self, name: str, total: int) -> None:
        """Start counting."""
        self._name, self._total, self._tenth, self._told_at = name, total, 0, time.monotonic()

    def advance(self, done: int, what: str) -> None:
        """Write a line when another tenth is done, or half a minute has passed."""
        if not self._total:
            now = time.monotonic()
            if now - self._told_at >= STILL:
                self._told_at = now
                self.say(f"{self._name}: {done} {what}")
            return
        tenth = min(done * 10 // self._total, 10)
        if tenth > self._tenth:
            self._tenth = tenth
            self.say(f"{self._name}: {tenth * 10} % ({what})")

    def end(self) -> None:
        """Nothing: the last line stands."""


class Bar:
    """A bar with count and time on a terminal; one that only moves where nobody knows the total."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._counts = True

    def say(self, line: str) -> None:
        """Print above the bar."""
        self._console.print(line, markup=False, highlight=False)

    def begin(self, name: str, total: int) -> None:
        """Draw an empty bar."""
        self.end()
        self._counts = total > 0
        counts = (MofNCompleteColumn(), TimeElapsedColumn()) if self._counts else ()
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            *counts,
            TextColumn("{task.fields[what]}", markup=False),  # a compiler's words, which may hold brackets
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(name, total=total or None, what="")
        self._progress.start()

    def advance(self, done: int, what: str) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            shown = what[-60:] if self._counts else f"{done} {what}"
            self._progress.update(self._task, completed=done, what=shown)

    def end(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


def reporter_for(stream: TextIO | None = None) -> Reporter:
    """A bar when `stream` (standard error by default) is a terminal, plain lines when it is not."""
    out = sys.stderr if stream is None else stream
    return Bar(Console(file=out)) if out.isatty() else Lines(out)

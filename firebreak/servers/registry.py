"""The child processes of a run directory on disk, so that the next start can end what a kill -9 has left alive.

A process is known by pid, start time (field 22 of /proc/<pid>/stat, clock ticks since boot) and boot, kept in
`<run_dir>/processes.json`. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from firebreak.servers.errors import RegistryDamaged, ServerUnavailable

GRACE = timedelta(seconds=10)
"""How long a process has to end after SIGTERM before it is killed."""

POLL = 0.02  # seconds between two looks at a condition


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when there is no such process or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold blanks and brackets
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """This boot of the machine: start times of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Entry:
    """One process in the registry file."""

    name: str
    pid: int
    started: int
    boot: str

    def lives(self) -> bool:
        """True when exactly this process runs, not another one that got its pid."""
        return self.boot == boot_id() and start_time(self.pid) == self.started


def _entry(item: Mapping[str, Any]) -> Entry:
    entry = Entry(**item)
    if not isinstance(entry.pid, int) or not 0 < entry.pid < 2**31:
        raise ValueError(f"{entry.pid!r} is no process id")
    return entry


class Registry:
    """The processes of one run directory, in start order; every change is on disk before the call returns."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # logs quote alerts and answers
        self._path = run_dir / "processes.json"

    def entries(self) -> tuple[Entry, ...]:
        """What is written down. Raises RegistryDamaged when the file cannot be read as a registry."""
        try:
            return tuple(_entry(item) for item in json.loads(self._path.read_text())["processes"])
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError, RecursionError, OSError) as error:
            raise RegistryDamaged(f"the process registry {self._path} is damaged: {error}") from None

    def put_aside(self) -> Path:
        """Rename a damaged file, so that a new one is begun: where it is now. Raises OSError."""
        aside = self._path.with_suffix(".damaged")
        os.replace(self._path, aside)
        return aside

    def add(self, entry: Entry) -> None:
        """Write one process down."""
        with self._locked():
            self._write((*self.entries(), entry))

    def remove(self, gone: Sequence[Entry]) -> None:
        """Strike processes that have ended.

        Nothing is written where none of them is written down: the directory may have been removed or made anew since.
        """
        try:
            if not set(gone) & set(self.entries()):
                return
            with self._locked():
                self._write(tuple(entry for entry in self.entries() if entry not in gone))
        except (FileNotFoundError, NotADirectoryError, ServerUnavailable):  # a damaged one is told by the next reap
            return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._path.with_suffix(".lock"), "a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _write(self, entries: Sequence[Entry]) -> None:
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w") as handle:
            json.dump({"processes": [asdict(entry) for entry in entries]}, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(fresh, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


async def reap_leftovers(run_dir: Path, *, grace: timedelta = GRACE) -> tuple[Entry, ...]:
    """End what an earlier run in `run_dir` left alive, the last started first, and return it.

    Only a process whose pid and start time both match is touched. Raises RegistryDamaged, and ServerUnavailable for one
    that cannot be ended.
    """
    registry = Registry(run_dir)
    known = registry.entries()
    reaped = []
    for entry in reversed(known):
        if await _end(entry, grace):
            reaped.append(entry)
    registry.remove(known)
    return tuple(reaped)


async def _end(entry: Entry, grace: timedelta) -> bool:
    try:
        handle = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return False
    try:
        # Asked after the handle is held: from here on the pid cannot become another process.
        if not entry.lives():
            return False
        for number, limit in ((signal.SIGTERM, grace.total_seconds()), (signal.SIGKILL, 30.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                signal.pidfd_send_signal(handle, signal.SIGCONT)  # a stopped one could not hear SIGTERM
            until = time.monotonic() + limit
            while entry.lives() and time.monotonic() < until:  # noqa: ASYNC110 # no event tells of another's child
                await asyncio.sleep(POLL)
            if not entry.lives():
                return True
        raise ServerUnavailable(
            f"{entry.name} (pid {entry.pid}) of an earlier run cannot be killed",
            advice="It hangs in the kernel (a dead disk?); the machine needs a restart.",
        )
    finally:
        os.close(handle)

"""Child processes: started so that none can be lost, stopped in order.

Each is written into the registry before its program runs: a launcher waits for the word, so a parent that is killed in
between leaves nothing behind. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from firebreak.servers.environment import with_absolute_paths
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.registry import GRACE, POLL, Entry, Registry, boot_id, start_time

_LOG_LOOK = 2.0  # seconds between two looks at a log's size

# Waits for one byte before it becomes the program; end of file means that the parent died before writing it down.
_LAUNCHER = """
import os, sys
if os.read(0, 1) != b"1":
    os._exit(0)
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
if sys.argv[1] != "0":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        os._exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def absolute(path: Path) -> Path:
    """`path` from the root: children run in another folder than we do."""
    return Path(os.path.abspath(path))


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: absolute program path and arguments, and the whole environment beside PATH and HOME. Relative
    paths in the environment count from the folder that we are in, although the child runs in another one.

    `log_limit` is in bytes: beyond it the older half goes to `<name>.log.1`. With `die_with_parent` the kernel kills
    the process when the thread that started it ends, even by kill -9: for what is of no use without its parent.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log_limit: int = 16 * 1024 * 1024
    die_with_parent: bool = False


class ManagedProcess:
    """One running child. Not bound to an event loop: it may be started in one and stopped in another."""

    def __init__(self, launch: Launch, run_dir: Path) -> None:
        self.launch = launch
        self._run_dir = absolute(run_dir)
        self.log_path = self._run_dir / f"{launch.name}.log"
        self._registry = Registry(self._run_dir)
        self._environment = with_absolute_paths(launch.environment)
        self._log_from = 0  # where in the file what this run writes begins
        self._popen: subprocess.Popen[bytes] | None = None
        self._entry: Entry | None = None

    @classmethod
    async def start(cls, launch: Launch, run_dir: Path) -> ManagedProcess:
        """Start `launch` with its log in `run_dir`. Raises ServerUnavailable when it is not a program."""
        process = cls(launch, run_dir)
        process.start_again()
        return process

    def start_again(self) -> None:
        """Start the same program once more after it ended. Its log goes on in the same file."""
        if self.alive:
            raise ServerUnavailable(f"{self.name} runs already (pid {self.pid})")
        program = self.launch.command[0]
        if not os.access(program, os.X_OK):
            raise ServerUnavailable(f"{self.name}: {program} cannot be executed")
        # Only what is named reaches a server: no proxy for loopback calls, no secret of ours, no person's dot files.
        env = {"PATH": os.defpath, "HOME": str(self._run_dir), **self._environment}
        parent = str(os.getpid()) if self.launch.die_with_parent else "0"
        with open(self.log_path, "ab", opener=_private) as log:
            self._log_from = log.tell()
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, parent, *self.launch.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self._run_dir,
                umask=0o077,  # what a server writes (Temporal's database: alerts and evidence) is its owner's alone
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
            )
        if self._entry is not None:
            self._registry.remove([self._entry])
        self._popen = popen
        self._entry = Entry(self.name, popen.pid, start_time(popen.pid) or 0, boot_id())
        assert popen.stdin is not None  # asked for by PIPE
        try:
            self._registry.add(self._entry)
            with contextlib.suppress(BrokenPipeError):
                popen.stdin.write(b"1")
                popen.stdin.flush()
        finally:
            with contextlib.suppress(BrokenPipeError):
                popen.stdin.close()
        threading.Thread(target=self._keep_log, args=(popen,), name=f"log-{self.name}", daemon=True).start()

    @property
    def name(self) -> str:
        """The server's name."""
        return self.launch.name

    @property
    def pid(self) -> int:
        """The process id; 0 before the first start."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def started(self) -> int:
        """Start time in clock ticks since boot; 0 before the first start."""
        return self._entry.started if self._entry is not None else 0

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._popen.poll() if self._popen is not None else None

    @property
    def alive(self) -> bool:
        """True while the process runs (a stopped one runs, too)."""
        return self._popen is not None and self._popen.poll() is None

    def tail(self, lines: int = 20) -> str:
        """The last lines that it has logged since it was started."""
        try:
            with open(self.log_path, "rb") as handle:
                size = handle.seek(0, os.SEEK_END)
                begin = self._log_from if self._log_from <= size else 0  # the file was emptied since
                handle.seek(max(begin, size - 64 * 1024))
                text = handle.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal (SIGSTOP, SIGCONT, SIGKILL ...); nothing happens when it has ended."""
        if self._popen is not None:
            self._popen.send_signal(number)

    async def exited(self, limit: timedelta) -> bool:
        """Wait until it has ended, at most `limit`; True when it has."""
        until = time.monotonic() + limit.total_seconds()
        while self.alive:
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(POLL)
        return True

    async def ready(self, check: Callable[[], Awaitable[bool]], *, limit: timedelta) -> None:
        """Poll `check` until it is true. A refused connection counts as not yet.

        Raises ServerUnavailable with the tail of the log when the process ends or `limit` passes first.
        """
        until = time.monotonic() + limit.total_seconds()
        last = "not ready"
        while True:
            try:
                if await check():
                    return
            except OSError as error:
                last = str(error)
            if not self.alive:
                told = f": it ended with code {self.exit_code}"
            elif time.monotonic() < until:
                await asyncio.sleep(POLL)
                continue
            else:
                told = f" within {limit.total_seconds():.0f} s: {last}"
            raise ServerUnavailable(
                f"{self.name} did not become ready{told}; its log ends with:\n{self.tail()}",
                advice=f"Read {self.log_path}.",
            )

    async def stop(self, grace: timedelta = GRACE) -> None:
        """SIGTERM, then SIGKILL after `grace`; returns when it has ended, and strikes it from the registry."""
        if self.alive:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a stopped one could not hear SIGTERM
            if not await self.exited(grace):
                self.kill()
                await self.exited(timedelta(seconds=30))
        if self._entry is not None:
            self._registry.remove([self._entry])
            self._entry = None

    def kill(self) -> None:
        """SIGKILL, to it and to what it started."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _keep_log(self, popen: subprocess.Popen[bytes]) -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk or a removed run directory is not the log's business
                trim_log(self.log_path, self.launch.log_limit)
            try:
                popen.wait(_LOG_LOOK)
            except subprocess.TimeoutExpired:
                continue
            return


def _private(path: str, flags: int) -> int:
    """For `open`: a file that this makes is its owner's alone."""
    return os.open(path, flags, 0o600)


def trim_log(path: Path, limit: int) -> None:
    """When `path` is over `limit` bytes, keep its last half in `<path>.1` and empty it.

    Emptying in place, since the process goes on writing at the end of the same file.
    """
    if path.stat().st_size <= limit:
        return
    with open(path, "r+b") as handle:
        handle.seek(-(limit // 2), os.SEEK_END)
        with open(path.with_name(path.name + ".1"), "wb", opener=_private) as kept:
            kept.write(handle.read())
        handle.truncate(0)


async def stop_all(processes: Sequence[ManagedProcess], grace: timedelta = GRACE) -> None:
    """Stop in the given order, each one gone before the next is asked: the API server must end before its etcd."""
    for process in processes:
        await process.stop(grace)


_handed_out: set[int] = set()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now and that this process has not handed out before.

    Below the range that the kernel takes for outgoing connections, so that none of those can grab it first.
    Raises ServerUnavailable when a thousand tries find none.
    """
    for _ in range(1000):
        port = random.randint(20_000, 32_000)  # noqa: S311 # nothing secret
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise ServerUnavailable("no free TCP port between 20000 and 32000 on 127.0.0.1")

"""Engines under measurement, each a process of its own with a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench.field import Field, child_environment
from firebreak.servers import local_http
from firebreak.servers.process import Launch, ManagedProcess, free_port

_READY = timedelta(seconds=60)
_CATCH_UP = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where to send alerts to (`url`, whole), and where it keeps its record."""

    name: str
    url: str
    data_dir: Path
    process: ManagedProcess


@asynccontextmanager
async def running(
    field: Field, name: str, *, module: tuple[str, ...] = ("firebreak", "up"), extra: Mapping[str, str] | None = None
) -> AsyncIterator[Engine]:
    """`python -m MODULE` with the field's settings, until the block ends; ready when its /readyz answers 200."""
    port, data_dir = free_port(), field.root / name
    data_dir.mkdir()
    run_dir = field.run_dir / name
    run_dir.mkdir()
    environment = child_environment(
        {
            **field.engine,
            "FIREBREAK_DATA_DIR": str(data_dir),
            "FIREBREAK_GATEWAY_PORT": str(port),
            "FIREBREAK_TASK_QUEUE_PREFIX": name,
            **(extra or {}),
        }
    )
    launch = Launch(name, (sys.executable, "-P", "-m", *module), environment, die_with_parent=True)
    process = await ManagedProcess.start(launch, run_dir)
    base = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        told = module != ("firebreak", "up") or "Firebreak runs" in process.tail(50)
        return told and await local_http.is_ok(f"{base}/readyz")

    try:
        await process.ready(ready, limit=_READY)
        yield Engine(name, f"{base}/v1/alerts/alertmanager", data_dir, process)
    finally:
        await process.stop(timedelta(seconds=30))


@asynccontextmanager
async def alone(engine: Engine, engines: Iterable[Engine]) -> AsyncIterator[None]:
    """It has the machine to itself, and has had the time to catch up with what it missed while it was halted."""
    with halted(other for other in engines if other is not engine):
        await asyncio.sleep(_CATCH_UP.total_seconds())
        yield


@contextmanager
def halted(engines: Iterable[Engine]) -> Iterator[None]:
    """Stopped (SIGSTOP) meanwhile, whole: what they have left to tell takes no processor time of another line."""
    pids = [pid for engine in engines for pid in _family(engine.process.pid)]
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):  # children first: their parent must not find them silent
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    """A process and its descendants, parents first."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError):  # what has just ended
            for task in Path(f"/proc/{parent}/task").iterdir():
                with suppress(FileNotFoundError):
                    found.extend(int(child) for child in (task / "children").read_text().split())
    return found

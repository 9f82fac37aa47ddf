"""What the engine's processes agree on: the directory that they share, how one says that it is ready and alive, and how
one wakes another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import SettingsInvalid

OWNER_ONLY = 0o700
"""Of each directory that we make: alerts, evidence, logs and the webhook's token are not for everybody."""


def make_data_dir(data_dir: Path) -> None:
    """Make it where it is missing; whoever starts first does, gateway or engine. One that is there keeps its mode: it
    may be shared on purpose. Raises SettingsInvalid when it cannot be made."""
    try:
        data_dir.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(data_dir, error) from None


def unusable(data_dir: Path, error: OSError) -> SettingsInvalid:
    """The error to raise when the data directory cannot be used."""
    return SettingsInvalid(
        f"the data directory {data_dir} cannot be used: {error}",
        advice="Name another one with --data-dir, or correct its permissions.",
    )


def ready_file(data_dir: Path, role: str) -> Path:
    """Holds the pid of the process that is ready in this role; the gateway's port behind it."""
    return data_dir / "run" / f"{role}.ready"


def say_ready(data_dir: Path, role: str, *more: object) -> None:
    """Written whole under another name first: a reader never sees half a line."""
    path = ready_file(data_dir, role)
    path.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(" ".join(str(part) for part in (os.getpid(), *more)))
    os.replace(draft, path)


BEAT = 1.0  # seconds


def beat_file(data_dir: Path, role: str) -> Path:
    """Changes its time with each beat of the process in this role."""
    return data_dir / "run" / f"{role}.beat"


def last_beat(path: Path) -> int | None:
    """When it was (nanoseconds); None before the first, and where that cannot be read."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@asynccontextmanager
async def beating(data_dir: Path, role: str) -> AsyncIterator[None]:
    """A sign of life once a second, from the very loop that does the work: when that hangs, it ends."""
    loop, path = asyncio.get_running_loop(), beat_file(data_dir, role)
    # A thread of its own: a slow disk must not hold up the loop, nor a full pool of threads the beats.
    hand = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beat")

    async def beat() -> None:
        while True:
            with suppress(OSError, RuntimeError):  # a disk that takes nothing, no thread: who watches knows that
                await loop.run_in_executor(hand, path.touch)
            await asyncio.sleep(BEAT)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        hand.shutdown(wait=False)


def dispatch_socket(data_dir: Path, intake_class: IntakeClass) -> Path:
    """Where the dispatcher of a class listens (a datagram socket); any byte means: look into the inbox now."""
    return data_dir / f"dispatch-{intake_class.value}.sock"


def socket_address(path: Path) -> str:
    """A socket's path may have 107 bytes: seen from the working directory where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)

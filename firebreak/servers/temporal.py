"""The Temporal dev server, tuned; and untuned, as the textbook starts it, for the benchmark alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from firebreak.servers.find import require
from firebreak.servers.process import Launch, ManagedProcess, absolute
from firebreak.servers.registry import GRACE

_READY = timedelta(seconds=60)  # 2 s as a rule; a database with thousands of open workflows takes longer

# synchronous=2 keeps the write-ahead log power-safe: never lower. The late checkpoint is worth 83 -> 138 workflows/s.
_PRAGMAS = ("journal_mode=wal", "synchronous=2", "cache_size=-131072", "temp_store=2", "wal_autocheckpoint=8000")

# The defaults wait 50 ms before each dispatch (20 polls/s) and up to 1 s for each timer under a second.
# Durations are JSON strings with their quotes, or the server exits at once.
_DYNAMIC_CONFIG = (
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "matching.useNewMatcher=true",
    "history.transferProcessorMaxPollRPS=2000",
    "history.transferProcessorMaxPollHostRPS=20000",
    "history.timerProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollHostRPS=20000",
    'history.timerProcessorMaxTimeShift="10ms"',
    "system.enableActivityEagerExecution=true",
    # Two entries are one workflow, 51-160 KB, and closed ones are dropped for newer ones alone: 0.1-0.3 GB when full,
    # as many workflows as one worker keeps. The dev server's own cap is 8096, another server's 128000. A task of a
    # workflow that is not among them costs 1 ms of processor time more.
    "history.hostLevelCacheMaxSize=4000",
    # The lists of workflows (three records each) are kept up at leisure: in a flood they took a sixth of the server's
    # time. The engine asks for none. One incident's are written at once; what is put off is tried again after 3 s and
    # more, so that after hundreds of incidents the lists are minutes late.
    "system.visibilityPersistenceMaxWriteQPS=5",
    # The dev server reads the names of search attributes anew for each such record, so that one just added counts.
    "system.forceSearchAttributesCacheRefreshOnRead=false",
)


@dataclass(frozen=True, slots=True)
class TemporalServer:
    """A running dev server: `address` is host:port of its gRPC frontend, `process` its handle."""

    address: str
    db_file: Path
    process: ManagedProcess

    async def ready(self, limit: timedelta = _READY) -> None:
        """Wait until the frontend answers SERVING (also after `process.start_again()`). Raises ServerUnavailable."""
        until = time.monotonic() + limit.total_seconds()
        await self.process.ready(self._listens, limit=limit)
        rest = timedelta(seconds=max(1.0, until - time.monotonic()))
        await self.process.ready(self._serving, limit=rest)

    async def stop(self, grace: timedelta = GRACE) -> None:
        """Stop the server; the database file stays."""
        await self.process.stop(grace)

    async def _listens(self) -> bool:
        host, port = self.address.rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
        return True

    async def _serving(self) -> bool:
        command = [self.process.launch.command[0], "operator", "cluster", "health", "--address", self.address]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "--command-timeout", "5s", "--disable-config-file", "--disable-config-env"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0 and done.stdout.strip() == b"SERVING"


async def start_temporal(
    *,
    db_file: Path,
    port: int,
    run_dir: Path,
    dynamic_config: tuple[str, ...] = (),
    die_with_parent: bool = False,
) -> TemporalServer:
    """Start the tuned dev server on a database file and wait until it serves (about 2 s).

    `dynamic_config` adds or overrides values (`key=json`), e.g. `matching.useNewMatcher=false`. Raises
    ServerUnavailable with the tail of its log.
    """
    tuning = [item for pragma in _PRAGMAS for item in ("--sqlite-pragma", pragma)]
    tuning += [item for value in (*_DYNAMIC_CONFIG, *dynamic_config) for item in ("--dynamic-config-value", value)]
    return await _start(
        db_file=db_file,
        port=port,
        run_dir=run_dir,
        tuning=tuning,
        environment={"GOGC": "200"},
        die_with_parent=die_with_parent,
    )


async def start_temporal_untuned(
    *, db_file: Path, port: int, run_dir: Path, die_with_parent: bool = False
) -> TemporalServer:
    """Start the dev server as every tutorial does, for the benchmark's textbook line only."""
    return await _start(
        db_file=db_file,
        port=port,
        run_dir=run_dir,
        tuning=[],
        environment={},
        die_with_parent=die_with_parent,
    )


async def _start(
    *,
    db_file: Path,
    port: int,
    run_dir: Path,
    tuning: list[str],
    environment: dict[str, str],
    die_with_parent: bool,
) -> TemporalServer:
    binary = await asyncio.to_thread(require, "temporal")
    database = absolute(db_file)
    database.parent.mkdir(parents=True, exist_ok=True)
    command = [str(binary), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--db-filename", _database_name(database, absolute(run_dir))]
    command += ["--disable-config-file", "--disable-config-env"]
    launch = Launch("temporal", (*command, *tuning), environment, die_with_parent=die_with_parent)
    process = await ManagedProcess.start(launch, run_dir)
    server = TemporalServer(f"127.0.0.1:{port}", database, process)
    try:
        await server.ready()
    except BaseException:
        await process.stop()
        raise
    return server


_URI_SIGNS = frozenset(b"?#%")


def _database_name(database: Path, run_dir: Path) -> str:
    """As the server is told it. It makes a URI of that, and would take a directory's `#1` or `%41` for a part of one,
    and write a file beside the directory; of a name that is not UTF-8 it makes nothing: then it gets the way from the
    folder in which it runs."""
    name = os.fsencode(database)
    try:
        plain = name.decode() and not _URI_SIGNS & set(name)
    except UnicodeDecodeError:
        plain = False
    return str(database) if plain else os.path.relpath(database, run_dir)

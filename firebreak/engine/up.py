"""The whole engine as one command: Temporal server, gateway, two worker processes, and the outbox in this process.

Every child is known by pid and start time; what a kill -9 left is reaped at the next start. A child that ends is
started again, one that hangs is killed first. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from activities.rulebook import Rulebook
from firebreak.connectors.slack import PACE
from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import FirebreakError
from firebreak.engine.children import LOOK, Children
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import Routes, build_chat, build_pager
from firebreak.engine.data_dir import locked
from firebreak.engine.outbox import OutboxSender
from firebreak.engine.sending import FILE_PACE, OutboxParts
from firebreak.engine.start_checks import check_documents, check_pager, check_record, end_leftovers
from firebreak.engine.stores import TEMPORAL_FILE, opened_inbox, opened_record
from firebreak.engine.watch import IntakeWatch
from firebreak.processes import beat_file, beating, ready_file
from firebreak.servers.find import require
from firebreak.servers.process import Launch, ManagedProcess, free_port
from firebreak.servers.temporal import start_temporal
from firebreak.settings import Settings, secrets_dir
from firebreak.storage.opened_files import OpenedFiles
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, TimelineStore

log = structlog.get_logger()

READY = timedelta(seconds=60)
LAST_WORDS = 5.0  # seconds for what is due, when it cannot start


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What `firebreak up` tells when everything runs."""

    gateway_port: int | None
    temporal_address: str
    reaped: int


async def run_engine(settings: Settings, *, gateway: bool, announce: Callable[[Running], None]) -> None:
    """Until SIGTERM or Ctrl-C, also while it starts. Raises SettingsInvalid when the data directory is taken,
    ServerUnavailable when a part does not start."""
    check_pager(settings)
    if not settings.temporal_address:  # before anything is locked or started; nothing is built here
        await asyncio.to_thread(require, "temporal")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with locked(settings.data_dir) as data_dir:
        run_dir = data_dir / "run"
        reaped = await end_leftovers(settings, run_dir)
        await check_record(settings)
        rulebook = await check_documents(settings)
        if gateway and not settings.gateway_port:  # chosen once: a gateway that is started again keeps its senders
            settings = settings.model_copy(update={"gateway_port": free_port()})
        files = OpenedFiles()
        async with AsyncExitStack() as stack:
            children = Children(beat_file(data_dir, "up"), files.replaced)
            watch_intake = await stack.enter_async_context(_people(settings, rulebook, files, children))
            address = settings.temporal_address
            if not address:
                server = await start_temporal(
                    db_file=data_dir / TEMPORAL_FILE, port=free_port(), run_dir=run_dir, die_with_parent=True
                )
                stack.push_async_callback(server.stop)
                files.add(data_dir / TEMPORAL_FILE)
                address = server.address
                children.add(server.process)
            roles = [*(["gateway"] if gateway else []), *(c.value for c in IntakeClass)]
            started: list[ManagedProcess] = []
            for role in roles:
                ready_file(data_dir, role).unlink(missing_ok=True)
                process = await ManagedProcess.start(_launch(role, settings, address), run_dir)
                stack.push_async_callback(process.stop)
                children.add(process, beat_file(data_dir, role))
                started.append(process)
            if not await _all_ready(data_dir, started, stop):
                return
            port = int(ready_file(data_dir, "gateway").read_text().split()[1]) if gateway else None
            announce(Running(gateway_port=port, temporal_address=address, reaped=len(reaped)))
            watch_intake()
            async with beating(data_dir, "up"):
                await children.keep(stop)
            log.info("engine.stopping")


async def _all_ready(data_dir: Path, processes: Sequence[ManagedProcess], stop: asyncio.Event) -> bool:
    """Wait for all; False when it is to stop before that."""

    async def ready() -> None:
        for process in processes:
            await process.ready(functools.partial(_is_ready, data_dir, process), limit=READY)

    waits = [asyncio.create_task(ready()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[0].done():
            waits[0].result()
        return waits[0].done()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _is_ready(data_dir: Path, process: ManagedProcess) -> bool:
    with contextlib.suppress(FileNotFoundError, IndexError):
        return ready_file(data_dir, process.name).read_text().split()[0] == str(process.pid)
    return False


@asynccontextmanager
async def _people(
    settings: Settings, rulebook: Rulebook, files: OpenedFiles, children: Children
) -> AsyncIterator[Callable[[], None]]:
    """Outbox and intake watch run here, apart from workers and Temporal: what is due goes out whatever they do, also
    when they cannot be started, or there is no inbox. What it yields begins the watch: workers that start have a right
    to find alerts."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_record(settings))
        files.add(settings.data_dir / TIMELINE_FILE)
        slack = build_chat(settings)
        chat = None if slack is None else await stack.enter_async_context(slack)
        pager = await stack.enter_async_context(build_pager(settings))
        clock = SystemClock()
        fallback = settings.fallback_pager_key.get_secret_value()
        sender = OutboxSender(
            OutboxParts(
                outbox=store,
                ledger=store,
                chat=chat,
                pager=pager,
                routes=Routes(rulebook, settings),
                clock=clock,
                postmortems=settings.data_dir / "postmortems",
                fallback_key=fallback,
                chat_pace=PACE,
                file_pace=FILE_PACE,
            )
        )
        tasks = [asyncio.create_task(sender.run())]
        watch: IntakeWatch | None = None
        try:
            inbox = await stack.enter_async_context(opened_inbox(settings, store))
            files.add(settings.data_dir / INBOX_FILE)
            watch = IntakeWatch(
                inbox,
                store,
                clock,
                pager=pager,
                pager_key=fallback,
                incidents=store,
                outbox=store,
                replaced=files.replaced,
                down=children.down,
            )
            watching = watch.run
            yield lambda: tasks.append(asyncio.create_task(watching()))
        except (FirebreakError, OSError):  # it does not start, perhaps never will: first, who is due is called
            for last in (() if watch is None else (watch.look,)) + (functools.partial(_sent, store, clock),):
                try:
                    await last()
                except FirebreakError as error:  # the reason of the stop is the other one
                    log.error("engine.nobody_paged", error=str(error))
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _sent(store: TimelineStore, clock: SystemClock) -> None:
    """Wait till nothing is due, but not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            while (due := await store.next_due()) is not None and due <= clock.now():  # noqa: ASYNC110 # another process may have written it
                await asyncio.sleep(LOOK)


def _launch(role: str, settings: Settings, temporal_address: str) -> Launch:
    # -P: a file called worker.py in the current folder is not ours.
    module = ("firebreak.gateway.__main__",) if role == "gateway" else ("firebreak.engine.role", role)
    command = (sys.executable, "-P", "-m", "firebreak.engine.child", *module)
    own = {**child_environment(settings), "FIREBREAK_TEMPORAL_ADDRESS": temporal_address}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in own} | own
    return Launch(role, command, environment, die_with_parent=True)


def child_environment(settings: Settings) -> Mapping[str, str]:
    """Settings that were given to this process in another way than by its environment, with absolute paths: children
    run in another folder; and the home of the account, where the usual kubeconfig is."""
    given = {f"FIREBREAK_{name.upper()}": str(value.absolute()) for name, value in settings if isinstance(value, Path)}
    if (secrets := secrets_dir()) is not None:
        given["FIREBREAK_SECRETS_DIR"] = str(secrets.absolute())
    with contextlib.suppress(RuntimeError):  # an account without a home
        given["HOME"] = str(Path.home())  # a unit of systemd may name none, and a child would get its run directory
    return {
        **given,
        "FIREBREAK_MODE": settings.mode.value,
        "FIREBREAK_GATEWAY_PORT": str(settings.gateway_port),
        "FIREBREAK_GATEWAY_HOST": settings.gateway_host,
        "FIREBREAK_LOG_LEVEL": settings.log_level,
    }

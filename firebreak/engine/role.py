"""One child process of the engine: `python -m firebreak.engine.role p1|other|gateway`.

Settings come by the environment. The process says that it is ready by writing its pid into `run/<role>.ready`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import structlog

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import FirebreakError, SettingsInvalid
from firebreak.engine.compose import hands
from firebreak.engine.dispatcher import Dispatcher, DispatcherParts
from firebreak.engine.logs import configure_logs
from firebreak.engine.temporal import connect, incident_worker, task_queue
from firebreak.settings import Settings, load_settings

log = structlog.get_logger()

ROLES = ("gateway", *(c.value for c in IntakeClass))


def ready_file(data_dir: Path, role: str) -> Path:
    return data_dir / "run" / f"{role}.ready"


async def run_worker(settings: Settings, intake_class: IntakeClass, stop: asyncio.Event) -> None:
    """Worker and dispatcher of one class, on one connection (an eager start needs both in one process)."""
    client = await connect(settings, settings.temporal_address)
    queue = task_queue(settings, intake_class)
    slots = settings.p1_slots if intake_class is IntakeClass.P1_CANDIDATE else settings.other_slots
    async with hands(settings) as made, incident_worker(client, queue, made.activities, slots=slots):
        dispatcher = Dispatcher(
            DispatcherParts(
                client=client,
                queue=queue,
                intake_class=intake_class,
                inbox=made.inbox,
                ledger=made.store,
                incidents=made.store,
                casebook=made.casebook,
                rulebook=made.rulebook,
                clock=made.clock,
                data_dir=settings.data_dir,
            )
        )
        running = asyncio.create_task(dispatcher.run())
        stopping = asyncio.create_task(stop.wait())
        ready_file(settings.data_dir, intake_class.value).write_text(str(os.getpid()))
        log.info("worker.ready", intake_class=intake_class.value, queue=queue, mode=settings.mode.value)
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # a dispatcher never ends by itself: its error ends the process, and it is started again
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def run_role(role: str, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if role == "gateway":
        from firebreak.gateway.serve import serve

        def ready(port: int) -> None:
            ready_file(settings.data_dir, role).write_text(f"{os.getpid()} {port}")

        await serve(settings, stop, ready)
    else:
        await run_worker(settings, IntakeClass(role), stop)


def main() -> None:
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        raise SystemExit(f"usage: python -m firebreak.engine.role {'|'.join(ROLES)}")
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        if role != "gateway" and not settings.temporal_address:
            raise SettingsInvalid("a worker process needs FIREBREAK_TEMPORAL_ADDRESS")
        (settings.data_dir / "run").mkdir(parents=True, exist_ok=True)
        asyncio.run(run_role(role, settings))
    except FirebreakError as error:
        raise SystemExit(f"{error}\n{error.next_step()}") from None


if __name__ == "__main__":
    main()

"""One worker process of the engine: `python -m firebreak.engine.role p1|other`.

Settings come by the environment. The process says that it is ready by writing its pid into `run/<role>.ready`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack

import structlog
from temporalio.service import RPCError

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import FirebreakError, SettingsInvalid
from firebreak.engine.dispatcher import Dispatcher
from firebreak.engine.hands import hands
from firebreak.engine.loop import run
from firebreak.engine.parts import DispatcherParts
from firebreak.engine.strangers import NoStrangers
from firebreak.engine.temporal import connect, incident_worker, task_queue
from firebreak.logs import configure_logs
from firebreak.processes import beating, say_ready
from firebreak.settings import Settings, load_settings

log = structlog.get_logger()


async def run_worker(settings: Settings, intake_class: IntakeClass, stop: asyncio.Event) -> None:
    """Worker and dispatcher of one class, on one connection (an eager start needs both in one process)."""
    client = await connect(settings)
    queue = task_queue(settings, intake_class)
    slots = settings.p1_slots if intake_class is IntakeClass.P1_CANDIDATE else settings.other_slots
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(hands(settings))
        ours = NoStrangers(made.store.knows, ledger=made.store, clock=made.clock, queue=queue)
        worker = incident_worker(client, queue, made.activities, slots=slots, interceptors=[ours])
        await stack.enter_async_context(worker)
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
                foresee=made.foresee,
                data_dir=settings.data_dir,
                mode=settings.mode,
            )
        )
        _tune_the_interpreter()
        say_ready(settings.data_dir, intake_class.value)
        log.info("worker.ready", intake_class=intake_class.value, queue=queue, mode=settings.mode.value)
        async with beating(settings.data_dir, intake_class.value):
            await dispatcher.run(stop)


SWITCH_INTERVAL = 0.0005
"""Seconds for which a busy loop may keep the interpreter from the threads that commit; 5 ms by default, once for every
statement of a transaction."""


YOUNG = 7000
"""New objects before the collector looks for rings among them; 700 by default, which costs 5 % of this process."""


def _tune_the_interpreter() -> None:
    """What start-up made stays for good, and is left out of every later collection: none then stops the loop long."""
    gc.freeze()
    gc.set_threshold(YOUNG)
    sys.setswitchinterval(SWITCH_INTERVAL)


async def _until_told(settings: Settings, intake_class: IntakeClass) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_worker(settings, intake_class, stop)


def main() -> None:
    """Exits 1 with a sentence when it cannot start."""
    classes = [c.value for c in IntakeClass]
    if len(sys.argv) != 2 or sys.argv[1] not in classes:
        raise SystemExit(f"usage: python -m firebreak.engine.role {'|'.join(classes)}")
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        if not settings.temporal_address:
            raise SettingsInvalid("a worker process needs FIREBREAK_TEMPORAL_ADDRESS")
        run(_until_told(settings, IntakeClass(sys.argv[1])))
    except FirebreakError as error:
        raise SystemExit(f"{error}\n{error.next_step()}") from None
    except (RPCError, RuntimeError, OSError) as error:  # what the SDK raises when Temporal cannot be reached
        advice = f"Look whether Temporal answers at {settings.temporal_address}, with TLS and key as the settings say."
        raise SystemExit(f"the worker cannot go on: {error}\n{advice}") from None


if __name__ == "__main__":
    main()

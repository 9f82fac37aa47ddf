"""From the inbox to incidents: one dispatcher in each worker process, for the class of alerts that the process serves.

Many alerts are under way at once, those of one fingerprint in their order; what each becomes is in `deliveries`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator

import structlog
from temporalio.service import RPCError

from firebreak.domain import ids
from firebreak.domain.alert import AcceptedAlert, Disposition, UnreadableDelivery
from firebreak.domain.errors import AppendConflict, ChainBroken, FirebreakError, LedgerError
from firebreak.engine.damage import unreadable_delivery
from firebreak.engine.deliveries import Deliveries
from firebreak.engine.parts import DispatcherParts, is_handed_over, open_incidents, tell_fault
from firebreak.engine.starts import Starts
from firebreak.engine.sweeper import Sweeper
from firebreak.engine.temporal import reset_stickiness
from firebreak.processes import dispatch_socket, socket_address

log = structlog.get_logger()

POLL = 1.0  # seconds: the net under a lost poke, and between two sweeps
BATCH = 200  # alerts under way at once
SETTLE_PAUSE = 0.05  # seconds in which dispositions gather for one commit
AT_ONCE = 20  # workflow starts under way at once
PARK_AFTER = 3  # failures of one alert, of a kind that is no outage, before it is parked and a person paged


class Dispatcher:
    """`run` until `stop` is set: not by cancelling, which could cut a hand-over in two."""

    def __init__(self, parts: DispatcherParts) -> None:
        self._parts = parts
        self._woken = asyncio.Event()
        self._starts = Starts(parts.client, parts.queue)
        self._deliveries = Deliveries(parts, self._starts)
        self._failures: Counter[int] = Counter()
        self._sweeper = Sweeper(parts, self._starts)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[int, str] = {}  # receipt -> fingerprint, of what is being handled now
        self._handled: dict[int, tuple[Disposition, str]] = {}  # by receipt: handled, not written down yet
        self._to_settle = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        with self._listening():
            works = (
                self._wake_on(stop),
                self._sweep_on(),
                self._settle_on(),
                self._resume(),
                self._reset_stickiness(),
            )
            beside = [asyncio.create_task(work) for work in works]
            try:
                while not stop.is_set():
                    for task in (*beside, *self._tasks):
                        if task.done():
                            task.result()  # a fault of ours: this process ends, and is started again
                    try:
                        more = await self._round()
                    except (FirebreakError, RPCError) as error:
                        log.warning("dispatcher.round_failed", error=str(error))
                        more = False
                    if not more:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(POLL):
                                await self._woken.wait()
                    self._woken.clear()
                await asyncio.gather(*self._tasks)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            await self._settle()

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._woken.set()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """A datagram on `dispatch-<class>.sock` means: look now."""
        path = dispatch_socket(self._parts.data_dir, self._parts.intake_class)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.bind(socket_address(path))
        heard.setblocking(False)
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(BlockingIOError):
                while heard.recv(64):
                    self._woken.set()

        loop.add_reader(heard.fileno(), wake)
        try:
            yield
        finally:
            loop.remove_reader(heard.fileno())
            heard.close()

    async def _resume(self) -> None:
        """After a start: every open incident of this class has its workflow (a start that exists costs nothing), but
        not what a person handles by hand. Beside all else: after a storm there are thousands, some ms each, and what is
        new must not wait for them."""
        while True:
            try:
                for incident in await open_incidents(self._parts):
                    if not await is_handed_over(self._parts, incident.id):
                        await self._starts.incident(incident.id)
                return
            except (FirebreakError, RPCError) as error:
                log.warning("dispatcher.resume_failed", error=str(error))
                await asyncio.sleep(POLL)

    async def _reset_stickiness(self) -> None:
        """After a start, beside all else: no open incident waits for the worker that was here before. One try: without
        it their next tasks come a few seconds later."""
        try:
            for incident in await open_incidents(self._parts):
                await reset_stickiness(self._parts.client, ids.incident_workflow_id(incident.id))
        except (FirebreakError, RPCError) as error:
            log.warning("dispatcher.stickiness_not_reset", error=str(error))

    async def _round(self) -> bool:
        """One look at the inbox; what is new there is handled beside the next look. True = look again at once."""
        if len(self._under_way) >= BATCH:
            return False  # whatever ends first wakes it
        limit = BATCH + len(self._handled)
        unreadable: list[UnreadableDelivery] = []
        claimed = await self._parts.inbox.claim(self._parts.intake_class, limit=limit, unreadable=unreadable)
        for damaged in unreadable:
            if damaged.receipt not in self._handled:
                await self._park_unreadable(damaged)
        busy = set(self._under_way.values())
        by_alert: dict[str, list[AcceptedAlert]] = {}
        for one in claimed:  # deliveries of one alert stay in order, also behind one that is under way
            if one.receipt not in self._handled and one.alert.fingerprint not in busy:
                by_alert.setdefault(one.alert.fingerprint, []).append(one)
        for group in by_alert.values():
            self._under_way.update((one.receipt, one.alert.fingerprint) for one in group)
            task = asyncio.create_task(self._handle_all(group))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return bool(by_alert) and len(claimed) + len(unreadable) >= limit

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)  # else `run` finds it, and raises

    async def _handle_all(self, group: list[AcceptedAlert]) -> None:
        done = True
        try:
            async with self._gate:
                for accepted in group:
                    done = done and await self._handle(accepted)
        except FirebreakError as error:  # not even the fault could be written down
            log.error("dispatcher.store_away", error=str(error))
            done = False
        full = len(self._under_way) >= BATCH
        for accepted in group:
            del self._under_way[accepted.receipt]
        if done or full:  # what came behind it may have its turn now; what failed waits for the next poll
            self._woken.set()

    async def _handle(self, accepted: AcceptedAlert) -> bool:
        """False when it must be tried again later (the rest of its group, too)."""
        try:
            settled = await self._deliveries.take(accepted)
        except Exception as error:  # noqa: BLE001 # a poison alert must not stop the others: it is parked, and pages
            if _is_outage(error):  # the row stays, and the unclassified deadline or the intake's watch pages
                log.warning("dispatcher.away", receipt=accepted.receipt, error=str(error))
                return False
            self._failures[accepted.receipt] += 1
            log.error("dispatcher.alert_failed", receipt=accepted.receipt, error=repr(error))
            if self._failures[accepted.receipt] < PARK_AFTER:
                return False
            settled = await self._park(accepted, error)
        self._handled[accepted.receipt] = settled
        self._to_settle.set()
        return True

    async def _settle_on(self) -> None:
        """Write down what became of deliveries, many at once and out of the way of the next alert. After a crash before
        that they are claimed again, and found to be duplicates."""
        while True:
            await self._to_settle.wait()
            await asyncio.sleep(SETTLE_PAUSE)
            self._to_settle.clear()
            try:
                await self._settle()
            except FirebreakError as error:
                log.warning("dispatcher.settle_failed", error=str(error))
                await asyncio.sleep(POLL)
                self._to_settle.set()

    async def _settle(self) -> None:
        settled = [(receipt, *what) for receipt, what in self._handled.items()]
        await self._parts.inbox.settle(settled)
        for receipt, *_ in settled:
            del self._handled[receipt]

    async def _sweep_on(self) -> None:
        while True:
            await self._sweeper.sweep()
            await asyncio.sleep(POLL)

    async def _park_unreadable(self, damaged: UnreadableDelivery) -> None:
        """Nobody can handle it: it must not be claimed for ever. What cannot be told now is told in the next round."""
        entry, page = unreadable_delivery(damaged, self._parts.clock.now())
        log.error("dispatcher.unreadable", receipt=damaged.receipt, record=entry.incident_id, fault=damaged.fault)
        try:
            await self._parts.ledger.append([entry], messages=[page])
        except Exception as error:  # noqa: BLE001 # whatever it is, the alerts behind it have their turn
            log.error("dispatcher.damage_untold", receipt=damaged.receipt, error=repr(error))
            return
        self._handled[damaged.receipt] = (Disposition.PARKED, f"it cannot be read: {damaged.fault}")
        self._to_settle.set()

    async def _park(self, accepted: AcceptedAlert, error: Exception) -> tuple[Disposition, str]:
        """The alert cannot be handled: written down, and a person is paged about it."""
        name = accepted.alert.labels.get("alertname", "?")
        reason = f"the alert {name} cannot be handled: {error!r}"
        record = ids.delivery_record("parked", accepted.receipt, accepted.accepted_at)
        await tell_fault(self._parts, record, "dispatcher", reason, accepted.alert)
        return Disposition.PARKED, reason


def _is_outage(error: Exception) -> bool:
    """Temporal or the store is away, which is no fault of the alert. Damage of what it meets is none: it does not pass;
    nor is a conflict that comes again and again."""
    return isinstance(error, (RPCError, OSError, LedgerError)) and not isinstance(error, (ChainBroken, AppendConflict))

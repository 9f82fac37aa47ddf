"""From the inbox to incidents: one dispatcher in each worker process, for the class of alerts that the process serves.

It opens or joins an incident, starts its workflow (eagerly: starter and worker share this process), and tells workflows
what happened since. Everything it does may be done again after a crash: stores are keyed, starts use the incident's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator

import structlog
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities import notices
from activities.messages import GatherResult
from firebreak.domain import ids
from firebreak.domain.alert import ENGINE_SERVICE, AcceptedAlert, AlertStatus, Disposition
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError, LedgerError
from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine import own_alerts
from firebreak.engine.parts import DispatcherParts, tell_fault
from firebreak.engine.sweeper import Sweeper
from firebreak.engine.temporal import reset_stickiness, tell_workflow
from firebreak.processes import dispatch_socket, socket_address
from firebreak.triage.intake import correlation_key
from workflows.incident import IncidentWorkflow
from workflows.messages import AlertResolved, IncidentInput
from workflows.options import TASK_TIMEOUT

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
        self._started: set[str] = set()
        self._failures: Counter[int] = Counter()
        self._sweeper = Sweeper(parts)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[int, str] = {}  # receipt -> fingerprint, of what is being handled now
        self._handled: dict[int, tuple[Disposition, str]] = {}  # by receipt: handled, not written down yet
        self._to_settle = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        with self._listening():
            works = (self._wake_on(stop), self._sweep_on(), self._settle_on(), self._reset_stickiness())
            beside = [asyncio.create_task(work) for work in works]
            try:
                await self._resume(stop)
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

    async def _resume(self, stop: asyncio.Event) -> None:
        """After a start: every open incident of this class has its workflow (a start that exists costs nothing)."""
        while not stop.is_set():
            try:
                for incident in await self._parts.incidents.open_incidents():
                    if incident.intake_class is self._parts.intake_class and not await self._closed(incident.id):
                        await self._start(incident)
                return
            except (FirebreakError, RPCError) as error:
                log.warning("dispatcher.resume_failed", error=str(error))
                await asyncio.sleep(POLL)

    async def _reset_stickiness(self) -> None:
        """After a start, beside all else: no open incident waits for the worker that was here before. One try: without
        it their next tasks come a few seconds later."""
        try:
            for incident in await self._parts.incidents.open_incidents():
                if incident.intake_class is self._parts.intake_class:
                    await reset_stickiness(self._parts.client, ids.incident_workflow_id(incident.id))
        except (FirebreakError, RPCError) as error:
            log.warning("dispatcher.stickiness_not_reset", error=str(error))

    async def _round(self) -> bool:
        """One look at the inbox; what is new there is handled beside the next look. True = look again at once."""
        if len(self._under_way) >= BATCH:
            return False  # whatever ends first wakes it
        limit = BATCH + len(self._handled)
        claimed = await self._parts.inbox.claim(self._parts.intake_class, limit=limit)
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
        return bool(by_alert) and len(claimed) == limit

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
            if accepted.alert.status is AlertStatus.FIRING:
                settled = await self._firing(accepted)
            else:
                settled = await self._resolved(accepted)
        except (RPCError, OSError, LedgerError) as error:  # Temporal or the store is away, which is no fault of the
            # alert: the row stays, and the unclassified deadline or the intake's watch pages
            log.warning("dispatcher.away", receipt=accepted.receipt, error=str(error))
            return False
        except Exception as error:  # noqa: BLE001 # a poison alert must not stop the others: it is parked, and pages
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
            try:
                await self._sweeper.sweep()
            except (FirebreakError, RPCError) as error:
                log.warning("dispatcher.sweep_failed", error=str(error))
            await asyncio.sleep(POLL)

    async def _firing(self, accepted: AcceptedAlert) -> tuple[Disposition, str]:
        if accepted.alert.labels.get("service") == ENGINE_SERVICE:
            return await own_alerts.take(self._parts, accepted)
        incident = self._incident(accepted)
        now = self._parts.clock.now()
        opened = EntryDraft(
            incident_id=incident.id,
            key="opened",
            kind=EntryKind.INCIDENT_OPENED,
            at=now,
            actor="alertmanager",
            body=to_data(incident),
            target="" if incident.target is None else incident.target.text,
            duration_ms=(now - accepted.accepted_at).total_seconds() * 1000,
        )
        incident_id, disposition = await self._parts.incidents.open_or_join(
            incident,
            opened=opened,
            joined=self._alert_entry(
                incident.id, f"joined/{accepted.alert.key}/{accepted.receipt}", EntryKind.ALERT_JOINED, accepted
            ),
            messages=(notices.unclassified(incident.id, 0, now, notices.UNCLASSIFIED_AFTER),),
            receipt=accepted.receipt,
        )
        if disposition is Disposition.OPENED:
            self._parts.casebook.remember(incident)
            await self._start(incident, await self._parts.foresee(incident))
        elif incident_id not in self._started:
            known = await self._parts.incidents.incident(incident_id)
            closed = await self._closed(incident_id)
            if known is not None and not closed and known.alert.key == accepted.alert.key:
                await self._start(known)  # a crash between opening and starting
        return disposition, incident_id

    async def _closed(self, incident_id: str) -> bool:
        """By now, that is: a list of open incidents grows old while their workflows are being started."""
        return await self._parts.ledger.find(incident_id, "close") is not None

    def _incident(self, accepted: AcceptedAlert) -> Incident:
        resolution = self._parts.rulebook.current().resolve(accepted.alert)
        key = correlation_key(resolution.cluster, resolution.service, accepted.alert)
        return Incident(
            id=ids.incident_id(key, accepted.alert.key, accepted.accepted_at),
            opened_at=self._parts.clock.now(),
            accepted_at=accepted.accepted_at,
            intake_class=accepted.intake_class,
            correlation_key=key,
            service=resolution.service,
            target=resolution.target,
            alert=accepted.alert,
            refusal=resolution.refusal,
            truncated=accepted.truncated,
            pod=resolution.pod,
            bindings=resolution.bindings,
        )

    async def _start(self, incident: Incident, first_look: GatherResult | None = None) -> None:
        if incident.id in self._started:
            return
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await self._parts.client.start_workflow(
                IncidentWorkflow.run,
                IncidentInput(incident_id=incident.id, first_look=first_look),
                id=ids.incident_workflow_id(incident.id),
                task_queue=self._parts.queue,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                request_eager_start=True,
            )
        self._started.add(incident.id)

    async def _resolved(self, accepted: AcceptedAlert) -> tuple[Disposition, str]:
        if accepted.alert.labels.get("service") == ENGINE_SERVICE:
            return await own_alerts.take(self._parts, accepted)
        key = f"resolved/{accepted.alert.key}/{accepted.receipt}"
        known = await self._parts.incidents.resolve_alert(
            accepted.alert,
            at=self._parts.clock.now(),
            accepted_at=accepted.accepted_at,
            receipt=accepted.receipt,
            truncated=accepted.truncated,
            entry=self._alert_entry("", key, EntryKind.ALERT_RESOLVED, accepted),
        )
        if known is None:
            return Disposition.IGNORED, "no incident knows this alert"
        incident_id, firing = known
        if firing == 0:
            await tell_workflow(self._parts.client, incident_id, "alert_resolved", AlertResolved(firing=firing))
        return Disposition.RESOLVED, incident_id

    async def _park(self, accepted: AcceptedAlert, error: Exception) -> tuple[Disposition, str]:
        """The alert cannot be handled: written down, and a person is paged about it."""
        name = accepted.alert.labels.get("alertname", "?")
        reason = f"the alert {name} cannot be handled: {error!r}"
        await tell_fault(self._parts, f"parked-{accepted.receipt}", "dispatcher", reason, accepted.alert)
        return Disposition.PARKED, reason

    def _alert_entry(self, incident_id: str, key: str, kind: EntryKind, accepted: AcceptedAlert) -> EntryDraft:
        return EntryDraft(
            incident_id=incident_id,
            key=key,
            kind=kind,
            at=self._parts.clock.now(),
            actor="alertmanager",
            body={"alert": to_data(accepted.alert), "truncated": accepted.truncated},
        )

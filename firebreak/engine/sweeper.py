"""What must reach a workflow, or a person, though no alert says so: closes by hand, restores, broken documents, what
Temporal has lost."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta

import structlog
from temporalio.service import RPCError

from activities import notices, restore_ends
from activities.stops import HANDS_OFF
from firebreak.domain import ids
from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import ChainBroken, FirebreakError
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase, UnreadableRestore, UnreadableRow
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.engine.damage import unreadable_restore
from firebreak.engine.parts import DispatcherParts, is_handed_over, open_incidents, tell_fault
from firebreak.engine.starts import Starts
from firebreak.engine.temporal import WorkflowHealth, WorkflowState, tell_workflow, terminate_workflow, workflow_health
from firebreak.postmortem.model import WORKFLOW_ENDED
from workflows.messages import CloseRequested

log = structlog.get_logger()

LOOK_AT_WORKFLOWS = 30.0
"""Seconds between two looks at whether open incidents and restores have a workflow, and between two tries of a close by
hand: a workflow that was told may end, or wedge, before it acts."""
YOUNG = timedelta(seconds=60)
"""What is not asked about yet: each question costs Temporal as much as a task of a workflow, and in a storm
there are hundreds that would all be answered with "running"."""


def is_young(opened_at: datetime, now: datetime) -> bool:
    """Not what was opened later than now: the clock was set back, and would hide it for as long."""
    return now - YOUNG < opened_at <= now


class Sweeper:
    """`sweep` once a round of the dispatcher. All of it may be done again after a crash."""

    def __init__(self, parts: DispatcherParts, starts: Starts) -> None:
        self._parts = parts
        self._starts = starts
        self._told: set[int] = set()  # closes by hand that were tried since the last look
        self._faults: set[str] = set()
        self._unended: set[str] = set()  # incidents whose wedged workflow Temporal did not end
        self._documents_fault = ""  # that a person knows of
        self._next_look = time.monotonic() + LOOK_AT_WORKFLOWS

    async def sweep(self) -> None:
        """Each part has its turn, whatever becomes of those before it."""
        look = time.monotonic() >= self._next_look
        if look:
            self._next_look = time.monotonic() + LOOK_AT_WORKFLOWS
            self._told.clear()
        parts: dict[str, Callable[[], Awaitable[None]]] = {"documents": self._documents, "closes": self._closes}
        if look:  # after the closes: what they end needs no page
            parts["orphans"] = self._orphans
        if self._parts.intake_class is IntakeClass.P1_CANDIDATE:
            if look:
                parts["unreadable"] = self._unreadable
            parts["restores"] = functools.partial(self._restores, look=look)
        for name, part in parts.items():
            try:
                await self._spared(name, part())
            except (FirebreakError, RPCError) as error:
                log.warning("sweeper.failed", part=name, error=str(error))

    async def _spared(self, what: str, work: Awaitable[None]) -> None:
        """What nobody foresaw about one part, or one item of it, must not keep the others waiting: the process would
        end, and meet it again first. Raises what says that the store or Temporal is away."""
        try:
            await work
        except (FirebreakError, RPCError) as error:
            if not isinstance(error, ChainBroken):
                raise
            await self._tell_once(what, f"{error} {error.next_step()}")
        except Exception as error:  # noqa: BLE001 # whatever it is, see above
            await self._tell_once(what, f"a fault of the engine: {error!r}")

    async def _tell_once(self, what: str, why: str) -> None:
        """Nobody else would hear of it: what the sweeper is for is not done. Once a day, also after a restart."""
        log.error("sweeper.fault", what=what, error=why)
        name = f"sweeper-{hashlib.sha256(what.encode()).hexdigest()[:8]}-{self._parts.clock.now():%Y%m%d}"
        if name not in self._faults:
            await tell_fault(self._parts, name, "sweeper", f"{what} cannot be looked after: {why}")
            self._faults.add(name)

    async def _closes(self) -> None:
        unreadable: list[UnreadableRow] = []
        for request in await self._parts.incidents.close_requests(unreadable=unreadable):
            if request.seq not in self._told:
                await self._spared(f"close of {request.incident_id}", self._close(request))
        for damaged in unreadable:
            if await self._is_ours(damaged.id):
                await self._tell_once(f"close of {damaged.id}", damaged.fault)

    async def _restores(self, *, look: bool) -> None:
        unreadable: list[UnreadableRestore] = []
        records = await self._parts.incidents.open_restores(unreadable=unreadable)
        for damaged in unreadable:
            entry, page = unreadable_restore(damaged, self._parts.clock.now())
            if entry.incident_id not in self._faults:
                await self._parts.ledger.append([entry], messages=[page])
                self._faults.add(entry.incident_id)
        for record in records:
            await self._spared(f"restore of {record.incident_id}", self._watch_restore(record, look=look))

    async def _orphans(self) -> None:
        """An open incident whose workflow has ended (failed, terminated) or is wedged would swallow every further alert
        of its service, and call nobody: a person is told, once, and ends it by hand. One that Temporal does not know
        gets a workflow, since its data was lost under workers that go on; but not where a person was told: then it is
        long forgotten that the workflow had ended."""
        now = self._parts.clock.now()
        requested = {request.incident_id for request in await self._parts.incidents.close_requests()}
        for incident in await open_incidents(self._parts):
            if ids.orphan_record(incident.id) not in self._faults and not is_young(incident.opened_at, now):
                await self._spared(f"incident {incident.id}", self._orphan(incident, requested))

    async def _orphan(self, incident: Incident, requested: Collection[str]) -> None:
        """`requested`: ids of incidents that somebody has asked to close."""
        workflow_id = ids.incident_workflow_id(incident.id)
        health = await workflow_health(self._parts.client, workflow_id, self._parts.queue)
        if health.state in (WorkflowState.ALIVE, WorkflowState.FAILING):
            return
        if health.state is not WorkflowState.WEDGED and incident.id in requested:
            return  # it went since the close was told to it: the next look writes the close
        if await is_handed_over(self._parts, incident.id):
            self._faults.add(ids.orphan_record(incident.id))
            return
        if health.state is WorkflowState.UNKNOWN:
            self._starts.forget(workflow_id)
            await self._starts.incident(incident.id)
        elif health.state is WorkflowState.ELSEWHERE:
            await self._call(incident, health)
        else:
            await self._tell_orphan(incident, health)

    async def _tell_orphan(self, incident: Incident, health: WorkflowHealth) -> None:
        """A wedged workflow is ended before: mended code could let it go on, and write under the person's hands. What
        that costs is theirs by then: undoing, and looking for recovery. Due calls are rows, restores have workflows of
        their own, and the close by hand writes the end and lets go of the targets, as for one that ended by itself.
        Where Temporal does not end it at two looks the person is called all the same, and is told to end it."""
        name, first = ids.orphan_record(incident.id), ""
        if health.state is WorkflowState.WEDGED:
            try:
                await terminate_workflow(self._parts.client, incident.id, "wedged: a person handles it by hand")
            except RPCError as error:
                log.warning("sweeper.not_ended", incident=incident.id, error=str(error))
                if incident.id not in self._unended:
                    self._unended.add(incident.id)
                    return
                first = f"terminate {ids.incident_workflow_id(incident.id)} in Temporal, "
        reason = (
            f"the workflow of {incident.id} ({incident.service}) {health.reason}: "
            f"{first}handle it by hand, then `firebreak close {incident.id} --reason ...`"
        )
        await tell_fault(self._parts, name, WORKFLOW_ENDED, reason, incident.alert, of=incident.id)
        self._faults.add(name)  # only now: what could not be told is told at the next look

    async def _call(self, incident: Incident, health: WorkflowHealth) -> None:
        """As the story itself would, which no worker of ours tells: whoever gets its tasks one day finds that a person
        has the incident. The workflow is not ended: it may be another engine's, by the same alert."""
        key, now = "person/high", self._parts.clock.now()
        reason = (
            f"the workflow of {incident.id} {health.reason}: "
            f"handle it by hand, then `firebreak close {incident.id} --reason ...`"
        )
        body = {"reason": reason, "urgency": "high"}
        entry = EntryDraft(incident_id=incident.id, key=key, kind=EntryKind.PERSON_CALLED, at=now, body=body)
        await self._parts.ledger.append(
            [entry],
            messages=notices.person_needed(incident.id, key, reason, now),
            phase=(incident.id, IncidentPhase.WAITING_FOR_PERSON),
            unless=HANDS_OFF,
        )
        self._faults.add(ids.orphan_record(incident.id))

    async def _unreadable(self) -> None:
        """Of an open incident that nobody can read nothing can be healed, looked at or closed: a person is told."""
        for row in await self._parts.incidents.open_incidents():
            name = f"damaged-{row.id}"
            if isinstance(row, UnreadableRow) and name not in self._faults:
                reason = (
                    f"{row.fault}. Nothing more is done for this open incident: "
                    f"handle it by hand, then `firebreak close {row.id} --reason ...`"
                )
                await tell_fault(self._parts, name, "record", reason)
                self._faults.add(name)

    async def _documents(self) -> None:
        """A broken edit is told when it is made, not at the next alert."""
        self._parts.rulebook.current()
        fault = self._parts.rulebook.fault
        if fault and fault != self._documents_fault:
            # With its hour: what was mended and breaks again in the same way is told again.
            name = f"{hashlib.sha256(fault.encode()).hexdigest()[:8]}-{self._parts.clock.now():%Y%m%d%H}"
            await tell_fault(self._parts, f"documents-{name}", "documents", fault)
        self._documents_fault = fault  # only now: what could not be told is told at the next look

    async def _close(self, request: TimelineEntry) -> None:
        if await self._end(request):
            self._told.add(request.seq)

    async def _end(self, request: TimelineEntry) -> bool:
        """False when it must be tried again at the next sweep, not only at the next look."""
        fact = CloseRequested(reason=str(request.body["reason"]), by=str(request.body["by"]))
        if not await self._is_ours(request.incident_id):
            return True
        workflow_id = ids.incident_workflow_id(request.incident_id)
        state = (await workflow_health(self._parts.client, workflow_id, self._parts.queue)).state
        if state is WorkflowState.FAILING:
            return False  # soon alive or wedged: a signal would set Temporal's count back, each time anew
        try:
            if state is WorkflowState.WEDGED:  # ended before the close is written: mended code could let it go on
                why = f"closed by hand by {fact.by}: {fact.reason}"
                await terminate_workflow(self._parts.client, request.incident_id, why)
            elif state is WorkflowState.ALIVE and await tell_workflow(
                self._parts.client, request.incident_id, "close_requested", fact
            ):
                return True
        except RPCError as error:  # Temporal did answer above: it is about this one, the others have their turn
            step = f"if it goes on, terminate {workflow_id} in Temporal by hand"
            log.warning("sweeper.close_failed", incident=request.incident_id, error=str(error), next_step=step)
            return True
        # Its workflow is gone (terminated, or a new Temporal), or not ours to tell: the incident still gets its end.
        by_hand = IncidentOutcome.CLOSED_BY_HAND
        ending = EntryDraft(
            incident_id=request.incident_id,
            key="close",
            kind=EntryKind.INCIDENT_CLOSED,
            at=self._parts.clock.now(),
            actor=f"person:{fact.by}",
            body={"outcome": by_hand.value, "reason": fact.reason},
        )
        await self._parts.ledger.close_incident(
            ending,
            by_hand,
            messages=notices.closing(request.incident_id, ending.at),
            if_joined=notices.joined_late(request.incident_id, by_hand, ending.at),
        )
        return True

    async def _is_ours(self, incident_id: str) -> bool:
        """Of this worker's class. Of one that cannot be read nobody knows: the P1 worker ends it."""
        try:
            incident = await self._parts.incidents.incident(incident_id)
        except ChainBroken:
            return self._parts.intake_class is IntakeClass.P1_CANDIDATE
        return incident is not None and incident.intake_class is self._parts.intake_class

    async def _watch_restore(self, record: RestoreRecord, *, look: bool) -> None:
        workflow_id = ids.restore_workflow_id(record.incident_id, record.tier, record.step)
        if look and self._starts.began(workflow_id) and not is_young(record.opened_at, self._parts.clock.now()):
            health = await workflow_health(self._parts.client, workflow_id, self._parts.queue)
            if health.state is WorkflowState.UNKNOWN:
                self._starts.forget(workflow_id)
            elif health.state is WorkflowState.ENDED:  # not by itself: then its promise would have ended before it
                why = f"the workflow {workflow_id} {health.reason}"
                await restore_ends.give_up(self._parts.ledger, record, why, self._parts.clock.now())
                return
        await self._starts.restore(record)

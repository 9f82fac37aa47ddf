"""Starting the stories of incidents and restores: one workflow for each, under an id that is made from the record."""

from __future__ import annotations

import contextlib
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.messages import GatherResult
from firebreak.domain import ids
from firebreak.domain.ports import RestoreRecord
from workflows.incident import IncidentWorkflow
from workflows.messages import IncidentInput, RestoreWatch
from workflows.options import TASK_TIMEOUT
from workflows.restore import RestoreWorkflow

log = structlog.get_logger()


class Starts:
    """Of one worker process: starter and worker share it, so that starts are eager. A start of what runs, or has ended,
    changes nothing; each is asked for once, so that it may be called at every look."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._asked: set[str] = set()  # workflow ids

    def began(self, workflow_id: str) -> bool:
        """By this process, and not forgotten."""
        return workflow_id in self._asked

    async def incident(self, incident_id: str, first_look: GatherResult | None = None) -> None:
        """RPCError when Temporal is away."""
        given = IncidentInput(incident_id=incident_id, first_look=first_look)
        await self._start(ids.incident_workflow_id(incident_id), IncidentWorkflow.run, given, eager=True)

    async def restore(self, record: RestoreRecord) -> None:
        """RPCError when Temporal is away."""
        watch = RestoreWatch(
            incident_id=record.incident_id,
            plan_digest=record.plan_digest,
            tier=record.tier,
            step=record.step,
            opened_at=record.opened_at,
        )
        workflow_id = ids.restore_workflow_id(record.incident_id, record.tier, record.step)
        await self._start(workflow_id, RestoreWorkflow.run, watch, eager=False)

    def forget(self, workflow_id: str) -> None:
        """Temporal does not know it: it may be started anew, and its story finds in the record what had been done."""
        if workflow_id in self._asked:
            log.warning("starts.workflow_lost", workflow=workflow_id)
            self._asked.discard(workflow_id)

    async def _start(self, workflow_id: str, story: Any, given: object, *, eager: bool) -> None:
        if workflow_id in self._asked:
            return
        with contextlib.suppress(WorkflowAlreadyStartedError):  # it has ended
            await self._client.start_workflow(
                story,
                given,
                id=workflow_id,
                task_queue=self._queue,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                request_eager_start=eager,
            )
        self._asked.add(workflow_id)

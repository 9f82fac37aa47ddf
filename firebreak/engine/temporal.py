"""The connection to Temporal, and the workers on it: tuned as measured (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ResetStickyTaskQueueRequest
from temporalio.client import Client, TLSConfig, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, Worker, WorkflowRunner

from firebreak.domain import ids
from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import SettingsInvalid
from firebreak.settings import Settings
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.restore import RestoreWorkflow

STICKY_TIMEOUT = timedelta(seconds=3)
"""Schedule-to-start time-out of a sticky task: so long it waits for the worker that has its workflow in memory; then
any worker gets it, and replays (the default is 10 s). In a storm tasks wait longer than a second for a slot. What wakes
once a killed worker has its successor does not wait for it: `reset_stickiness` (ADR 0016)."""

RESET_LIMIT = timedelta(seconds=1)
"""For one request whose only use is that something happens sooner."""

SHUTDOWN_GRACE = timedelta(seconds=3)

FAILED_TASKS = 5
"""So many tries of one task failed or timed out in a row: the workflow is wedged (a bug in the story, or a history that
the code does not repeat). Temporal counts nothing else: a task that waits for a worker, however long, stays at its
first try, and a killed worker costs one. Later tries get more time (2, 2, 2, 6, 11 s, measured), so a worker that is
merely slow is done before; the sixth begins after about 20 s. A signal sets the count back to one."""


class WorkflowState(StrEnum):
    """What can be expected of a workflow."""

    UNKNOWN = "unknown"  # not started yet, or a new Temporal
    ALIVE = "alive"
    FAILING = "failing"  # its task failed, and is tried again
    ELSEWHERE = "elsewhere"  # it runs on a task queue that is not ours: no worker of ours gets its tasks
    WEDGED = "wedged"  # it runs, and does nothing any more: its tasks fail
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class WorkflowHealth:
    """What Temporal says of a workflow; `reason` says it in words where it is elsewhere, is wedged or has ended."""

    state: WorkflowState
    reason: str = ""


def task_queue(settings: Settings, intake_class: IntakeClass) -> str:
    return f"{settings.task_queue_prefix}-{intake_class.value}"


async def connect(settings: Settings) -> Client:
    """Client with our converter. Raises SettingsInvalid for an address or TLS files that cannot be used, or a namespace
    that is not there; RuntimeError and RPCError when the server cannot be reached."""
    tls: TLSConfig | bool = settings.temporal_tls or bool(settings.temporal_api_key.get_secret_value())
    if settings.temporal_tls_ca or settings.temporal_tls_cert:
        try:
            tls = TLSConfig(
                server_root_ca_cert=settings.temporal_tls_ca.read_bytes() if settings.temporal_tls_ca else None,
                client_cert=settings.temporal_tls_cert.read_bytes() if settings.temporal_tls_cert else None,
                client_private_key=settings.temporal_tls_key.read_bytes() if settings.temporal_tls_key else None,
            )
        except OSError as error:
            raise SettingsInvalid(f"a Temporal TLS file cannot be read: {error}") from None
    try:
        client = await Client.connect(
            settings.temporal_address,
            namespace=settings.temporal_namespace,
            data_converter=DATA_CONVERTER,
            tls=tls,
            api_key=settings.temporal_api_key.get_secret_value() or None,
        )
    except ValueError as error:  # before anything is dialled
        told = f"FIREBREAK_TEMPORAL_ADDRESS ({settings.temporal_address}) cannot be used: {error}"
        raise SettingsInvalid(told) from None
    await _find_namespace(client, settings)
    return client


async def _find_namespace(client: Client, settings: Settings) -> None:
    """A worker asks for it, too, once it has said that it is ready; then it ends, again and again."""
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), retry=True
        )
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:  # of a proxy that passes on what workers need
            return
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise SettingsInvalid(
            f"Temporal at {settings.temporal_address} has no namespace {client.namespace}",
            advice="Correct FIREBREAK_TEMPORAL_NAMESPACE, or create it: temporal operator namespace create -n NAME",
        ) from None


def workflow_runner() -> WorkflowRunner:
    """No sandbox while it runs: it would cost a third of a workflow task's processor time and a second copy of modules.
    What it guards against is guarded before: stored histories are replayed in the default sandbox."""
    return UnsandboxedWorkflowRunner()


def incident_worker(
    client: Client,
    queue: str,
    activities: Sequence[Callable[..., Any]],
    *,
    slots: int,
    cached: int = 2_000,
    interceptors: Sequence[Interceptor] = (),
) -> Worker:
    """One worker. Few workflow slots keep each task quick; activities only wait, so they may be many."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[IncidentWorkflow, RestoreWorkflow],
        activities=list(activities),
        workflow_runner=workflow_runner(),
        interceptors=interceptors,
        max_cached_workflows=cached,
        max_concurrent_workflow_tasks=slots,
        max_concurrent_activities=100,
        max_concurrent_local_activities=100,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        max_workflow_task_external_storage_concurrency=1,  # no external storage: so no tasks to walk the payloads
        graceful_shutdown_timeout=SHUTDOWN_GRACE,
        build_id="firebreak",  # nothing asks for it, and the SDK would hash each module that is loaded
    )


async def reset_stickiness(client: Client, workflow_id: str) -> None:
    """The workflow's next task goes to any worker, not only to the one that had it in its memory. A task that waits for
    that one already goes on waiting, STICKY_TIMEOUT at most. A workflow that has ended, or is unknown, needs nothing.
    RPCError when Temporal does not answer, or not within RESET_LIMIT."""
    request = ResetStickyTaskQueueRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    try:
        await client.workflow_service.reset_sticky_task_queue(request, timeout=RESET_LIMIT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def tell_workflow(client: Client, incident_id: str, signal: str, fact: object) -> bool:
    """Signal an incident's workflow; False when it has ended or is unknown (its incident needs nothing more of it)."""
    handle = client.get_workflow_handle(ids.incident_workflow_id(incident_id))
    try:
        await handle.signal(signal, fact)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def workflow_health(client: Client, workflow_id: str, queue: str) -> WorkflowHealth:
    """Whether it can still act, by workers of that task queue. RPCError when Temporal does not answer."""
    try:
        seen = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return WorkflowHealth(WorkflowState.UNKNOWN)
    if seen.status not in (None, WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW):
        return WorkflowHealth(WorkflowState.ENDED, f"has ended as {seen.status.name} before its story was over")
    if seen.task_queue != queue:
        asks = "was FIREBREAK_TASK_QUEUE_PREFIX changed, or does another engine share the namespace?"
        reason = f"waits on the task queue {seen.task_queue}, and this engine listens to {queue} ({asks})"
        return WorkflowHealth(WorkflowState.ELSEWHERE, reason)
    tries = seen.raw_description.pending_workflow_task.attempt  # 0 when no task is pending
    if tries > FAILED_TASKS:
        reason = f"is stuck, its task failed {tries - 1} times in a row (the worker's log in run/ says why)"
        return WorkflowHealth(WorkflowState.WEDGED, reason)
    return WorkflowHealth(WorkflowState.FAILING if tries > 1 else WorkflowState.ALIVE)


async def terminate_workflow(client: Client, incident_id: str, reason: str) -> None:
    """It writes nothing any more; one that has ended meanwhile is as good. RPCError when Temporal did not do it."""
    try:
        await client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate(reason=reason)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise

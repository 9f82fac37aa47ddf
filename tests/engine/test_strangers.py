"""Two engines that share a task queue of Temporal: each does the work for the incidents of its own record."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.messages import (
    CloseInput,
    GatherInput,
    GatherResult,
    PersonInput,
    RecoveryInput,
    RecoveryResult,
)
from firebreak.domain.errors import LedgerError
from firebreak.domain.ids import incident_workflow_id
from firebreak.domain.timeline import EntryKind
from firebreak.domain.verdict import NextLook
from firebreak.engine.clock import SystemClock
from firebreak.engine.strangers import LAST_TRY, NoStrangers
from firebreak.engine.temporal import incident_worker
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from workflows.incident import IncidentWorkflow
from workflows.messages import IncidentInput

Eventually = Callable[..., Awaitable[None]]
STRANGER = "inc-20261121-083644-0000beef"


@dataclass
class Played:
    """One engine's hands: they note that they were asked."""

    asked: list[str] = field(default_factory=list)

    @activity.defn(name="evidence.gather")
    async def gather(self, given: GatherInput) -> GatherResult:
        self.asked.append("gather")
        return GatherResult(next=NextLook.CALL_PERSON, reason="played")

    @activity.defn(name="person.call")
    async def call(self, given: PersonInput) -> None:
        self.asked.append("call")

    @activity.defn(name="evidence.watch_recovery")
    async def watch_recovery(self, given: RecoveryInput) -> RecoveryResult:
        self.asked.append("watch_recovery")
        return RecoveryResult(recovered=True, reason="played", again_at=datetime.now(UTC))

    @activity.defn(name="incident.close")
    async def close(self, given: CloseInput) -> bool:
        self.asked.append("close")
        return True

    @property
    def all(self) -> list[Callable[..., Any]]:
        return [self.gather, self.call, self.watch_recovery, self.close]


@pytest.fixture
async def others(tmp_path: Path, empty_stores: Path) -> Any:
    """The record of another engine."""
    folder = tmp_path / "others"
    folder.mkdir()
    shutil.copy(empty_stores / TIMELINE_FILE, folder / TIMELINE_FILE)
    async with await TimelineStore.open(folder / TIMELINE_FILE) as opened:
        yield opened


def strangers_of(store: TimelineStore, queue: str = "q") -> NoStrangers:
    return NoStrangers(store.knows, ledger=store, clock=SystemClock(), queue=queue)


@pytest.mark.servers
async def test_work_for_another_engines_incident_waits_for_that_engine(
    office: Any, others: TimelineStore, eventually: Eventually
) -> None:
    """The one that is asked first has no such incident: it does nothing, and pages once about the shared queue."""
    (receipt,) = await office.accept(office.alert())
    async with office.dispatching(queue=office.queue):
        ((_, incident_id),) = await office.settled(receipt)
    client: Client = office.client
    await client.get_workflow_handle(incident_workflow_id(incident_id)).terminate()
    queue = f"shared-{uuid.uuid4()}"
    ours, theirs = Played(), Played()
    interceptors = [strangers_of(others, queue)]
    story = await client.start_workflow(
        IncidentWorkflow.run, IncidentInput(incident_id=incident_id), id=f"shared-{uuid.uuid4()}", task_queue=queue
    )

    async def told() -> bool:
        return bool(await others.engine_faults(limit=9))

    async with incident_worker(client, queue, theirs.all, slots=2, interceptors=interceptors):
        await eventually(told)
    async with incident_worker(client, queue, ours.all, slots=2, interceptors=[strangers_of(office.store)]):
        await story.result(rpc_timeout=timedelta(seconds=60))
    assert ours.asked == ["gather", "call", "watch_recovery", "close"]
    assert theirs.asked == []
    (fault,) = await others.engine_faults(limit=9)
    assert f"another engine uses the task queue {queue}" in fault.body["error"]
    assert "FIREBREAK_TASK_QUEUE_PREFIX" in fault.body["error"]
    (page,) = await others.due(datetime.now(UTC), limit=9)
    assert page.draft.incident_id == fault.incident_id
    assert not await office.store.engine_faults(limit=9)


class Done(ActivityInboundInterceptor):
    """The end of the chain: the hand itself."""

    def __init__(self) -> None:
        self.done = 0

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self.done += 1


async def attempt(strangers: NoStrangers, kind: str, number: int) -> int:
    """How often the hand was asked by the `number`-th try for a stranger's incident."""
    hand, given = Done(), PersonInput(incident_id=STRANGER, key="person/high", reason="why")
    chain = strangers.intercept_activity(hand)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, activity_type=kind, attempt=number)
    asked = ExecuteActivityInput(fn=chain.execute_activity, args=[given], executor=None, headers={})
    with contextlib.suppress(ApplicationError):
        await environment.run(chain.execute_activity, asked)
    return hand.done


async def test_somebody_is_called_at_last_for_an_incident_of_a_lost_record(store: TimelineStore) -> None:
    """No other engine has taken the call in a minute and a half: nobody has the incident. All else is left alone."""
    strangers = strangers_of(store)
    assert await attempt(strangers, "person.call", LAST_TRY - 1) == 0
    assert await attempt(strangers, "person.call", LAST_TRY) == 1
    assert await attempt(strangers, "step.act", LAST_TRY) == 0
    (fault,) = await store.engine_faults(limit=9)
    assert fault.kind is EntryKind.ENGINE_FAULT


async def test_a_record_that_cannot_be_read_keeps_no_call_back(store: TimelineStore) -> None:
    """The call goes out without the record: that is what it is exempt for."""

    async def unread(incident_id: str) -> bool:
        raise LedgerError("the disk is gone")

    strangers = NoStrangers(unread, ledger=store, clock=SystemClock(), queue="q")
    assert await attempt(strangers, "person.call", 1) == 1
    assert not await store.engine_faults(limit=9)

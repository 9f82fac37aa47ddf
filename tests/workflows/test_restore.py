"""A restore outlives its incident, and ends once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from workflows.messages import RestoreEnd, RestoreWatch
from workflows.restore import SOONEST, RestoreWorkflow

pytestmark = pytest.mark.servers


async def started(stage: Any) -> WorkflowHandle[RestoreWorkflow, RestoreEnd]:
    handle: WorkflowHandle[RestoreWorkflow, RestoreEnd] = await stage.client.start_workflow(
        RestoreWorkflow.run,
        RestoreWatch(incident_id="inc-1", plan_digest="d", tier=1, step=0, opened_at=datetime.now(UTC)),
        id=f"w-{uuid.uuid4()}",
        task_queue=stage.queue,
        task_timeout=timedelta(seconds=2),
    )
    return handle


async def test_a_restore_looks_until_it_has_ended(stage: Any) -> None:
    """Not yet, not yet, then taken back: three looks, each told what the one before answered, and one end."""
    stage.hands.restore_script = [False, False, True]
    async with stage.worker():
        end = await (await started(stage)).result()
    assert end.outcome == "restored"
    assert stage.hands.names() == ["restore"] * 3
    # From when its limit counts is handed on, as each look answered.
    assert [given.since for _, given in stage.hands.calls] == [None, stage.hands.seen_at(2), stage.hands.seen_at(1)]


async def test_workers_that_are_behind_make_no_restless_restore(stage: Any) -> None:
    """Their clock is an hour behind Temporal's: what they ask for is past, and each look waits a second."""
    stage.hands.restore_again = timedelta(hours=-1)
    stage.hands.restore_script = [False, False, True]
    async with stage.worker():
        handle = await started(stage)
        await handle.result()
    history = await handle.fetch_history()
    timers = [e.timer_started_event_attributes for e in history.events if e.HasField("timer_started_event_attributes")]
    assert [timer.start_to_fire_timeout.ToTimedelta() for timer in timers] == [SOONEST] * 2

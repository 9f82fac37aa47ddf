"""A restore outlives its incident, and ends once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflows.messages import RestoreWatch
from workflows.restore import RestoreWorkflow

pytestmark = pytest.mark.servers


async def test_a_restore_looks_until_it_has_ended(stage: Any) -> None:
    """Not yet, not yet, then taken back: three looks, each told what the one before answered, and one end."""
    stage.hands.restore_script = [False, False, True]
    async with stage.worker():
        end = await stage.client.execute_workflow(
            RestoreWorkflow.run,
            RestoreWatch(incident_id="inc-1", plan_digest="d", tier=1, step=0, opened_at=datetime.now(UTC)),
            id=f"w-{uuid.uuid4()}",
            task_queue=stage.queue,
            task_timeout=timedelta(seconds=2),
        )
    assert end.outcome == "restored"
    assert stage.hands.names() == ["restore"] * 3
    # From when its limit counts is handed on, as each look answered.
    assert [given.since for _, given in stage.hands.calls] == [None, stage.hands.seen_at(2), stage.hands.seen_at(1)]

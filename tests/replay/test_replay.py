"""Stored histories replay in the strict sandbox: an open incident survives a new version of the story.

`tests/replay/record.py` makes them (`make histories`). No server is needed here.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from firebreak.domain.codec import from_data
from firebreak.domain.incident import IncidentOutcome
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.messages import IncidentResult
from workflows.restore import RestoreWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
WAYS = {  # the scenes that must be there: every end of the story, both ways of calling a hand, and a restore
    "healed": IncidentOutcome.HEALED,
    "looked-before": IncidentOutcome.HEALED,
    "paged": IncidentOutcome.RECOVERED,
    "nothing-done": IncidentOutcome.NOTHING_DONE,
    "closed-by-hand": IncidentOutcome.CLOSED_BY_HAND,
    "patient": IncidentOutcome.HEALED,
}


def loaded(name: str) -> dict[str, Any]:
    (path,) = (path for path in HISTORIES if path.stem == name)
    history: dict[str, Any] = json.loads(path.read_text())
    return history


def replayer(*others: type) -> Replayer:
    """In the SDK's own sandbox: nothing is passed through but what the SDK and the story's own files pass through."""
    return Replayer(
        workflows=others or [IncidentWorkflow, RestoreWorkflow],
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        data_converter=DATA_CONVERTER,
    )


async def replay(history: dict[str, Any], *others: type) -> None:
    await replayer(*others).replay_workflow(WorkflowHistory.from_json("replayed", history))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_stored_history_replays(path: Path) -> None:
    """The story of today asks for the same things in the same order."""
    await replay(loaded(path.stem))


@pytest.mark.parametrize("name", WAYS)
async def test_a_history_ends_as_its_name_says(name: str) -> None:
    """What is stored is a whole incident, and its result can be read."""
    last = loaded(name)["events"][-1]
    assert last["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
    history = WorkflowHistory.from_json("read", loaded(name))
    (payload,) = history.events[-1].workflow_execution_completed_event_attributes.result.payloads
    result = from_data(IncidentResult, json.loads(payload.data))
    assert result.outcome is WAYS[name]


def test_a_restore_and_a_regular_activity_are_among_them() -> None:
    """Without them half of the code would never be replayed."""
    assert {path.stem for path in HISTORIES} >= {*WAYS, "restore"}
    assert any(e["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_COMPLETED" for e in loaded("patient")["events"])


def test_histories_name_no_machine() -> None:
    """Paths and host names of who recorded them stay out of the project."""
    for path in HISTORIES:
        text = path.read_text()
        assert "stackTrace" not in text
        assert {e.get("identity") for e in _attributes(json.loads(text))} <= {None, "", "recorder"}


def _attributes(history: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for event in history["events"] for key, value in event.items() if key.endswith("Attributes")]


@workflow.defn(name="Restore")
class RestlessRestore:
    """Sleeps before it looks: other commands in another order than in any stored history."""

    @workflow.run
    async def run(self, watch: Any) -> None:
        await workflow.sleep(1)


async def test_a_changed_story_is_noticed() -> None:
    """A version that asks for other things than the stored one is refused as nondeterministic."""
    with pytest.raises(workflow.NondeterminismError):
        await replay(loaded("restore"), RestlessRestore)


async def test_two_steps_that_changed_places_are_noticed() -> None:
    """The history in which evidence is kept before it is gathered is not this story's."""
    history = loaded("paged")
    markers = [e["markerRecordedEventAttributes"] for e in history["events"] if "markerRecordedEventAttributes" in e]
    first, second = markers[0], markers[1]
    swapped = copy.deepcopy(first["details"])
    first["details"], second["details"] = second["details"], swapped
    with pytest.raises(workflow.NondeterminismError):
        await replay(history)

"""What incidents cost in Temporal, read from their histories."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from firebreak.domain import ids

_LOCAL = "core_local_activity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One workflow. `actions` are billable ones, counted as Temporal Cloud does: the start, each timer, each regular
    activity, each signal, and one for all local activities of one workflow task."""

    events: int
    size: int  # bytes
    actions: int
    timers: int
    tasks: int
    local: Counter[str]


async def cost_of(client: Client, incident_id: str) -> Cost:
    handle = client.get_workflow_handle(ids.incident_workflow_id(incident_id))
    described = await handle.describe()
    history = await handle.fetch_history()
    kinds: Counter[int] = Counter()
    local: Counter[str] = Counter()
    tasks_with_local: set[int] = set()
    for event in history.events:
        kinds[event.event_type] += 1
        marker = event.marker_recorded_event_attributes
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED and marker.marker_name == _LOCAL:
            tasks_with_local.add(marker.workflow_task_completed_event_id)
            data = json.loads(marker.details["data"].payloads[0].data)
            local[str(data["activity_type"])] += 1
    timers = kinds[EventType.EVENT_TYPE_TIMER_STARTED]
    regular = kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]
    signals = kinds[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
    return Cost(
        events=len(history.events),
        size=described.raw_description.workflow_execution_info.history_size_bytes,
        actions=1 + timers + regular + signals + len(tasks_with_local),
        timers=timers,
        tasks=kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED],
        local=local,
    )


async def costs(client: Client, incidents: Sequence[str]) -> list[Cost]:
    return [await cost_of(client, incident) for incident in incidents]

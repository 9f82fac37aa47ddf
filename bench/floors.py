"""What the Temporal server itself allows, in a process of its own: `python -m bench.floors SPEC.json`.

noop: an eager workflow that does nothing. waits: the engine's own story with hands that are empty, but with as many
looks, and timers as long, as the real incidents had.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from activities.messages import (
    CloseInput,
    GatherResult,
    KeepInput,
    StepInput,
    VerifyInput,
    VerifyResult,
)
from bench.field import Field, child_environment
from bench.noop_workflow import NoopWorkflow
from firebreak.domain.plan import PlanOutline, StepOutline, StepRecord, StepStatus, TierOutline
from firebreak.domain.verdict import NextLook
from firebreak.engine.dispatcher import AT_ONCE
from firebreak.engine.loop import run
from firebreak.engine.temporal import STICKY_TIMEOUT, workflow_runner
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.messages import IncidentInput
from workflows.options import TASK_TIMEOUT

_SLOTS = 10  # as the engine's P1 process


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorSpec:
    """`looks` and `holds`: how often verify and hold are asked until they are decided; in seconds, `first_look` and
    `hold` are the plan's own, `verified_after` (from the effect) and `held_after` (from there) those of real
    incidents."""

    address: str
    kind: str  # noop | waits
    count: int
    looks: int = 1
    holds: int = 1
    first_look: float = 0.0
    verified_after: float = 0.0
    hold: float = 0.0
    held_after: float = 0.0

    @property
    def waits(self) -> float:
        """Seconds that the story sleeps: what a single look decides is not kept waiting by a queue."""
        verify = self.first_look if self.looks == 1 else self.verified_after
        return verify + (self.hold if self.holds == 1 else self.held_after)


class EmptyHands:
    """Answers as quickly as can be, always so that the story goes on to its good end."""

    def __init__(self, spec: FloorSpec) -> None:
        self._spec = spec
        self._began: dict[str, float] = {}

    def first_look(self) -> GatherResult:
        """In the workflow's input, as the engine gives it."""
        spec = self._spec
        step = StepOutline(
            id="s",
            action="set_flag",
            undoable=True,
            needs_approval=False,
            first_look=timedelta(seconds=spec.first_look),
            within=timedelta(seconds=60),
        )
        page = StepOutline(
            id="p", action="page", undoable=False, needs_approval=False, first_look=timedelta(0), within=timedelta(0)
        )
        tiers = (TierOutline(name="degrade", steps=(step,)), TierOutline(name="page", steps=(page,)))
        plan = PlanOutline(
            digest="0" * 64, runbook="empty", hold=timedelta(seconds=spec.hold), tiers=tiers, keeps_evidence=False
        )
        return GatherResult(next=NextLook.ACT, reason="empty", plan=plan)

    @activity.defn(name="evidence.keep")
    async def keep(self, given: KeepInput) -> None:
        return None

    @activity.defn(name="step.act")
    async def act(self, given: StepInput) -> StepRecord:
        self._began[given.incident_id] = time.time()
        return StepRecord(tier=given.tier, step=given.step, status=StepStatus.APPLIED, reason="empty", wrote=True)

    @activity.defn(name="step.verify")
    async def verify(self, given: VerifyInput) -> VerifyResult:
        spec = self._spec
        return self._decided(given, spec.looks, spec.first_look, spec.verified_after)

    @activity.defn(name="step.hold")
    async def hold(self, given: VerifyInput) -> VerifyResult:
        spec = self._spec
        return self._decided(given, spec.holds, spec.hold, spec.held_after)

    def _decided(self, given: VerifyInput, looks: int, first: float, last: float) -> VerifyResult:
        """The last look decides; those between are spread evenly over the time that is left after the first."""
        if given.round + 1 >= looks:
            self._began[given.incident_id] = time.time()
            record = StepRecord(
                tier=given.tier, step=given.step, status=StepStatus.VERIFIED, reason="empty", wrote=True
            )
            return VerifyResult(record=record)
        at = self._began[given.incident_id] + first + (last - first) * (given.round + 1) / (looks - 1)
        return VerifyResult(record=None, again_at=datetime.fromtimestamp(at, UTC), reason="empty")

    @activity.defn(name="incident.close")
    async def close(self, given: CloseInput) -> None:
        return None


async def _run(spec: FloorSpec) -> float:
    """Seconds from the first start to the last end."""
    client = await Client.connect(spec.address, data_converter=DATA_CONVERTER)
    queue, hands = f"floor-{uuid.uuid4().hex[:8]}", EmptyHands(spec)
    activities: Sequence[Callable[..., Any]] = [
        hands.keep,
        hands.act,
        hands.verify,
        hands.hold,
        hands.close,
    ]
    async with Worker(
        client,
        task_queue=queue,
        workflows=[NoopWorkflow, IncidentWorkflow],
        activities=activities,
        workflow_runner=workflow_runner(),
        max_cached_workflows=2_000,
        max_concurrent_workflow_tasks=_SLOTS,
        max_concurrent_local_activities=100,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    ):
        await asyncio.gather(*(_one(client, queue, spec, hands) for _ in range(5)))  # imports and connections
        gate = asyncio.Semaphore(AT_ONCE)
        began = time.perf_counter()
        await asyncio.gather(*(_one(client, queue, spec, hands, gate) for _ in range(spec.count)))
        return time.perf_counter() - began


async def _one(
    client: Client, queue: str, spec: FloorSpec, hands: EmptyHands, gate: asyncio.Semaphore | None = None
) -> None:
    name = uuid.uuid4().hex
    starting = gate or asyncio.Semaphore()
    async with starting:
        handle = await _start(client, queue, spec, hands, name)
    await handle.result()


def _start(client: Client, queue: str, spec: FloorSpec, hands: EmptyHands, name: str) -> Awaitable[Any]:
    common: dict[str, Any] = {
        "id": f"floor-{name}",
        "task_queue": queue,
        "task_timeout": TASK_TIMEOUT,
        "request_eager_start": True,
    }
    if spec.kind == "noop":
        return client.start_workflow(NoopWorkflow.run, **common)
    given = IncidentInput(incident_id=name, first_look=hands.first_look())
    return client.start_workflow(IncidentWorkflow.run, given, **common)


async def measured(field: Field, spec: FloorSpec) -> float:
    """`spec` in a fresh process; seconds."""
    path = field.root / f"floor-{spec.kind}.json"
    path.write_text(json.dumps(asdict(spec)))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "bench.floors",
        str(path),
        env=child_environment({}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"bench.floors ended with {process.returncode}")
    return float(json.loads(out)["seconds"])


if __name__ == "__main__":
    given = FloorSpec(**json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps({"seconds": run(_run(given))}))  # on the loop of the engine's workers

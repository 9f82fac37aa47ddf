"""The real tuned Temporal server, and hands that only play what a test tells them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.messages import (
    CloseInput,
    GatherInput,
    GatherResult,
    KeepInput,
    PersonInput,
    RecoveryInput,
    RecoveryResult,
    RestoreInput,
    RestoreResult,
    StepInput,
    VerifyInput,
    VerifyResult,
)
from firebreak.domain.plan import PlanOutline, StepOutline, StepRecord, StepStatus, TierOutline
from firebreak.domain.verdict import NextLook
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.restore import RestoreWorkflow


def outline(*tiers: str) -> PlanOutline:
    """A plan with one quick step per tier, page last."""

    def tier(name: str) -> TierOutline:
        step = StepOutline(
            id=name,
            action="page" if name == "page" else "played",
            undoable=True,
            needs_approval=False,
            first_look=timedelta(milliseconds=10),
            within=timedelta(seconds=1),
        )
        return TierOutline(name=name, steps=(step,))

    return PlanOutline(digest="d", runbook="r", tiers=tuple(tier(name) for name in (*tiers, "page")))


Script = Callable[[Any], Any]


@dataclass
class PlayedHands:
    """Each hand answers by its script; `calls` tells what was asked, in order."""

    gather_script: list[GatherResult] = field(default_factory=list)
    act_script: dict[int, StepStatus] = field(default_factory=dict)
    verify_script: dict[int, list[StepStatus | None]] = field(default_factory=dict)
    hold_script: dict[int, StepStatus] = field(default_factory=dict)
    close_script: list[bool] = field(default_factory=list)
    recovery_script: list[bool] = field(default_factory=list)
    restore_script: list[bool] = field(default_factory=list)
    restore_again: timedelta = timedelta(milliseconds=30)
    failing: set[str] = field(default_factory=set)  # for good
    stumbling: set[str] = field(default_factory=set)  # in a way that another try may mend
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def _called(self, name: str, given: Any) -> None:
        self.calls.append((name, given))
        if name in self.failing:
            raise ApplicationError("played failure", type="PermanentError", non_retryable=True)
        if name in self.stumbling:
            raise ApplicationError("played fault", type="KeyError")

    @staticmethod
    def seen_at(tier: int) -> datetime:
        """When the verification of a tier looked at the evidence."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=tier)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @activity.defn(name="evidence.gather")
    async def gather(self, given: GatherInput) -> GatherResult:
        self._called("gather", given)
        return self.gather_script[min(given.round, len(self.gather_script) - 1)]

    @activity.defn(name="evidence.keep")
    async def keep(self, given: KeepInput) -> None:
        self._called("keep", given)

    @activity.defn(name="evidence.watch_recovery")
    async def watch_recovery(self, given: RecoveryInput) -> RecoveryResult:
        self._called("watch_recovery", given)
        done = self.recovery_script.pop(0) if len(self.recovery_script) > 1 else self.recovery_script[0]
        return RecoveryResult(recovered=done, reason="played", again_at=datetime.now(UTC) + timedelta(milliseconds=50))

    @activity.defn(name="step.act")
    async def act(self, given: StepInput) -> StepRecord:
        self._called("act", given)
        status = self.act_script.get(given.tier, StepStatus.APPLIED)
        return StepRecord(
            tier=given.tier, step=given.step, status=status, reason="played", wrote=status is StepStatus.APPLIED
        )

    @activity.defn(name="step.verify")
    async def verify(self, given: VerifyInput) -> VerifyResult:
        self._called("verify", given)
        script = self.verify_script.get(given.tier, [StepStatus.VERIFIED])
        status = script[min(given.round, len(script) - 1)]
        if status is None:
            again = datetime.now(UTC) + timedelta(milliseconds=30)
            return VerifyResult(record=None, again_at=again, since=self.seen_at(given.round))
        record = StepRecord(
            tier=given.tier,
            step=given.step,
            status=status,
            reason="played",
            wrote=True,
            seen_at=self.seen_at(given.tier),
        )
        return VerifyResult(record=record)

    @activity.defn(name="step.hold")
    async def hold(self, given: VerifyInput) -> VerifyResult:
        self._called("hold", given)
        status = self.hold_script.get(given.tier, StepStatus.VERIFIED)
        record = StepRecord(
            tier=given.tier,
            step=given.step,
            status=status,
            reason="played",
            wrote=True,
            seen_at=self.seen_at(given.tier),
        )
        return VerifyResult(record=record)

    @activity.defn(name="step.undo")
    async def undo(self, given: StepInput) -> StepRecord:
        self._called("undo", given)
        return StepRecord(tier=given.tier, step=given.step, status=StepStatus.UNDONE, reason="played", wrote=True)

    @activity.defn(name="person.call")
    async def call(self, given: PersonInput) -> None:
        self._called("call", given)

    @activity.defn(name="incident.close")
    async def close(self, given: CloseInput) -> bool:
        self._called("close", given)
        return self.close_script.pop(0) if self.close_script else True

    @activity.defn(name="restore.check")
    async def check(self, given: RestoreInput) -> RestoreResult:
        self._called("restore", given)
        ended = self.restore_script.pop(0)
        again = datetime.now(UTC) + self.restore_again
        if ended:
            return RestoreResult(ended=True, outcome="restored")
        since = self.seen_at(len(self.restore_script))
        return RestoreResult(ended=False, outcome="", again_at=again, since=since)

    def all(self) -> Sequence[Callable[..., Any]]:
        return (
            self.gather,
            self.keep,
            self.watch_recovery,
            self.act,
            self.verify,
            self.hold,
            self.undo,
            self.call,
            self.close,
            self.check,
        )


@pytest.fixture
def plan_of() -> Callable[..., GatherResult]:
    """`plan_of("restart", "reroute")`: a look that lets the engine act by such a plan."""

    def made(*tiers: str) -> GatherResult:
        return GatherResult(next=NextLook.ACT, reason="played", plan=outline(*tiers))

    return made


@dataclass
class Stage:
    """A client, a queue, and a worker that replays every task from the start (no cache)."""

    client: Client
    queue: str
    hands: PlayedHands

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        async with Worker(
            self.client,
            task_queue=self.queue,
            workflows=[IncidentWorkflow, RestoreWorkflow],
            activities=list(self.hands.all()),
            workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
            max_cached_workflows=0,
            max_concurrent_workflow_task_polls=1,
        ):
            yield


@pytest.fixture
async def stage(temporal_address: str) -> Stage:
    client = await Client.connect(temporal_address, data_converter=DATA_CONVERTER)
    return Stage(client=client, queue=f"q-{uuid.uuid4()}", hands=PlayedHands())

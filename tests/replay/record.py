"""Record the histories that `test_replay.py` replays: `make histories`.

The story runs on the real tuned Temporal server with hands that answer by a script; what the server then has is stored,
but for stack traces, which name paths of the machine. Record a new one when the story learns a new way, or when it was
changed on purpose while no incident of the old kind can be open; a change that must carry open incidents over keeps the
old files and uses `workflow.patched`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.messages import GatherResult, RecoveryResult, RestoreResult, VerifyResult
from firebreak.domain.plan import PlanOutline, StepOutline, StepRecord, StepStatus, TierOutline
from firebreak.domain.verdict import NextLook
from firebreak.engine.temporal import workflow_runner
from firebreak.servers.process import free_port
from firebreak.servers.temporal import start_temporal
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.messages import AlertResolved, CloseRequested, IncidentInput, RestoreWatch
from workflows.options import SWIFT_LIMIT, TASK_TIMEOUT
from workflows.restore import RestoreWorkflow

HISTORIES = Path(__file__).parent / "histories"
INCIDENT = "inc-20261121-083644-pay-0123456789"
DIGEST = "d" * 64
SOON = timedelta(milliseconds=100)

Answer = Callable[[], Any]
Script = Mapping[str, Sequence[Answer]]
Told = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One history: what each hand answers, call by call (the last answer stays), and what the world tells meanwhile.
    `tell` gets the workflow's handle, and a way to wait until a hand was called so many times."""

    name: str
    script: Script
    start: Any = field(default_factory=lambda: IncidentInput(incident_id=INCIDENT))
    tell: Callable[[WorkflowHandle[Any, Any], Told], Awaitable[None]] | None = None


class Stage:
    """Every activity that the story knows, answering by the scene's script."""

    def __init__(self, script: Script) -> None:
        self._script = {name: _last_stays(answers) for name, answers in script.items()}
        self.calls: dict[str, int] = {}

    def hands(self) -> list[Callable[..., Any]]:
        return [self._hand(name) for name in self._script]

    def _hand(self, name: str) -> Callable[..., Any]:
        async def played(given: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            answer = next(self._script[name])()
            return await answer if isinstance(answer, Awaitable) else answer

        return activity.defn(name=name)(played)

    async def called(self, name: str, times: int) -> None:
        async with asyncio.timeout(30):
            while self.calls.get(name, 0) < times:  # noqa: ASYNC110 # the hands are played in this process
                await asyncio.sleep(0.02)


def _last_stays(answers: Sequence[Answer]) -> Iterator[Answer]:
    yield from answers
    while True:
        yield answers[-1]


def now() -> datetime:
    return datetime.now(UTC)


def plan(*tiers: str) -> PlanOutline:
    """One quick step a tier, page last."""

    def tier(name: str) -> TierOutline:
        step = StepOutline(
            id=f"{name}-pay",
            action="page" if name == "page" else name,
            undoable=name == "reroute",
            needs_approval=False,
            first_look=SOON,
            within=timedelta(seconds=10),
        )
        return TierOutline(name=name, steps=(step,))

    return PlanOutline(digest=DIGEST, runbook="heal-service", tiers=tuple(tier(n) for n in (*tiers, "page")), hold=SOON)


def act(*tiers: str) -> Answer:
    return lambda: GatherResult(next=NextLook.ACT, reason="P1: latency and errors", plan=plan(*tiers))


def again(after: timedelta = SOON) -> Answer:
    return lambda: GatherResult(next=NextLook.AGAIN, reason="true, but not held yet", again_at=now() + after)


def nothing() -> GatherResult:
    return GatherResult(next=NextLook.NOTHING, reason="resolved before it held")


def step(tier: int, status: StepStatus) -> Answer:
    return lambda: StepRecord(tier=tier, step=0, status=status, reason="played", wrote=True)


def seen(tier: int, status: StepStatus) -> Answer:
    record = StepRecord(tier=tier, step=0, status=status, reason="played", wrote=True)
    return lambda: VerifyResult(record=record, reason="played")


def later() -> VerifyResult:
    return VerifyResult(record=None, again_at=now() + SOON, reason="has not held yet")


def recovery(recovered: bool) -> Answer:
    return lambda: RecoveryResult(recovered=recovered, reason="played", again_at=now() + SOON)


def restore(ended: bool) -> Answer:
    return lambda: RestoreResult(
        ended=ended, outcome="restored" if ended else "", again_at=None if ended else now() + SOON
    )


def broken() -> None:
    raise ApplicationError("the API server said no", type="PermissionDenied", non_retryable=True)


def busy() -> None:
    raise ApplicationError("the API server is busy", type="TransientError")


def too_slow(answer: Answer) -> Answer:
    """Longer than a local activity may take, so that the patient way is gone as well."""

    async def wait() -> Any:
        await asyncio.sleep(SWIFT_LIMIT.total_seconds() + 0.5)
        return answer()

    return wait


def done() -> None:
    return None


def closed() -> bool:
    return True


async def resolve(handle: WorkflowHandle[Any, Any], called: Told) -> None:
    await called("evidence.gather", 1)
    await handle.signal("alert_resolved", AlertResolved(firing=0))


async def close(handle: WorkflowHandle[Any, Any], called: Told) -> None:
    await called("evidence.watch_recovery", 1)
    await handle.signal("close_requested", CloseRequested(reason="false alarm", by="ada"))


HOUR = timedelta(hours=1)
VERIFIED, NOT_VERIFIED, APPLIED, UNDONE = (
    StepStatus.VERIFIED,
    StepStatus.NOT_VERIFIED,
    StepStatus.APPLIED,
    StepStatus.UNDONE,
)
ENDS: Script = {"incident.close": [closed]}
CALLS: Script = {"person.call": [done], **ENDS}
SCENES = (
    Scene(  # restart does not help, reroute does: looked at twice, held
        name="healed",
        script={
            "evidence.gather": [again(), act("restart", "reroute")],
            "evidence.keep": [done],
            "step.act": [step(0, APPLIED), step(1, APPLIED)],
            "step.verify": [seen(0, NOT_VERIFIED), later, seen(1, VERIFIED)],
            "step.hold": [seen(1, VERIFIED)],
            **ENDS,
        },
    ),
    Scene(  # started with its first look: only the second is asked for
        name="looked-before",
        script={
            "evidence.gather": [act("restart")],
            "evidence.keep": [done],
            "step.act": [step(0, APPLIED)],
            "step.verify": [seen(0, VERIFIED)],
            "step.hold": [seen(0, VERIFIED)],
            **ENDS,
        },
        start=IncidentInput(
            incident_id=INCIDENT,
            first_look=GatherResult(
                next=NextLook.AGAIN,
                reason="true, but not held yet",
                again_at=datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC),
            ),
        ),
    ),
    Scene(  # a relapse in the hold is undone, the next tier does not help: a person, who mends it
        name="paged",
        script={
            "evidence.gather": [act("reroute", "restart")],
            "evidence.keep": [done],
            "step.act": [step(0, APPLIED), step(1, APPLIED)],
            "step.verify": [seen(0, VERIFIED), seen(1, NOT_VERIFIED)],
            "step.hold": [seen(0, NOT_VERIFIED)],
            "step.undo": [step(0, UNDONE)],
            "evidence.watch_recovery": [recovery(False), recovery(True)],
            **CALLS,
        },
    ),
    Scene(  # pending, and the alert resolves first
        name="nothing-done", script={"evidence.gather": [again(HOUR), nothing], **ENDS}, tell=resolve
    ),
    Scene(  # the hand that acts is refused; the person closes by hand
        name="closed-by-hand",
        script={
            "evidence.gather": [act("restart")],
            "evidence.keep": [done],
            "step.act": [broken],
            "evidence.watch_recovery": [
                lambda: RecoveryResult(recovered=False, reason="still broken", again_at=now() + HOUR)
            ],
            **CALLS,
        },
        tell=close,
    ),
    Scene(  # a hand that is too slow for a local activity, and one that fails, are called again as regular ones
        name="patient",
        script={
            "evidence.gather": [too_slow(act("restart")), act("restart")],
            "evidence.keep": [busy, busy, done],
            "step.act": [step(0, APPLIED)],
            "step.verify": [seen(0, VERIFIED)],
            "step.hold": [seen(0, VERIFIED)],
            **ENDS,
        },
    ),
    Scene(  # not yet, not yet, taken back
        name="restore",
        script={"restore.check": [restore(False), restore(False), restore(True)]},
        start=RestoreWatch(
            incident_id=INCIDENT,
            plan_digest=DIGEST,
            tier=1,
            step=0,
            opened_at=datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC),
        ),
    ),
)


async def play(client: Client, scene: Scene) -> dict[str, Any]:
    """Play one scene to its end; its history as JSON."""
    stage = Stage(scene.script)
    workflow: Any = RestoreWorkflow.run if isinstance(scene.start, RestoreWatch) else IncidentWorkflow.run
    async with Worker(
        client,
        task_queue=scene.name,
        workflows=[IncidentWorkflow, RestoreWorkflow],
        activities=stage.hands(),
        workflow_runner=workflow_runner(),
        identity="recorder",
    ):
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            workflow, scene.start, id=scene.name, task_queue=scene.name, task_timeout=TASK_TIMEOUT
        )
        if scene.tell is not None:
            await scene.tell(handle, stage.called)
        await asyncio.wait_for(handle.result(), 60)
    told: dict[str, Any] = _without_traces((await handle.fetch_history()).to_json_dict())
    return told


def _without_traces(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_traces(item) for key, item in value.items() if key != "stackTrace"}
        case list():
            return [_without_traces(item) for item in value]
        case _:
            return value


async def record(scenes: Iterable[Scene], into: Path) -> None:
    """Write `<scene>.json` for each scene."""
    with tempfile.TemporaryDirectory(prefix="firebreak-histories-") as scratch:
        run_dir = Path(scratch)
        server = await start_temporal(
            db_file=run_dir / "t.sqlite", port=free_port(), run_dir=run_dir, die_with_parent=True
        )
        try:
            client = await Client.connect(server.address, data_converter=DATA_CONVERTER, identity="recorder")
            for scene in scenes:
                history = await play(client, scene)
                path = into / f"{scene.name}.json"
                path.write_text(json.dumps(history, indent=1) + "\n")
                print(f"{path.name}: {len(history['events'])} events")
        finally:
            await server.stop()


def main() -> None:
    """All scenes, or those named on the command line."""
    wanted = set(sys.argv[1:]) or {scene.name for scene in SCENES}
    unknown = wanted - {scene.name for scene in SCENES}
    if unknown:
        raise SystemExit(f"no scene called {', '.join(sorted(unknown))}")
    logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # failures are played on purpose
    asyncio.run(record([scene for scene in SCENES if scene.name in wanted], HISTORIES))


if __name__ == "__main__":
    main()

"""The story of an incident, on the real Temporal server, every task replayed from the start."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import RetryPolicy

from activities.messages import GatherResult
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.plan import StepStatus
from firebreak.domain.verdict import NextLook
from workflows.incident import AT_ONCE, PAUSE, IncidentWorkflow
from workflows.messages import AlertResolved, CloseRequested, IncidentInput, IncidentResult

pytestmark = pytest.mark.servers


async def start(stage: Any, first_look: GatherResult | None = None) -> WorkflowHandle[IncidentWorkflow, IncidentResult]:
    handle: WorkflowHandle[IncidentWorkflow, IncidentResult] = await stage.client.start_workflow(
        IncidentWorkflow.run,
        IncidentInput(incident_id="inc-1", first_look=first_look),
        id=f"w-{uuid.uuid4()}",
        task_queue=stage.queue,
        task_timeout=timedelta(seconds=2),
    )
    return handle


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 # the hands are played in this process: nothing to wait on
            await asyncio.sleep(0.02)


async def test_the_first_tier_that_verifies_heals(stage: Any, plan_of: Any) -> None:
    """Restart works: nothing else is written, nobody is called, and the incident closes healed."""
    stage.hands.gather_script = [plan_of("restart", "reroute")]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.HEALED
    assert stage.hands.names() == ["gather", "keep", "act", "verify", "hold", "close"]


async def test_a_first_look_that_came_with_the_start_is_not_made_again(stage: Any, plan_of: Any) -> None:
    """The story begins with what it says; a second look, where it says so, is the next one in number."""
    again = GatherResult(next=NextLook.AGAIN, reason="not held yet", again_at=datetime.now(UTC))
    stage.hands.gather_script = [again, plan_of("restart")]
    async with stage.worker():
        await (await start(stage, plan_of("restart"))).result()
        assert stage.hands.names() == ["keep", "act", "verify", "hold", "close"]
        await (await start(stage, again)).result()
    assert [given.round for name, given in stage.hands.calls if name == "gather"] == [1]


async def test_a_tier_that_does_not_verify_is_undone_before_the_next_starts(stage: Any, plan_of: Any) -> None:
    """Undo of the first comes before the act of the second."""
    stage.hands.gather_script = [plan_of("reroute", "degrade")]
    stage.hands.verify_script = {0: [None, StepStatus.NOT_VERIFIED]}
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.HEALED
    assert stage.hands.names() == [
        "gather",
        "keep",
        "act",
        "verify",
        "verify",
        "undo",
        "act",
        "verify",
        "hold",
        "close",
    ]


async def test_each_act_is_told_how_old_its_evidence_is(stage: Any, plan_of: Any) -> None:
    """The verdict's at first, also after a tier that was refused; then that of the verification that failed."""
    decided = datetime(2025, 12, 31, tzinfo=UTC)
    stage.hands.gather_script = [replace(plan_of("restart", "reroute", "degrade"), seen_at=decided)]
    stage.hands.act_script = {0: StepStatus.REFUSED}
    stage.hands.verify_script = {1: [StepStatus.NOT_VERIFIED]}
    async with stage.worker():
        await (await start(stage)).result()
    acts = [given.rests_on for name, given in stage.hands.calls if name == "act"]
    assert acts == [decided, decided, stage.hands.seen_at(1)]


async def test_each_look_is_told_from_when_the_one_before_counted(stage: Any, plan_of: Any) -> None:
    """A clock that is set back costs a verification its time limit once more, and not at each look."""
    hands = stage.hands
    hands.gather_script = [plan_of("restart")]
    hands.verify_script = {0: [None, None, StepStatus.VERIFIED]}
    async with stage.worker():
        await (await start(stage)).result()
    told = [given.since for name, given in hands.calls if name in ("verify", "hold")]
    assert told == [None, hands.seen_at(0), hands.seen_at(1), None]


async def test_a_relapse_during_the_hold_leads_to_the_next_tier(stage: Any, plan_of: Any) -> None:
    """What was verified and broke again did not work: it is undone, and the next tier starts."""
    stage.hands.gather_script = [plan_of("reroute", "degrade")]
    stage.hands.hold_script = {0: StepStatus.NOT_VERIFIED}
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.HEALED
    names = stage.hands.names()
    assert names == ["gather", "keep", "act", "verify", "hold", "undo", "act", "verify", "hold", "close"]


async def test_when_nothing_heals_a_person_is_called_and_recovery_is_waited_for(stage: Any, plan_of: Any) -> None:
    """The last tier pages; the incident ends when the evidence is healthy again."""
    stage.hands.gather_script = [plan_of("restart")]
    stage.hands.verify_script = {0: [StepStatus.NOT_VERIFIED]}
    stage.hands.recovery_script = [False, False, True]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.RECOVERED
    assert stage.hands.names().count("call") == 1
    assert stage.hands.names()[-1] == "close"


async def test_pending_is_waited_for_and_looked_at_again(stage: Any, plan_of: Any) -> None:
    """A condition that could hold later makes the workflow sleep till then."""
    later = datetime.now(UTC) + timedelta(milliseconds=400)
    stage.hands.gather_script = [
        GatherResult(next=NextLook.AGAIN, reason="pending", again_at=later),
        plan_of("restart"),
    ]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.HEALED
    assert stage.hands.names()[:2] == ["gather", "gather"]


async def test_looks_that_are_always_due_get_a_pause(stage: Any) -> None:
    """Workers whose clock is behind Temporal's name times that have passed: ten looks at once, then one a second."""
    passed = datetime.now(UTC) - timedelta(seconds=5)
    again = GatherResult(next=NextLook.AGAIN, reason="healthy so far", again_at=passed)
    stage.hands.gather_script = [*([again] * (AT_ONCE + 2)), GatherResult(next=NextLook.NOTHING, reason="resolved")]
    async with stage.worker():
        handle = await start(stage)
        await handle.result()
    assert stage.hands.names() == ["gather"] * (AT_ONCE + 3) + ["close"]
    timers = [e async for e in handle.fetch_history_events() if e.HasField("timer_started_event_attributes")]
    waited = [t.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta() for t in timers]
    assert waited == [PAUSE, PAUSE]


async def test_what_resolves_while_pending_closes_with_nothing_done(stage: Any) -> None:
    """The resolved alert wakes the sleeper at once, long before the hour is over."""
    later = datetime.now(UTC) + timedelta(hours=1)
    stage.hands.gather_script = [
        GatherResult(next=NextLook.AGAIN, reason="pending", again_at=later),
        GatherResult(next=NextLook.NOTHING, reason="resolved first"),
    ]
    async with stage.worker():
        handle = await start(stage)
        await until(lambda: stage.hands.names() == ["gather"])
        await handle.signal("alert_resolved", AlertResolved(firing=0))
        result = await handle.result()
    assert result.outcome is IncidentOutcome.NOTHING_DONE
    assert stage.hands.names() == ["gather", "gather", "close"]


async def test_an_alert_that_joins_at_the_last_moment_is_looked_at(stage: Any) -> None:
    """The close is refused while an alert has joined that no look has seen: the story looks again first."""
    stage.hands.gather_script = [GatherResult(next=NextLook.NOTHING, reason="resolved first")]
    stage.hands.close_script = [False, True]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.NOTHING_DONE
    assert stage.hands.names() == ["gather", "close", "gather", "close"]


async def test_a_verdict_that_may_not_act_calls_a_person_and_writes_nothing(stage: Any) -> None:
    """Doubt pages."""
    stage.hands.gather_script = [GatherResult(next=NextLook.CALL_PERSON, reason="inconclusive")]
    stage.hands.recovery_script = [True]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.RECOVERED
    assert stage.hands.names() == ["gather", "call", "watch_recovery", "close"]
    assert stage.hands.calls[1][1].reason == "inconclusive"


async def test_a_hand_that_cannot_go_on_calls_a_person(stage: Any, plan_of: Any) -> None:
    """An error that no retry can mend ends the automation, not the care."""
    stage.hands.gather_script = [plan_of("restart")]
    stage.hands.failing = {"act"}
    stage.hands.recovery_script = [True]
    async with stage.worker():
        result = await (await start(stage)).result()
    assert result.outcome is IncidentOutcome.RECOVERED
    assert "played failure" in next(given.reason for name, given in stage.hands.calls if name == "call")


async def test_a_person_can_close_at_any_time(stage: Any) -> None:
    """`firebreak close` ends an incident that waits, with the person's reason."""
    later = datetime.now(UTC) + timedelta(hours=1)
    stage.hands.gather_script = [GatherResult(next=NextLook.AGAIN, reason="pending", again_at=later)]
    async with stage.worker():
        handle = await start(stage)
        await until(lambda: stage.hands.names() == ["gather"])
        await handle.signal("close_requested", CloseRequested(reason="false alarm", by="ada"))
        result = await handle.result()
    assert result.outcome is IncidentOutcome.CLOSED_BY_HAND
    assert stage.hands.calls[-1][1].by == "person:ada"
    assert stage.hands.calls[-1][1].reason == "false alarm"


async def test_a_close_is_heard_though_nobody_can_look(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours meets every look at an incident that a person has: its end must not wait for that."""
    few = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=2)
    monkeypatch.setattr("workflows.options.PATIENT", few)
    monkeypatch.setattr("workflows.options.FAILED_PAUSE", timedelta(milliseconds=200))
    stage.hands.gather_script = [GatherResult(next=NextLook.CALL_PERSON, reason="inconclusive")]
    stage.hands.stumbling = {"watch_recovery"}
    async with stage.worker():
        handle = await start(stage)
        await until(lambda: "watch_recovery" in stage.hands.names())
        await handle.signal("close_requested", CloseRequested(reason="seen", by="ada"))
        async with asyncio.timeout(20):
            result = await handle.result()
    assert result.outcome is IncidentOutcome.CLOSED_BY_HAND


async def test_status_tells_where_it_stands(stage: Any) -> None:
    """The query answers with the whole state."""
    later = datetime.now(UTC) + timedelta(hours=1)
    stage.hands.gather_script = [GatherResult(next=NextLook.AGAIN, reason="pending", again_at=later)]
    async with stage.worker():
        handle = await start(stage)
        await until(lambda: stage.hands.names() == ["gather"])
        state = await handle.query(IncidentWorkflow.status)
        await handle.signal("close_requested", CloseRequested(reason="done", by="ada"))
        await handle.result()
    assert state.phase is IncidentPhase.PENDING


async def test_a_healed_incident_costs_at_most_25_events(stage: Any, plan_of: Any) -> None:
    """Few Temporal tasks: one timer for the verification, the rest local activities."""
    stage.hands.gather_script = [plan_of("restart")]
    stage.hands.verify_script = {0: [None, StepStatus.VERIFIED]}
    async with stage.worker():
        handle = await start(stage)
        await handle.result()
    history = await handle.fetch_history()
    assert len(history.events) <= 25

"""kill -9 of the worker around a write, for each action, its undo and its restore: exactly one such write, and the
decisions of before.

The writes are counted in the API server's own audit log.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import pytest
import pytest_asyncio

from firebreak.domain.ids import step_annotation, step_key
from firebreak.domain.timeline import EntryKind, TimelineEntry

pytestmark = [
    pytest.mark.faults,
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),  # a lab is started first
]

DECISIONS = (
    EntryKind.FACTS_GATHERED,
    EntryKind.VERDICT_REACHED,
    EntryKind.PLAN_PINNED,
    EntryKind.EVIDENCE_KEPT,
    EntryKind.STEP_CHECKED,
    EntryKind.INTENT_RECORDED,
)
WRITTEN = {
    "restart": ("deployments", "pay-v1"),
    "shift": ("httproutes", "pay"),
    "flag": ("configmaps", "shop-flags"),
}


class Point(StrEnum):
    BEFORE_THE_CALL = "before the call"
    AFTER_THE_COMMIT = "after the commit, before the reply is read"
    AFTER_THE_EFFECT = "after the effect"


def _decisions(entries: tuple[TimelineEntry, ...]) -> dict[str, str]:
    return {e.key: e.digest for e in entries if e.kind in DECISIONS}


Case = tuple[str, Callable[[], Awaitable[None]]]
"""An incident's id, and a wait for the worker that goes on with it."""


@asynccontextmanager
async def _killed(drill: Any, engine: Any, action: str, point: Point, effect: str, write: int) -> AsyncIterator[Case]:
    """An incident whose worker has been killed at `point` of the call that is write number `write`, and is recorded as
    `effect`; its supervisor starts another."""
    calls, killed = 0, list[int]()

    def kill() -> None:
        killed.append(drill.pid(engine, "p1"))
        drill.kill(killed[0], signal.SIGKILL)

    async def kill_at(call: Any) -> bool:
        nonlocal calls
        calls += call.writes
        if call.writes and calls == write and not killed:
            kill()
            return True
        return False

    if point is Point.BEFORE_THE_CALL:
        drill.proxy.before = kill_at
    elif point is Point.AFTER_THE_COMMIT:
        drill.proxy.after = kill_at
    (receipt,) = await drill.post(drill.blocked(action))
    incident_id = await drill.incident_of(engine, receipt)
    if point is Point.AFTER_THE_EFFECT:
        await drill.record(engine, incident_id, lambda seen: effect in {e.key for e in seen}, "the effect")
        kill()
    else:

        async def dead() -> bool:
            return bool(killed)

        await drill.until(dead, "the kill")

    async def again() -> bool:
        return bool(drill.pid(engine, "p1") != killed[0])

    yield incident_id, lambda: drill.until(again, "another worker")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WRITTEN)
async def engine_of(request: pytest.FixtureRequest, long_drill: Any) -> AsyncIterator[tuple[Any, Any, str]]:
    """The drill, an engine for all points of one action, and the action. One for all actions would be killed so often
    that its supervisor starts the worker later each time."""
    async with long_drill.engine(f"matrix-{request.param}") as engine:
        yield long_drill, engine, request.param


@pytest_asyncio.fixture(loop_scope="module")
async def acting(engine_of: tuple[Any, Any, str]) -> AsyncIterator[tuple[Any, Any, str]]:
    """`engine_of`, and the lab as at its start afterwards."""
    yield engine_of
    await engine_of[0].healed()


@pytest.mark.parametrize("point", Point)
async def test_a_killed_worker_writes_once(acting: tuple[Any, Any, str], point: Point) -> None:
    """Killed at `point`, started again by its supervisor: one write, the same facts, verdict and plan, and an end."""
    drill, engine, action = acting
    since = drill.audit_size()
    async with _killed(drill, engine, action, point, "effect/0.0", 1) as (incident_id, another):
        before = _decisions(await drill.entries(engine, incident_id))
        assert {"verdict/0", "facts/0", "plan", "intent/0.0"} <= set(before)
        await another()
        entries = await drill.closed(engine, incident_id)
        assert _decisions(entries) == before
        assert [e.kind for e in entries].count(EntryKind.EFFECT_RECORDED) == 1
        assert next(e for e in entries if e.key == "close").body["outcome"] == "healed"
        (write,) = drill.writes(since)
        about = write["objectRef"]
        assert (about["resource"], about["name"]) == WRITTEN[action]
        assert step_annotation(step_key(incident_id, 0, 0)) in write["requestObject"]["metadata"]["annotations"]
        assert drill.attempts(since) == [write]
        await drill.chain_is_good(engine)


@pytest.mark.parametrize("action", ["shift", "flag"])
async def test_a_killed_worker_takes_back_once(drill: Any, action: str) -> None:
    """A tier that did not heal is undone by one write, on what was decided before the kill; then a person is called.
    Killed where nobody has heard of the write; the other points are tried on a fake cluster (hands/test_undo.py)."""
    since, point = drill.audit_size(), Point.AFTER_THE_COMMIT
    async with (
        drill.engine(f"undo-{action}") as engine,  # its incident stays open, and a next alert would join
        _killed(drill, engine, f"{action}-undone", point, "undo/0.0", 2) as (incident_id, another),
    ):
        before = _decisions(await drill.entries(engine, incident_id))
        assert "undo-intent/0.0" in before
        await another()
        await drill.paged(incident_id)
        entries = await drill.entries(engine, incident_id)
        assert _decisions(entries) == before
        kinds = [e.kind for e in entries]
        assert (kinds.count(EntryKind.EFFECT_RECORDED), kinds.count(EntryKind.UNDO_RECORDED)) == (1, 1)
        did, undid = drill.writes(since)
        for write, undo in ((did, False), (undid, True)):
            assert (write["objectRef"]["resource"], write["objectRef"]["name"]) == WRITTEN[action]
            key = step_annotation(step_key(incident_id, 0, 0, undo=undo))
            assert key in write["requestObject"]["metadata"]["annotations"]
        assert drill.attempts(since) == [did, undid]
        await drill.chain_is_good(engine)


@pytest.mark.parametrize("action", ["shift", "flag"])
async def test_a_killed_worker_restores_once(drill: Any, action: str) -> None:
    """A promise that outlives its incident is kept by one write, by whichever worker lives. Killed where nobody has
    heard of the write; the other points are tried on a fake cluster (hands/test_restores.py)."""
    since, point = drill.audit_size(), Point.AFTER_THE_COMMIT
    async with (
        drill.engine(f"restore-{action}") as engine,
        _killed(drill, engine, f"{action}-restored", point, "restore-ended/0.0", 2) as (incident_id, another),
    ):
        before = _decisions(await drill.entries(engine, incident_id))
        assert "undo-intent/0.0" in before
        await another()
        entries = await drill.record(
            engine, incident_id, lambda seen: any(e.key == "restore-ended/0.0" for e in seen), "the restore"
        )
        assert _decisions(entries) == before
        assert next(e for e in entries if e.key == "restore-ended/0.0").body["outcome"] == "restored"
        did, undid = drill.writes(since)
        for write, undo in ((did, False), (undid, True)):
            assert (write["objectRef"]["resource"], write["objectRef"]["name"]) == WRITTEN[action]
            key = step_annotation(step_key(incident_id, 0, 0, undo=undo))
            assert key in write["requestObject"]["metadata"]["annotations"]
        assert drill.attempts(since) == [did, undid]
        await drill.chain_is_good(engine)

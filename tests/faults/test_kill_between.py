"""kill -9 of the worker around a write, for each action: exactly one such write, and the decisions of before.

The writes are counted in the API server's own audit log.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Any

import pytest

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


@pytest.mark.parametrize("point", Point)
@pytest.mark.parametrize("action", WRITTEN)
async def test_a_killed_worker_writes_once(drill: Any, action: str, point: Point) -> None:
    """Killed at `point`, started again by its supervisor: one write, the same facts, verdict and plan, and an end."""
    since = drill.audit_size()
    killed: list[int] = []
    async with drill.engine("matrix") as engine:

        async def kill(call: Any) -> bool:
            if call.writes and not killed:
                killed.append(drill.pid(engine, "p1"))
                drill.kill(killed[0], signal.SIGKILL)
                return True
            return False

        if point is Point.BEFORE_THE_CALL:
            drill.proxy.before = kill
        elif point is Point.AFTER_THE_COMMIT:
            drill.proxy.after = kill
        (receipt,) = await drill.post(drill.blocked(action))
        incident_id = await drill.incident_of(engine, receipt)
        if point is Point.AFTER_THE_EFFECT:
            await drill.record(engine, incident_id, lambda seen: "effect/0.0" in {e.key for e in seen}, "the effect")
            killed.append(drill.pid(engine, "p1"))
            drill.kill(killed[0], signal.SIGKILL)
        else:

            async def dead() -> bool:
                return bool(killed)

            await drill.until(dead, "the kill")
        before = _decisions(await drill.entries(engine, incident_id))
        assert {"verdict/0", "facts/0", "plan", "intent/0.0"} <= set(before)

        entries = await drill.closed(engine, incident_id)
        assert drill.pid(engine, "p1") != killed[0]
        assert _decisions(entries) == before
        assert [e.kind for e in entries].count(EntryKind.EFFECT_RECORDED) == 1
        assert next(e for e in entries if e.key == "close").body["outcome"] == "healed"
        (write,) = drill.writes(since)
        about = write["objectRef"]
        assert (about["resource"], about["name"]) == WRITTEN[action]
        assert step_annotation(step_key(incident_id, 0, 0)) in write["requestObject"]["metadata"]["annotations"]
        assert drill.attempts(since) == [write]
        await drill.chain_is_good(engine)

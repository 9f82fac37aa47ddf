"""What was answered with 200 ends, whichever process is killed meanwhile; and ends once, however often it is told."""

from __future__ import annotations

import asyncio
import random
import signal
from datetime import timedelta
from typing import Any

import pytest

from firebreak.domain.alert import Disposition
from firebreak.domain.timeline import EntryKind

pytestmark = [
    pytest.mark.faults,
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),  # a lab is started first
]

SENDERS = 3
KILL_AFTER = 12  # deliveries answered with 200


def _alerts(drill: Any) -> list[dict[str, Any]]:
    """Thirty: two to act on, ten of known services (well, so nothing is done), the others of services nobody knows."""
    known = [drill.alert(("edge", "recommend")[n % 2], ("edge-v1", "recommend-v1")[n % 2]) for n in range(10)]
    unknown = [drill.alert(f"nobodys-{n}", "none") for n in range(18)]
    acting = [drill.blocked("restart"), drill.blocked("flag")]
    mixed = [*known, *unknown]
    return [acting[0], *mixed[::2], acting[1], *mixed[1::2]]


@pytest.mark.parametrize("victim", ["gateway", "temporal", "up"])
async def test_every_alert_answered_with_200_ends_after_a_kill(drill: Any, victim: str) -> None:
    """kill -9 in the midst of deliveries and incidents: each receipt is settled, each incident closed or paged."""
    since = drill.audit_size()
    waiting, receipts = _alerts(drill), list[int]()
    enough = asyncio.Event()

    async def send() -> None:
        while waiting:
            alert = waiting.pop(0)

            async def taken(alert: dict[str, Any] = alert) -> bool:  # tried again till then, as Alertmanager does
                answered = await drill.post(alert)
                receipts.extend(answered)
                return bool(answered)

            await drill.until(taken, "200")
            if len(receipts) >= KILL_AFTER:
                enough.set()

    async with drill.engine(f"kill-{victim}") as engine:
        senders = [asyncio.create_task(send()) for _ in range(SENDERS)]
        await enough.wait()
        if victim == "up":
            engine.process.kill()
            assert await engine.process.exited(timedelta(seconds=10))
        else:
            pid = drill.child(engine, victim)
            assert pid
            drill.kill(pid, signal.SIGKILL)

            async def again() -> bool:
                return drill.child(engine, victim) not in (0, pid)

            await drill.until(again, f"another {victim}")
            await asyncio.wait_for(asyncio.gather(*senders), 60)
            await _all_end(drill, engine, receipts, since)
    if victim == "up":
        async with drill.engine("kill-up") as engine:
            await asyncio.wait_for(asyncio.gather(*senders), 60)
            await _all_end(drill, engine, receipts, since)


async def _all_end(drill: Any, engine: Any, receipts: list[int], since: int) -> None:
    assert len(receipts) == 30
    incidents = {await drill.incident_of(engine, receipt) for receipt in receipts}
    for receipt in receipts:
        ended = await drill.disposition(engine, receipt)
        assert ended is not None
        assert ended[0] in (Disposition.OPENED, Disposition.JOINED, Disposition.DUPLICATE)
    assert set(await drill.incidents(engine)) == incidents
    for incident_id in incidents:

        def over(seen: Any, incident_id: str = incident_id) -> bool:
            return any(e.kind is EntryKind.INCIDENT_CLOSED for e in seen) or bool(drill.high_pages(incident_id))

        await drill.record(engine, incident_id, over, f"the end of {incident_id}")
    written = [(w["objectRef"]["resource"], w["objectRef"]["name"]) for w in drill.writes(since)]
    assert sorted(written) == [("configmaps", "shop-flags"), ("deployments", "pay-v1")]
    await drill.chain_is_good(engine)


async def test_an_alert_told_fifty_times_is_one_incident_and_one_write(drill: Any) -> None:
    """Firing and resolved, at once and in any order, while the incident is open."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    since = drill.audit_size()
    async with drill.engine("duplicates") as engine:
        alert = drill.blocked("restart")
        (receipt,) = await drill.post(alert)
        incident_id = await drill.incident_of(engine, receipt)
        told = [alert] * 40 + [drill.resolved(alert)] * 10
        random.Random(seed).shuffle(told)
        answers = await asyncio.gather(*(drill.post(one) for one in told))
        assert all(len(answer) == 1 for answer in answers)
        for (one,) in answers:
            assert await drill.incident_of(engine, one) == incident_id
        entries = await drill.closed(engine, incident_id)
        assert [e.kind for e in entries].count(EntryKind.INCIDENT_OPENED) == 1
        assert await drill.incidents(engine) == [incident_id]
        assert [w["objectRef"]["name"] for w in drill.writes(since)] == ["pay-v1"]

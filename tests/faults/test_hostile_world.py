"""The world moves, hangs, cannot be seen or is full: nothing wrong is done, and a person is called."""

from __future__ import annotations

import asyncio
import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.codec import format_time
from firebreak.domain.timeline import EntryKind
from firebreak.lab import manifests
from firebreak.lab.kube import KubeClient
from firebreak.servers.process import Launch, ManagedProcess
from firebreak.servers.registry import Registry

pytestmark = [
    pytest.mark.faults,
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),  # a lab is started first
]

PAY = manifests.deployment_path("pay-v1")
RESTARTED = "kubectl.kubernetes.io/restartedAt"


async def _restart_by_hand(drill: Any) -> str:
    """What a person does with `kubectl rollout restart`, in the very field that the engine is about to write."""
    stamp = format_time(datetime.now(UTC))
    patch = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: stamp}}}}}
    async with KubeClient(drill.lab.state.admin) as admin:
        await admin.merge(PAY, patch)
    return stamp


async def _stamp(drill: Any) -> str:
    async with KubeClient(drill.lab.state.admin) as admin:
        found = await admin.get(PAY)
    return str(found["spec"]["template"]["metadata"]["annotations"][RESTARTED])


@pytest.mark.parametrize(("at_the_write", "seconds"), [(False, 0), (True, 0), (True, 3)])
async def test_an_object_changed_while_the_worker_stood_still_is_not_written(
    drill: Any, at_the_write: bool, seconds: float
) -> None:
    """SIGSTOP between check and write, a person's change, SIGCONT (3 s: the activity and its workflow task are over by
    then, and begin anew): refused, that change stays, a person is called."""
    since = drill.audit_size()
    theirs = ""
    async with drill.engine(f"moved-{at_the_write}-{seconds}") as engine:

        async def stop_and_change(call: Any) -> bool:
            nonlocal theirs
            if call.path == PAY and not theirs and (call.writes if at_the_write else call.dry_run):
                pid = drill.pid(engine, "p1")
                drill.kill(pid, signal.SIGSTOP)
                theirs = await _restart_by_hand(drill)
                await asyncio.sleep(seconds)
                drill.kill(pid, signal.SIGCONT)
            return False

        if at_the_write:
            drill.proxy.before = stop_and_change
        else:
            drill.proxy.after = stop_and_change
        (receipt,) = await drill.post(drill.blocked("restart"))
        incident_id = await drill.incident_of(engine, receipt)
        page = await drill.paged(incident_id)
        entries = await drill.entries(engine, incident_id)
        assert theirs
        assert drill.writes(since) == []
        assert {e["responseStatus"]["code"] for e in drill.attempts(since)} <= {409}
        assert await _stamp(drill) == theirs
        if at_the_write:
            effect = next(e for e in entries if e.kind is EntryKind.EFFECT_RECORDED)
            assert effect.body["effect"]["outcome"] == "refused"
            assert "changed by somebody else" in effect.body["effect"]["reason"]
            assert "changed by somebody else" in str(page["request"]["payload"])


async def test_an_api_server_that_hangs_is_written_to_once(drill: Any) -> None:
    """SIGSTOP as the write arrives: a page by the deadline; going on, the write is found or done, but not twice."""
    since = drill.audit_size()
    server = drill.lab.control_plane.processes["kube-apiserver"]
    hung = False
    async with drill.engine("hangs", FIREBREAK_PAGE_DEADLINE="4") as engine:

        async def hang(call: Any) -> bool:
            nonlocal hung
            if call.writes and not hung:
                hung = True
                server.signal(signal.SIGSTOP)
            return False

        drill.proxy.before = hang
        try:
            (receipt,) = await drill.post(drill.blocked("restart"))
            incident_id = await drill.incident_of(engine, receipt)
            await drill.paged(incident_id, seconds=30)
            assert hung
            assert "effect/0.0" not in {e.key for e in await drill.entries(engine, incident_id)}
        finally:
            server.signal(signal.SIGCONT)
        entries = await drill.closed(engine, incident_id)
        assert next(e for e in entries if e.key == "close").body["outcome"] == "healed"
        effect = next(e for e in entries if e.key == "effect/0.0")
        assert effect.body["effect"]["outcome"] in ("applied", "already_applied")
        assert [w["objectRef"]["name"] for w in drill.writes(since)] == ["pay-v1"]


async def test_an_outcome_that_stays_unknown_is_recorded_and_a_person_called(drill: Any) -> None:
    """The API server commits and answers nothing any more: `unknown` in the record, a page, and no second write."""
    since = drill.audit_size()
    silent = asyncio.Event()
    async with drill.engine("unknown") as engine:

        async def commit_then_silence(call: Any) -> bool:
            if call.writes:
                silent.set()
            if silent.is_set():
                await asyncio.Event().wait()  # for ever: the engine gives up first
            return False

        drill.proxy.after = commit_then_silence
        (receipt,) = await drill.post(drill.blocked("flag"))
        incident_id = await drill.incident_of(engine, receipt)
        page = await drill.paged(incident_id)
        assert silent.is_set()
        drill.proxy.after = None
        entries = await drill.entries(engine, incident_id)
        effect = next(e for e in entries if e.key == "effect/0.0")
        assert effect.body["effect"]["outcome"] == "unknown"
        assert EntryKind.PERSON_CALLED in [e.kind for e in entries]
        assert "read back" in str(page["request"]["payload"])
        assert [w["objectRef"]["name"] for w in drill.writes(since)] == ["shop-flags"]


def _command(pid: int) -> tuple[str, ...]:
    return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0"))


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_without_prometheus_a_person_is_called_and_nothing_is_written(drill: Any, how: str) -> None:
    """It goes away while an alert is looked into: inconclusive is never true, and where it decides, a page."""
    since = drill.audit_size()
    run_dir = drill.lab.state.lab_dir / "run"
    pid = next(e.pid for e in Registry(run_dir).entries() if e.name == "prometheus" and e.lives())
    command = _command(pid)
    async with drill.engine(f"blind-{how}") as engine:
        alert = drill.alert("pay", "pay-v1")
        (receipt,) = await drill.post(alert)
        incident_id = await drill.incident_of(engine, receipt)
        drill.kill(pid, signal.SIGKILL if how == "dies" else signal.SIGSTOP)
        again = None
        try:
            await drill.paged(incident_id)
        finally:
            if how == "dies":
                again = await ManagedProcess.start(Launch("prometheus", command, die_with_parent=True), run_dir)
            else:
                drill.kill(pid, signal.SIGCONT)
        entries = await drill.closed(engine, incident_id)  # it sees again, and the shop is well
        verdicts = [e.body["verdict"]["truth"] for e in entries if e.kind is EntryKind.VERDICT_REACHED]
        assert verdicts[-1] == "inconclusive"
        assert EntryKind.PLAN_PINNED not in [e.kind for e in entries]
        assert next(e for e in entries if e.key == "close").body["outcome"] == "recovered"
        assert drill.attempts(since) == []
    if again is not None:
        drill.lab._stack.push_async_callback(again.stop, timedelta(seconds=10))


@pytest.mark.parametrize("since_when", ["from the start", "before the intent"])
async def test_a_full_disk_lets_nothing_be_done_and_the_page_goes_out(drill: Any, since_when: str) -> None:
    """No byte can be written to the ledger: no action without a recorded intent, and a person is called directly."""
    since = drill.audit_size()
    limited: dict[int, tuple[int, int]] = {}
    async with drill.engine(f"full-{since_when.replace(' ', '-')}") as engine:

        def fill() -> None:
            for pid in (drill.pid(engine, "p1"), engine.process.pid):
                if pid not in limited:
                    limited[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, limited[pid][1]))

        async def fill_at_the_check(call: Any) -> bool:
            if call.dry_run:
                fill()
            return False

        if since_when == "from the start":
            fill()
        else:
            drill.proxy.after = fill_at_the_check
        told = len(drill.lab.pagerduty.log)
        (receipt,) = await drill.post(drill.blocked("flag"))

        async def rang() -> bool:
            return any(
                call["accepted"] and call["request"].get("payload", {}).get("severity") == "critical"
                for call in drill.lab.pagerduty.log[told:]
            )

        await drill.until(rang, "a page", seconds=110)
        assert drill.attempts(since) == []
        for pid, limits in limited.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

        # With room again all of it is written down, and the chain is whole.
        incident_id = await drill.incident_of(engine, receipt)
        await drill.record(
            engine,
            incident_id,
            lambda seen: any(e.kind in (EntryKind.PERSON_CALLED, EntryKind.INCIDENT_CLOSED) for e in seen),
            "the record of it",
        )
        await drill.chain_is_good(engine)

"""The lab as a person starts it: a background process that owns real servers and the shop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.errors import ContractError, TransientError
from firebreak.lab import control, manifests
from firebreak.lab.background import down, up
from firebreak.lab.faults import fault_named
from firebreak.lab.kube import KubeAccess, KubeClient
from firebreak.lab.state import LabState
from firebreak.servers.registry import Entry
from tests.lab.conftest import processes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

SOON = timedelta(seconds=30)


DEPLOYMENTS = 6  # of the shop


@pytest.fixture
async def healed(lab: LabState) -> LabState:
    """The lab without a fault and without an alert, all pods back, whatever ran before."""
    await control.heal(lab)
    await control.until(lambda: _well(lab), SOON, "silence, and an answer from every Deployment")
    return lab


async def _silent(lab: LabState) -> bool:
    return not await control.firing_alerts(lab)


async def _well(lab: LabState) -> bool:
    """Silence alone is not yet well: what a test rolled out may still be rolled back."""
    return await _silent(lab) and len(await query(lab, "probe_success == 1")) == DEPLOYMENTS


@pytest.fixture
def doomed() -> Iterator[list[Entry]]:
    """Processes that must not outlive a test, whatever becomes of it."""
    entries: list[Entry] = []
    yield entries
    for entry in entries:
        if entry.lives():
            os.kill(entry.pid, signal.SIGKILL)


def engine_access(lab: LabState) -> KubeAccess:
    config = json.loads(Path(lab.engine["FIREBREAK_KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    return KubeAccess(cluster["server"], cluster["certificate-authority"], config["users"][0]["user"]["token"])


async def query(lab: LabState, expr: str) -> list[dict[str, Any]]:
    body = await control.prometheus_query(lab.prometheus_url, expr)
    return [{**item["metric"], "value": float(item["value"][1])} for item in body]


async def test_a_fresh_lab_is_whole_and_silent(healed: LabState) -> None:
    """Every part healthy, both flows at their rate, no alert, all series that documents ask for."""
    assert [part for part in await control.parts(healed) if part.problem] == []
    flows = await query(healed, "sum by (flow) (rate(main_flow_success_total[5s]))")
    assert {item["flow"]: item["value"] > 15 for item in flows} == {"order": True, "pay": True}
    probes = await query(healed, "probe_success")
    assert [probe["value"] for probe in probes] == [1.0] * DEPLOYMENTS
    assert await query(healed, 'http_requests_in_flight{deployment="pay-v2"}') != []


async def test_a_fault_fires_for_the_culprit_alone_and_heals(healed: LabState) -> None:
    """bad-release, rolled out through the API: alerts name pay-v2 only, and end after healing."""
    fault = await control.break_shop(healed, "bad-release")
    assert (await control.shop_state(healed))["weights"]["pay"] == {"v1": 0, "v2": 100}

    seen: set[tuple[str, str]] = set()

    async def all_three() -> bool:
        alerts = await control.firing_alerts(healed)
        seen.update((alert["service"], alert["deployment"]) for alert in alerts)
        return {alert["alertname"] for alert in alerts} == {"ServiceErrors", "ServiceLatency", "MainFlowDown"}

    await control.until(all_three, SOON, "the alerts")
    assert seen == {(fault.service, fault.deployment)}
    with pytest.raises(ContractError, match="broken already"):
        await control.break_shop(healed, "blip")

    await control.heal(healed)
    await control.until(lambda: _silent(healed), SOON, "the end of the alerts")
    state = await control.shop_state(healed)
    assert (state["fault"], state["weights"]["pay"]) == ("", {"v1": 100, "v2": 0})


async def test_a_shop_that_gets_no_time_fires_for_no_other_service(healed: LabState) -> None:
    """A busy machine stops the process for a second, and each call on its way is that much later: pay alone is slow."""
    began = time.time()
    fault = await control.break_shop(healed, "bad-release")

    async def slow() -> bool:
        return "ServiceLatency" in {alert["alertname"] for alert in await control.firing_alerts(healed)}

    await control.until(slow, SOON, "the alert about latency")
    (shop,) = [entry.pid for entry in processes(healed.lab_dir) if entry.name == "shop"]
    os.kill(shop, signal.SIGSTOP)
    await asyncio.sleep(1.0)
    os.kill(shop, signal.SIGCONT)
    over = time.time() + 5.0  # the rules' window, and some scrapes

    async def scraped() -> bool:
        return any(item["value"] > over for item in await query(healed, "timestamp(probe_success)"))

    await control.until(scraped, SOON, "scrapes after the stall")
    since = f"{int(time.time() - began)}s"
    fired = await query(healed, f'max by (service, deployment) (max_over_time(ALERTS{{alertstate="firing"}}[{since}]))')
    assert {(item["service"], item["deployment"]) for item in fired} == {(fault.service, fault.deployment)}
    p99 = 'histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{service="order"}[3s])))'
    (slowest,) = await query(healed, f"max_over_time(({p99})[{since}:1s])")
    assert slowest["value"] <= 0.8, "pay's 0.75 s and its own few ms, by the buckets' edges"


async def test_a_restart_through_the_api_heals_wedged_pods(healed: LabState) -> None:
    """The shop learns of it through the API server alone: fresh pods work while the fault is still on."""
    await control.break_shop(healed, "wedged-pods")

    async def firing() -> bool:
        return bool(await control.firing_alerts(healed))

    await control.until(firing, SOON, "an alert")
    stamp = {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": os.urandom(4).hex()}}}}
    async with KubeClient(engine_access(healed)) as client:
        await client.merge(manifests.deployment_path("pay-v1"), {"spec": stamp})
        await control.until(lambda: _silent(healed), SOON, "healing by a restart")
    assert (await control.shop_state(healed))["fault"] == "wedged-pods"


async def test_the_flag_turns_the_dead_dependency_off(healed: LabState) -> None:
    """The ConfigMap reaches the shop with a delay, and order works without recommend."""
    fault = fault_named("dead-dependency")
    await control.break_shop(healed, fault.name)

    async def order_alerts() -> bool:
        alerts = await control.firing_alerts(healed)
        assert {alert["service"] for alert in alerts} <= {fault.service}
        return len(alerts) == 3

    await control.until(order_alerts, SOON, "order's alerts")
    async with KubeClient(engine_access(healed)) as client:
        await client.merge(manifests.flags_path(), {"data": {"recommend.enabled": "false"}})
    await control.until(lambda: _silent(healed), SOON, "healing by the flag")
    assert await query(healed, 'probe_success{service="recommend"} == 0') != []


async def test_the_route_controller_acknowledges_what_the_engine_writes(healed: LabState) -> None:
    """Accepted with the new generation, as an action's read-back asks."""
    async with KubeClient(engine_access(healed)) as client:
        path = manifests.route_path("order")
        written = await client.merge(path, {"spec": manifests.route("order", {"v1": 50, "v2": 50})["spec"]})

        async def acknowledged() -> bool:
            route = await client.get(path)
            conditions = route["status"]["parents"][0]["conditions"]
            return all(c["observedGeneration"] == written["metadata"]["generation"] for c in conditions)

        await control.until(acknowledged, SOON, "the route's status")
    versions = "count(sum by (version) (rate(http_requests_total{service='order'}[3s])) > 5)"

    async def shared() -> bool:
        return [item["value"] for item in await query(healed, versions)] == [2.0]

    await control.until(shared, SOON, "traffic on both versions")


@pytest.mark.parametrize(
    ("path", "patch"),
    [
        ("/api/v1/namespaces/default/configmaps/x", {"data": {}}),
        ("/api/v1/namespaces/shop/configmaps/kube-root-ca.crt", {"data": {}}),
        ("/api/v1/nodes/node-0", {"spec": {"unschedulable": True}}),
        ("/api/v1/namespaces/shop/services/pay-v1", {"metadata": {"labels": {"x": "y"}}}),
    ],
)
async def test_the_engine_may_not_write_elsewhere(healed: LabState, path: str, patch: dict[str, Any]) -> None:
    """RBAC of the real API server: 403."""
    async with KubeClient(engine_access(healed)) as client:
        with pytest.raises(TransientError, match="answered 403"):
            await client.merge(path, patch)


def test_a_lab_says_where_the_former_engines_data_went(lab: LabState) -> None:
    """And leaves none where its own engine will look."""
    assert Path(lab.former_engine).is_dir()
    assert Path(lab.former_engine).parent == lab.lab_dir
    assert not Path(lab.engine["FIREBREAK_DATA_DIR"]).exists()


def verb(lab: LabState, *words: str) -> tuple[int, str, str]:
    """`firebreak lab WORDS` as a person types it: exit code, standard output, standard error."""
    command = [sys.executable, "-P", "-m", "firebreak", "lab", *words, "--lab-dir", str(lab.lab_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def rows(said: str) -> dict[str, str]:
    """First word of each line to the rest of it."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines()}


async def test_the_verb_status_shows_each_part_and_the_shop(healed: LabState) -> None:
    """Addresses and health, no fault, traffic and flags as at the start."""
    code, out, _ = await asyncio.to_thread(verb, healed, "status")
    told = rows(out)
    assert code == 0
    assert told["kubernetes"] == f"{healed.admin.url} healthy"
    assert [told[part].split()[-1] for part in ("shop", "prometheus", "alertmanager", "slack", "pagerduty")] == [
        "healthy"
    ] * 5
    assert told["fault"] == "none"
    assert "pay v1=100 v2=0" in told["traffic"].replace("pay=", "pay ")
    assert told["alerts"] == "none"


async def test_the_verb_break_begins_a_fault_and_refuses_a_second(healed: LabState) -> None:
    """It says what the fault trips and how it must end; the second is an error with what to do."""
    code, out, _ = await asyncio.to_thread(verb, healed, "break", "dead-dependency")
    assert code == 0
    assert "heals by degrade; must end healed" in out
    assert (await control.shop_state(healed))["fault"] == "dead-dependency"
    code, _, errors = await asyncio.to_thread(verb, healed, "break", "blip")
    assert code == 2
    assert "broken already: dead-dependency" in errors
    assert "firebreak lab heal" in errors


async def test_the_verb_heal_ends_the_fault_and_puts_the_shop_back_unless_told_not_to(healed: LabState) -> None:
    """With --fault-only the traffic stays where the fault, or an engine, has put it."""
    await control.break_shop(healed, "bad-release")
    code, out, _ = await asyncio.to_thread(verb, healed, "heal", "--fault-only")
    assert (code, out.startswith("the fault is over")) == (0, True)
    shop = await control.shop_state(healed)
    assert (shop["fault"], shop["weights"]["pay"]) == ("", {"v1": 0, "v2": 100})
    code, out, _ = await asyncio.to_thread(verb, healed, "heal")
    assert (code, out.startswith("healed")) == (0, True)
    assert (await control.shop_state(healed))["weights"]["pay"] == {"v1": 100, "v2": 0}


async def test_a_second_lab_in_the_same_directory_is_refused(healed: LabState) -> None:
    """The first goes on undisturbed."""
    with pytest.raises(ContractError, match="already"):
        await up(healed.lab_dir)
    assert [part for part in await control.parts(healed) if part.problem] == []


async def test_a_killed_lab_is_reaped_by_the_next_up(tmp_path: Path, doomed: list[Entry]) -> None:
    """kill -9 leaves the servers running; the next `up` ends exactly these, and `down` leaves nothing."""
    lab_dir = tmp_path / "lab"
    await up(lab_dir)
    first = processes(lab_dir)
    doomed += first
    (owner,) = [entry for entry in first if entry.name == "lab"]
    os.kill(owner.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not owner.lives()

    await control.until(gone, SOON, "the owner's end")
    orphans = [entry for entry in first if entry.name != "lab"]
    assert all(entry.lives() for entry in orphans)
    await up(lab_dir)
    assert [entry.name for entry in first if entry.lives()] == []
    second = processes(lab_dir)
    doomed += second
    assert all(entry.lives() for entry in second)
    assert await down(lab_dir) == len(second)
    assert [entry.name for entry in second if entry.lives()] == []
    assert await down(lab_dir) == 0


async def test_a_lab_whose_directory_is_removed_stops_by_itself(tmp_path: Path, doomed: list[Entry]) -> None:
    """Nobody could find it any more: it must not run on for ever."""
    lab_dir = tmp_path / "lab"
    await up(lab_dir)
    known = processes(lab_dir)
    doomed += known
    shutil.rmtree(lab_dir)

    async def none_lives() -> bool:
        return not any(entry.lives() for entry in known)

    await control.until(none_lives, SOON, "the end of the lab")
    assert not lab_dir.exists()

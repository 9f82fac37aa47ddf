"""Every server as it really starts."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from firebreak.domain.errors import ContractError
from firebreak.servers import local_http
from firebreak.servers.alertmanager import start_alertmanager
from firebreak.servers.catalogue import CATALOGUE, ServerSpec
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.find import has_pinned_version, require
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser
from firebreak.servers.process import free_port
from firebreak.servers.prometheus import start_prometheus
from firebreak.servers.temporal import start_temporal, start_temporal_untuned

pytestmark = pytest.mark.servers

LIMIT = timedelta(seconds=60)
ROUTE = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@pytest.mark.parametrize("spec", [s for s in CATALOGUE.values() if not s.is_data], ids=lambda spec: spec.name)
def test_the_installed_server_says_the_pinned_version(spec: ServerSpec) -> None:
    """What was built or found is what the catalogue says."""
    assert has_pinned_version(spec, require(spec.name))


@pytest.mark.parametrize("name", ["kwok-stages", "gateway-api-crds"])
def test_the_data_sets_hold_yaml(name: str) -> None:
    """The files that servers need beside their binaries are in the cache."""
    assert list(require(name).glob("*.yaml"))


async def test_the_tuned_temporal_server_keeps_its_database_over_a_kill(tmp_path: Path) -> None:
    """A workflow that was acknowledged is there after kill -9 and a new start."""
    db_file = tmp_path / "data" / "temporal.db"
    server = await start_temporal(db_file=db_file, port=free_port(), run_dir=tmp_path, die_with_parent=True)
    temporal = server.process.launch.command[0]

    def cli(*words: str) -> str:
        done = subprocess.run([temporal, *words, "--address", server.address], capture_output=True, check=True)
        return done.stdout.decode()

    await asyncio.to_thread(
        cli, "workflow", "start", "--type", "t", "--task-queue", "q", "--workflow-id", "kept", "-n", "default"
    )
    server.process.kill()
    assert await server.process.exited(LIMIT)
    server.process.start_again()
    await server.ready()
    words = ("workflow", "describe", "--workflow-id", "kept", "-n", "default", "-o", "json")
    described = json.loads(await asyncio.to_thread(cli, *words))
    assert described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"
    await server.stop()
    assert server.process.exit_code == 0


@pytest.mark.parametrize("name", ["data #1", "data?mode=ro", "data%41", "data \udce4"])
async def test_temporals_database_is_in_its_directory_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    """Nothing is written beside it: two engines in `#1` and `#2` would have had one database."""
    run_dir = tmp_path / name / "run"
    run_dir.mkdir(parents=True)
    db_file = tmp_path / name / "temporal.db"
    server = await start_temporal(db_file=db_file, port=free_port(), run_dir=run_dir, die_with_parent=True)
    await server.stop()
    assert db_file.stat().st_size
    assert os.listdir(tmp_path) == [name]


async def test_the_tuned_temporal_server_keeps_no_more_in_memory_than_it_is_told(tmp_path: Path) -> None:
    """By its own account, with five in place of the tuned figure; two entries are one workflow."""
    cap = "history.hostLevelCacheMaxSize"
    server = await start_temporal(
        db_file=tmp_path / "temporal.db",
        port=free_port(),
        run_dir=tmp_path,
        dynamic_config=(f"{cap}=5",),
        die_with_parent=True,
    )
    assert f"{cap}=4000" in server.process.launch.command
    client = await Client.connect(server.address)
    for number in range(12):
        await client.start_workflow("Any", id=f"w-{number}", task_queue="nobody-listens")
    metrics = ""

    async def counted() -> bool:
        nonlocal metrics
        urls = re.findall(r"http://\S+/metrics", server.process.tail(1000))
        metrics = (await local_http.call("GET", urls[0])).body.decode() if urls else ""
        starts = r'^service_requests\{namespace="default",operation="StartWorkflowExecution",.*"history"\} 12$'
        return re.search(starts, metrics, re.MULTILINE) is not None

    await server.process.ready(counted, limit=LIMIT)
    kept = re.findall(r'^cache_usage\{cache_type="mutablestate",.*"history"\} (\d+)$', metrics, re.MULTILINE)
    assert kept == ["5"]
    await server.stop()


async def test_the_lists_of_workflows_that_are_put_off_are_complete_in_the_end(tmp_path: Path) -> None:
    """Also when the server is killed meanwhile. More at once than are written down in a second; each is known by its id
    from the start."""
    server = await start_temporal(
        db_file=tmp_path / "temporal.db", port=free_port(), run_dir=tmp_path, die_with_parent=True
    )
    assert "system.visibilityPersistenceMaxWriteQPS=5" in server.process.launch.command
    client = await Client.connect(server.address)
    handles = [await client.start_workflow("Any", id=f"w-{n}", task_queue="nobody-listens") for n in range(15)]
    assert {(await handle.describe()).id for handle in handles} == {f"w-{n}" for n in range(15)}
    server.process.kill()
    assert await server.process.exited(LIMIT)
    server.process.start_again()
    await server.ready()

    async def complete() -> bool:
        return (await client.count_workflows("WorkflowType = 'Any'")).count == 15

    await server.process.ready(complete, limit=LIMIT)
    await server.stop()


async def test_the_untuned_temporal_server_starts(tmp_path: Path) -> None:
    """The benchmark's textbook line has a server to run on."""
    server = await start_temporal_untuned(
        db_file=tmp_path / "temporal.db", port=free_port(), run_dir=tmp_path, die_with_parent=True
    )
    assert "--dynamic-config-value" not in server.process.launch.command
    await server.stop()


async def test_a_temporal_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A duration without its quotes ends the server at once: the error carries its log."""
    with pytest.raises(ServerUnavailable, match="temporal did not become ready"):
        await start_temporal(
            db_file=tmp_path / "temporal.db",
            port=free_port(),
            run_dir=tmp_path,
            dynamic_config=("history.timerProcessorMaxTimeShift=10ms",),
            die_with_parent=True,
        )


async def test_prometheus_scrapes_and_evaluates_rules(tmp_path: Path) -> None:
    """Configuration and rules given as text are in force, and a reload replaces them."""
    port = free_port()
    config = (
        "global: {scrape_interval: 200ms, evaluation_interval: 200ms}\nrule_files: [rules.yml]\n"
        f"scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    rules = "groups: [{name: g, rules: [{record: seen, expr: up}]}]\n"
    server = await start_prometheus(
        config=config, port=port, run_dir=tmp_path, files={"rules.yml": rules}, die_with_parent=True
    )

    async def recorded() -> bool:
        answer = await local_http.call("GET", f"{server.url}/api/v1/query?query=seen")
        return [sample["value"][1] for sample in json.loads(answer.body)["data"]["result"]] == ["1"]

    await server.process.ready(recorded, limit=LIMIT)
    build = json.loads((await local_http.call("GET", f"{server.url}/api/v1/status/buildinfo")).body)
    assert build["data"]["version"] == "3.15.0"
    with pytest.raises(ContractError, match="refused"):
        await server.reload("scrape_configs: nonsense")
    await server.reload(config, {"rules.yml": rules.replace("seen", "other")})
    await server.stop()
    assert server.process.exit_code == 0


async def test_alertmanager_takes_an_alert_and_a_new_configuration(tmp_path: Path) -> None:
    """An alert that is posted can be read back; a bad configuration is refused and the old one stays."""
    server = await start_alertmanager(config=ROUTE, port=free_port(), run_dir=tmp_path, die_with_parent=True)
    body = json.dumps([{"labels": {"alertname": "Burning"}}]).encode()
    headers = {"Content-Type": "application/json"}
    posted = await local_http.call("POST", f"{server.url}/api/v2/alerts", body=body, headers=headers)
    assert posted.status == 200

    async def listed() -> bool:
        answer = await local_http.call("GET", f"{server.url}/api/v2/alerts")
        return [alert["labels"]["alertname"] for alert in json.loads(answer.body)] == ["Burning"]

    await server.process.ready(listed, limit=LIMIT)
    with pytest.raises(ContractError, match="refused"):
        await server.reload("route: {}\n")
    await server.reload(ROUTE)
    await server.stop()
    assert server.process.exit_code == 0


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    users = [KubeUser("reader", ("readers",)), KubeUser("nobody")]
    started = await start_control_plane(run_dir=tmp_path, users=users, die_with_parent=True)
    yield started
    await started.stop()


def deployment(name: str) -> bytes:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 1}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    ).encode()


DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/shop"


async def until_ready(plane: ControlPlane, replicas: int) -> None:
    async def ready() -> bool:
        answer = await plane.request("GET", DEPLOYMENT)
        return bool(json.loads(answer.body).get("status", {}).get("readyReplicas") == replicas)

    await plane.processes["kwok"].ready(ready, limit=LIMIT)


async def test_a_deployment_becomes_ready_and_its_write_is_in_the_audit_log(plane: ControlPlane) -> None:
    """Controllers, scheduler and fake nodes work together, and the oracle has each write once, with its body."""
    await plane.apply(DEPLOYMENT, deployment("shop"))
    await until_ready(plane, 3)
    patch = json.dumps({"metadata": {"annotations": {"key": "step-1"}}}).encode()
    answer = await plane.request("PATCH", DEPLOYMENT, body=patch, content_type="application/merge-patch+json")
    assert answer.status == 200

    def patches() -> list[dict[str, Any]]:
        whole_lines = plane.audit_log.read_text().rpartition("\n")[0].splitlines()
        events = [json.loads(line) for line in whole_lines]
        mine = [event for event in events if event["user"]["username"] == "firebreak-admin"]
        return [event for event in mine if event["requestURI"] == DEPLOYMENT and event["verb"] == "patch"]

    async def written() -> bool:
        return bool(patches())  # the line may come a moment after the answer

    await plane.processes["kube-apiserver"].ready(written, limit=LIMIT)
    writes = patches()
    assert len(writes) == 1
    assert writes[0]["requestObject"] == {"metadata": {"annotations": {"key": "step-1"}}}
    assert writes[0]["responseObject"]["metadata"]["annotations"]["key"] == "step-1"
    assert writes[0]["responseStatus"]["code"] == 200


async def test_a_user_may_do_what_rbac_grants_and_no_more(plane: ControlPlane) -> None:
    """Tokens stand for users and groups; a group's role is enough, and without one the answer is 403."""
    meta = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "read-nodes"}}
    role = {**meta, "kind": "ClusterRole", "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]}
    binding = {
        **meta,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "read-nodes"},
        "subjects": [{"kind": "Group", "name": "readers", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    base = "/apis/rbac.authorization.k8s.io/v1"
    await plane.apply(f"{base}/clusterroles/read-nodes", json.dumps(role).encode())
    await plane.apply(f"{base}/clusterrolebindings/read-nodes", json.dumps(binding).encode())

    async def granted() -> bool:
        return (await plane.request("GET", "/api/v1/nodes", user="reader")).status == 200

    await plane.processes["kube-apiserver"].ready(granted, limit=LIMIT)
    assert (await plane.request("GET", "/api/v1/pods", user="reader")).status == 403
    assert (await plane.request("GET", "/api/v1/nodes", user="nobody")).status == 403
    with pytest.raises(ContractError, match="the API server refused"):
        await plane.apply(DEPLOYMENT, b"kind: Nonsense")


async def test_the_gateway_api_is_served(plane: ControlPlane) -> None:
    """HTTPRoutes can be written; installing the definitions twice changes nothing."""
    await plane.apply_crds()
    await plane.apply_crds()
    path = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/shop"
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"rules": [{"backendRefs": [{"name": "v1", "port": 80, "weight": 100}]}]},
    }

    async def written() -> bool:
        try:
            await plane.apply(path, json.dumps(route).encode())
        except ContractError:
            return False  # the resource is served a moment after its definition is established
        return True

    await plane.processes["kube-apiserver"].ready(written, limit=LIMIT)


async def test_the_certificate_is_checked_and_the_kubeconfig_is_complete(plane: ControlPlane) -> None:
    """A client that trusts only the system's authorities is not let in; the files are for their owner alone."""
    with pytest.raises(OSError, match=r"(?i)certificate"):
        await local_http.call("GET", f"{plane.url}/readyz", tls=ssl.create_default_context())
    config = json.loads(plane.kubeconfigs["reader"].read_text())
    assert config["clusters"][0]["cluster"] == {"server": plane.url, "certificate-authority": str(plane.ca_file)}
    assert config["users"][0] == {"name": "reader", "user": {"token": plane.tokens["reader"]}}
    assert plane.kubeconfig.stat().st_mode & 0o077 == 0


async def test_objects_outlive_a_killed_api_server(plane: ControlPlane) -> None:
    """After kill -9 and a new start the same objects are served, and the controllers go on."""
    await plane.apply(DEPLOYMENT, deployment("shop"))
    await until_ready(plane, 3)
    await plane.restart_api_server(kill=True)
    scale = json.dumps({"spec": {"replicas": 4}}).encode()
    answer = await plane.request("PATCH", DEPLOYMENT, body=scale, content_type="application/merge-patch+json")
    assert answer.status == 200
    await until_ready(plane, 4)


async def test_a_stopped_api_server_hangs_and_goes_on(plane: ControlPlane) -> None:
    """SIGSTOP makes calls time out, SIGCONT brings it back: the fault that tests use."""
    server = plane.processes["kube-apiserver"]
    server.signal(signal.SIGSTOP)
    with pytest.raises(OSError):  # noqa: PT011 # connect or read, either may time out
        await plane.request("GET", "/readyz", seconds=0.5)
    server.signal(signal.SIGCONT)
    await plane.ready()


async def test_a_second_start_finds_the_objects_and_tokens_of_the_first(tmp_path: Path) -> None:
    """A control plane that was stopped in order goes on where it was, on other ports."""
    first = await start_control_plane(run_dir=tmp_path, nodes=1, die_with_parent=True)
    await first.stop()
    assert all(not process.alive for process in first.processes.values())
    second = await start_control_plane(run_dir=tmp_path, nodes=1, die_with_parent=True)
    assert second.tokens == first.tokens
    names = [
        item["metadata"]["name"] for item in json.loads((await second.request("GET", "/api/v1/nodes")).body)["items"]
    ]
    assert names == ["node-0"]
    await second.stop()


def test_the_command_lists_and_names_the_servers(tmp_path: Path) -> None:
    """`list` shows every server with its version, `path` prints one path, an unknown name fails with the known ones."""
    code = "from firebreak.cli.main import main; main()"

    def firebreak(*words: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).resolve().parents[2]
        return subprocess.run(
            [sys.executable, "-c", code, "servers", *words], capture_output=True, text=True, cwd=root, check=False
        )

    listed = firebreak("list")
    assert listed.returncode == 0, listed.stderr
    for spec in CATALOGUE.values():
        assert any(line.split()[:2] == [spec.name, spec.version] for line in listed.stdout.splitlines())
    assert firebreak("path", "etcd").stdout.strip() == str(require("etcd"))
    wrong = firebreak("path", "etc")
    assert wrong.returncode == 2
    assert "Known servers" in wrong.stderr

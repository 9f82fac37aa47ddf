"""The real parts that all lines share: Kubernetes API, Prometheus, a tuned Temporal server, many broken services."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench.documents import FLAG, flags_name, namespace_of, runbook_text, service_name, services_text
from bench.exporter import ExporterConfig
from firebreak.cli.game_day import without_settings
from firebreak.lab.control import prometheus_query, until
from firebreak.lab.documents import policy_text
from firebreak.lab.kube import KubeAccess, KubeClient
from firebreak.lab.shape import CLUSTER, FALLBACK_PAGER_KEY
from firebreak.servers import local_http
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser
from firebreak.servers.process import Launch, ManagedProcess, free_port
from firebreak.servers.prometheus import start_prometheus
from firebreak.servers.temporal import start_temporal

ENGINE_USER = "bench-engine"
CHECKOUT = Path(__file__).resolve().parent.parent
_BASELINE_SECONDS = 8.0
_RULES = [
    {"apiGroups": [""], "resources": ["pods", "pods/log", "events", "nodes"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch"]},
    {
        "apiGroups": ["apps"],
        "resources": ["deployments", "replicasets", "controllerrevisions"],
        "verbs": ["get", "list"],
    },
]


@dataclass(frozen=True, slots=True)
class Field:
    """`engine` are the settings (environment) that every engine under measurement gets; `temporal` is host:port of the
    tuned server that the engine and its floors share."""

    root: Path
    run_dir: Path
    plane: ControlPlane
    admin: KubeAccess
    prometheus_url: str
    temporal: str
    services: int
    token: str
    engine: Mapping[str, str]
    processes: Mapping[str, ManagedProcess]

    async def break_again(self, numbers: Sequence[int]) -> None:
        """Turn the flags of these services on again; they are bad from then on."""
        gate = asyncio.Semaphore(8)
        async with KubeClient(self.admin) as client:

            async def one(number: int) -> None:
                async with gate:
                    path = f"/api/v1/namespaces/{namespace_of(number)}/configmaps/{flags_name(number)}"
                    await client.merge(path, {"data": {FLAG: "true"}})

            await asyncio.gather(*(one(number) for number in numbers))

    async def held(self, numbers: Sequence[int], seconds: int = 7) -> None:
        """Wait until all these services have been bad for longer than the tree's `for` times."""
        pattern = "|".join(service_name(n) for n in numbers)
        ratio = (
            f'sum by (service) (rate(http_requests_total{{service=~"{pattern}",code="500"}}[3s])) '
            f'/ sum by (service) (rate(http_requests_total{{service=~"{pattern}"}}[3s]))'
        )
        expr = f"count(min_over_time(({ratio})[{seconds}s:1s]) > 0.2)"

        async def bad() -> bool:
            result = await prometheus_query(self.prometheus_url, expr)
            return bool(result) and float(result[0]["value"][1]) == len(numbers)

        await until(bad, timedelta(seconds=60), "the fault of all services")


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process' environment without Firebreak's settings (but for where servers are), and with the checkout."""
    return {**without_settings(), "PYTHONPATH": str(CHECKOUT), **more}


@asynccontextmanager
async def field(root: Path, services: int, *, temporal_config: tuple[str, ...] = ()) -> AsyncIterator[Field]:
    """Start everything; `services` services are bad, and have been for longer than any `for` time of the tree."""
    run_dir = root / "run"
    run_dir.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        plane = await start_control_plane(run_dir=run_dir, users=[KubeUser(ENGINE_USER)], die_with_parent=True)
        stack.push_async_callback(plane.stop)
        admin = KubeAccess(plane.url, str(plane.ca_file), plane.tokens["firebreak-admin"])
        await _populate(admin, services)
        config = ExporterConfig(
            services=services,
            access=admin,
            metrics_port=free_port(),
            slack_port=free_port(),
            pager_port=free_port(),
            slack_token=f"xoxb-bench-{secrets.token_hex(12)}",
            log_dir=str(root),
        )
        config.save(root / "exporter.json")
        exporter = await ManagedProcess.start(
            Launch(
                "exporter",
                (sys.executable, "-P", "-m", "bench.exporter", str(root / "exporter.json")),
                child_environment({}),
                die_with_parent=True,
            ),
            run_dir,
        )
        stack.push_async_callback(exporter.stop)
        metrics = f"http://127.0.0.1:{config.metrics_port}/metrics"
        await exporter.ready(lambda: local_http.is_ok(metrics), limit=timedelta(seconds=30))
        prometheus = await start_prometheus(
            config=_prometheus_config(config.metrics_port), port=free_port(), run_dir=run_dir, die_with_parent=True
        )
        stack.push_async_callback(prometheus.stop)
        temporal = await start_temporal(
            db_file=root / "temporal.sqlite",
            port=free_port(),
            run_dir=run_dir,
            dynamic_config=temporal_config,
            die_with_parent=True,
        )
        stack.push_async_callback(temporal.stop)
        baseline_at = await _baseline(prometheus.url)
        token = secrets.token_urlsafe(24)
        made = Field(
            root=root,
            run_dir=run_dir,
            plane=plane,
            admin=admin,
            prometheus_url=prometheus.url,
            temporal=temporal.address,
            services=services,
            token=token,
            processes={
                **plane.processes,
                "exporter": exporter,
                "prometheus": prometheus.process,
                "temporal": temporal.process,
            },
            engine={
                "FIREBREAK_MODE": "act",
                "FIREBREAK_CLUSTER": CLUSTER,
                "FIREBREAK_KUBECONFIG": str(plane.kubeconfigs[ENGINE_USER]),
                "FIREBREAK_PROMETHEUS_URL": prometheus.url,
                "FIREBREAK_SLACK_URL": f"http://127.0.0.1:{config.slack_port}/api/",
                "FIREBREAK_SLACK_TOKEN": config.slack_token,
                "FIREBREAK_PAGERDUTY_URL": f"http://127.0.0.1:{config.pager_port}",
                "FIREBREAK_FALLBACK_PAGER_KEY": FALLBACK_PAGER_KEY,
                "FIREBREAK_WEBHOOK_TOKEN": token,
                "FIREBREAK_TEMPORAL_ADDRESS": temporal.address,
                **_documents(root, services, baseline_at),
            },
        )
        await made.held(range(services))
        yield made


def _documents(root: Path, services: int, baseline_at: float) -> dict[str, str]:
    """Production's tree, the lab's policy, one runbook, many services."""
    catalog = root / "catalog"
    catalog.mkdir()
    (catalog / "degrade.yaml").write_text(runbook_text())
    (root / "policy.yaml").write_text(policy_text(baseline_at))
    (root / "services.yaml").write_text(services_text(services))
    return {
        "FIREBREAK_CATALOG": str(catalog),
        "FIREBREAK_POLICY": str(root / "policy.yaml"),
        "FIREBREAK_SERVICES": str(root / "services.yaml"),
    }


def _prometheus_config(port: int) -> str:
    return (
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        f"scrape_configs: [{{job_name: bench, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )


async def _baseline(prometheus_url: str) -> float:
    found = time.time() + _BASELINE_SECONDS

    async def there() -> bool:
        result = await prometheus_query(prometheus_url, "min(count_over_time(up[8s])) >= 7")
        return bool(result) and time.time() > found

    await until(there, timedelta(seconds=60), "the baseline")
    return time.time()


async def _populate(admin: KubeAccess, services: int) -> None:
    """A namespace for every few services; each service has a Deployment without pods and a ConfigMap with its flag."""
    rbac = "rbac.authorization.k8s.io"
    gate = asyncio.Semaphore(8)
    async with KubeClient(admin) as client:

        async def apply(path: str, manifest: Mapping[str, object]) -> None:
            async with gate:
                await client.apply(path, manifest)

        names = sorted({namespace_of(n) for n in range(services)})
        await asyncio.gather(
            *(
                apply(f"/api/v1/namespaces/{n}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}})
                for n in names
            )
        )
        await apply(
            f"/apis/{rbac}/v1/clusterroles/{ENGINE_USER}",
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": ENGINE_USER}, "rules": _RULES},
        )
        await apply(
            f"/apis/{rbac}/v1/clusterrolebindings/{ENGINE_USER}",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": ENGINE_USER},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ENGINE_USER},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": ENGINE_USER}],
            },
        )
        await asyncio.gather(*(apply(*item) for n in range(services) for item in _objects(n)))


def _objects(number: int) -> tuple[tuple[str, Mapping[str, object]], ...]:
    name, namespace = service_name(number), namespace_of(number)
    labels = {"app": name}
    container = {"name": "app", "image": "registry.example/bench:1"}
    return (
        (
            f"/api/v1/namespaces/{namespace}/configmaps/{flags_name(number)}",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": flags_name(number), "namespace": namespace, "labels": {"bench": "flags"}},
                "data": {FLAG: "true"},
            },
        ),
        (
            f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            },
        ),
    )


def cpu_seconds(processes: Mapping[str, ManagedProcess]) -> dict[str, float]:
    """Processor time that each has used so far, and this process under the name of `bench`."""
    tick = os.sysconf("SC_CLK_TCK")
    used = {"bench": sum(os.times()[:2])}
    for name, process in processes.items():
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(stat[11]) + int(stat[12])) / tick
    return used

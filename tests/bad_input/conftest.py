"""The whole chain in one process, on a real Temporal, Prometheus and Kubernetes API; the lab's Slack and pager listen.

An alert goes in by HTTP; what comes out is looked for at the pager, in the thread, on the timeline and in the cluster.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from firebreak.connectors.prometheus import Prometheus
from firebreak.connectors.slack import Slack
from firebreak.domain.alert import IntakeClass
from firebreak.domain.condition import MetricQuery
from firebreak.domain.incident import Mode
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import Routes, build_pager, build_rulebook
from firebreak.engine.outbox import OutboxSender
from firebreak.engine.role import run_worker
from firebreak.engine.sending import OutboxParts
from firebreak.gateway.app import create_app
from firebreak.gateway.poke import Poke
from firebreak.lab import pagerduty, slack
from firebreak.processes import ready_file
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser
from firebreak.servers.process import free_port
from firebreak.servers.prometheus import PrometheusServer, start_prometheus
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore

PAY_KEY = "paypaypaypaypaypaypaypaypaypaypa"
FALLBACK_KEY = "nobodysnobodysnobodysnobodysnobo"

SEVERITY = """\
kind: severity
name: p1
summary: for tests
durations: {window: 1s, step: 500ms, stale_after: 3s, recheck: 500ms, quiet: 2s, watch: 30s, doubt: 1s, held: 1s}
thresholds: {errors: 0.1, seconds: 1}
conditions:
  failing:
    dimension: errors
    query: app_errors{service=$service}
    op: ">"
    threshold: $errors
    for: $held
    inputs: ['app_errors{service=$service}']
  slow:
    dimension: latency
    query: app_latency{service=$service}
    op: ">"
    threshold: $seconds
    for: $held
    inputs: ['app_latency{service=$service}']
tree: {any: [failing, slow]}
may_act: {dimensions: 2}
"""
POLICY = "kind: policy\nname: default\nsummary: for tests\nbaseline: {offset: 7d}\n"
SERVICES = """\
kind: services
cluster_label: cluster
services:
  pay:
    team: payments
    chat_channel: C0PAYMENTS1
    pager_key: paypaypaypaypaypaypaypaypaypaypa
    target: {namespace: {label: namespace}, kind: Deployment, name: {label: deployment}}
    params: {flags: shop-flags}
"""
RUNBOOK = """\
kind: runbook
name: heal
summary: for tests
match: {severity: P1, params: [flags]}
durations: {stale_after: 3s, step: 500ms, hold: 1s, within: 4s, poll: 500ms, far: 1h}
thresholds: {errors: 0.1}
conditions:
  few_errors:
    dimension: errors
    query: app_errors{service=$service}
    op: "<"
    threshold: $errors
    inputs: ['app_errors{service=$service}']
  part_answers:
    dimension: health
    query: app_probe{service=$service}
    op: "=="
    threshold: 1
    inputs: ['app_probe{service=$service}']
hold: $hold
recovery: [few_errors]
tiers:
  - name: degrade
    steps:
      - id: flag-off
        action: set_flag
        params: {config_map: $flags, key: recommend.enabled, value: "false"}
        check: action
        verify: {conditions: [few_errors], hold: $hold, within: $within, poll: $poll}
        undo: action
        restore: {conditions: [part_answers], hold: $hold, within: $far, poll: $poll}
  - name: page
    steps:
      - {id: call, action: page}
"""
LABELS = {
    "alertname": "PayDown",
    "severity": "critical",
    "cluster": "lab",
    "service": "pay",
    "namespace": "shop",
    "deployment": "pay-v1",
}


async def until(look: Callable[[], Awaitable[bool]], limit: float = 60) -> None:
    async with asyncio.timeout(limit):
        while not await look():  # noqa: ASYNC110 # the condition is another process's
            await asyncio.sleep(0.05)


# --- servers ---------------------------------------------------------------------------------------------------


class Exporter:
    """What the service exports; `lines` may be changed, `down` breaks the scrape."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.down = False
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "".join(f"{name} {value}\n" for name, value in exporter.lines.items()).encode()
                self.send_response(500 if exporter.down else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def sick(self, service: str = "pay") -> None:
        self.lines |= {f'app_errors{{service="{service}"}}': "0.5", f'app_latency{{service="{service}"}}': "3"}


@pytest.fixture(scope="session")
def exporting() -> Iterator[Exporter]:
    exporter = Exporter()
    thread = threading.Thread(target=exporter.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield exporter
    exporter.server.shutdown()
    thread.join()
    exporter.server.server_close()


@pytest.fixture(scope="session")
def prometheus(exporting: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    job = {
        "job_name": "shop",
        "scrape_interval": "250ms",
        "scrape_timeout": "250ms",
        "static_configs": [{"targets": [f"127.0.0.1:{exporting.server.server_address[1]}"]}],
    }
    run_dir = tmp_path_factory.mktemp("prometheus")
    config = json.dumps({"scrape_configs": [job]})  # JSON is YAML
    server = asyncio.run(start_prometheus(config=config, port=free_port(), run_dir=run_dir, die_with_parent=True))
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With the namespace `shop`, and a user `nobody` without any right."""

    async def start() -> ControlPlane:
        run_dir = tmp_path_factory.mktemp("kubernetes")
        plane = await start_control_plane(run_dir=run_dir, users=(KubeUser("nobody"),), die_with_parent=True)
        await _create(plane, "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": "shop"}})
        return plane

    plane = asyncio.run(start())
    yield plane
    asyncio.run(plane.stop())


async def _create(plane: ControlPlane, path: str, body: Mapping[str, Any]) -> None:
    answer = await plane.request("POST", path, body=json.dumps({"apiVersion": "v1", **body}).encode())
    assert answer.status == 201, answer.body


# --- the chain -------------------------------------------------------------------------------------------------


@dataclass
class Chain:
    """What a test sees of the engine: from outside, and on disk."""

    folder: Path
    exporter: Exporter
    plane: ControlPlane
    settings: Settings
    people: pagerduty.PagerDuty
    chat: slack.Slack
    stack: AsyncExitStack
    prometheus: PrometheusServer
    until: Callable[..., Awaitable[None]] = until
    labels: Mapping[str, str] = field(default_factory=lambda: dict(LABELS))
    client: httpx.AsyncClient = field(init=False)
    store: TimelineStore = field(init=False)

    async def start(self, **changed: Any) -> None:
        """Gateway, both workers and the outbox, with these settings."""
        self.settings = self.settings.model_copy(update=changed)
        stack = self.stack
        self.store = await stack.enter_async_context(await TimelineStore.open(self.folder / TIMELINE_FILE))
        inbox = await stack.enter_async_context(await InboxStore.open(self.folder / INBOX_FILE))
        poke = stack.enter_context(closing(Poke(self.folder)))
        app = create_app(inbox, self.settings, token="token", poke=poke)
        transport = httpx.ASGITransport(app=app)
        headers = {"Authorization": "Bearer token"}
        self.client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)
        )
        stop = asyncio.Event()
        workers = [asyncio.create_task(run_worker(self.settings, c, stop)) for c in IntakeClass]
        pager = await stack.enter_async_context(build_pager(self.settings))
        chat = await stack.enter_async_context(Slack(self.settings.slack_url, "xoxb-token", look_first=timedelta(0)))
        parts = OutboxParts(
            outbox=self.store,
            ledger=self.store,
            chat=chat,
            pager=pager,
            routes=Routes(build_rulebook(self.settings), self.settings),
            clock=SystemClock(),
            postmortems=self.folder / "postmortems",
        )
        sender = asyncio.create_task(OutboxSender(parts).run())

        async def end() -> None:
            stop.set()
            sender.cancel()
            await asyncio.wait_for(asyncio.gather(*workers, sender, return_exceptions=True), 30)

        stack.push_async_callback(end)

        async def ready() -> bool:
            for worker in workers:
                if worker.done():
                    worker.result()
            return all([ready_file(self.folder, c.value).exists() for c in IntakeClass])

        await until(ready)

    async def post(self, *labels: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> httpx.Response:
        """One webhook body with an alert for each set of labels."""
        now = datetime.now(UTC).isoformat()
        alerts = [
            {
                "status": "firing",
                "labels": dict(one),
                "annotations": dict(annotations or {}),
                "startsAt": now,
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
            }
            for one in labels
        ]
        body = {"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": alerts}
        return await self.client.post("/v1/alerts/alertmanager", json=body)

    async def paged(self, key: str = PAY_KEY, *, dedup: str = "-page") -> pagerduty.PagerAlert:
        """The high-urgency page that rang, once it has."""

        async def rang() -> bool:
            return bool(self.pages(key, dedup=dedup))

        await until(rang)
        return self.pages(key, dedup=dedup)[0]

    def pages(self, key: str = PAY_KEY, *, dedup: str = "-page") -> list[pagerduty.PagerAlert]:
        rang = [a for a in self.people.alerts if a.urgency == "high" and a.routing_key == key]
        return [a for a in rang if a.dedup_key.endswith(dedup)]

    def rows(self, query: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.folder / TIMELINE_FILE}?mode=ro", uri=True)) as raw:
            return raw.execute(query, values).fetchall()

    async def incident(self) -> str:
        """Id of the one incident, once it is there."""

        async def there() -> bool:
            return bool(self.rows("SELECT id FROM incidents"))

        await until(there)
        ((incident_id,),) = self.rows("SELECT id FROM incidents")
        return str(incident_id)

    async def timeline(self) -> list[tuple[str, Any]]:
        """(kind, body) of the one incident's entries."""
        return [(e.kind.value, e.body) for e in await self.store.entries(await self.incident())]

    async def wrote(self) -> bool:
        """True when anything but looking was done to the flags."""
        answer = await self.plane.request("GET", "/api/v1/namespaces/shop/configmaps/shop-flags")
        found = json.loads(answer.body)
        return found["data"] != {"recommend.enabled": "true"} or bool(found["metadata"].get("annotations"))


def _documents(folder: Path) -> dict[str, Any]:
    (folder / "catalog").mkdir(parents=True)
    texts = {"severity": SEVERITY, "policy": POLICY, "services": SERVICES, "catalog/heal": RUNBOOK}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return {
        "severity": folder / "severity.yaml",
        "policy": folder / "policy.yaml",
        "services": folder / "services.yaml",
        "catalog": folder / "catalog",
    }


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """The folder of the documents; a test may edit them before the chain starts."""
    return tmp_path / "documents"


@pytest.fixture
def document_settings(tmp_path: Path, documents: Path) -> Settings:
    """Settings with these documents, and a cluster that nobody talks to."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\n"
        'clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]\nusers: [{name: u, user: {token: t}}]\n'
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    return Settings(data_dir=tmp_path, cluster="lab", mode=Mode.ACT, kubeconfig=kubeconfig, **_documents(documents))


@pytest.fixture
async def chain(
    tmp_path: Path,
    document_settings: Settings,
    exporting: Exporter,
    prometheus: PrometheusServer,
    temporal_address: str,
    control_plane: ControlPlane,
) -> AsyncIterator[Chain]:
    """Not started yet: a test says with what. The service is sick in both dimensions, so that the engine may act."""
    exporting.lines = {'app_probe{service="pay"}': "0"}
    exporting.down = False
    exporting.sick()
    await control_plane.request("DELETE", "/api/v1/namespaces/shop/configmaps/shop-flags")
    meta = {"name": "shop-flags"}
    flags = {"kind": "ConfigMap", "metadata": meta, "data": {"recommend.enabled": "true"}}
    await _create(control_plane, "/api/v1/namespaces/shop/configmaps", flags)
    async with AsyncExitStack() as stack:
        people = pagerduty.PagerDuty(tmp_path / "pager.jsonl", {PAY_KEY: "pay", FALLBACK_KEY: "nobody"})
        chat = slack.Slack(tmp_path / "slack.jsonl", "xoxb-token", {"C0PAYMENTS1": "payments"})
        addresses = []
        for app in (people.app, chat.app):
            server = TestServer(app)
            await server.start_server()
            stack.push_async_callback(server.close)
            addresses.append(f"http://127.0.0.1:{server.port}")
        settings = document_settings.model_copy(
            update={
                "kubeconfig": control_plane.kubeconfig,
                "prometheus_url": prometheus.url,
                "temporal_address": temporal_address,
                "task_queue_prefix": f"q-{uuid.uuid4()}",
                "pagerduty_url": addresses[0],
                "slack_url": f"{addresses[1]}/api/",
                "slack_token": SecretStr("xoxb-token"),
                "fallback_pager_key": SecretStr(FALLBACK_KEY),
            }
        )
        await until(lambda: _scraped(prometheus.url, len(exporting.lines)))
        yield Chain(tmp_path, exporting, control_plane, settings, people, chat, stack, prometheus)


async def _scraped(url: str, series: int) -> bool:
    """Sick for longer than the conditions' hold time, by so many series and none of the test before."""
    at = datetime.now(UTC)
    exprs = (
        'min_over_time(app_errors{service="pay"}[2s]) > 0.1',
        f'count(last_over_time({{__name__=~"app_.+", service="pay"}}[3s])) == {series}',
    )
    async with Prometheus(url) as metrics:
        answers = await metrics.range_batch(
            [MetricQuery(key=expr, expr=expr) for expr in exprs],
            start=at,
            end=at,
            step=timedelta(seconds=1),
            timeout=timedelta(seconds=5),
        )
    return all(answer.points for answer in answers)

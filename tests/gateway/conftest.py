"""The gateway over a real inbox on a temporary directory, and bodies as Alertmanager sends them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from firebreak.domain.alert import IntakeClass
from firebreak.gateway.app import create_app
from firebreak.gateway.metrics import GatewayMetrics
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, InboxStore

TOKEN = "a-token-for-tests"
NOW = datetime(2026, 11, 21, 9, 30, 12, tzinfo=UTC)

# As Debian's Alertmanager 0.25 sends it: no notification_reason, no routeLabels, the receiver's name escaped.
BODY_0_25: dict[str, Any] = {
    "receiver": r"web\.hook",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "PayErrors", "cluster": "lab", "service": "pay", "severity": "critical"},
            "annotations": {"summary": "pay fails"},
            "startsAt": "2026-11-21T08:36:44.123Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
            "fingerprint": "2f2b4c1f3a9e5d70",
        }
    ],
    "groupLabels": {"alertname": "PayErrors"},
    "commonLabels": {"alertname": "PayErrors", "cluster": "lab", "service": "pay", "severity": "critical"},
    "commonAnnotations": {"summary": "pay fails"},
    "externalURL": "http://alertmanager:9093",
    "version": "4",
    "groupKey": '{}:{alertname="PayErrors"}',
    "truncatedAlerts": 0,
}

# As 0.31 and later: three alerts of which one is resolved, two were left out, newer fields, null maps, nanoseconds.
BODY_0_31: dict[str, Any] = {
    "receiver": "firebreak",
    "status": "firing",
    "notification_reason": "some alerts resolved",
    "routeLabels": {"severity": "critical"},
    "alerts": [
        {
            "status": "resolved",
            "labels": {"alertname": "Up", "service.name": "order", "severity": "warning", "instance": "10.0.0.1:80"},
            "annotations": None,
            "startsAt": "2026-11-21T09:20:00.123456789Z",
            "endsAt": "2026-11-21T10:25:00.5+01:00",
            "generatorURL": "",
            "fingerprint": "00000000000000aa",
        },
        {
            "status": "firing",
            "labels": {"alertname": "Up", "service.name": "order", "priority": "P1", "instance": "10.0.0.2:80"},
            "annotations": {},
            "startsAt": "2026-11-21T09:21:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "00000000000000ab",
        },
        {
            "status": "firing",
            "labels": {"alertname": "Up", "service.name": "order", "instance": "10.0.0.3:80"},
            "annotations": {"x": "y"},
            "startsAt": "2026-11-21T09:21:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
        },
    ],
    "groupLabels": None,
    "commonLabels": None,
    "commonAnnotations": None,
    "externalURL": "http://alertmanager:9093",
    "version": "4",
    "groupKey": '{}/{severity=~"critical"}:{}',
    "truncatedAlerts": 2,
}


class Gateway:
    """A client of the app, with what stands behind it."""

    def __init__(
        self, client: httpx.AsyncClient, inbox: InboxStore, metrics: GatewayMetrics, pokes: list[Iterable[IntakeClass]]
    ) -> None:
        self.client = client
        self.inbox = inbox
        self.metrics = metrics
        self.pokes = pokes
        self.now = NOW

    async def post(self, body: object, **headers: str) -> httpx.Response:
        return await self.client.post("/v1/alerts/alertmanager", json=body, headers=headers)

    async def post_bytes(self, body: bytes) -> httpx.Response:
        return await self.client.post("/v1/alerts/alertmanager", content=body)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"firebreak_gateway_{name}", labels) or 0.0


@pytest.fixture(scope="session")
def empty_inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated inbox without alerts, to copy: migrating one for each test takes longer than the test."""
    path = tmp_path_factory.mktemp("empty") / INBOX_FILE
    InboxStore.database(path).prepare()
    return path


@pytest.fixture
def body() -> dict[str, Any]:
    """One alert, as 0.25 sends it."""
    return copy.deepcopy(BODY_0_25)


@pytest.fixture
def grouped_body() -> dict[str, Any]:
    """Three alerts, as 0.31 sends them."""
    return copy.deepcopy(BODY_0_31)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_body_bytes=1_000_000, backlog_limit=50)


@pytest.fixture
async def gateway(settings: Settings, empty_inbox: Path) -> AsyncIterator[Gateway]:
    shutil.copy(empty_inbox, settings.data_dir / INBOX_FILE)
    metrics = GatewayMetrics()
    pokes: list[Iterable[IntakeClass]] = []
    async with await InboxStore.open(settings.data_dir / INBOX_FILE) as inbox:
        app = create_app(inbox, settings, token=TOKEN, poke=pokes.append, metrics=metrics, clock=lambda: opened.now)
        transport = httpx.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            opened = Gateway(client, inbox, metrics, pokes)
            yield opened

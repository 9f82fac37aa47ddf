"""The many services that are broken, as one process: what Prometheus scrapes, and the stand-ins for Slack and pager.

A service is bad (30 % errors, half of its calls over 2.5 s) while its flag is "true", and good as soon as the cluster
says otherwise. Counters are computed from the time: no call is made. `python -m bench.exporter CONFIG.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.documents import DEPENDENCY, FLAG, service_name
from firebreak.domain.errors import TransientError
from firebreak.lab.kube import KubeAccess, KubeClient, WatchExpired
from firebreak.lab.pagerduty import PagerDuty
from firebreak.lab.shape import FALLBACK_PAGER_KEY, SERVICES
from firebreak.lab.slack import Slack

RATE = 10.0  # calls per second of each service; 30 in a window of 3 s, the tree wants 20
ERRORS = 0.3
SLOW = 0.5
FLOW_RATE = 20.0
SELECTOR = "labelSelector=bench%3Dflags"


@dataclass(frozen=True, slots=True)
class ExporterConfig:
    """`ports`: metrics, Slack, pager."""

    services: int
    access: KubeAccess
    metrics_port: int
    slack_port: int
    pager_port: int
    slack_token: str
    log_dir: str

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> ExporterConfig:
        data: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**data, "access": KubeAccess(**data["access"])})


class Services:
    """How long each service has been bad so far."""

    def __init__(self, count: int) -> None:
        self._began = time.time()
        self._names = [service_name(n) for n in range(count)]
        self._index = {name: n for n, name in enumerate(self._names)}
        self._bad_for = [0.0] * count
        self._bad_since: list[float | None] = [self._began] * count

    def seen(self, flags: Any) -> None:
        """A ConfigMap as the cluster has it now."""
        n = self._index[flags["metadata"]["name"].removesuffix("-flags")]
        bad, since, now = flags["data"][FLAG] == "true", self._bad_since[n], time.time()
        if bad and since is None:
            self._bad_since[n] = now
        elif not bad and since is not None:
            self._bad_for[n] += now - since
            self._bad_since[n] = None

    def exposition(self) -> str:
        now = time.time()
        total = RATE * (now - self._began)
        lines = []
        for n, name in enumerate(self._names):
            since = self._bad_since[n]
            bad = RATE * (self._bad_for[n] + (now - since if since is not None else 0.0))
            good = total - SLOW * bad
            label = f'service="{name}"'
            lines.append(
                f'http_requests_total{{{label},code="200"}} {total - ERRORS * bad}\n'
                f'http_requests_total{{{label},code="500"}} {ERRORS * bad}\n'
                f'http_request_duration_seconds_bucket{{{label},le="0.1"}} {good}\n'
                f'http_request_duration_seconds_bucket{{{label},le="2.5"}} {good}\n'
                f'http_request_duration_seconds_bucket{{{label},le="5"}} {total}\n'
                f'http_request_duration_seconds_bucket{{{label},le="+Inf"}} {total}\n'
            )
        flow = FLOW_RATE * (now - self._began)
        lines += [f'main_flow_{what}_total{{flow="{f}"}} {flow}\n' for what in ("attempts", "success") for f in _FLOWS]
        lines.append(f'gateway_requests_total{{code="200"}} {flow}\n')
        lines.append(f'probe_success{{service="{DEPENDENCY}",version="v1"}} 0\n')
        return "".join(lines)


_FLOWS = ("order", "pay")


async def _watch(services: Services, access: KubeAccess) -> None:
    async with KubeClient(access) as client:
        while True:
            try:
                listed = await client.get(f"/api/v1/configmaps?{SELECTOR}")
                for item in listed["items"]:
                    services.seen(item)
                revision = listed["metadata"]["resourceVersion"]
                while True:
                    async for kind, item in client.watch(f"/api/v1/configmaps?{SELECTOR}", revision):
                        revision = item["metadata"]["resourceVersion"]
                        if kind in ("ADDED", "MODIFIED"):
                            services.seen(item)
            except (WatchExpired, TransientError):
                await asyncio.sleep(0.1)


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def _run(config: ExporterConfig) -> None:
    services = Services(config.services)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=services.exposition())

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    shape, logs = SERVICES["order"], Path(config.log_dir)
    await _serve(Slack(logs / "slack.jsonl", config.slack_token, {shape.chat_channel: "bench"}).app, config.slack_port)
    keys = {shape.pager_key: "bench", FALLBACK_PAGER_KEY: "fallback"}
    await _serve(PagerDuty(logs / "pagerduty.jsonl", keys).app, config.pager_port)
    await _serve(app, config.metrics_port)
    await _watch(services, config.access)


if __name__ == "__main__":
    asyncio.run(_run(ExporterConfig.load(Path(sys.argv[1]))))

"""A server that answers what a test tells it, and the real Prometheus and Kubernetes control plane."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from firebreak.connectors.prometheus import Prometheus
from firebreak.domain.condition import MetricQuery
from firebreak.engine.loop import new_loop
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser
from firebreak.servers.process import ManagedProcess, free_port
from firebreak.servers.prometheus import PrometheusServer, start_prometheus


@dataclass
class Said:
    """One answer. `body` is JSON unless it is bytes. `hang`: never answers. `cut`: the connection breaks."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: bool = False


@dataclass
class Heard:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    peer: Any  # the client's address and port: one per connection

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Capture:
    """Answers with the first of `answers` (the last one for ever); keeps what it heard."""

    def __init__(self) -> None:
        self.answers: list[Any] = [Said(body={})]
        self.heard: list[Heard] = []
        self.arrived = asyncio.Event()  # the first request has come
        self.release = asyncio.Event()
        self.delay = 0.0  # seconds before each answer
        self.at_once = self.most_at_once = 0
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self.server = TestServer(app)

    def say(self, *answers: Any) -> None:
        """`Said`, or a function of `Heard` that gives one."""
        self.answers = list(answers)

    def said(self, status: int = 200, body: Any = None, **more: Any) -> Said:
        return Said(status, body, **more)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            return await self._play(request)
        finally:
            self.at_once -= 1

    async def _play(self, request: web.Request) -> web.Response:
        heard = Heard(
            request.method,
            request.path,
            {k.lower(): v for k, v in request.headers.items()},
            dict(request.query),
            await request.read(),
            request.transport.get_extra_info("peername") if request.transport else None,
        )
        self.heard.append(heard)
        self.arrived.set()
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(said):
            said = said(heard)
        if said.hang:
            await self.release.wait()
        if said.cut:
            assert request.transport is not None
            request.transport.abort()
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        kind = {} if "content-type" in said.headers else {"content-type": "application/json"}
        return web.Response(status=said.status, body=body, headers=kind | said.headers)


async def halted(process: ManagedProcess) -> None:
    """SIGSTOP, and until all of its threads have stopped: that takes a moment, in which it still answers."""
    process.signal(signal.SIGSTOP)
    async with asyncio.timeout(10):
        while not _stopped(process.pid):  # noqa: ASYNC110 # the kernel tells nobody
            await asyncio.sleep(0.005)


def _stopped(pid: int) -> bool:
    return all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir())


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"  # the thread has ended


@pytest.fixture
def halt() -> Callable[[ManagedProcess], Awaitable[None]]:
    return halted


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Workers have one loop, `firebreak up` the other: each test runs on both."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": new_loop}


@pytest.fixture
async def capture() -> AsyncIterator[Capture]:
    """A local HTTP server that keeps what it gets."""
    found = Capture()
    await found.server.start_server()
    yield found
    found.release.set()
    await found.server.close()


# Samples of the real Prometheus; constant, so that a test knows each answer.
EXPOSITION = """\
shop_value{service="pay",version="v1"} 7
shop_value{service="pay",version="v2"} 9
shop_value{service="order",version="v1"} 3
shop_other{service="pay",version="v1"} 70
shop_nan NaN
# TYPE shop_latency histogram
shop_latency_bucket{le="0.1"} 10
shop_latency_bucket{le="1"} 20
shop_latency_bucket{le="+Inf"} 30
shop_latency_sum 12
shop_latency_count 30
"""


class _Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = EXPOSITION.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the scraper has stopped meanwhile
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


async def _scraped(url: str) -> bool:
    at = datetime.now(UTC)
    async with Prometheus(url) as metrics:
        answer = await metrics.range_batch(
            [MetricQuery(key="k", expr="count_over_time(shop_nan[10s]) >= 4 and shop_latency and shop_nan offset 1s")],
            start=at,
            end=at,
            step=timedelta(seconds=1),
            timeout=timedelta(seconds=5),
        )
    return bool(answer[0].points)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A real Prometheus that has scraped EXPOSITION for at least a second."""
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), _Exporter)
    thread = threading.Thread(target=exporter.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    job = {
        "job_name": "shop",
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "convert_classic_histograms_to_nhcb": True,
        "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_address[1]}"]}],
    }

    async def start() -> PrometheusServer:
        config = json.dumps({"scrape_configs": [job]})  # JSON is YAML
        started = await start_prometheus(
            config=config, port=free_port(), run_dir=tmp_path_factory.mktemp("prometheus"), die_with_parent=True
        )
        await started.process.ready(lambda: _scraped(started.url), limit=timedelta(seconds=30))
        return started

    try:
        server = asyncio.run(start())
        yield server
        asyncio.run(server.stop())
    finally:
        exporter.shutdown()
        thread.join()
        exporter.server_close()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with one fake node and a user `nobody` without any right."""
    run_dir = tmp_path_factory.mktemp("kubernetes")
    plane = asyncio.run(
        start_control_plane(run_dir=run_dir, nodes=1, users=(KubeUser("nobody"),), die_with_parent=True)
    )
    yield plane
    asyncio.run(plane.stop())

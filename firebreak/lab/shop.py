"""The shop's process: real HTTP on loopback for every pod, a steady load, probes, metrics, the route controller.

`python -m firebreak.lab.shop CONFIG.json`. What it knows of the world comes through the Kubernetes API; only which
fault is on comes from the lab, by POST /control. One listening port per Service; the pod is picked behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from firebreak.domain.errors import ContractError
from firebreak.lab.faults import fault_named
from firebreak.lab.kube import KubeAccess, KubeClient
from firebreak.lab.meters import Meters
from firebreak.lab.model import GAVE_UP, NO_POD, OK, ActiveFault, Dice, after_callee, answer, probe
from firebreak.lab.shape import FLOW_RATE, FLOWS, PATIENCE, RECOMMEND_PATIENCE, SERVICES, callees
from firebreak.lab.watcher import Watcher

_SMOKE_CALLS = 30
_PROBE_EVERY = 1.0
_PROBE_LIMIT = 0.5  # seconds
_HANG = 30.0  # seconds after which even a hanging call is let go
_LASTED = "x-lasted"  # header of an answer: seconds that the call took

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopConfig:
    """What the process is started with: TCP ports by `<service>-<version>`, the control port, the API server."""

    ports: dict[str, int]
    control_port: int
    access: KubeAccess

    def save(self, path: Path) -> None:
        """Write it for `load`; the file holds a token."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> ShopConfig:
        """Read what `save` wrote."""
        raw = json.loads(path.read_text())
        return cls(ports=raw["ports"], control_port=raw["control_port"], access=KubeAccess(**raw["access"]))


class Shop:
    """All services of the shop over one view of the cluster."""

    def __init__(self, config: ShopConfig, watcher: Watcher, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._watcher = watcher
        self._session = session
        self._random = random.Random()
        self._calls: set[asyncio.Task[None]] = set()
        self.meters = Meters()
        self.active: ActiveFault | None = None

    async def serve(self, service: str, version: str, request: web.BaseRequest) -> web.Response:
        """One call that reached the Service `<service>-<version>`. It lasted as long as pods worked on it and waited
        for each other, by the model. By a clock it would be longer whenever a busy machine stops the one process in
        which all services are, and order's latency alert would fire while pay is at fault."""
        flow = request.path.strip("/")
        if flow == "probe":
            return await self._serve_probe(service, version)
        if flow not in FLOWS:
            return web.Response(status=404)
        code, lasted = GAVE_UP, 0.0  # when the caller goes away first, the handler is cancelled
        self.meters.began(service, version)
        try:
            code, lasted = await self._work(service, version, flow)
        finally:
            self.meters.ended(service, version, flow, code, lasted)
        return web.Response(status=code, headers={_LASTED: repr(lasted)})

    async def _work(self, service: str, version: str, flow: str) -> tuple[int, float]:
        """Code, and seconds."""
        dice = Dice(self._random.random(), self._random.random(), self._random.random())
        own = answer(self._watcher.view, self.active, service, version, dice=dice, now=time.time())
        await asyncio.sleep(_HANG if own.hangs else own.delay)
        if own.code != OK:
            return own.code, own.delay
        lasted = own.delay
        for callee in callees(service, flow, self._watcher.view.flags):
            patience = RECOMMEND_PATIENCE if callee == "recommend" else PATIENCE
            answered, seconds = await self._call(callee, flow, patience)
            lasted += seconds
            code = after_callee(service, callee, answered)
            if code != OK:
                return code, lasted
        return OK, lasted

    async def _call(self, service: str, path: str, patience: float) -> tuple[int | None, float]:
        """Status (None: no answer within `patience`), and seconds."""
        version = self._watcher.view.version_for(service, self._random.random())
        if version is None:
            return NO_POD, 0.0  # as a proxy answers for a route whose backends have no weight
        url = f"http://127.0.0.1:{self._config.ports[SERVICES[service].deployment(version)]}/{path}"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=patience)) as response:
                return response.status, float(response.headers.get(_LASTED, 0.0))
        except TimeoutError:
            return None, patience
        except aiohttp.ClientError:
            return None, 0.0

    async def _serve_probe(self, service: str, version: str) -> web.Response:
        own = probe(self._watcher.view, self.active, service, version, draw=self._random.random(), now=time.time())
        await asyncio.sleep(_HANG if own.hangs else own.delay)
        return web.Response(status=own.code)

    async def smoke(self) -> None:
        """Each version is tried before it gets customers, as a roll-out does. Without it the low buckets of a version
        start at 0 with its first traffic, where rate() extrapolates less than for the high ones (it never goes below
        zero): for a scrape or two P99 looks like that of the slow calls before."""
        for shape in SERVICES.values():
            for version in shape.versions:
                url = f"http://127.0.0.1:{self._config.ports[shape.deployment(version)]}/{FLOWS[0]}"
                for _ in range(_SMOKE_CALLS):
                    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as response:
                            await response.read()

    async def load(self) -> None:
        """Customers: each flow FLOW_RATE times a second, evenly, whatever becomes of the calls. Those of a stall, of
        one second at most, come at double speed afterwards: all at once would be a load that there never is."""
        pause = 1 / (FLOW_RATE * len(FLOWS))
        due = time.monotonic()
        number = 0
        while True:
            due = max(due + pause, time.monotonic() - 1.0)
            await asyncio.sleep(max(pause / 2, due - time.monotonic()))
            task = asyncio.create_task(self._customer(FLOWS[number % len(FLOWS)]))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            number += 1

    async def _customer(self, flow: str) -> None:
        code, _ = await self._call("edge", flow, PATIENCE)
        self.meters.flow_ended(flow, well=code == OK)

    async def probes(self) -> None:
        """Each version directly, once a second, also those without traffic."""
        targets = [(shape.name, version) for shape in SERVICES.values() for version in shape.versions]
        while True:
            await asyncio.gather(*(self._probe(*target) for target in targets), asyncio.sleep(_PROBE_EVERY))

    async def _probe(self, service: str, version: str) -> None:
        url = f"http://127.0.0.1:{self._config.ports[SERVICES[service].deployment(version)]}/probe"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_PROBE_LIMIT)) as response:
                well = response.status == OK
        except (TimeoutError, aiohttp.ClientError):
            well = False
        self.meters.probed(service, version, well=well)

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON data."""
        view, active = self._watcher.view, self.active
        on = active is not None and active.fault.active(active.since, time.time())
        return {
            "synced": self._watcher.synced.is_set(),
            "fault": active.fault.name if active is not None and on else "",
            "since": active.since if active is not None and on else None,
            "ready": {f"{service}-{version}": len(pods) for (service, version), pods in sorted(view.ready.items())},
            "weights": {service: dict(weights) for service, weights in sorted(view.weights.items())},
            "flags": dict(view.flags),
        }

    async def metrics(self, _: web.BaseRequest) -> web.Response:
        """GET /metrics"""
        return web.Response(body=self.meters.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def health(self, _: web.BaseRequest) -> web.Response:
        """GET /healthz: 200 once the cluster has been listed."""
        return web.json_response(self.state(), status=200 if self._watcher.synced.is_set() else 503)

    async def control(self, request: web.Request) -> web.Response:
        """POST /control {"fault": NAME or ""}: the fault begins now, or ends now."""
        body = await request.json()
        try:
            fault = fault_named(body["fault"]) if body["fault"] else None
        except ContractError as error:
            return web.json_response({"error": f"{error} {error.next_step()}"}, status=400)
        self.active = ActiveFault(fault, time.time()) if fault is not None else None
        log.info("fault: %s", body["fault"] or "none")
        return web.json_response(self.state())


@contextlib.asynccontextmanager
async def _listening(shop: Shop, config: ShopConfig) -> AsyncIterator[None]:
    runners: list[web.BaseRunner] = []
    try:
        for shape in SERVICES.values():
            for version in shape.versions:
                # Cancelled when the caller goes away: a hanging pod must not keep calls that nobody waits for.
                handler = partial(shop.serve, shape.name, version)
                server = web.Server(handler, handler_cancellation=True, access_log=None)
                runners.append(web.ServerRunner(server))
                await runners[-1].setup()
                await web.TCPSite(runners[-1], "127.0.0.1", config.ports[shape.deployment(version)]).start()
        app = web.Application()
        app.router.add_get("/metrics", shop.metrics)
        app.router.add_get("/healthz", shop.health)
        app.router.add_post("/control", shop.control)
        runners.append(web.AppRunner(app, access_log=None))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", config.control_port).start()
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


async def run(config: ShopConfig) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with (
        KubeClient(config.access) as client,
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
    ):
        watcher = Watcher(client)
        shop = Shop(config, watcher, session)
        async with _listening(shop, config):
            watching = asyncio.create_task(watcher.run())
            stopping = asyncio.create_task(ended.wait())
            synced = asyncio.create_task(watcher.synced.wait())
            await asyncio.wait((watching, stopping, synced), return_when=asyncio.FIRST_COMPLETED)
            tasks = [watching]
            if synced.done():
                await shop.smoke()
                tasks += map(asyncio.create_task, (shop.load(), shop.probes()))
            # Whichever part ends first ends the shop: half a shop would look like a fault.
            done, _ = await asyncio.wait((*tasks, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, stopping, synced):
                task.cancel()
            for task in done - {stopping}:
                task.result()


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(run(ShopConfig.load(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()

"""A lab, an engine whose calls to the API server go through a proxy of ours, and what the API server's audit log says.

Alerts are posted to the gateway. One that says `business_impact: blocked` is trusted by the policy: the engine acts on
it at once, and `drill` names the runbook, so that each action is the first thing that is done. The shop itself is well,
and verification passes.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web

from firebreak.cli.game_day import EngineProcess
from firebreak.domain.alert import Disposition
from firebreak.domain.codec import format_time
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab import control
from firebreak.lab.lab import Lab, start_lab
from firebreak.lab.manifests import ENGINE_USER
from firebreak.processes import ready_file
from firebreak.servers.process import free_port
from firebreak.servers.registry import Registry
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore

_RUNBOOK = """
kind: runbook
name: drill-%(name)s
summary: The first thing that is done is %(action)s.
match: {severity: P1, labels: {drill: %(name)s}, params: [route, flags]}
durations: {window: 3s, step: 1s, stale_after: 5s}
conditions:
  carries_traffic:
    title: calls per second
    dimension: health
    query: sum(rate(http_requests_total{service=$service}[$window]))
    op: ">"
    threshold: 1
    inputs: ['http_requests_total{service=$service}']
%(more)sevidence: [pods]
hold: 1s
recovery: [carries_traffic]
tiers:
  - name: act
    steps:
      - id: act
        action: %(action)s
        params: %(params)s
        check: action
        verify: {conditions: [%(verified)s], hold: 1s, within: %(within)s, poll: 250ms}
        %(after)s
  - name: page
    steps: [{id: call-a-person, action: page}]
"""

_LASTING = "undo: action\n        restore: {conditions: [never], hold: 1s, within: 24h, poll: 1m}"
_NOT_UNDONE = "undo: none\n        undo_reason: none is due"
_NEVER = """  never:  # a restore would be a second write
    title: probes that nobody has
    dimension: health
    query: sum(probe_success{service=$service})
    op: ">"
    threshold: 1000000
    inputs: ['probe_success{service=$service}']
"""
_WELL = """  well:
    title: probes that have an answer, be it a bad one
    dimension: health
    query: count(probe_success{service=$service})
    op: ">"
    threshold: 0
    inputs: ['probe_success{service=$service}']
"""
_NEVER_WELL = """  floods:
    title: more calls per second than the shop has
    dimension: health
    query: sum(rate(http_requests_total{service=$service}[$window]))
    op: ">"
    threshold: 1000000
    inputs: ['http_requests_total{service=$service}']
"""
_RESTORED = "undo: action\n        restore: {conditions: [well], hold: 1s, within: 1h, poll: 1s}"
_HEALS = {"verified": "carries_traffic", "within": "20s"}
_DOES_NOT_HEAL = {"verified": "floods", "within": "2s", "more": _NEVER + _NEVER_WELL}
_SHIFT = {
    "action": "shift_traffic",
    "params": "{route: $route, away_from: $workload}",
    "after": _LASTING,
    "more": _NEVER,
}
_FLAG = {
    "action": "set_flag",
    "params": '{config_map: $flags, key: recommend.enabled, value: "false"}',
    "after": _LASTING,
    "more": _NEVER,
}
_DRILLS: Mapping[str, Mapping[str, str]] = {
    "restart": {"action": "restart_workload", "params": "{}", "after": _NOT_UNDONE, "more": "", **_HEALS},
    "shift": {**_SHIFT, **_HEALS},
    "flag": {**_FLAG, **_HEALS},
    "shift-restored": {**_SHIFT, **_HEALS, "after": _RESTORED, "more": _WELL},
    "flag-restored": {**_FLAG, **_HEALS, "after": _RESTORED, "more": _WELL},
    "shift-undone": {**_SHIFT, **_DOES_NOT_HEAL},
    "flag-undone": {**_FLAG, **_DOES_NOT_HEAL},
}

Seen = Callable[[Sequence[TimelineEntry]], bool]


@dataclass(frozen=True)
class Call:
    """One call of the engine to the API server, while the proxy holds it."""

    method: str
    path: str
    dry_run: bool

    @property
    def writes(self) -> bool:
        return self.method == "PATCH" and not self.dry_run


Hook = Callable[[Call], Awaitable[bool]]


@dataclass
class Proxy:
    """Forwards to the API server. `before` is asked about each call before it is forwarded, `after` when the API server
    has answered and before the engine hears it; True cuts the connection instead of going on."""

    target: str
    ca_file: Path
    port: int = field(default_factory=free_port)
    before: Hook | None = None
    after: Hook | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{tail:.*}", self._forward)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", self.port).start()
                yield self
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        call = Call(request.method, request.path, "dryRun=All" in request.query_string)
        body = await request.read()
        if self.before is not None and await self.before(call):
            return self._cut(request)
        kept = ("Authorization", "Content-Type", "Accept")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        url = self.target + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            content = await answer.read()
        if self.after is not None and await self.after(call):
            return self._cut(request)
        kind = answer.headers.get("Content-Type", "application/json")
        return web.Response(status=answer.status, body=content, headers={"Content-Type": kind})

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


@dataclass(kw_only=True)
class Drill:
    """A lab with its proxy; what tests do to the engine, and what they read about it."""

    lab: Lab
    proxy: Proxy
    settings: Mapping[str, str]
    log_dir: Path
    gateway_url: str = ""
    _number: int = 0

    @asynccontextmanager
    async def engine(self, name: str, **settings: str) -> AsyncIterator[EngineProcess]:
        """`firebreak up` on a data directory called `name` (a second start goes on with it). Its port is not the one
        that the lab's Alertmanager calls: a slow machine's own alerts are no part of a drill."""
        port = free_port()
        self.gateway_url = f"http://127.0.0.1:{port}"
        own = {
            "FIREBREAK_DATA_DIR": str(self.lab.state.lab_dir / f"engine-{name}"),
            "FIREBREAK_GATEWAY_PORT": str(port),
        }
        given = {**self.lab.state.engine, **self.settings, **own, **settings}
        self._number += 1
        home = self.log_dir / f"{name}-{self._number}"  # each start has a log of its own
        home.mkdir()
        engine = await EngineProcess.start(
            replace(self.lab.state, lab_dir=home, gateway_url=self.gateway_url, engine=given)
        )
        try:
            yield engine
        finally:
            await engine.stop()

    # --- alerts ---

    def alert(self, service: str, deployment: str, **labels: str) -> dict[str, Any]:
        """A fresh firing alert, in Alertmanager's own form."""
        self._number += 1
        named = {"alertname": f"Drill{self._number}", "severity": "critical", "cluster": "lab", "service": service}
        return {
            "status": "firing",
            "labels": {**named, "deployment": deployment, **labels},
            "annotations": {"summary": "a drill"},
            "startsAt": format_time(datetime.now(UTC)),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": f"{self._number:016x}",
        }

    def blocked(self, drill: str) -> dict[str, Any]:
        """An alert on which the runbook `drill` is carried out at once."""
        service, deployment = ("order", "order-v1") if drill.startswith("flag") else ("pay", "pay-v1")
        return self.alert(service, deployment, business_impact="blocked", drill=drill)

    def resolved(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        return {**alert, "status": "resolved", "endsAt": format_time(datetime.now(UTC))}

    async def post(self, *alerts: Mapping[str, Any]) -> list[int]:
        """Receipts of a delivery that was answered with 200; empty when it was not, or when nobody answered."""
        body = {
            "receiver": "engine",
            "status": "firing",
            "alerts": list(alerts),
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager",
            "version": "4",
            "groupKey": "{}",
            "truncatedAlerts": 0,
        }
        headers = {"Authorization": f"Bearer {self.lab.state.engine['FIREBREAK_WEBHOOK_TOKEN']}"}
        limits = aiohttp.ClientTimeout(total=10)
        url = f"{self.gateway_url}/v1/alerts/alertmanager"
        try:
            async with (
                aiohttp.ClientSession(timeout=limits) as session,
                session.post(url, json=body, headers=headers) as answer,
            ):
                said = await answer.json()
                return list(said["receipts"]) if answer.status == 200 else []
        except (aiohttp.ClientError, TimeoutError, OSError):
            return []

    async def healed(self) -> None:
        """The lab as at its start, and no hook any more."""
        self.proxy.before = self.proxy.after = None
        await control.heal(self.lab.state)

    # --- the engine's processes ---

    def pid(self, engine: EngineProcess, role: str) -> int:
        """Of `p1`, `other`, `gateway`, as they have said that they are ready."""
        return int(ready_file(engine.data_dir, role).read_text().split()[0])

    def child(self, engine: EngineProcess, name: str) -> int:
        """Pid of a child by its name in the registry (`temporal`, `gateway`, `p1`, `other`); 0 while there is none."""
        known = Registry(engine.data_dir / "run").entries()
        return next((e.pid for e in reversed(known) if e.name == name), 0)

    def kill(self, pid: int, number: int) -> None:
        os.kill(pid, number)

    # --- the record ---

    async def entries(self, engine: EngineProcess, incident_id: str) -> tuple[TimelineEntry, ...]:
        async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
            return await store.entries(incident_id)

    async def incidents(self, engine: EngineProcess) -> list[str]:
        """Ids, oldest first."""
        async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
            return [row.id for row in reversed(await store.rows(limit=10_000))]

    async def chain_is_good(self, engine: EngineProcess) -> None:
        """ChainBroken when it is not."""
        async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
            await store.verify()

    async def disposition(self, engine: EngineProcess, receipt: int) -> tuple[Disposition, str] | None:
        async with await InboxStore.open(engine.data_dir / INBOX_FILE, read_only=True) as inbox:
            return await inbox.disposition(receipt)

    async def incident_of(self, engine: EngineProcess, receipt: int) -> str:
        """The incident that a delivery opened or joined."""
        found = ""

        async def settled() -> bool:
            nonlocal found
            ended = await self.disposition(engine, receipt)
            found = "" if ended is None else ended[1]
            return bool(found)

        await self.until(settled, f"a disposition of receipt {receipt}")
        return found

    async def record(
        self, engine: EngineProcess, incident_id: str, until: Seen, what: str
    ) -> tuple[TimelineEntry, ...]:
        """Its entries, once they are as `until` wants them."""
        entries: tuple[TimelineEntry, ...] = ()

        async def seen() -> bool:
            nonlocal entries
            entries = await self.entries(engine, incident_id)
            return until(entries)

        await self.until(seen, what)
        return entries

    async def closed(self, engine: EngineProcess, incident_id: str) -> tuple[TimelineEntry, ...]:
        return await self.record(
            engine, incident_id, lambda seen: any(e.kind is EntryKind.INCIDENT_CLOSED for e in seen), "the close"
        )

    async def until(self, check: Callable[[], Awaitable[bool]], what: str, seconds: float = 90) -> None:
        """Looks every 0.1 s; AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while not await check():
            assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
            await asyncio.sleep(0.1)

    # --- outside the engine ---

    def audit_size(self) -> int:
        return Path(self.lab.state.audit_log).stat().st_size

    def attempts(self, since: int) -> list[Mapping[str, Any]]:
        """Audit events of all writes that the engine's user asked for, dry runs left out."""
        with open(self.lab.state.audit_log, "rb") as handle:
            handle.seek(since)
            events = [json.loads(line) for line in handle]
        mine = (e for e in events if e["user"]["username"] == ENGINE_USER)
        return [e for e in mine if "dryRun=All" not in e["requestURI"] and e["verb"] not in ("get", "list", "watch")]

    def writes(self, since: int) -> list[Mapping[str, Any]]:
        """Those that the API server took and that changed the object."""
        return [
            event
            for event in self.attempts(since)
            if event["responseStatus"]["code"] == 200
            and event["requestObject"]["metadata"]["resourceVersion"]
            != event["responseObject"]["metadata"]["resourceVersion"]
        ]

    def high_pages(self, incident_id: str) -> list[Mapping[str, Any]]:
        """High-urgency triggers about an incident that the pager took."""
        return [
            call
            for call in self.lab.pagerduty.log
            if call["accepted"]
            and call["request"]["dedup_key"] == f"{incident_id}-page"
            and call["request"]["event_action"] == "trigger"
            and call["request"]["payload"]["severity"] == "critical"
        ]

    async def paged(self, incident_id: str, seconds: float = 90) -> Mapping[str, Any]:
        async def rang() -> bool:
            return bool(self.high_pages(incident_id))

        await self.until(rang, f"a page about {incident_id}", seconds)
        return self.high_pages(incident_id)[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: Any) -> AsyncIterator[Lab]:
    """One lab for the tests of a module; its stand-ins run in the module's event loop."""
    started = await start_lab(tmp_path_factory.mktemp("faults") / "lab", die_with_parent=True)
    try:
        yield started
    finally:
        await started.stop()


def _documents(lab: Lab, proxy: Proxy, tmp_path: Path) -> dict[str, str]:
    """Settings that name a catalog of drills, a quicker policy, and a kubeconfig that leads to the proxy."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    for name, one in _DRILLS.items():
        (catalog / f"{name}.yaml").write_text(_RUNBOOK % {"name": name, **one})
    policy = (lab.state.lab_dir / "policy.yaml").read_text()
    for old, new in (("quiet: 3s", "quiet: 1s"), ("watch: 30s", "watch: 3s"), ("doubt: 10s", "doubt: 3s")):
        assert old in policy
        policy = policy.replace(old, new)
    (tmp_path / "policy.yaml").write_text(policy)
    kubeconfig = json.loads(Path(lab.state.engine["FIREBREAK_KUBECONFIG"]).read_text())
    kubeconfig["clusters"][0]["cluster"] = {"server": proxy.url}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    return {
        "FIREBREAK_CATALOG": str(catalog),
        "FIREBREAK_POLICY": str(tmp_path / "policy.yaml"),
        "FIREBREAK_KUBECONFIG": str(tmp_path / "kubeconfig"),
    }


@asynccontextmanager
async def drilling(lab: Lab, folder: Path) -> AsyncIterator[Drill]:
    """The lab with a fresh proxy and documents of its own."""
    proxy = Proxy(lab.state.admin.url, Path(lab.state.admin.ca_file))
    async with proxy.running():
        yield Drill(lab=lab, proxy=proxy, settings=_documents(lab, proxy, folder), log_dir=folder)


@pytest_asyncio.fixture(loop_scope="module")
async def drill(lab: Lab, tmp_path: Path) -> AsyncIterator[Drill]:
    """Of one test, which leaves the lab as it was at its start."""
    async with drilling(lab, tmp_path) as made:
        yield made
    await control.heal(lab.state)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def long_drill(lab: Lab, tmp_path_factory: Any) -> AsyncIterator[Drill]:
    """Of all tests of a module whose engine goes on from one to the next; each of them ends with `healed`."""
    async with drilling(lab, tmp_path_factory.mktemp("long")) as made:
        yield made

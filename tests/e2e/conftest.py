"""A whole lab, the engine as its users run it, and oracles outside the engine: what the API server, the pager and the
chat have in their own logs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest_asyncio

from firebreak.cli.game_day import EngineProcess
from firebreak.domain.condition import Dimension
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab import control
from firebreak.lab.lab import Lab, start_lab
from firebreak.lab.manifests import ENGINE_USER
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore


@dataclass(frozen=True)
class Marks:
    """How long each log was at a moment."""

    audit: int
    pager: int
    chat: int


@dataclass(kw_only=True)
class World:
    """One lab, with what its parts themselves say about an incident."""

    lab: Lab

    def marks(self) -> Marks:
        """Now; what comes later is read with it."""
        audit = Path(self.lab.state.audit_log).stat().st_size
        return Marks(audit, len(self.lab.pagerduty.log), len(self.lab.slack.log))

    def writes(self, since: Marks) -> list[tuple[str, str]]:
        """(resource, name) of every write of the engine's user that the API server took, from its audit log. A dry run
        is none; a refused one fails the test: the engine must not even try what it may not do."""
        with open(self.lab.state.audit_log, "rb") as handle:
            handle.seek(since.audit)
            events = [json.loads(line) for line in handle]
        writes = []
        for event in events:
            if event["user"]["username"] != ENGINE_USER or "dryRun=All" in event["requestURI"]:
                continue
            about = event["objectRef"]
            assert event["verb"] == "patch", event
            assert event["responseStatus"]["code"] == 200, event
            writes.append((about["resource"], about["name"]))
        return writes

    def pages(self, since: Marks, incident_id: str) -> list[tuple[str, str, str]]:
        """(trigger | resolve, severity or empty, dedup key without the incident) in order, from the pager's log."""
        found = []
        for call in self.lab.pagerduty.log[since.pager :]:
            assert call["accepted"], call
            event = call["request"]
            key = event["dedup_key"]
            if key.startswith(incident_id):
                severity = event.get("payload", {}).get("severity", "")
                found.append((event["event_action"], severity, key.removeprefix(f"{incident_id}-")))
        return found

    def posts(self, since: Marks, incident_id: str) -> list[tuple[str, str, str, str]]:
        """(key of the message, channel, thread, own ts) of each message about the incident, from the chat's log."""
        found = []
        for call in self.lab.slack.log[since.chat :]:
            assert call["accepted"], call
            if call["method"] != "chat.postMessage":
                continue
            given = call["request"]
            dedup = given["metadata"]["event_payload"]["dedup"]
            if dedup.startswith(f"{incident_id}/"):
                key = dedup.removeprefix(f"{incident_id}/")
                found.append((key, given["channel"], given.get("thread_ts", ""), call["response"]["ts"]))
        return found

    def entries_by_key(self, entries: tuple[TimelineEntry, ...]) -> dict[str, TimelineEntry]:
        return {entry.key: entry for entry in entries}

    @asynccontextmanager
    async def engine(self, name: str, **settings: str) -> AsyncIterator[EngineProcess]:
        """`firebreak up` with a data directory of its own and `settings` on top of the lab's."""
        data_dir = self.lab.state.lab_dir / f"engine-{name}"
        given = {**self.lab.state.engine, "FIREBREAK_DATA_DIR": str(data_dir), **settings}
        home = self.lab.state.lab_dir / f"home-{name}"  # each engine has a log of its own
        home.mkdir()
        engine = await EngineProcess.start(replace(self.lab.state, lab_dir=home, engine=given))
        try:
            yield engine
        finally:
            await engine.stop()

    async def firebreak(self, engine: EngineProcess, *words: str) -> tuple[int, str, str]:
        """A verb as a person types it: exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "firebreak",
            *words,
            "--data-dir",
            str(engine.data_dir),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def entries(self, engine: EngineProcess, incident_id: str) -> tuple[TimelineEntry, ...]:
        async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
            return await store.entries(incident_id)

    async def incident(self, engine: EngineProcess, until: Callable[[list[TimelineEntry]], bool]) -> str:
        """Id of the engine's first incident, once its entries are as `until` wants them."""
        found, entries = "", list[TimelineEntry]()

        async def seen() -> bool:
            nonlocal found, entries
            async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
                rows = await store.rows(limit=1000)
                found = rows[-1].id if rows else ""
                entries = list(await store.entries(found)) if found else []
                return bool(found) and until(entries)

        try:
            await self.until(seen, "the incident")
        except AssertionError as error:
            raise AssertionError(f"{error}; {found}: {[e.key for e in entries]}") from None
        return found

    async def alert(self, engine: EngineProcess, **labels: str) -> int:
        """A firing alert that somebody else's Alertmanager sends: the gateway's status."""
        now = datetime.now(UTC).isoformat()
        alert = {"status": "firing", "labels": {"severity": "critical", "cluster": "lab", **labels}, "startsAt": now}
        headers = {"Authorization": f"Bearer {self.lab.state.engine['FIREBREAK_WEBHOOK_TOKEN']}"}
        async with aiohttp.ClientSession() as session:
            url = f"{engine.state.gateway_url}/v1/alerts/alertmanager"
            async with session.post(url, json={"version": "4", "alerts": [alert]}, headers=headers) as answer:
                return answer.status

    async def told(self, engine: EngineProcess, service: str, kind: EntryKind) -> tuple[TimelineEntry, ...]:
        """Entries of the incident about `service`, once one of them is of `kind`."""
        entries: tuple[TimelineEntry, ...] = ()

        async def seen() -> bool:
            nonlocal entries
            async with await TimelineStore.open(engine.data_dir / TIMELINE_FILE, read_only=True) as store:
                found = [row.id for row in await store.rows(limit=1000) if row.service == service]
                entries = await store.entries(found[0]) if found else ()
            return any(entry.kind is kind for entry in entries)

        await self.until(seen, f"{kind.value} about {service}")
        return entries

    async def tripped(self, entries: tuple[TimelineEntry, ...]) -> set[Dimension]:
        """Dimensions in which a condition of the verdict compared at any moment of the incident, by Prometheus itself:
        a look is made at one moment, and what a fault does comes and goes. The health score is no query."""
        judged = next(e.body["verdict"]["conditions"] for e in entries if e.kind is EntryKind.VERDICT_REACHED)
        span = {"start": entries[0].at.timestamp() - 2, "end": entries[-1].at.timestamp(), "step": 0.2}
        found = set()
        for result in judged:
            if result["query"].startswith("label ") or ";" in result["query"]:
                continue
            query = {"query": f"({result['query']}) {result['threshold']}", **span}
            _, answer = await control.fetch(
                "GET", f"{self.lab.state.prometheus_url}/api/v1/query_range?{urlencode(query)}"
            )
            if answer["data"]["result"]:
                found.add(Dimension(result["dimension"]))
        return found

    async def until(self, check: Callable[[], Awaitable[bool]], what: str, seconds: float = 90) -> None:
        """Looks every 0.1 s; AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while not await check():
            assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
            await asyncio.sleep(0.1)

    def kinds(self, entries: tuple[TimelineEntry, ...]) -> list[EntryKind]:
        return [entry.kind for entry in entries]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: Any) -> AsyncIterator[World]:
    """One lab for all these tests; its stand-ins run in their event loop."""
    lab = await start_lab(tmp_path_factory.mktemp("e2e") / "lab", die_with_parent=True)
    try:
        yield World(lab=lab)
    finally:
        await lab.stop()

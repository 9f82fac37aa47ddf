"""The real tuned Temporal server, real stores on a temporary directory, and alerts as the gateway accepts them."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.actions import specs
from activities.casebook import Casebook
from activities.rulebook import Rulebook, RulebookPaths
from firebreak.domain import ids
from firebreak.domain.alert import Alert, AlertStatus, Disposition, IntakeClass
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.clock import SystemClock
from firebreak.engine.dispatcher import Dispatcher
from firebreak.engine.parts import DispatcherParts
from firebreak.locator import runbooks_dir
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore
from firebreak.triage.intake import intake_class
from workflows.converter import DATA_CONVERTER


async def until(look: Callable[[], Awaitable[bool]], limit: float = 30) -> None:
    """Wait for a condition of another process."""
    async with asyncio.timeout(limit):
        while not await look():  # noqa: ASYNC110 # the condition is another process's
            await asyncio.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture(scope="session")
def empty_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated stores without content, to copy: migrating them for each test takes longer than the test."""
    folder = tmp_path_factory.mktemp("empty")
    TimelineStore.database(folder / TIMELINE_FILE).prepare()
    InboxStore.database(folder / INBOX_FILE).prepare()
    return folder


@dataclass
class Pager:
    """A pager that takes everything."""

    url: str
    got: list[Mapping[str, Any]]


@pytest.fixture
async def pager() -> AsyncIterator[Pager]:
    got: list[Mapping[str, Any]] = []

    async def enqueue(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.json_response({"status": "success", "dedup_key": "k"}, status=202)

    app = web.Application()
    app.router.add_post("/v2/enqueue", enqueue)
    server = TestServer(app)
    await server.start_server()
    try:
        yield Pager(url=f"http://127.0.0.1:{server.port}", got=got)
    finally:
        await server.close()


class Away:
    """A Temporal client whose server is not there for the first `times` starts."""

    def __init__(self, client: Client, times: int) -> None:
        self._client = client
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def start_workflow(self, *args: Any, **kwargs: Any) -> Any:
        if self.left:
            self.left -= 1
            raise RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
        return await self._client.start_workflow(*args, **kwargs)


@dataclass
class Office:
    """A dispatcher's surroundings. Workflows are started but not run: no worker listens to `queue`."""

    client: Client
    queue: str
    folder: Path
    documents: Path
    store: TimelineStore
    inbox: InboxStore
    rulebook: Rulebook
    parts: DispatcherParts
    foreseen: list[Incident]
    away: Callable[[int], Away] = field(init=False)

    def __post_init__(self) -> None:
        self.away = lambda times: Away(self.client, times)

    @staticmethod
    def fresh_id() -> str:
        """An incident's id that no other test has: they share one Temporal server, which knows every workflow of it."""
        return f"inc-20261121-083644-{uuid.uuid4().hex[:8]}"

    async def asked_to_close(self, incident_id: str) -> None:
        """What `firebreak close` writes."""
        wish = EntryDraft(
            incident_id=incident_id,
            key="close-requested",
            kind=EntryKind.CLOSE_REQUESTED,
            at=datetime.now(UTC),
            actor="person:ada",
            body={"reason": "false alarm", "by": "ada"},
        )
        await self.store.append([wish])

    def alert(
        self, name: str = "PayDown", *, resolved: bool = False, start: datetime | None = None, **labels: str
    ) -> Alert:
        said = {
            "alertname": name,
            "severity": "critical",
            "cluster": "lab",
            "service": "pay",
            "deployment": "pay-v1",
            "test": self.queue,  # an incident's id comes from its alert and the second: tests share one Temporal
            **labels,
        }
        return Alert(
            fingerprint=ids.label_fingerprint(said),
            status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
            labels=said,
            starts_at=datetime(2026, 11, 21, 9, tzinfo=UTC),
            ends_at=datetime(2026, 11, 21, 9, 30, tzinfo=UTC) if resolved else None,
        )

    async def accept(self, *alerts: Alert, truncated: int = 0) -> tuple[int, ...]:
        """As the gateway does it, from a body that left `truncated` alerts out."""
        return await self.inbox.accept(
            [(alert, intake_class(alert.labels)) for alert in alerts],
            source="alertmanager",
            truncated=truncated,
            accepted_at=datetime.now(UTC),
        )

    @asynccontextmanager
    async def dispatching(self, **changed: Any) -> AsyncIterator[Dispatcher]:
        """A dispatcher at work."""
        stop = asyncio.Event()
        dispatcher = Dispatcher(replace(self.parts, **changed))
        running = asyncio.create_task(dispatcher.run(stop))
        try:
            yield dispatcher
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)

    async def settled(self, *receipts: int) -> list[tuple[Disposition, str]]:
        """How these deliveries ended, once all of them have."""

        async def all_of_them() -> bool:
            return all([await self.inbox.disposition(r) is not None for r in receipts])

        await until(all_of_them)
        return [found for r in receipts if (found := await self.inbox.disposition(r)) is not None]

    async def events(self, workflow_id: str) -> list[str]:
        """Names of the workflow's events; signals by their name. Empty when there is no such workflow."""
        try:
            history = await self.client.get_workflow_handle(workflow_id).fetch_history()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise
        signalled = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        return [
            event.workflow_execution_signaled_event_attributes.signal_name
            if event.event_type == signalled
            else EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
            for event in history.events
        ]

    async def signals(self, incident_id: str) -> list[str]:
        return [name for name in await self.events(ids.incident_workflow_id(incident_id)) if name.islower()]


@pytest.fixture
async def office(tmp_path: Path, temporal_address: str, empty_stores: Path) -> AsyncIterator[Office]:
    for name in (TIMELINE_FILE, INBOX_FILE):
        shutil.copy(empty_stores / name, tmp_path / name)
    documents = tmp_path / "runbooks"
    shutil.copytree(runbooks_dir(), documents)
    client = await Client.connect(temporal_address, data_converter=DATA_CONVERTER)
    queue = f"q-{uuid.uuid4()}"
    foreseen: list[Incident] = []

    async def foresee(incident: Incident) -> None:
        foreseen.append(incident)

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await TimelineStore.open(tmp_path / TIMELINE_FILE))
        inbox = await stack.enter_async_context(await InboxStore.open(tmp_path / INBOX_FILE))
        paths = RulebookPaths(
            catalog=documents / "catalog",
            severity=documents / "severity" / "p1.yaml",
            policy=documents / "policies" / "default.yaml",
            services=documents / "services.yaml",
        )
        rulebook = Rulebook(paths, cluster="lab", specs=specs())
        parts = DispatcherParts(
            client=client,
            queue=queue,
            intake_class=IntakeClass.P1_CANDIDATE,
            inbox=inbox,
            ledger=store,
            incidents=store,
            casebook=Casebook(store, store),
            rulebook=rulebook,
            clock=SystemClock(),
            data_dir=tmp_path,
            mode=Mode.ACT,
            foresee=foresee,
        )
        yield Office(client, queue, tmp_path, documents, store, inbox, rulebook, parts, foreseen)


class SetClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, 9, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def store(tmp_path: Path, empty_stores: Path) -> AsyncIterator[TimelineStore]:
    shutil.copy(empty_stores / TIMELINE_FILE, tmp_path / TIMELINE_FILE)
    async with await TimelineStore.open(tmp_path / TIMELINE_FILE) as opened:
        yield opened


@pytest.fixture
async def inbox(tmp_path: Path, empty_stores: Path) -> AsyncIterator[InboxStore]:
    shutil.copy(empty_stores / INBOX_FILE, tmp_path / INBOX_FILE)
    async with await InboxStore.open(tmp_path / INBOX_FILE) as opened:
        yield opened

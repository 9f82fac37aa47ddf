"""A Temporal that lost its data under workers that go on: what is open gets its workflow again, nothing else does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import Disposition
from firebreak.domain.incident import Incident, IncidentOutcome
from firebreak.domain.message import Channel, PagerAction
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.starts import Starts
from firebreak.engine.sweeper import Sweeper
from firebreak.engine.temporal import WorkflowState, workflow_health
from firebreak.servers.process import free_port
from firebreak.servers.temporal import TemporalServer, start_temporal
from workflows.converter import DATA_CONVERTER

pytestmark = pytest.mark.servers

Eventually = Callable[..., Awaitable[None]]
LIMIT = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each round of the sweeper, also at what is young."""
    monkeypatch.setattr("firebreak.engine.sweeper.LOOK_AT_WORKFLOWS", 0.0)
    monkeypatch.setattr("firebreak.engine.sweeper.YOUNG", timedelta(0))


@dataclass
class OwnTemporal:
    """A server of these tests' own, at an address that stays."""

    server: TemporalServer

    async def client(self) -> Client:
        return await Client.connect(self.server.address, data_converter=DATA_CONVERTER)

    async def lose_its_data(self) -> None:
        """kill -9, no file is left, and it is there again."""
        self.server.process.kill()
        assert await self.server.process.exited(LIMIT)
        for file in self.server.db_file.parent.glob(f"{self.server.db_file.name}*"):
            file.unlink()
        self.server.process.start_again()
        await self.server.ready()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnTemporal]:
    run_dir: Path = tmp_path_factory.mktemp("own")
    db_file = run_dir / "data" / "t.sqlite"
    server = asyncio.run(start_temporal(db_file=db_file, port=free_port(), run_dir=run_dir, die_with_parent=True))
    yield OwnTemporal(server)
    asyncio.run(server.stop())


def promise(incident_id: str) -> RestoreRecord:
    span = timedelta(minutes=1)
    return RestoreRecord(
        incident_id=incident_id,
        tier=1,
        step=0,
        plan_digest="d",
        opened_at=datetime.now(UTC),
        restore=Restore(conditions=(), hold=span, within=span, poll=span),
    )


async def opened_only(office: Any, eventually: Eventually) -> str:
    """An open incident of which Temporal never heard."""
    await office.accept(office.alert())
    async with office.dispatching(client=office.away(1_000_000)):

        async def opened() -> bool:
            return bool(await office.store.open_incidents())

        await eventually(opened)
    (incident,) = await office.store.open_incidents()
    return str(incident.id)


async def test_an_open_incident_gets_a_workflow_again(office: Any, own: OwnTemporal, eventually: Eventually) -> None:
    """By the worker that had started it before: it need not be started again for that."""
    client = await own.client()
    async with office.dispatching(client=client):
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        story = ids.incident_workflow_id(incident_id)

        async def runs() -> bool:
            return (await workflow_health(client, story, office.queue)).state is WorkflowState.ALIVE

        assert await runs()
        await own.lose_its_data()
        await eventually(runs)


async def test_an_open_promise_gets_a_workflow_again(office: Any, own: OwnTemporal, eventually: Eventually) -> None:
    """Else a step would be taken back by nobody until its time limit pages."""
    client, record = await own.client(), promise(office.fresh_id())
    await office.store.append([], restores=[record])
    watched = ids.restore_workflow_id(record.incident_id, record.tier, record.step)

    async def runs() -> bool:
        return (await workflow_health(client, watched, office.queue)).state is WorkflowState.ALIVE

    async with office.dispatching(client=client):
        await eventually(runs)
        await own.lose_its_data()
        await eventually(runs)


async def test_an_incident_with_a_close_on_its_way_gets_none(office: Any, eventually: Eventually) -> None:
    """The sweeper's next round writes its end."""
    incident_id = await opened_only(office, eventually)
    await office.asked_to_close(incident_id)
    await Sweeper(office.parts, Starts(office.client, office.queue))._orphans()
    assert await office.events(ids.incident_workflow_id(incident_id)) == []


async def told_of(office: Any, incident_id: str) -> None:
    """A person was told to handle it by hand, as the sweeper tells it: its workflow had ended."""
    entry, page = notices.fault(ids.orphan_record(incident_id), "workflow", "has ended", datetime.now(UTC))
    await office.store.append([entry], messages=[page])


async def test_what_a_person_was_told_to_handle_is_not_started_again(office: Any, eventually: Eventually) -> None:
    """Temporal has forgotten, after its retention, that the workflow was ended by hand: neither a look, nor a start of
    the engine, nor a repeat of the alert brings it back; a close by hand ends the incident."""
    incident_id = await opened_only(office, eventually)
    await told_of(office, incident_id)
    await Sweeper(office.parts, Starts(office.client, office.queue))._orphans()
    async with office.dispatching():
        await office.settled(*await office.accept(office.alert()))
        other = await office.accept(office.alert("OrderDown", service="order", deployment="order-v1"))
        assert [disposition for disposition, _ in await office.settled(*other)] == [Disposition.OPENED]
        assert await office.events(ids.incident_workflow_id(incident_id)) == []
        await office.asked_to_close(incident_id)

        async def closed() -> bool:
            return incident_id not in {one.id for one in await office.store.open_incidents()}

        await eventually(closed)
    assert await office.events(ids.incident_workflow_id(incident_id)) == []


@pytest.mark.parametrize("begun", [False, True])
async def test_a_promise_whose_workflow_was_ended_is_over_and_pages_once(office: Any, begun: bool) -> None:
    """It is not started again once Temporal has forgotten it; the person reads whether something may have been done."""
    incident_id = f"inc-20261121-083644-{hashlib.sha256(office.queue.encode()).hexdigest()[:8]}"
    record, starts = promise(incident_id), Starts(office.client, office.queue)
    place = record.tier, record.step
    drafts = [
        EntryDraft(
            incident_id=incident_id,
            key=ids.move_key("undo-intent", *place),
            kind=EntryKind.INTENT_RECORDED,
            at=datetime.now(UTC),
            body={},
        )
    ]
    await office.store.append(drafts if begun else [], restores=[record])
    await starts.restore(record)
    await office.client.get_workflow_handle(ids.restore_workflow_id(incident_id, *place)).terminate()
    sweeper = Sweeper(office.parts, starts)
    for _ in range(2):
        await sweeper._restores(look=True)
    assert await office.store.open_restores() == ()
    ended = await office.store.find(incident_id, ids.move_key("restore-ended", *place))
    assert ended.body["outcome"] == "abandoned"
    assert "TERMINATED" in ended.body["reason"]
    assert ended.body["begun"] is begun
    assert ("Nothing was flipped" in ended.body["reason"]) is not begun
    assert ended.body["reason"].startswith("not taken back") is not begun
    due = await office.store.due(datetime.now(UTC) + timedelta(days=1), limit=9, channel=Channel.PAGER)
    assert [(one.draft.key, one.draft.pager) for one in due] == [("pager/restore-ended/1.0", PagerAction.TRIGGER_HIGH)]


async def test_a_promise_that_has_ended_by_itself_pages_nobody(office: Any) -> None:
    """Its workflow ended with it, after the list of open ones was read."""
    incident_id = f"inc-20261121-083644-{hashlib.sha256(office.queue.encode()).hexdigest()[:8]}"
    record, starts = promise(incident_id), Starts(office.client, office.queue)
    place = record.tier, record.step
    await office.store.append([], restores=[record])
    await starts.restore(record)
    await office.client.get_workflow_handle(ids.restore_workflow_id(incident_id, *place)).terminate()
    done = EntryDraft(
        incident_id=incident_id,
        key=ids.move_key("restore-ended", *place),
        kind=EntryKind.RESTORE_ENDED,
        at=datetime.now(UTC),
        body={"outcome": "restored"},
    )
    await office.store.end_restore(place, outcome="restored", entry=done, messages=())
    await Sweeper(office.parts, starts)._watch_restore(record, look=True)
    assert await office.store.due(datetime.now(UTC) + timedelta(days=1), limit=9) == ()


class Old:
    """The incidents of the store, as they were a while ago."""

    def __init__(self, store: Any, then: tuple[Incident, ...]) -> None:
        self._store = store
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open_incidents(self) -> tuple[Incident, ...]:
        return self._then


async def test_an_incident_that_was_closed_since_the_look_began_gets_none(office: Any, eventually: Eventually) -> None:
    """The list of open incidents grows old while Temporal is asked about each."""
    incident_id = await opened_only(office, eventually)
    old = Old(office.store, await office.store.open_incidents())
    end = EntryDraft(
        incident_id=incident_id, key="close", kind=EntryKind.INCIDENT_CLOSED, at=datetime.now(UTC), body={}
    )
    await office.store.close_incident(end, IncidentOutcome.CLOSED_BY_HAND, messages=())
    await Sweeper(replace(office.parts, incidents=old), Starts(office.client, office.queue))._orphans()
    assert await office.events(ids.incident_workflow_id(incident_id)) == []


async def test_what_has_ended_is_not_started_again(office: Any, eventually: Eventually) -> None:
    """Temporal refuses it, however often it is asked: nothing that was ended by hand comes back."""
    incident_id = await opened_only(office, eventually)
    record, starts = promise(incident_id), Starts(office.client, office.queue)
    stories = (ids.incident_workflow_id(incident_id), ids.restore_workflow_id(incident_id, record.tier, record.step))
    for again in (False, True):
        await starts.incident(incident_id)
        await starts.restore(record)
        for story in stories:
            handle = office.client.get_workflow_handle(story)
            if not again:
                await handle.terminate()
                starts.forget(story)
            assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED

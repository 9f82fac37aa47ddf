"""Open incidents whose workflow cannot act any more, on the real Temporal server: a person hears of it, and a close by
hand ends them all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from firebreak.domain import ids
from firebreak.domain.alert import Disposition
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.message import Channel, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.starts import Starts
from firebreak.engine.sweeper import Sweeper
from firebreak.postmortem.notices import render_notice
from workflows.messages import CloseRequested, IncidentInput

pytestmark = pytest.mark.servers

Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Sweeper]:
    """The sweeper looks at each of its rounds, also at young incidents; one item for each look that is over."""
    seen: list[Sweeper] = []
    look = Sweeper._orphans

    async def counted(sweeper: Sweeper) -> None:
        await look(sweeper)
        seen.append(sweeper)

    monkeypatch.setattr(Sweeper, "_orphans", counted)
    monkeypatch.setattr("firebreak.engine.sweeper.LOOK_AT_WORKFLOWS", 0.0)
    monkeypatch.setattr("firebreak.engine.sweeper.YOUNG", timedelta(0))
    return seen


@pytest.fixture
def soon_wedged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two tries are reported as failed and timed out; all five would take 21 s."""
    monkeypatch.setattr("firebreak.engine.temporal.FAILED_TASKS", 2)


@workflow.defn(name="Incident", sandboxed=False)
class Wedged:
    """As a nondeterminism error or a bug in the story: each task fails, and Temporal calls it running."""

    @workflow.run
    async def run(self, given: IncidentInput) -> None:
        raise RuntimeError("a bug in the story")


@workflow.defn(name="Incident", sandboxed=False)
class Parked:
    """Takes the signal, and goes on waiting."""

    @workflow.run
    async def run(self, given: IncidentInput) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def close_requested(self, fact: CloseRequested) -> None:
        """Nothing."""


class NotEnding:
    """A Temporal client whose server refuses the first `times` terminations; `open_then` counts the open incidents at
    each try."""

    def __init__(self, office: Any, times: int) -> None:
        self._office = office
        self._times = times
        self.open_then: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._office.client, name)

    def get_workflow_handle(self, workflow_id: str) -> Any:
        handle = self._office.client.get_workflow_handle(workflow_id)
        terminate = handle.terminate

        async def refused(**kwargs: Any) -> None:
            self.open_then.append(len(await self._office.store.open_incidents()))
            if len(self.open_then) <= self._times:
                raise RPCError("no", RPCStatusCode.PERMISSION_DENIED, b"")
            await terminate(**kwargs)

        handle.terminate = refused
        return handle


def sweeper(office: Any) -> Sweeper:
    return Sweeper(office.parts, Starts(office.client, office.queue))


def at_work(office: Any, story: type) -> Worker:
    return Worker(
        office.client,
        task_queue=office.queue,
        workflows=[story],
        workflow_runner=UnsandboxedWorkflowRunner(),
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=500),
    )


def pages(office: Any) -> dict[str, str]:
    """Waiting calls about faults of the engine itself: record -> what it says."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        query = """SELECT m.incident_id, e.body FROM messages m JOIN entries e USING (incident_id)
            WHERE m.key = 'pager/fault' AND m.pager = 'trigger_high' AND m.state = 'waiting' AND e.kind = ?"""
        return dict(raw.execute(query, (EntryKind.ENGINE_FAULT.value,)).fetchall())


async def opened(office: Any) -> str:
    ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    return str(incident_id)


async def status(office: Any, incident_id: str) -> WorkflowExecutionStatus:
    seen = await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).describe()
    assert seen.status is not None
    return WorkflowExecutionStatus(seen.status)


async def tries(office: Any, incident_id: str) -> int:
    """Of the pending task, the present one included; 0 when none is pending."""
    seen = await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).describe()
    return int(seen.raw_description.pending_workflow_task.attempt)


async def two_looks_more(looks: list[Sweeper], eventually: Eventually) -> None:
    """One that begins from now on is over."""
    before = len(looks)

    async def looked() -> bool:
        return len(looks) >= before + 2

    await eventually(looked)


async def closed_by_ada(office: Any, eventually: Eventually) -> None:
    async def closed() -> bool:
        return not await office.store.open_incidents()

    await eventually(closed)
    (row,) = await office.store.rows(limit=9)
    assert row.outcome is IncidentOutcome.CLOSED_BY_HAND
    last = (await office.store.entries(row.id))[-1]
    assert (last.actor, last.body["reason"]) == ("person:ada", "false alarm")


async def test_a_workflow_on_another_task_queue_calls_a_person_once(
    office: Any, eventually: Eventually, looks: list[Sweeper]
) -> None:
    """The prefix was changed while it was open: Temporal calls it running, and no worker here gets its tasks. It is not
    ended, since it may be another engine's; whoever gets its tasks one day finds that a person has the incident."""
    async with office.dispatching():
        incident_id = await opened(office)
    async with office.dispatching(queue=f"{office.queue}-changed"):

        async def called() -> bool:
            return await office.store.find(incident_id, "person/high") is not None

        await eventually(called)
        await two_looks_more(looks, eventually)
    call = await office.store.find(incident_id, "person/high")
    assert "FIREBREAK_TASK_QUEUE_PREFIX" in call.body["reason"]
    assert f"firebreak close {incident_id}" in call.body["reason"]
    due = await office.store.due(datetime.now(UTC), limit=9, channel=Channel.PAGER)
    assert [(one.draft.incident_id, one.draft.pager) for one in due] == [(incident_id, PagerAction.TRIGGER_HIGH)]
    assert await status(office, incident_id) is WorkflowExecutionStatus.RUNNING


async def test_a_close_by_hand_ends_an_incident_whose_workflow_is_on_another_task_queue(
    office: Any, eventually: Eventually
) -> None:
    """Nobody there would ever hear of it."""
    async with office.dispatching():
        incident_id = await opened(office)
    await office.asked_to_close(incident_id)
    async with office.dispatching(queue=f"{office.queue}-changed"):
        await closed_by_ada(office, eventually)
    assert await office.signals(incident_id) == []


@pytest.mark.usefixtures("soon_wedged")
async def test_a_wedged_workflow_calls_a_person_once(office: Any, eventually: Eventually, looks: list[Sweeper]) -> None:
    """Its deadline may be taken back already: nobody else would call. The page says what is wrong and what to do. It is
    ended: a mended worker would let it go on under the person's hands, whose close then ends the incident."""
    async with at_work(office, Wedged), office.dispatching():
        incident_id = await opened(office)

        async def told() -> bool:
            return bool(pages(office))

        await eventually(told)
        assert await status(office, incident_id) is WorkflowExecutionStatus.TERMINATED
        await two_looks_more(looks, eventually)
        await office.asked_to_close(incident_id)
        await closed_by_ada(office, eventually)
    ((record, says),) = pages(office).items()
    assert record == f"orphan-{incident_id}"
    assert "is stuck, its task failed" in says
    assert f": handle it by hand, then `firebreak close {incident_id}" in says


async def test_a_few_failed_tasks_call_nobody(office: Any, eventually: Eventually, looks: list[Sweeper]) -> None:
    """Workers that were killed, or slow, at the same task: the next one does it."""
    async with at_work(office, Wedged), office.dispatching():
        incident_id = await opened(office)

        async def failed_twice() -> bool:
            return await tries(office, incident_id) >= 3

        await eventually(failed_twice)
        await two_looks_more(looks, eventually)
    assert pages(office) == {}


@pytest.mark.usefixtures("soon_wedged")
async def test_a_workflow_without_a_worker_is_not_wedged(
    office: Any, eventually: Eventually, looks: list[Sweeper]
) -> None:
    """Its task waits, in the queue of the worker that had it and then in that of all: no try is counted. A close waits
    for the worker, too."""
    async with at_work(office, Parked):
        async with office.dispatching():
            incident_id = await opened(office)
        story = ids.incident_workflow_id(incident_id)

        async def parked() -> bool:
            return "WORKFLOW_TASK_COMPLETED" in await office.events(story)

        await eventually(parked)
    await office.asked_to_close(incident_id)
    async with office.dispatching():

        async def told() -> bool:
            return bool(await office.signals(incident_id))

        await eventually(told)
        await two_looks_more(looks, eventually)
        assert await tries(office, incident_id) == 1
    assert pages(office) == {}
    assert [i.id for i in await office.store.open_incidents()] == [incident_id]
    assert await status(office, incident_id) is WorkflowExecutionStatus.RUNNING


@pytest.mark.usefixtures("soon_wedged")
async def test_a_close_by_hand_ends_a_wedged_workflow(office: Any, eventually: Eventually) -> None:
    """A signal would never be processed, and one a second would hide from us that its task fails: it is terminated, and
    the incident closed."""
    async with at_work(office, Wedged), office.dispatching():
        incident_id = await opened(office)
        await office.asked_to_close(incident_id)
        await closed_by_ada(office, eventually)
    assert await status(office, incident_id) is WorkflowExecutionStatus.TERMINATED


@pytest.mark.usefixtures("soon_wedged")
async def test_an_incident_stays_open_while_its_wedged_workflow_cannot_be_ended(
    office: Any, eventually: Eventually, looks: list[Sweeper]
) -> None:
    """Mended code could let it go on, and write after the close. It is tried again; a person is called at the second
    look, and told to end it."""
    client = NotEnding(office, times=4)
    async with at_work(office, Wedged), office.dispatching(client=client):
        incident_id = await opened(office)
        await office.asked_to_close(incident_id)
        await closed_by_ada(office, eventually)
    assert client.open_then == [1, 1, 1, 1, 1]
    ((record, says),) = pages(office).items()
    assert record == f"orphan-{incident_id}"
    assert f"terminate {ids.incident_workflow_id(incident_id)} in Temporal, handle it by hand" in says
    assert await status(office, incident_id) is WorkflowExecutionStatus.TERMINATED


async def test_a_close_by_hand_is_not_lost_with_the_workflow(office: Any, eventually: Eventually) -> None:
    """It took the signal and was ended before it acted on it: the incident is closed, without a page, and the next
    alert opens one anew."""
    async with office.dispatching():
        incident_id = await opened(office)
        await office.asked_to_close(incident_id)

        async def told() -> bool:
            return bool(await office.signals(incident_id))

        await eventually(told)
        await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
        await closed_by_ada(office, eventually)
        ((disposition, _),) = await office.settled(*await office.accept(office.alert("Another")))
    assert disposition is Disposition.OPENED
    assert pages(office) == {}


async def test_an_alert_that_joins_what_the_sweeper_closes_by_hand_is_a_page(office: Any) -> None:
    """It came after the wish, and no story was there to carry that out: the sender may not tell of it again for
    hours."""
    async with office.dispatching():
        incident_id = await opened(office)
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    await office.asked_to_close(incident_id)
    joined = EntryDraft(
        incident_id=incident_id, key="joined/x", kind=EntryKind.ALERT_JOINED, at=datetime.now(UTC), body={}
    )
    await office.store.append([joined])
    await sweeper(office)._closes()
    kinds = [entry.kind for entry in await office.store.entries(incident_id)]
    assert kinds[-2:] == [EntryKind.INCIDENT_CLOSED, EntryKind.PERSON_CALLED]
    due = await office.store.due(datetime.now(UTC), limit=9, channel=Channel.PAGER)
    assert [message.draft.pager for message in due] == [PagerAction.RESOLVE_HIGH]  # before the call, which stays
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        (state,) = raw.execute("SELECT state FROM messages WHERE key = 'pager/person/late'").fetchone()
    assert state == "waiting"


async def test_a_workflow_that_ends_with_its_close_on_the_way_calls_nobody(office: Any) -> None:
    """It ended between the two halves of one look: the next one writes the close. Without one, a person is told."""
    async with office.dispatching():
        incident_id = await opened(office)
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    await office.asked_to_close(incident_id)
    await sweeper(office)._orphans()
    assert pages(office) == {}
    async with office.dispatching():
        other = await office.settled(*await office.accept(office.alert("OrderDown", service="order")))
    await office.client.get_workflow_handle(ids.incident_workflow_id(other[0][1])).terminate()
    await sweeper(office)._orphans()
    assert set(pages(office)) == {f"orphan-{other[0][1]}"}


async def test_what_rings_of_an_incident_whose_workflow_has_ended_says_so(office: Any) -> None:
    """Its own call goes to its service, and waits for its time: nobody is told to leave it to the engine."""
    async with office.dispatching():
        incident_id = await opened(office)
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    late = datetime.now(UTC) + timedelta(minutes=2)
    (call,) = await office.store.due(late, limit=9, channel=Channel.PAGER)
    assert (call.draft.incident_id, call.draft.pager) == (incident_id, PagerAction.TRIGGER_HIGH)
    for found, told in (
        (0, "the engine has taken no step yet and still may"),
        (1, "handle it by hand; the engine does"),
    ):
        if found:
            await sweeper(office)._orphans()
        text = render_notice(call.draft.notice, await office.store.entries(incident_id), body=call.draft.body)
        assert any(line.startswith(f"Next: {told}") for line in text.lines)
    assert incident_id in {m.draft.incident_id for m in await office.store.due(late, limit=9, channel=Channel.PAGER)}


async def test_a_close_by_hand_is_told_again_while_its_incident_is_open(office: Any, eventually: Eventually) -> None:
    """At each look: what the workflow does not hear now it hears then."""
    async with office.dispatching():
        incident_id = await opened(office)
        await office.asked_to_close(incident_id)

        async def told_again() -> bool:
            return len(await office.signals(incident_id)) >= 2

        await eventually(told_again)
    assert set(await office.signals(incident_id)) == {"close_requested"}


async def test_an_open_incident_that_nobody_can_read_calls_a_person_and_is_closed_by_hand(
    office: Any, eventually: Eventually, looks: list[Sweeper]
) -> None:
    """Neither its row nor the entry that opened it says what it is: it keeps no other from its turn."""
    async with office.dispatching():
        incident_id = await opened(office)
    with closing(sqlite3.connect(office.folder / "timeline.sqlite")) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("UPDATE incidents SET data = '{'")
        raw.execute("UPDATE entries SET body = '{' WHERE key = 'opened'")

    def outcome() -> str:
        with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            query = "SELECT outcome FROM incidents WHERE id = ?"
            return str(raw.execute(query, (incident_id,)).fetchone()[0])

    async with office.dispatching():

        async def told() -> bool:
            return f"damaged-{incident_id}" in pages(office)

        await eventually(told)
        await two_looks_more(looks, eventually)
        other = await office.accept(office.alert("OrderDown", service="order", deployment="order-v1"))
        assert [disposition for disposition, _ in await office.settled(*other)] == [Disposition.OPENED]
        await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
        await office.asked_to_close(incident_id)

        async def closed() -> bool:
            return outcome() == "closed_by_hand"

        await eventually(closed)
    assert f"firebreak close {incident_id}" in pages(office)[f"damaged-{incident_id}"]

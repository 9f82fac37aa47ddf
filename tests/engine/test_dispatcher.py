"""From the inbox to workflows, on the real Temporal server: each delivery has one end, each incident one workflow."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType, TaskQueueKind
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.messages import GatherResult
from firebreak.domain import ids
from firebreak.domain.alert import ENGINE_SERVICE, Alert, Disposition, IntakeClass
from firebreak.domain.errors import AppendConflict, ChainBroken, LedgerError
from firebreak.domain.incident import Incident, IncidentOutcome
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import NextLook
from firebreak.engine.clock import SystemClock
from firebreak.engine.dispatcher import PARK_AFTER
from firebreak.engine.sweeper import Sweeper, is_young
from firebreak.engine.temporal import tell_workflow
from firebreak.gateway.poke import Poke
from firebreak.postmortem.report import build
from firebreak.triage.intake import intake_class
from workflows.messages import AlertResolved, IncidentInput

pytestmark = pytest.mark.servers

Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
STARTED = "WORKFLOW_EXECUTION_STARTED"


def waiting(office: Any, incident_id: str) -> dict[str, str]:
    """Waiting messages: key -> pager action."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        query = "SELECT key, pager FROM messages WHERE incident_id = ? AND state = 'waiting'"
        return dict(raw.execute(query, (incident_id,)).fetchall())


async def test_an_alert_opens_an_incident_and_starts_its_workflow(office: Any) -> None:
    """One workflow under the incident's id, and a page that goes out if nobody classifies it."""
    async with office.dispatching():
        ((disposition, incident_id),) = await office.settled(*await office.accept(office.alert()))
    assert disposition is Disposition.OPENED
    assert (await office.events(ids.incident_workflow_id(incident_id)))[0] == STARTED
    assert waiting(office, incident_id) == {"deadline/unclassified/0": "trigger_high"}
    (net,) = await office.store.due(datetime.now(UTC) + timedelta(minutes=2), limit=9)
    assert net.draft.body["mode"] == "act", "what the engine may do is told"
    incident = await office.store.incident(incident_id)
    assert incident.target.text == "lab/shop/Deployment/pay-v1"


async def test_a_second_delivery_changes_nothing(office: Any) -> None:
    """Alertmanager repeats itself: no second incident, no workflow, no signal, no entry."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        before = await office.store.entries(incident_id)
        again = await office.settled(*await office.accept(office.alert(), office.alert()))
    assert again == [(Disposition.DUPLICATE, incident_id)] * 2
    assert await office.store.entries(incident_id) == before
    assert await office.signals(incident_id) == []
    assert len(await office.store.rows(limit=9)) == 1


async def test_a_further_alert_of_the_service_joins(office: Any) -> None:
    """One incident, one workflow; the second alert is on its timeline."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        joined = await office.settled(*await office.accept(office.alert("PaySlow")))
    assert joined == [(Disposition.JOINED, incident_id)]
    assert [e.kind for e in await office.store.entries(incident_id)][-1] is EntryKind.ALERT_JOINED


async def test_another_clusters_alert_of_that_service_opens_an_incident_of_its_own(office: Any) -> None:
    """So does one that lacks the label. Each has a workflow and a page; a further one of that cluster joins it."""
    ours, prod, none = office.alert(), office.alert(cluster="prod"), office.alert(cluster="")
    async with office.dispatching():
        found = await office.settled(*await office.accept(ours, prod, none))
        further = await office.settled(*await office.accept(office.alert("PaySlow", cluster="prod")))
    assert [disposition for disposition, _ in found] == [Disposition.OPENED] * 3
    assert further == [(Disposition.JOINED, found[1][1])]
    for (_, incident_id), key in zip(found, ("lab/pay", "prod/pay", "/pay"), strict=True):
        incident = await office.store.incident(incident_id)
        assert (incident.correlation_key, incident.service) == (key, "pay")
        assert (incident.target is None, bool(incident.elsewhere)) == (key != "lab/pay",) * 2
        assert waiting(office, incident_id) == {"deadline/unclassified/0": "trigger_high"}
        assert (await office.events(ids.incident_workflow_id(incident_id)))[0] == STARTED


async def test_the_workflow_hears_when_the_last_alert_resolves(office: Any) -> None:
    """Two alerts: silence after the first has resolved, a signal after the second."""
    async with office.dispatching():
        ((_, incident_id), _) = await office.settled(*await office.accept(office.alert(), office.alert("PaySlow")))
        one = await office.settled(*await office.accept(office.alert(resolved=True)))
        heard = await office.signals(incident_id)
        two = await office.settled(*await office.accept(office.alert("PaySlow", resolved=True)))
    assert [d for d, _ in one + two] == [Disposition.RESOLVED] * 2
    assert heard == []
    assert await office.signals(incident_id) == ["alert_resolved"]


async def test_an_alert_that_comes_and_goes_is_told_each_time(office: Any) -> None:
    """With the same start, in one incident: each joining and each end is in the record, a repeated delivery is not."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        for _ in range(2):
            over = await office.accept(office.alert(resolved=True))
            assert await office.settled(*over) == [(Disposition.RESOLVED, incident_id)]
            again = await office.settled(*await office.accept(office.alert(), office.alert()))
            assert again == [(Disposition.JOINED, incident_id), (Disposition.DUPLICATE, incident_id)]
        await office.settled(*await office.accept(office.alert(resolved=True)))
    entries = await office.store.entries(incident_id)
    gone, back = EntryKind.ALERT_RESOLVED, EntryKind.ALERT_JOINED
    assert [e.kind for e in entries] == [EntryKind.INCIDENT_OPENED, gone, back, gone, back, gone]
    (told,) = build(entries, phases=()).alerts
    assert told.resolved_at == entries[-1].at


async def test_nothing_is_closed_over_an_alert_that_fires_again(office: Any) -> None:
    """It had joined before, and was looked at; since then it resolved and came back."""
    async with office.dispatching():
        ((_, incident_id), _) = await office.settled(*await office.accept(office.alert(), office.alert("PaySlow")))
        look = EntryDraft(
            incident_id=incident_id, key="verdict/0", kind=EntryKind.VERDICT_REACHED, at=datetime.now(UTC), body={}
        )
        await office.store.append([look])
        for again in (office.alert("PaySlow", resolved=True), office.alert("PaySlow")):
            await office.settled(*await office.accept(again))
    end = replace(look, key="close", kind=EntryKind.INCIDENT_CLOSED)
    outcome = IncidentOutcome.NOTHING_DONE
    assert await office.store.close_incident(end, outcome, messages=(), unless_joined=True) is None


class Forgetful:
    """The inbox, into which nobody writes what became of a delivery."""

    def __init__(self, inbox: Any) -> None:
        self._inbox = inbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    async def settle(self, dispositions: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize("back", [0, 1])
async def test_a_delivery_that_is_handled_again_after_a_crash_is_told_once(
    office: Any, eventually: Eventually, back: int
) -> None:
    """The crash came before it was written down what became of it; also where the clock was set back (hours) since."""
    receipts, now = [], datetime.now(UTC)
    for number, alert in enumerate(2 * (office.alert(), office.alert(resolved=True))):
        receipts += await office.inbox.accept(
            [(alert, intake_class(alert.labels))],
            source="alertmanager",
            truncated=0,
            accepted_at=now - timedelta(hours=number * back),
        )
    async with office.dispatching(inbox=Forgetful(office.inbox)):

        async def told() -> bool:
            (incident,) = await office.store.open_incidents() or (None,)
            return incident is not None and len(await office.store.entries(incident.id)) == len(receipts)

        await eventually(told)
    async with office.dispatching():
        (_, incident_id), *_ = await office.settled(*receipts)
    kinds = [e.kind for e in await office.store.entries(incident_id)]
    gone, back_again = EntryKind.ALERT_RESOLVED, EntryKind.ALERT_JOINED
    assert kinds == [EntryKind.INCIDENT_OPENED, gone, back_again, gone]


async def test_firing_and_resolved_in_one_look_keep_their_order(office: Any) -> None:
    """Both were accepted while the dispatcher was away: opened, then told."""
    receipts = await office.accept(office.alert(), office.alert(resolved=True))
    async with office.dispatching():
        settled = await office.settled(*receipts)
    assert [d for d, _ in settled] == [Disposition.OPENED, Disposition.RESOLVED]
    assert await office.signals(settled[0][1]) == ["alert_resolved"]


async def test_what_resolves_and_nobody_knows_is_ignored(office: Any) -> None:
    """With the reason; nothing is opened."""
    async with office.dispatching():
        ((disposition, reason),) = await office.settled(*await office.accept(office.alert(resolved=True)))
    assert (disposition, reason) == (Disposition.IGNORED, "no incident knows this alert")
    assert await office.store.rows(limit=9) == ()


@workflow.defn(name="Incident", sandboxed=False)
class Parked:
    """Stands in for the story: wakes at each signal, and goes on waiting."""

    @workflow.run
    async def run(self, given: IncidentInput) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def alert_resolved(self, fact: AlertResolved) -> None:
        """Nothing."""


async def test_a_dispatcher_that_starts_lets_open_incidents_go(office: Any, eventually: Eventually) -> None:
    """Temporal keeps a workflow's tasks for the worker that has it in its memory, which may have been killed. Once a
    dispatcher has started, the next task is anybody's."""
    anybodys, its_workers = TaskQueueKind.TASK_QUEUE_KIND_NORMAL, TaskQueueKind.TASK_QUEUE_KIND_STICKY

    async with Worker(office.client, task_queue=office.queue, workflows=[Parked]):
        async with office.dispatching():
            ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        story = office.client.get_workflow_handle(ids.incident_workflow_id(incident_id))

        async def next_task() -> Any:
            """Wake the workflow; whose that task was."""
            history = await story.fetch_history()
            done = sum(e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for e in history.events)
            await tell_workflow(office.client, incident_id, "alert_resolved", AlertResolved(firing=0))

            async def ended() -> bool:
                return bool((await office.events(story.id)).count("WORKFLOW_TASK_COMPLETED") > done)

            await eventually(ended)
            scheduled = EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
            events = [e for e in (await story.fetch_history()).events if e.event_type == scheduled]
            return events[-1].workflow_task_scheduled_event_attributes.task_queue.kind

        await next_task()
        assert await next_task() == its_workers
        reset = asyncio.Event()

        async def told(*args: Any, **kwargs: Any) -> None:
            await office.client.workflow_service.reset_sticky_task_queue(*args, **kwargs)
            reset.set()

        client = office.away(0)
        client.workflow_service = SimpleNamespace(reset_sticky_task_queue=told)
        async with office.dispatching(client=client), asyncio.timeout(30):
            await reset.wait()  # a task in flight meanwhile would bind it again: here its worker lives
            assert await next_task() == anybodys


async def test_a_damaged_row_stops_nothing_at_the_start(office: Any) -> None:
    """The row of one open incident cannot be read: alerts of others are handled all the same."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    with closing(sqlite3.connect(office.folder / "timeline.sqlite")) as raw, raw:
        raw.execute("UPDATE incidents SET data = substr(data, 1, 50)")
    async with office.dispatching():
        other = await office.accept(office.alert("OrderDown", service="order", deployment="order-v1"))
        ((disposition, other_id),) = await office.settled(*other)
    assert (disposition, other_id != incident_id) == (Disposition.OPENED, True)


async def test_a_temporal_that_resets_nothing_stops_nothing(office: Any, eventually: Eventually) -> None:
    """Some do not allow it: it is asked about one of two incidents, and the dispatcher goes on to what is new."""
    async with office.dispatching():
        await office.settled(*await office.accept(office.alert(), office.alert(service="another")))
    asked: list[str] = []

    async def refused(request: Any, **_: Any) -> None:
        asked.append(request.execution.workflow_id)
        raise RPCError("not for you", RPCStatusCode.PERMISSION_DENIED, b"")

    async def was_asked() -> bool:
        return bool(asked)

    client = office.away(0)
    client.workflow_service = SimpleNamespace(reset_sticky_task_queue=refused)
    async with office.dispatching(client=client):
        await eventually(was_asked)
        ((disposition, _),) = await office.settled(*await office.accept(office.alert("PaySlow")))
    assert disposition is Disposition.JOINED
    assert len(await office.store.open_incidents()) == 2
    assert len(asked) == 1


async def test_a_temporal_that_hangs_holds_up_nothing(office: Any) -> None:
    """What is new is taken while the question is still open."""
    async with office.dispatching():
        await office.settled(*await office.accept(office.alert()))
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hangs(request: Any, **_: Any) -> None:
        asked.set()
        await answer.wait()

    client = office.away(0)
    client.workflow_service = SimpleNamespace(reset_sticky_task_queue=hangs)
    async with office.dispatching(client=client):
        async with asyncio.timeout(30):
            await asked.wait()
        ((disposition, _),) = await office.settled(*await office.accept(office.alert("PaySlow")))
    assert disposition is Disposition.JOINED


async def test_what_is_new_does_not_wait_for_all_that_is_open(office: Any) -> None:
    """After a restart in a storm thousands of workflows are asked for: an alert is taken while the first one is."""
    async with office.dispatching():
        ((_, known),) = await office.settled(*await office.accept(office.alert()))
    asked = asyncio.Event()

    async def slow_for_what_is_known(*args: Any, **kwargs: Any) -> Any:
        if kwargs["id"] == ids.incident_workflow_id(known):
            asked.set()
            await asyncio.Event().wait()
        return await office.client.start_workflow(*args, **kwargs)

    client = office.away(0)
    client.start_workflow = slow_for_what_is_known
    async with office.dispatching(client=client):
        async with asyncio.timeout(30):
            await asked.wait()
        ((disposition, _),) = await office.settled(*await office.accept(office.alert(service="another")))
    assert disposition is Disposition.OPENED


async def test_the_workflow_is_given_what_the_first_look_said(office: Any) -> None:
    """Looked at once, before Temporal is asked for it, and not a second time by a dispatcher that starts it again."""
    seen = GatherResult(next=NextLook.AGAIN, reason="true, but not held yet")
    given: list[IncidentInput] = []

    async def foresee(incident: Incident) -> GatherResult:
        office.foreseen.append(incident)
        return seen

    class Start(type(office.away(0))):  # type: ignore[misc]
        async def start_workflow(self, workflow: Any, start: IncidentInput, **kwargs: Any) -> Any:
            given.append(start)
            return await super().start_workflow(workflow, start, **kwargs)

    async with office.dispatching(foresee=foresee, client=Start(office.client, 1)):
        await office.settled(*await office.accept(office.alert()))
    assert [start.first_look for start in given] == [seen, None]
    assert len(office.foreseen) == 1


async def test_an_alert_without_labels_still_ends(office: Any) -> None:
    """It leads nowhere: an incident of its own, whose workflow will call a person."""
    bare = Alert(
        fingerprint="f" * 16, status=office.alert().status, labels={}, starts_at=datetime(2026, 11, 21, tzinfo=UTC)
    )
    receipts = await office.accept(bare)
    async with office.dispatching(intake_class=IntakeClass.OTHER):
        ((disposition, incident_id),) = await office.settled(*receipts)
    assert disposition is Disposition.OPENED
    incident = await office.store.incident(incident_id)
    assert incident.target is None
    assert "no label service" in incident.refusal


async def test_each_class_has_its_own_dispatcher(office: Any) -> None:
    """The P1 dispatcher leaves the rest alone, so that a flood of it cannot hold up a P1."""
    (urgent,) = await office.accept(office.alert())
    (other,) = await office.accept(office.alert(severity="warning"))
    async with office.dispatching():
        await office.settled(urgent)
        assert await office.inbox.disposition(other) is None
    async with office.dispatching(intake_class=IntakeClass.OTHER):
        await office.settled(other)


async def test_an_alert_of_the_engine_about_itself_is_a_page(office: Any) -> None:
    """No tree judges it, no workflow is started; what it says is on the page."""
    alert = replace(
        office.alert("OversizeBody", service=ENGINE_SERVICE), annotations={"summary": "a body of 17 MiB was refused"}
    )
    async with office.dispatching():
        ((disposition, incident_id), again) = await office.settled(*await office.accept(alert, alert))
    assert disposition is Disposition.PAGED
    assert again == (disposition, incident_id)
    assert waiting(office, incident_id) == {"pager/fault": "trigger_high"}
    (entry,) = await office.store.entries(incident_id)
    assert "17 MiB" in entry.body["error"]


class Poisoned:
    """The incidents of the store, save that one alert makes it stumble."""

    def __init__(self, store: Any, fault: Exception) -> None:
        self._store = store
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open_or_join(self, incident: Incident, **more: Any) -> Any:
        if incident.alert.labels["alertname"] == "Poison":
            raise self._fault
        return await self._store.open_or_join(incident, **more)


@pytest.mark.parametrize("kind", [ValueError, ChainBroken, AppendConflict])
async def test_an_alert_that_cannot_be_handled_is_parked_and_pages(office: Any, kind: type[Exception]) -> None:
    """A bug, damage in the record, a conflict that lasts: it stops no other one, is tried three times, and ends as a
    page."""
    (poison,) = await office.accept(office.alert("Poison", service="order"))
    (good,) = await office.accept(office.alert())
    async with office.dispatching(incidents=Poisoned(office.store, kind("what is wrong"))):
        assert (await office.settled(good))[0][0] is Disposition.OPENED
        ((disposition, reason),) = await office.settled(poison)
    assert disposition is Disposition.PARKED
    assert "what is wrong" in reason
    (fault,) = await office.store.engine_faults(limit=9)
    assert fault.incident_id.startswith(f"parked-{poison}-")
    assert waiting(office, fault.incident_id) == {"pager/fault": "trigger_high"}


async def test_while_temporal_is_away_nothing_is_lost(office: Any) -> None:
    """The incident is on disk and its page is armed; the workflow starts when Temporal is back."""
    (receipt,) = await office.accept(office.alert())
    away = office.away(2)
    async with office.dispatching(client=away):
        ((disposition, incident_id),) = await office.settled(receipt)
    assert away.left == 0
    assert disposition is Disposition.DUPLICATE, "it was opened by the first try"
    assert (await office.events(ids.incident_workflow_id(incident_id)))[0] == STARTED
    assert len(await office.store.rows(limit=9)) == 1


async def test_after_a_crash_between_opening_and_starting_the_workflow_starts(
    office: Any, eventually: Eventually
) -> None:
    """A new dispatcher finds the open incident without a workflow."""
    receipts = await office.accept(office.alert())
    async with office.dispatching(client=office.away(1_000_000)):

        async def opened() -> bool:
            return bool(await office.store.open_incidents())

        await eventually(opened)
    (incident,) = await office.store.open_incidents()
    assert await office.events(ids.incident_workflow_id(incident.id)) == []
    await office.inbox.settle([(receipts[0], Disposition.OPENED, incident.id)])  # not the delivery: the incident itself
    async with office.dispatching():

        async def started() -> bool:
            return bool(await office.events(ids.incident_workflow_id(incident.id)))

        await eventually(started)


async def test_a_poke_is_heard_long_before_the_next_look(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway wakes the dispatcher: with a look once an hour the alert is still taken at once."""
    monkeypatch.setattr("firebreak.engine.dispatcher.POLL", 3600.0)
    receipts = await office.accept(office.alert())
    async with office.dispatching():
        await office.settled(*receipts)  # its first look is over; by itself it sleeps for an hour now
        with closing(Poke(office.folder)) as poke:
            receipts = await office.accept(office.alert("Further"))
            poke([IntakeClass.P1_CANDIDATE])
            await office.settled(*receipts)


async def test_a_wish_to_close_reaches_the_workflow_once(office: Any, eventually: Eventually) -> None:
    """Told as a signal, and not at every look."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
        await office.asked_to_close(incident_id)

        async def told() -> bool:
            return bool(await office.signals(incident_id))

        await eventually(told)
        await office.settled(*await office.accept(office.alert("Further")))
        await office.settled(*await office.accept(office.alert("AndAnother")))
    assert await office.signals(incident_id) == ["close_requested"]


async def test_a_wish_to_close_ends_an_incident_whose_workflow_is_gone(office: Any, eventually: Eventually) -> None:
    """A new Temporal knows nothing of it: closed by hand all the same, with post-mortem and resolves."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    await office.asked_to_close(incident_id)
    async with office.dispatching():

        async def closed() -> bool:
            return not await office.store.open_incidents()

        await eventually(closed)
    (row,) = await office.store.rows(limit=9)
    assert row.outcome is IncidentOutcome.CLOSED_BY_HAND
    left = waiting(office, incident_id)
    assert "postmortem" in left
    assert {"resolve_low", "resolve_high"} <= set(left.values())
    assert "deadline/unclassified/0" not in left
    last = (await office.store.entries(incident_id))[-1]
    assert (last.actor, last.body["reason"]) == ("person:ada", "false alarm")


async def test_an_open_promise_has_its_workflow(office: Any, eventually: Eventually) -> None:
    """A restore outlives its incident: the dispatcher starts what watches it, once."""
    span = timedelta(minutes=1)
    record = RestoreRecord(
        incident_id=office.fresh_id(),
        tier=1,
        step=0,
        plan_digest="d",
        opened_at=datetime.now(UTC),
        restore=Restore(conditions=(), hold=span, within=span, poll=span),
    )
    await office.store.append([], restores=[record])
    watched = ids.restore_workflow_id(record.incident_id, 1, 0)
    async with office.dispatching():

        async def started() -> bool:
            return bool(await office.events(watched))

        await eventually(started)
    await office.client.get_workflow_handle(watched).terminate()


async def test_a_broken_edit_pages_once(office: Any, eventually: Eventually) -> None:
    """The last good copy stays in force, and a person is told which file and why."""
    path = office.documents / "services.yaml"
    path.write_text(path.read_text() + "\nnonsense: 1\n")
    async with office.dispatching():

        async def told() -> bool:
            return bool(_faults(office))

        await eventually(told)
        receipts = await office.accept(office.alert())
        assert (await office.settled(*receipts))[0][0] is Disposition.OPENED
    assert len(_faults(office)) == 1
    assert "services.yaml" in _faults(office)[0]


class Ahead(SystemClock):
    """The system's clock, moved forward `by` hand."""

    by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.by


async def test_a_mended_document_that_breaks_again_pages_again(office: Any, eventually: Eventually) -> None:
    """In the same way, an hour or more later: whoever mended it then believes that it is well."""
    path = office.documents / "services.yaml"
    good, clock = path.read_text(), Ahead()
    async with office.dispatching(clock=clock):
        for pages in (1, 2):
            path.write_text(good + "\nnonsense: 1\n")

            async def told(pages: int = pages) -> bool:
                return len(_faults(office)) == pages

            await eventually(told)
            path.write_text(good)

            async def well() -> bool:
                return not office.rulebook.fault

            await eventually(well)
            clock.by += timedelta(hours=1)


class Stumbling:
    """The ledger of the store, which fails the first time."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        if not self.failed:
            self.failed = True
            raise LedgerError("locked")
        return await self._store.append(*args, **kwargs)


class Full:
    """The incidents of a store whose disk is full for some looks."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.left = PARK_AFTER

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open_or_join(self, *args: Any, **kwargs: Any) -> Any:
        if self.left:
            self.left -= 1
            raise LedgerError("database or disk is full")
        return await self._store.open_or_join(*args, **kwargs)


async def test_a_store_that_was_away_parks_no_alert(office: Any) -> None:
    """It is no fault of the alert: once there is room, it is looked at as ever."""
    async with office.dispatching(incidents=Full(office.store)):
        ((disposition, _),) = await office.settled(*await office.accept(office.alert()))
    assert disposition is Disposition.OPENED


async def test_a_fault_that_could_not_be_told_is_told_later(office: Any, eventually: Eventually) -> None:
    """The store was away at the very moment: the page goes out at the next look."""
    path = office.documents / "services.yaml"
    path.write_text(path.read_text() + "\nnonsense: 1\n")
    ledger = Stumbling(office.store)
    async with office.dispatching(ledger=ledger):

        async def told() -> bool:
            return bool(_faults(office))

        await eventually(told)
    assert ledger.failed


async def test_an_incident_whose_workflow_ended_without_it_pages_once(
    office: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would swallow every further alert of its service: a person is told how to end it."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    monkeypatch.setattr("firebreak.engine.sweeper.LOOK_AT_WORKFLOWS", 0.0)
    monkeypatch.setattr("firebreak.engine.sweeper.YOUNG", timedelta(0))
    async with office.dispatching():

        async def told() -> bool:
            return bool(_faults(office))

        await eventually(told)
        await office.settled(*await office.accept(office.alert("Further")))
    assert waiting(office, f"orphan-{incident_id}") == {"pager/fault": "trigger_high"}
    assert len(_faults(office)) == 1
    assert "firebreak close" in _faults(office)[0]


async def test_a_young_incident_is_not_asked_about(
    office: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a storm there are hundreds of them; its deadline pages without its workflow."""
    async with office.dispatching():
        ((_, incident_id),) = await office.settled(*await office.accept(office.alert()))
    await office.client.get_workflow_handle(ids.incident_workflow_id(incident_id)).terminate()
    looks: list[Sweeper] = []
    look = Sweeper._orphans

    async def counted(sweeper: Sweeper) -> None:
        await look(sweeper)
        looks.append(sweeper)

    monkeypatch.setattr(Sweeper, "_orphans", counted)
    monkeypatch.setattr("firebreak.engine.sweeper.LOOK_AT_WORKFLOWS", 0.0)
    async with office.dispatching():

        async def looked() -> bool:
            return len(looks) >= 2

        await eventually(looked)
    assert _faults(office) == []
    assert waiting(office, incident_id) == {"deadline/unclassified/0": "trigger_high"}


def test_a_clock_that_was_set_back_hides_no_orphan() -> None:
    """Opened three hours ahead of now: asked about at once, as of any age above a minute."""
    now = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
    ages = {"new": 0, "young": 59, "old": 61, "ahead": -3 * 3600}
    assert {n for n, s in ages.items() if is_young(now - timedelta(seconds=s), now)} == {"new", "young"}


def _faults(office: Any) -> list[str]:
    """Of the engine's own records; that the workflow has ended is noted in the incident's, too, for its messages."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        asked = "SELECT body FROM entries WHERE kind = ? AND key != 'workflow-fault'"
        rows = raw.execute(asked, (EntryKind.ENGINE_FAULT.value,))
        return [body for (body,) in rows]

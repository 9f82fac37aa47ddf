"""Calling a person and ending an incident: written once; and a page goes out also when nothing can be written."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

import activities.call_evidence
from activities import notices
from activities.call_evidence import BUDGET
from activities.messages import CloseInput, KeepInput, PersonInput, RecoveryInput
from firebreak.domain import ids
from firebreak.domain.condition import AnswerStatus
from firebreak.domain.errors import LedgerError, PermissionDenied
from firebreak.domain.incident import IncidentOutcome, Mode
from firebreak.domain.message import Channel, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.plan import StepStatus
from firebreak.domain.target import ResourceKind
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import NextLook
from firebreak.postmortem.notices import render_notice
from workflows.options import SWIFT_LIMIT


def person(incident: Any, key: str = "person/high") -> PersonInput:
    return PersonInput(incident_id=incident.id, key=key, reason="nothing healed")


def ending(incident: Any, outcome: IncidentOutcome = IncidentOutcome.HEALED) -> CloseInput:
    return CloseInput(incident_id=incident.id, outcome=outcome, reason="it is over")


async def test_a_person_is_called_once(world: Any) -> None:
    """High urgency by the outbox, and the deadlines fall: one page is enough."""
    incident = await world.planned()
    for _ in range(2):
        await world.run(world.people.call, person(incident))
        world.again()
    assert len(await world.bodies(incident, EntryKind.PERSON_CALLED)) == 1
    messages = world.messages(incident)
    assert messages["pager/person/high"][0] == "trigger_high"
    assert messages["deadline"][1] == "cancelled"
    assert world.pages.sent == []


async def test_the_deadlines_of_all_looks_fall_with_the_call(world: Any) -> None:
    """Three looks in doubt, each with its own net: the person who is called need not be paged by the nets as well."""
    for metric in ("app_errors", "app_latency"):
        world.metrics.status[metric] = (AnswerStatus.UNAVAILABLE, "timed out")
    incident = await world.opened()
    for look in range(3):
        await world.gather(incident, look, local=False)
        world.clock.forward(1)
    given = PersonInput(incident_id=incident.id, key="person/high", reason="inconclusive", looks=3)
    await world.run(world.people.call, given)
    waiting = [key for key, (pager, state, _) in world.messages(incident).items() if state == "waiting" and pager]
    assert [key for key in waiting if key.startswith("deadline")] == []
    assert "pager/person/high" in waiting


async def test_an_alert_that_joined_meanwhile_keeps_the_incident_open(world: Any) -> None:
    """Nothing was done, and now there is a new alert that nobody has looked at: not closed, but looked at again."""
    incident = await world.opened()
    await world.gather(incident)
    await world.opened(alertname="PaySlow")
    answer = await world.run(world.people.close, ending(incident, IncidentOutcome.NOTHING_DONE))
    assert answer is False
    assert await world.bodies(incident, EntryKind.INCIDENT_CLOSED) == []
    await world.gather(incident, 1)
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.NOTHING_DONE)) is True


@pytest.mark.parametrize("outcome", [IncidentOutcome.HEALED, IncidentOutcome.RECOVERED])
async def test_an_alert_that_joined_as_all_was_well_is_a_page_of_its_own(world: Any, outcome: IncidentOutcome) -> None:
    """What was done is over, so it closes; the sender may not tell of that alert again for hours, so a person hears
    of it, once."""
    incident = await world.opened()
    await world.gather(incident)
    await world.opened(alertname="PaySlow")
    for _ in range(2):
        assert await world.run(world.people.close, ending(incident, outcome)) is True
    called = [body["reason"] for body in await world.bodies(incident, EntryKind.PERSON_CALLED)]
    assert len(called) == 1
    assert "no look at the evidence has seen it" in called[0]
    action, state, due = world.messages(incident)["pager/person/late"]
    assert (action, state, due) == ("trigger_high", "waiting", world.due())


async def asked_to_close(world: Any, incident: Any) -> None:
    """What `firebreak close` writes."""
    wish = EntryDraft(
        incident_id=incident.id,
        key=ids.close_key(),
        kind=EntryKind.CLOSE_REQUESTED,
        at=world.clock.at,
        body={"reason": "enough", "by": "ada"},
    )
    await world.store.append([wish])


@pytest.mark.parametrize(("joins", "calls"), [("before", 0), ("after", 1)])
async def test_an_alert_that_joined_after_a_person_asked_for_the_end_is_a_page(
    world: Any, joins: str, calls: int
) -> None:
    """The story may be long in hearing of it; who closed it by hand knew of what had joined before."""
    incident = await world.opened()
    if joins == "before":
        await world.opened(alertname="PaySlow")
    await asked_to_close(world, incident)
    if joins == "after":
        await world.opened(alertname="PaySlow")
    for _ in range(2):
        await world.closed_by_hand(incident)
    called = [body["reason"] for body in await world.bodies(incident, EntryKind.PERSON_CALLED)]
    assert len(called) == calls
    assert all("after its close was asked for" in reason for reason in called)
    assert ("pager/person/late" in world.messages(incident)) is bool(calls)


async def test_an_alert_that_a_look_has_seen_is_no_such_page(world: Any) -> None:
    """It joined before the last look: the end speaks of it, too."""
    incident = await world.opened()
    await world.opened(alertname="PaySlow")
    await world.gather(incident)
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.HEALED)) is True
    assert await world.bodies(incident, EntryKind.PERSON_CALLED) == []


def joining_at_the_next_write(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that comes when the evidence has been read and nothing is written yet."""
    append = world.store.append

    async def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(world.store, "append", append)
        await world.opened(alertname="PaySlow")
        return await append(*args, **kwargs)

    monkeypatch.setattr(world.store, "append", late)


async def test_an_alert_that_joins_while_a_look_is_made_has_not_been_looked_at(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look found all alerts resolved; one joined before its verdict was written."""
    incident = await world.opened()
    await world.resolve(incident)
    joining_at_the_next_write(world, monkeypatch)
    seen = await world.gather(incident)
    assert seen.next is NextLook.NOTHING
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.NOTHING_DONE)) is False
    await world.gather(incident, 1)
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.NOTHING_DONE)) is True


async def test_an_alert_that_joins_while_the_hold_is_judged_is_a_page(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold's evidence had been read, its end was not written yet."""
    incident = await world.verified()
    world.clock.forward(10)
    joining_at_the_next_write(world, monkeypatch)
    held = await world.run(world.verification.hold, world.look(incident))
    assert held.record.status is StepStatus.VERIFIED
    assert await world.run(world.people.close, ending(incident)) is True
    assert world.messages(incident)["pager/person/late"][0] == "trigger_high"


async def test_an_alert_that_joins_while_recovery_is_judged_is_a_page(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the hold."""
    incident = await world.opened()
    await world.resolve(incident)
    joining_at_the_next_write(world, monkeypatch)
    given = RecoveryInput(incident_id=incident.id, round=1, quiet_since=world.clock.at - timedelta(hours=1))
    assert (await world.run(world.recovery.watch_recovery, given)).recovered
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.RECOVERED)) is True
    assert world.messages(incident)["pager/person/late"][0] == "trigger_high"


async def test_what_is_closed_stays_closed_whatever_joined(world: Any) -> None:
    """A story that was started too late finds its incident closed by hand, an alert unseen: it ends, not round and
    round, and calls nobody."""
    incident = await world.opened()
    await world.opened(alertname="PaySlow")
    await world.closed_by_hand(incident)
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    await world.run(world.people.call, PersonInput(incident_id=incident.id, key="person/high", reason="closed"))
    assert await world.store.find(incident.id, "person/high") is None
    given = RecoveryInput(incident_id=incident.id, round=1)
    assert (await world.run(world.recovery.watch_recovery, given)).recovered
    assert await world.run(world.people.close, ending(incident, IncidentOutcome.RECOVERED)) is True
    assert len(await world.bodies(incident, EntryKind.INCIDENT_CLOSED)) == 1


async def test_who_is_called_before_any_step_reads_what_changed_before(world: Any) -> None:
    """One dimension only: nothing is done, so nothing would be kept; the call keeps it, once."""
    world.sick()
    world.metrics.say("app_latency", 0.1, since=world.start - timedelta(minutes=5))
    incident = await world.opened()
    came = f"{world.start - timedelta(minutes=9):%Y-%m-%dT%H:%M:%SZ}"
    world.cluster.put(ResourceKind.NODE, {"metadata": {"name": "node-7", "creationTimestamp": came}})
    assert (await world.gather(incident)).next is NextLook.CALL_PERSON
    for _ in range(2):
        await world.run(world.people.call, person(incident))
    (kept,) = await world.bodies(incident, EntryKind.EVIDENCE_KEPT)
    assert kept["target"]["name"] == "pay-v1"
    notice = render_notice(NoticeKind.PERSON_NEEDED, await world.store.entries(incident.id), body={"reason": "one"})
    said = "\n".join(notice.lines)
    assert "Changed before" in said
    assert "node-7" in said


async def test_what_was_kept_before_a_step_is_not_kept_again_for_a_call(world: Any) -> None:
    """The first one is of the moment that counts."""
    incident = await world.planned()
    await world.run(world.keeping.keep, KeepInput(incident_id=incident.id, plan_digest=world.digest))
    (before,) = await world.bodies(incident, EntryKind.EVIDENCE_KEPT)
    await world.run(world.people.call, person(incident))
    assert await world.bodies(incident, EntryKind.EVIDENCE_KEPT) == [before]


async def test_a_runbook_that_keeps_nothing_keeps_nothing_for_a_call(world: Any) -> None:
    """What is kept is its choice, also when a person is called."""
    world.edit("catalog/heal.yaml", "evidence: [pods, events]", "evidence: []")
    world.again()
    incident = await world.planned()
    await world.run(world.people.call, person(incident))
    assert await world.bodies(incident, EntryKind.EVIDENCE_KEPT) == []


@pytest.mark.parametrize("revision", ["\u00b2", "9" * 5000, "-1", "7"])
async def test_no_object_of_others_keeps_a_call_from_being(world: Any, revision: str) -> None:
    """Whatever an annotation says, the person is called."""
    incident = await world.opened()
    notes = {"deployment.kubernetes.io/revision": revision}
    replica_set = {"metadata": {"name": "pay-v1-x", "namespace": "shop", "annotations": notes}, "spec": {}}
    world.cluster.put(ResourceKind.REPLICASET, replica_set)
    await world.run(world.people.call, person(incident))
    assert world.messages(incident)["pager/person/high"][0] == "trigger_high"


async def test_no_fault_of_the_evidence_keeps_a_call_from_being(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one of our own."""
    incident = await world.opened()
    monkeypatch.setattr(activities.call_evidence, "keep", lambda *_, **__: 1 / 0)
    await world.run(world.people.call, person(incident))
    assert world.messages(incident)["pager/person/high"][0] == "trigger_high"


@pytest.mark.parametrize("world_is", ["hanging", "refusing"])
async def test_no_evidence_keeps_a_call_waiting(world: Any, world_is: str) -> None:
    """An API server that hangs, or refuses, costs the call a moment and nothing else: it says what is missing."""
    incident = await world.opened()
    if world_is == "hanging":
        world.cluster.hanging = set(ResourceKind)
    else:
        world.cluster.fail = {call: [PermissionDenied("403 Forbidden")] * 50 for call in ("list", "get")}
    async with asyncio.timeout(30):  # for a hang; how short the moment is, the limits tell
        await world.run(world.people.call, person(incident))
    assert world.messages(incident)["pager/person/high"][0] == "trigger_high"
    assert timedelta(0) < max(world.cluster.limits) <= BUDGET
    assert 1.5 * BUDGET < SWIFT_LIMIT


async def test_a_page_goes_out_directly_when_the_ledger_is_down(world: Any) -> None:
    """Paging alone is exempt from no record, no action: the service's own people are called, and the record is tried
    again until it is written."""
    incident = await world.opened()
    await world.casebook.incident(incident.id)
    world.ledger.fail["append"] = LedgerError("disk full")
    with pytest.raises(ApplicationError) as caught:
        await world.run(world.people.call, person(incident))
    assert not caught.value.non_retryable
    ((key, action, incident_id, text),) = world.pages.sent
    assert (key, action, incident_id) == ("paypaypaypaypaypaypaypaypaypaypa", PagerAction.TRIGGER_HIGH, incident.id)
    assert "nothing healed" in " ".join(text.lines)
    assert "disk full" in " ".join(text.lines)
    assert text.service == "pay"
    world.ledger.fail.clear()
    await world.run(world.people.call, person(incident), local=False)
    assert len(await world.bodies(incident, EntryKind.PERSON_CALLED)) == 1


async def test_a_page_that_goes_out_directly_falls_back_to_the_other_key(world: Any) -> None:
    """The ledger is down and the service's own key is refused: somebody is called all the same, as by the outbox; and
    with no key that is taken the refusal is what is told."""
    incident = await world.opened()
    await world.casebook.incident(incident.id)
    world.ledger.fail["append"] = LedgerError("disk full")
    world.pages.refuses = {"paypaypaypaypaypaypaypaypaypaypa"}
    with pytest.raises(ApplicationError, match="disk full"):
        await world.run(world.people.call, person(incident))
    assert [(key, about) for key, _, about, _ in world.pages.sent] == [("fallback", incident.id)]
    world.pages.refuses.add("fallback")
    with pytest.raises(ApplicationError, match="refused"):
        await world.run(world.people.call, person(incident))
    assert len(world.pages.sent) == 1


async def test_without_any_memory_of_the_incident_somebody_is_paged_all_the_same(world: Any) -> None:
    """A new process, the store down: whose incident it is cannot be read, so the fallback key is used."""
    incident = await world.opened()
    world.again()
    for method in ("append", "incident", "find", "entries"):
        world.ledger.fail[method] = LedgerError("disk full")
    with pytest.raises(ApplicationError):
        await world.run(world.people.call, person(incident))
    assert [key for key, *_ in world.pages.sent] == ["fallback"]


async def test_an_incident_closes_once(world: Any) -> None:
    """Row, entry, messages and target lock in one transaction; the second close finds the first."""
    incident = await world.planned()
    await world.store.lock_target(incident.target, incident.id)
    await world.run(world.people.close, ending(incident))
    world.again()
    await world.run(world.people.close, ending(incident, IncidentOutcome.RECOVERED))
    assert [b["outcome"] for b in await world.bodies(incident, EntryKind.INCIDENT_CLOSED)] == ["healed"]
    (row,) = await world.store.rows(limit=5)
    assert row.outcome is IncidentOutcome.HEALED
    assert await world.store.lock_target(incident.target, "inc-next") == "inc-next"


@pytest.mark.parametrize("when", ["die_before", "die_after"])
async def test_a_close_that_is_killed_is_done_once(world: Any, when: str) -> None:
    """One entry, one post-mortem, whichever side of the write it died on."""
    incident = await world.planned()
    getattr(world.ledger, when)["close_incident"] = 1
    with pytest.raises(world.Killed):
        await world.run(world.people.close, ending(incident))
    world.again()
    await world.run(world.people.close, ending(incident), local=False)
    assert len(await world.bodies(incident, EntryKind.INCIDENT_CLOSED)) == 1
    assert world.messages(incident)["postmortem"][1] == "waiting"


@pytest.mark.parametrize("outcome", [o for o in IncidentOutcome if o is not IncidentOutcome.OPEN])
async def test_every_end_takes_the_deadline_back_and_ends_what_was_opened(world: Any, outcome: IncidentOutcome) -> None:
    """Also of a classified incident that ends with nothing done: its low-urgency notice does not stay open."""
    incident = await world.planned()
    await world.run(world.people.close, ending(incident, outcome))
    messages = world.messages(incident)
    assert messages["deadline"][1] == "cancelled"
    assert messages["postmortem"][1] == "waiting"
    waiting = {pager for pager, state, _ in messages.values() if state == "waiting"}
    assert {"resolve_low", "resolve_high"} <= waiting


# --- what is said with what ------------------------------------------------------------------------------------


def made(world: Any) -> list[MessageDraft]:
    """Every message that notices can make, for one incident."""
    now = world.clock.at
    return [
        *notices.classified("inc-1", now, timedelta(seconds=60), Mode.ACT),
        *notices.person_needed("inc-1", "person/high", "why", now),
        *notices.healed("inc-1", "healed/0.0", now),
        *notices.closing("inc-1", now),
        *notices.handled("inc-1", "pager/person/late", now),
        *(notices.unclassified("inc-1", look, now, timedelta(seconds=60), Mode.ACT) for look in range(2)),
    ]


async def test_every_message_has_a_key_of_its_own(world: Any) -> None:
    """The outbox keeps the first of two equal keys: a second message under it would be lost without a word."""
    keys = [m.key for m in made(world)]
    assert sorted(keys) == sorted(set(keys))


async def test_only_the_pager_is_told_an_action(world: Any) -> None:
    """A chat line or a post-mortem triggers nothing; a pager message always says what it does."""
    for message in made(world):
        assert (message.channel is Channel.PAGER) == (message.pager is not PagerAction.NONE)


async def test_a_person_is_told_why(world: Any) -> None:
    """Page and thread carry the reason."""
    for message in notices.person_needed("inc-1", "k", "nothing healed", world.clock.at):
        assert message.body["reason"] == "nothing healed"


async def test_nobody_is_called_for_what_a_person_has_closed(world: Any) -> None:
    """The close came first: its own page would never end."""
    incident = await world.planned()
    await world.closed_by_hand(incident)
    given = PersonInput(incident_id=incident.id, key="person/high", reason="closed meanwhile")
    await world.run(world.people.call, given)
    assert "pager/person/high" not in world.messages(incident)

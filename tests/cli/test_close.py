"""`firebreak close` and `firebreak score`: a person's word is on disk at once, and only where it can have an effect."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import notices
from firebreak.cli.main import main
from firebreak.cli.person import person
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.ids import incident_id
from firebreak.domain.incident import Incident, IncidentOutcome
from firebreak.domain.message import Channel, Message, PagerAction
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore

AT = datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC)


def draft(incident: Incident, key: str, kind: EntryKind, body: dict[str, Any]) -> EntryDraft:
    return EntryDraft(incident_id=incident.id, key=key, kind=kind, at=AT, body=body)


@pytest.fixture
def incident(place: Path) -> Incident:
    """One open incident in `data`."""
    labels = {"alertname": "PayErrors", "service": "pay"}
    alert = Alert(fingerprint="0" * 16, status=AlertStatus.FIRING, labels=labels, starts_at=AT)
    made = Incident(
        id=incident_id("pay", alert.key, AT),
        opened_at=AT,
        accepted_at=AT,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key="pay",
        service="pay",
        target=None,
        alert=alert,
    )

    async def write() -> None:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            await store.open_or_join(
                made,
                opened=draft(made, "opened", EntryKind.INCIDENT_OPENED, to_data(made)),
                joined=draft(made, "joined", EntryKind.ALERT_JOINED, {"alert": to_data(alert), "firing": 1}),
                messages=(),
            )

    (place / "data").mkdir()
    asyncio.run(write())
    return made


def entries(place: Path, incident: Incident) -> tuple[TimelineEntry, ...]:
    async def read() -> tuple[TimelineEntry, ...]:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE, read_only=True) as store:
            return await store.entries(incident.id)

    return asyncio.run(read())


def test_a_close_is_in_the_record_with_reason_and_person(typed: Any, place: Path, incident: Incident) -> None:
    """Also while no engine runs."""
    ran = typed("close", "last", "--reason", "false alarm", "--by", "ada", "--data-dir", "data")
    assert ran.returncode == 0
    assert incident.id in ran.stdout
    last = entries(place, incident)[-1]
    assert last.kind is EntryKind.CLOSE_REQUESTED
    assert last.actor == "person:ada"
    assert last.body == {"reason": "false alarm", "by": "ada"}


def test_a_close_says_what_stays_in_force(typed: Any, place: Path, incident: Incident) -> None:
    """The incident's end takes no step back, and does not keep it either."""

    async def promise() -> None:
        rule = Restore(conditions=(), hold=timedelta(0), within=timedelta(hours=1), poll=timedelta(seconds=1))
        record = RestoreRecord(
            incident_id=incident.id, tier=0, step=0, plan_digest="0" * 64, opened_at=AT, restore=rule
        )
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            await store.append([draft(incident, "restore-opened/0.0", EntryKind.RESTORE_OPENED, {})], restores=[record])

    told = "a step of it stays in force, to be taken back once the broken part is healthy"
    assert told not in typed("close", "last", "--reason", "mine", "--data-dir", "data").stdout
    asyncio.run(promise())
    assert told in typed("close", "last", "--reason", "mine", "--data-dir", "data").stdout


def test_a_second_close_changes_nothing(typed: Any, place: Path, incident: Incident) -> None:
    """The first reason stays, and the person hears of it."""
    for reason, by, said in (("first", "ada", "close requested;"), ("second", "bob", "requested before, by ada;")):
        ran = typed("close", "last", "--reason", reason, "--by", by, "--data-dir", "data")
        assert ran.returncode == 0
        assert said in ran.stdout
    wishes = [e for e in entries(place, incident) if e.kind is EntryKind.CLOSE_REQUESTED]
    assert [wish.body["reason"] for wish in wishes] == ["first"]


def test_a_fault_of_the_engine_does_not_hide_that_a_close_was_asked_for(
    typed: Any, place: Path, incident: Incident
) -> None:
    """Whoever looks next is not told to handle by hand what somebody has."""
    fault = {"where": "workflow", "error": "ended", "next_step": "Handle it by hand."}
    tell_entry(place, incident, "workflow-fault", EntryKind.ENGINE_FAULT, **fault)
    assert "next     Handle it by hand." in typed("show", "last", "--data-dir", "data").stdout
    typed("close", "last", "--reason", "false alarm", "--by", "ada", "--data-dir", "data")
    assert "next     a close was requested" in typed("show", "last", "--data-dir", "data").stdout


@pytest.mark.parametrize("words", [("close", "last"), ("score", "last", "60")], ids=lambda w: w[0])
def test_a_word_without_a_reason_is_refused(
    typed: Any, place: Path, incident: Incident, words: tuple[str, ...]
) -> None:
    """An empty one, a blank one, and none at all: nothing is written."""
    before = entries(place, incident)
    for reason in (("--reason", ""), ("--reason", "  "), ()):
        ran = typed(*words, *reason, "--data-dir", "data")
        assert ran.returncode == 2
        assert "reason" in ran.stderr
    assert entries(place, incident) == before


@pytest.mark.parametrize("words", [("close", "last"), ("score", "last", "60")], ids=lambda w: w[0])
def test_a_word_from_a_terminal_that_is_not_utf_8_counts(
    typed: Any, place: Path, incident: Incident, words: tuple[str, ...]
) -> None:
    """A Latin-1 umlaut is no reason to refuse it."""
    said = {"--reason": os.fsdecode(b"zur\xfcck"), "--by": os.fsdecode(b"J\xf6rg")}
    ran = typed(*words, *(text for pair in said.items() for text in pair), "--data-dir", "data")
    assert (ran.returncode, ran.stderr) == (0, "")
    last = entries(place, incident)[-1]
    assert (last.actor, last.body["reason"]) == ("person:J\ufffdrg", "zur\ufffdck")


@pytest.mark.parametrize("words", [("close", "nope"), ("score", "nope", "60")], ids=lambda w: w[0])
def test_an_unknown_incident_is_told_with_the_nearest(
    typed: Any, place: Path, incident: Incident, words: tuple[str, ...]
) -> None:
    """Nothing is written."""
    before = entries(place, incident)
    ran = typed(*words, "--reason", "x", "--data-dir", "data")
    assert ran.returncode == 2
    assert "'nope'" in ran.stderr
    assert incident.id in ran.stderr
    assert entries(place, incident) == before


@pytest.mark.parametrize("words", [("close", "last"), ("score", "last", "60")], ids=lambda w: w[0])
def test_a_mistyped_directory_gets_no_store(typed: Any, place: Path, words: tuple[str, ...]) -> None:
    """The person hears where there is none, instead of changing an empty one."""
    ran = typed(*words, "--reason", "x", "--data-dir", "elsewhere")
    assert ran.returncode == 2
    assert "elsewhere" in ran.stderr
    assert not list(place.iterdir())


@pytest.mark.parametrize("words", [("close", "last"), ("score", "last", "60")], ids=lambda w: w[0])
def test_what_is_over_is_not_changed(typed: Any, place: Path, incident: Incident, words: tuple[str, ...]) -> None:
    """A promise to end it would never come true."""

    async def end() -> None:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            ending = draft(incident, "close", EntryKind.INCIDENT_CLOSED, {"outcome": "recovered", "reason": "healthy"})
            await store.close_incident(ending, IncidentOutcome.RECOVERED, messages=())

    asyncio.run(end())
    before = entries(place, incident)
    ran = typed(*words, "--reason", "x", "--data-dir", "data")
    assert ran.returncode == 2
    assert "recovered" in ran.stderr
    assert f"firebreak postmortem {incident.id}" in ran.stderr
    assert entries(place, incident) == before


@pytest.fixture
def called_late(place: Path, incident: Incident) -> Incident:
    """It healed and closed; its restore was overdue hours later, and a person was called: nothing of ours ends that."""
    page = {"channel": "pager", "notice": "person_needed", "key": "pager/restore-ended/0.0", "pager": "trigger_high"}

    async def end() -> None:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            ending = draft(incident, "close", EntryKind.INCIDENT_CLOSED, {"outcome": "healed", "reason": "held"})
            await store.close_incident(ending, IncidentOutcome.HEALED, messages=())
            body = {"tier": 0, "step": 0, "step_id": "flag-off", "outcome": "overdue", "reason": "not taken back"}
            await store.append(
                [
                    draft(incident, "restore-ended/0.0", EntryKind.RESTORE_ENDED, body),
                    draft(incident, "message/pager/restore-ended/0.0", EntryKind.MESSAGE_DELIVERED, page),
                ]
            )

    asyncio.run(end())
    return incident


def due(place: Path) -> list[Message]:
    async def read() -> list[Message]:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            return [m for m in await store.due(datetime.now(UTC), limit=9) if m.draft.channel is Channel.PAGER]

    return asyncio.run(read())


def tell_entry(place: Path, incident: Incident, key: str, kind: EntryKind, /, **body: Any) -> None:
    async def write() -> None:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            await store.append([draft(incident, key, kind, body)])

    asyncio.run(write())


def test_a_call_that_came_after_the_end_is_ended_by_hand(typed: Any, place: Path, called_late: Incident) -> None:
    """Once, however often it is asked: in the record with its reason, and what resolves the page waits to be sent."""
    for by, said in (("ada", "close requested;"), ("bob", "requested before, by ada;")):
        ran = typed("close", "last", "--reason", "taken back by hand", "--by", by, "--data-dir", "data")
        assert (ran.returncode, said in ran.stdout) == (0, True), ran.stdout + ran.stderr
    (wish,) = [e for e in entries(place, called_late) if e.kind is EntryKind.CLOSE_REQUESTED]
    assert (wish.actor, wish.body["reason"]) == ("person:ada", "taken back by hand")
    (message,) = due(place)
    assert (message.draft.incident_id, message.draft.pager) == (called_late.id, PagerAction.RESOLVE_HIGH)


def test_each_call_after_the_end_can_be_ended(typed: Any, place: Path, called_late: Incident) -> None:
    """Also where the incident itself was closed by hand, and again when a later restore calls a person anew."""
    tell_entry(place, called_late, "close-requested", EntryKind.CLOSE_REQUESTED, reason="first", by="ada")
    assert typed("close", "last", "--reason", "x", "--data-dir", "data").returncode == 0
    assert len(due(place)) == 1
    ended = {"channel": "pager", "key": due(place)[0].draft.key, "pager": "resolve_high"}
    tell_entry(place, called_late, f"message/{ended['key']}", EntryKind.MESSAGE_DELIVERED, **ended)
    again = {"channel": "pager", "key": "pager/restore-ended/1.0", "pager": "trigger_high"}
    tell_entry(place, called_late, f"message/{again['key']}", EntryKind.MESSAGE_DELIVERED, **again)
    assert typed("close", "last", "--reason", "y", "--data-dir", "data").returncode == 0
    wishes = [e for e in entries(place, called_late) if e.kind is EntryKind.CLOSE_REQUESTED]
    assert [wish.body["reason"] for wish in wishes] == ["first", "x", "y"]


def test_a_call_after_the_end_that_did_not_get_through_is_taken_back(
    typed: Any, place: Path, called_late: Incident
) -> None:
    """The pager refused it till now: nobody is called any more for what a person has handled."""
    page = notices.person_needed(called_late.id, "person/late", "an alert joined", AT)[0]
    failed = {"channel": "pager", "key": page.key, "pager": "trigger_high", "error": "no key", "given_up": False}

    async def call() -> None:
        async with await TimelineStore.open(place / "data" / TIMELINE_FILE) as store:
            await store.append([draft(called_late, "person/late", EntryKind.PERSON_CALLED, {})], messages=[page])

    asyncio.run(call())
    tell_entry(place, called_late, f"message/{page.key}/failed/1", EntryKind.MESSAGE_FAILED, **failed)
    assert [m.draft.pager for m in due(place)] == [PagerAction.TRIGGER_HIGH]
    assert typed("close", "last", "--reason", "x", "--data-dir", "data").returncode == 0
    assert [m.draft.pager for m in due(place)] == [PagerAction.RESOLVE_HIGH]


def test_a_call_that_has_been_ended_is_over(typed: Any, place: Path, called_late: Incident) -> None:
    """The page was resolved: there is nothing to close any more, and `show` says when there is."""
    command = f"firebreak close {called_late.id} --reason ..."
    assert command in typed("show", "last", "--data-dir", "data").stdout
    ended = {"channel": "pager", "key": "pager/restore-ended/0.0/closed", "pager": "resolve_high"}
    tell_entry(place, called_late, f"message/{ended['key']}", EntryKind.MESSAGE_DELIVERED, **ended)
    assert command not in typed("show", "last", "--data-dir", "data").stdout
    before = entries(place, called_late)
    ran = typed("close", "last", "--reason", "x", "--data-dir", "data")
    assert (ran.returncode, "is over already: healed" in ran.stderr) == (2, True)
    assert entries(place, called_late) == before


def test_a_call_after_the_end_that_was_taken_back_by_hand_is_over(
    typed: Any, place: Path, called_late: Incident
) -> None:
    """It never reached the pager, and never will: no engine has anything to end."""
    page = {"channel": "pager", "key": "pager/restore-ended/0.0/closed", "pager": "resolve_high"}
    tell_entry(place, called_late, f"message/{page['key']}", EntryKind.MESSAGE_DELIVERED, **page)
    failed = {"channel": "pager", "key": "pager/person/late", "pager": "trigger_high", "error": "no key"}
    tell_entry(place, called_late, "message/pager/person/late/failed/1", EntryKind.MESSAGE_FAILED, **failed)
    assert typed("close", "last", "--reason", "x", "--by", "ada", "--data-dir", "data").returncode == 0
    ran = typed("close", "last", "--reason", "y", "--by", "bob", "--data-dir", "data")
    assert (ran.returncode, "is over already: healed" in ran.stderr) == (2, True)


def test_a_user_name_of_a_latin_1_system_can_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its odd byte is shown as one."""
    monkeypatch.setattr("getpass.getuser", lambda: os.fsdecode(b"J\xf6rg"))
    assert person(None) == "J\ufffdrg"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 1234"), OSError("No username set")])
@pytest.mark.parametrize("words", [("close", "last"), ("score", "last", "60")], ids=lambda w: w[0])
def test_a_person_without_a_user_name_is_written_down_by_uid(
    place: Path, incident: Incident, monkeypatch: pytest.MonkeyPatch, error: Exception, words: tuple[str, ...]
) -> None:
    """As in a container that runs under any uid, whichever Python says it."""

    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    argv = ["firebreak", *words, "--reason", "x", "--data-dir", str(place / "data")]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert entries(place, incident)[-1].actor == f"person:uid {os.getuid()}"


def test_a_score_is_not_set_for_what_is_over_though_a_call_is_open(
    typed: Any, place: Path, called_late: Incident
) -> None:
    """Nothing would read it any more."""
    assert typed("score", "last", "60", "--reason", "x", "--data-dir", "data").returncode == 2


def test_a_score_is_between_0_and_100(typed: Any, place: Path, incident: Incident) -> None:
    """More is refused, what fits is in the record each time it is set."""
    assert typed("score", "last", "101", "--reason", "x", "--data-dir", "data").returncode == 2
    for health in ("60", "85"):
        ran = typed("score", "last", health, "--reason", "sales", "--by", "ada", "--data-dir", "data")
        assert ran.returncode == 0
    scores = [e.body for e in entries(place, incident) if e.kind is EntryKind.SCORE_SET]
    assert [body["score"] for body in scores] == [60, 85]

"""`firebreak close` and `firebreak score`: a person's word is on disk at once, and only where it can have an effect."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.ids import incident_id
from firebreak.domain.incident import Incident, IncidentOutcome
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


def test_a_second_close_changes_nothing(typed: Any, place: Path, incident: Incident) -> None:
    """The first reason stays, and the person hears of it."""
    for reason, by, said in (("first", "ada", "close requested;"), ("second", "bob", "requested before, by ada;")):
        ran = typed("close", "last", "--reason", reason, "--by", by, "--data-dir", "data")
        assert ran.returncode == 0
        assert said in ran.stdout
    wishes = [e for e in entries(place, incident) if e.kind is EntryKind.CLOSE_REQUESTED]
    assert [wish.body["reason"] for wish in wishes] == ["first"]


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
            await store.close_incident(ending, IncidentOutcome.RECOVERED, messages=(), cancel_all=True)

    asyncio.run(end())
    before = entries(place, incident)
    ran = typed(*words, "--reason", "x", "--data-dir", "data")
    assert ran.returncode == 2
    assert "recovered" in ran.stderr
    assert f"firebreak postmortem {incident.id}" in ran.stderr
    assert entries(place, incident) == before


def test_a_score_is_between_0_and_100(typed: Any, place: Path, incident: Incident) -> None:
    """More is refused, what fits is in the record each time it is set."""
    assert typed("score", "last", "101", "--reason", "x", "--data-dir", "data").returncode == 2
    for health in ("60", "85"):
        ran = typed("score", "last", health, "--reason", "sales", "--by", "ada", "--data-dir", "data")
        assert ran.returncode == 0
    scores = [e.body for e in entries(place, incident) if e.kind is EntryKind.SCORE_SET]
    assert [body["score"] for body in scores] == [60, 85]

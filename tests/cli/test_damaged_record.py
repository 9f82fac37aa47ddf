"""The reading verbs on a record that is damaged, or was written by a newer Firebreak: a sentence, never a traceback."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from tests.cli.conftest import START, Run

VERBS = ("show", "timeline", "postmortem", "explain")

ENTRY = {
    "unknown kind": "UPDATE entries SET kind = 'future.kind' WHERE key = 'verdict/0'",
    "cut short": """UPDATE entries SET body = '{"a":' WHERE key = 'verdict/0'""",
    "cut short, and long": """UPDATE entries SET body = '{"a":' || printf('%.5000c', 'x') WHERE key = 'verdict/0'""",
    "a list": "UPDATE entries SET body = '[]' WHERE key = 'verdict/0'",
    "a text": """UPDATE entries SET body = '"x"' WHERE key = 'verdict/0'""",
    "bytes": "UPDATE entries SET body = x'ff' WHERE key = 'verdict/0'",
    "deep": "UPDATE entries SET body = printf('%.*c', 3000, '[') || printf('%.*c', 3000, ']') WHERE key = 'verdict/0'",
    "an actor in bytes": "UPDATE entries SET actor = x'ff' WHERE key = 'verdict/0'",
    "no time": "UPDATE entries SET at = 'yesterday' WHERE key = 'verdict/0'",
    "a duration without an end": "UPDATE entries SET duration_ms = 9e999 WHERE key = 'verdict/0'",
    "no duration": "UPDATE entries SET duration_ms = 'long' WHERE key = 'verdict/0'",
}
ROW = {
    "phase": "UPDATE incidents SET phase = 'future' WHERE id = ?",
    "outcome": "UPDATE incidents SET outcome = 'future' WHERE id = ?",
    "an alert in bytes": "UPDATE incidents SET alertname = x'ff' WHERE id = ?",
    "time": "UPDATE incidents SET opened_at = 'x' WHERE id = ?",
}
BODY = {
    "a number beyond all": """UPDATE entries SET body = '{"reason":1e999,"round":1e999}'""",
    "a round that is a list": "UPDATE entries SET body = json_set(body, '$.round', json('[1]'))",
    "not as of now": """UPDATE entries SET body = '{"verdict":{"severity":"P1"},"facts":{},"round":0}'""",
    "empty": "UPDATE entries SET body = '{}'",
}


@pytest.fixture
def store(three: list[Incident], data_dir: Path) -> Path:
    """Of three incidents."""
    return data_dir / TIMELINE_FILE


def _damage(store: Path, statement: str, *values: str) -> None:
    """What somebody with the file can do: the guards against it are only triggers."""
    with closing(sqlite3.connect(store)) as raw, raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{name}"')
        assert raw.execute(statement, values).rowcount > 0


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("damage", ENTRY)
def test_an_entry_that_cannot_be_read_is_named(
    run: Run, three: list[Incident], store: Path, verb: str, damage: str
) -> None:
    """With why, and what to do; the list of incidents does not need it."""
    _damage(store, ENTRY[damage])
    ran = run(verb, three[0].id)
    assert (ran.code, ran.out) == (2, "")
    assert "entry 2 cannot be read: " in ran.err
    assert "newer Firebreak" in ran.err
    assert run("incidents").code == 0


@pytest.mark.parametrize("damage", ENTRY)
def test_a_record_that_is_to_be_verified_is_verified_first(
    run: Run, three: list[Incident], store: Path, damage: str
) -> None:
    """The chain's own words come before those of the reader, whichever incident was asked for."""
    _damage(store, ENTRY[damage])
    for one in three:
        ran = run("timeline", one.id, "--verify")
        assert (ran.code, ran.out) == (2, "")
        assert "the timeline is not as it was written: entry 2 " in ran.err


@pytest.mark.parametrize("verb", [*VERBS, "incidents"])
@pytest.mark.parametrize("damage", BODY)
def test_a_body_of_another_shape_is_told_as_far_as_it_goes(
    run: Run, three: list[Incident], store: Path, verb: str, damage: str
) -> None:
    """Or refused with a sentence, where all of it is needed."""
    _damage(store, BODY[damage])
    ran = run(*(verb,) if verb == "incidents" else (verb, three[0].id))
    assert ran.code == (2 if verb == "explain" else 0), ran.err


def test_a_verdict_of_another_version_is_not_explained(run: Run, three: list[Incident], store: Path) -> None:
    """Nobody changed it: the digests are right, and what it says is not what this program knows."""
    one = three[0]

    def draft(kind: EntryKind, body: dict[str, object]) -> EntryDraft:
        return EntryDraft(incident_id=one.id, key=f"{kind}/7", kind=kind, at=one.opened_at, body={**body, "round": 7})

    async def write() -> None:
        async with await TimelineStore.open(store) as opened:
            verdict = draft(EntryKind.VERDICT_REACHED, {"verdict": {"severity": "P0"}})
            await opened.append([verdict, draft(EntryKind.FACTS_GATHERED, {"facts": {"pinned_at": 7}})])

    asyncio.run(write())
    ran = run("explain", one.id, "--round", "7")
    assert ran.code == 2
    assert "cannot be explained by this version of Firebreak" in ran.err


@pytest.mark.parametrize("damage", ROW)
def test_an_incident_whose_row_cannot_be_read_hides_no_other(
    run: Run, three: list[Incident], store: Path, damage: str
) -> None:
    """It is named beside the list, its record is there, and where it stands is not guessed."""
    _damage(store, ROW[damage], three[1].id)
    listed = run("incidents", "--json")
    assert (listed.code, [json.loads(line)["id"] for line in listed.out.splitlines()]) == (
        0,
        [three[2].id, three[0].id],
    )
    assert f"{three[1].id}: where it stands cannot be read" in listed.err
    assert run("show", three[0].id.rpartition("-")[2]).code == 0
    refused = run("show", three[1].id)
    assert refused.code == 2
    assert f"firebreak timeline {three[1].id}" in refused.err
    for verb in ("timeline", "postmortem", "explain"):
        assert run(verb, three[1].id.rpartition("-")[2]).code == 0


def test_a_fault_of_the_engine_that_cannot_be_read_hides_no_incident(
    run: Run, three: list[Incident], store: Path
) -> None:
    """It is told beside the list."""
    _damage(store, "UPDATE entries SET kind = 'engine.fault', incident_id = 'engine-x', body = '[]' WHERE seq = 2")
    listed = run("incidents")
    assert listed.code == 0
    assert all(one.id in listed.out for one in three)
    assert "about the engine itself: entry 2 cannot be read" in listed.err


@pytest.mark.parametrize("verb", [*VERBS, "timeline --verify"])
def test_a_record_that_is_gone_is_told(run: Run, three: list[Incident], store: Path, verb: str) -> None:
    """The store knows the incident, so that there must have been one: nothing printed would look like all is well."""
    _damage(store, "DELETE FROM entries")
    ran = run(*verb.split(), three[0].id)
    assert (ran.code, ran.out) == (2, "")
    assert f"the record of {three[0].id} is gone" in ran.err


def test_a_damaged_record_hides_no_other_fault_of_the_engine(run: Run, store: Path) -> None:
    """Of its own nobody can tell that it is over; the rest is told as ever."""

    def entry(record: str, key: str, kind: EntryKind) -> EntryDraft:
        return EntryDraft(incident_id=record, key=key, kind=kind, at=START, body={"error": record, "reason": key})

    async def keep() -> None:
        async with await TimelineStore.open(store) as timeline:
            for record in ("engine-one-1", "engine-two-2"):
                await timeline.append(
                    [entry(record, "fault", EntryKind.ENGINE_FAULT), entry(record, "well", EntryKind.RECOVERY_SEEN)]
                )

    asyncio.run(keep())
    _damage(store, "UPDATE entries SET body = '[]' WHERE incident_id = 'engine-one-1' AND key = 'well'")
    ran = run("incidents")
    assert ran.code == 0
    one, two = (
        next(line for line in ran.err.splitlines() if name in line) for name in ("engine-one-1", "engine-two-2")
    )
    assert ("over since" in one, "over since" in two) == (False, True)

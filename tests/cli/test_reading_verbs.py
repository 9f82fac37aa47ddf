"""The verbs that read the record, on a store made here, with no engine running."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.incident import Incident
from firebreak.storage import incidents as storage_incidents
from firebreak.storage.sqlite_store import TIMELINE_FILE
from firebreak.timeline.chain import DOMAIN
from tests.cli.conftest import HOSTILE, ROOT, Run, Typed, incident, write


def test_incidents_are_listed_newest_first(run: Run, three: list[Incident]) -> None:
    """One line each, with state and alert; a hostile name is one harmless line."""
    ran = run("incidents")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert [line.split()[0] for line in lines[1:]] == [one.id for one in reversed(three)]
    assert "waiting for person" in lines[3]
    assert "recovered" in lines[2]
    assert "\x1b" not in ran.out
    assert "[31m[red]<!channel> Errors" in lines[1]


def test_incidents_as_json_are_one_object_a_line(run: Run, three: list[Incident]) -> None:
    """For programs; the limit counts from the newest."""
    ran = run("incidents", "--json", "--limit", "2")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["id"] for row in rows] == [three[2].id, three[1].id]
    assert rows[0]["alertname"] == HOSTILE


def test_an_incident_is_found_by_id_part_and_last(run: Run, three: list[Incident]) -> None:
    """The whole id, a unique beginning, the end that pages show, and `last`."""
    oldest, newest = three[0], three[2]
    for text in (oldest.id, oldest.id[:19], oldest.id.rpartition("-")[2], oldest.id.upper()):
        assert run("show", text).out.startswith(oldest.id)
    assert run("show", "last").out.startswith(newest.id)


@pytest.mark.parametrize("verb", ["show", "timeline", "postmortem", "explain"])
def test_an_unknown_incident_is_told_with_the_nearest_ones(run: Run, three: list[Incident], verb: str) -> None:
    """A sentence and three ids, exit code 2, nothing on standard output."""
    wrong = three[1].id[:-1] + ("0" if three[1].id[-1] != "0" else "1")
    ran = run(verb, wrong)
    assert (ran.code, ran.out) == (2, "")
    assert f"no incident {wrong!r}" in ran.err
    assert f"Nearest: {three[1].id}" in ran.err


def test_one_among_very_many_is_found_without_reading_the_others(
    run: Run, three: list[Incident], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person at three in the morning types what the page shows: of the others nothing but the id is looked at."""
    read: list[str] = []
    row = storage_incidents._row

    def counted(found: Any) -> Any:
        read.append(found.id)
        return row(found)

    monkeypatch.setattr(storage_incidents, "_row", counted)
    assert run("show", three[0].id.rpartition("-")[2]).code == 0
    assert run("show", "nope").code == 2
    assert read == [three[0].id]


@pytest.mark.parametrize("words", [("incidents",), ("show", "last"), ("timeline", "last")], ids=lambda words: words[0])
def test_a_foreign_name_ends_nothing_on_a_terminal_that_is_not_utf_8(
    typed: Typed, data_dir: Path, words: tuple[str, ...]
) -> None:
    """What cannot be shown is a question mark."""
    asyncio.run(write(data_dir / TIMELINE_FILE, [incident(0), incident(1, alertname="\u652f\u4ed8Down")]))
    ran = typed(*words, "--data-dir", str(data_dir), PYTHONIOENCODING="latin-1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "??Down" in ran.stdout


@pytest.mark.parametrize("words", [("postmortem", "last"), ("incidents",), ("servers", "list")], ids=lambda w: w[0])
def test_a_full_disk_is_a_sentence(
    three: list[Incident], data_dir: Path, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    """Whatever is written where there is no room: no traceback, and not the interpreter's own words."""
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "firebreak", *words],
            env=environment | {"FIREBREAK_DATA_DIR": str(data_dir)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr.splitlines()) == (
        2,
        [
            "firebreak: nothing more can be written: No space left on device",
            "Free disk space, where the output goes or in the data directory, and try again.",
        ],
    )


def test_an_ambiguous_part_names_the_incidents(run: Run, three: list[Incident]) -> None:
    """Nothing is guessed."""
    ran = run("show", "inc-2026")
    assert ran.code == 2
    assert "not one incident but 3" in ran.err
    assert all(one.id in ran.err for one in three)


def test_a_directory_without_a_store_is_told(run: Run) -> None:
    """No store is made by looking for one."""
    ran = run("incidents")
    assert ran.code == 2
    assert TIMELINE_FILE in ran.err
    assert "Traceback" not in ran.err


def test_show_is_one_screen(run: Run, three: list[Incident]) -> None:
    """State, verdict, people, and what is next for whoever reads it."""
    ran = run("show", three[0].id)
    assert ran.code == 0
    assert len(ran.out.splitlines()) < 40
    for part in (
        "state    waiting for person, 1 alert firing",
        "target   lab/shop/Deployment/pay-v1",
        "verdict  P1 (true), may not act",
        "business blocked",
        "called",
        f"firebreak close {three[0].id}",
    ):
        assert part in ran.out
    assert f"next     firebreak postmortem {three[1].id}" in run("show", three[1].id).out


def test_show_says_which_cluster_an_incident_is_of(run: Run, elsewhere: Incident) -> None:
    """And that no evidence ends it."""
    ran = run("show", elsewhere.id)
    assert "Alert on pay of cluster prod" in ran.out or "P1 on pay of cluster prod" in ran.out
    assert "next     yours: it closes when its alerts have resolved, or by `firebreak close" in ran.out


def test_the_timeline_is_one_line_an_entry(run: Run, three: list[Incident]) -> None:
    """In order, with kind and sentence; a hostile name makes no line of its own."""
    lines = run("timeline", three[2].id).out.splitlines()
    kinds = ["incident.opened", "verdict.reached", "facts.gathered", "person.called", "incident.closed"]
    assert lines[0] == "2026-11-21 (UTC)"
    assert [kind in line for kind, line in zip(kinds, lines[1:], strict=True)] == [True] * len(kinds)


def test_a_json_line_is_all_that_is_needed_to_check_its_digest(run: Run, three: list[Incident]) -> None:
    """Canonical bytes: prefix, the line without its digest, SHA-256."""
    ran = run("timeline", "last", "--json")
    for text in ran.out.splitlines():
        digest = json.loads(text)["digest"]
        rest = text.replace(f'"digest":"{digest}",', "")
        assert hashlib.sha256(DOMAIN + rest.encode()).hexdigest() == digest


def _checked_by_the_documents(store: Path) -> subprocess.CompletedProcess[str]:
    """The program that `docs/architecture.md` gives to people who believe none of ours."""
    told = (ROOT / "docs" / "architecture.md").read_text().partition("### Checking the chain without Firebreak")[2]
    program = told.partition("```python\n")[2].partition("```")[0]
    command = [sys.executable, "-I", "-c", program, str(store)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_documents_alone_say_how_the_chain_is_checked(run: Run, three: list[Incident], data_dir: Path) -> None:
    """Their own program finds the same head as ours, and an entry that was changed."""
    ours = run("timeline", "last", "--verify").err.partition("chain is good: ")[2]
    assert _checked_by_the_documents(data_dir / TIMELINE_FILE).stdout == ours
    with contextlib.closing(sqlite3.connect(data_dir / TIMELINE_FILE)) as raw, raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute("UPDATE entries SET actor = 'nobody' WHERE seq = 7")
    changed = _checked_by_the_documents(data_dir / TIMELINE_FILE)
    assert (changed.returncode, changed.stderr) == (1, "the chain breaks at entry 7\n")


def test_verify_tells_the_head_of_the_chain_and_finds_an_edit(run: Run, three: list[Incident], data_dir: Path) -> None:
    """The chain goes over the whole store: an edit in one incident is found when another is read."""
    ran = run("timeline", three[0].id, "--verify", "--json")
    newest = run("timeline", "last", "--json").out.splitlines()[-1]
    assert f"14 entries, the last digest is {json.loads(newest)['digest']}" in ran.err
    _edit(data_dir / TIMELINE_FILE, three[2].id, "close", "recovered", "forgotten")
    broken = run("timeline", three[0].id, "--verify")
    assert broken.code == 2
    assert "changed after it was written" in broken.err


def _edit(path: Path, incident_id: str, key: str, old: str, new: str) -> None:
    """What somebody with the file can do: the guards against it are only triggers."""
    with sqlite3.connect(path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        changed = connection.execute(
            "UPDATE entries SET body = replace(body, ?, ?) WHERE incident_id = ? AND key = ?",
            (old, new, incident_id, key),
        )
        assert changed.rowcount == 1
    connection.close()


def test_a_post_mortem_is_printed_or_written(run: Run, three: list[Incident], tmp_path: Path) -> None:
    """Markdown by default, JSON on demand, the same bytes in a file; also for an incident that is still open."""
    shown = run("postmortem", three[0].id)
    path = tmp_path / "post.md"
    written = run("postmortem", three[0].id, "--output", str(path))
    assert shown.out.startswith(f"# Post-mortem `{three[0].id}`")
    assert "still **open**" in shown.out
    assert (written.out.strip(), path.read_text()) == (str(path), shown.out)
    data = json.loads(run("postmortem", "last", "--format", "json").out)
    assert (data["incident_id"], data["outcome"], data["schema"]) == (three[2].id, "recovered", 1)
    assert [phase["phase"] for phase in data["phases"]] == ["seen", "classified", "person called", "closed"]


def test_a_post_mortem_that_cannot_be_written_says_so(run: Run, three: list[Incident], tmp_path: Path) -> None:
    """A missing folder is the caller's mistake, told in a sentence."""
    ran = run("postmortem", "last", "--output", str(tmp_path / "none" / "post.md"))
    assert ran.code == 2
    assert "cannot write" in ran.err


def test_explain_recomputes_the_stored_verdict(run: Run, three: list[Incident]) -> None:
    """From facts and document alone; the tree is printed."""
    for words in (("last",), ("last", "--round", "0")):
        ran = run("explain", *words)
        assert ran.code == 0
        assert "business_blocked" in ran.out
        assert ran.out.endswith("recomputed: same verdict\n")


def test_explain_names_the_first_difference(run: Run, data_dir: Path) -> None:
    """A stored verdict that does not follow from its facts is told and fails."""
    asyncio.run(write(data_dir / TIMELINE_FILE, [incident(0)], lie=True))
    ran = run("explain", "last")
    assert ran.code == 1
    assert "another verdict than the stored one: verdict.severity: stored 'none', recomputed 'P1'" in ran.err


def test_explain_does_not_trust_facts_that_were_edited(run: Run, three: list[Incident], data_dir: Path) -> None:
    """Facts and verdict changed together would agree; their digests do not."""
    _edit(data_dir / TIMELINE_FILE, three[2].id, "facts/0", "blocked", "fine")
    ran = run("explain", "last")
    assert ran.code == 2
    assert "changed after it was written" in ran.err


def test_explain_says_which_looks_there_are(run: Run, three: list[Incident]) -> None:
    """A look that never was is a sentence."""
    ran = run("explain", "last", "--round", "7")
    assert ran.code == 2
    assert "no look 7" in ran.err
    assert "can be explained: 0" in ran.err

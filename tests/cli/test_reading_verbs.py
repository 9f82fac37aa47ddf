"""The verbs that read the record, on a store made here, with no engine running."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.cli.main import main
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.condition import Condition, ConditionKind, Dimension
from firebreak.domain.ids import incident_id
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import Facts
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from firebreak.timeline.chain import DOMAIN
from firebreak.triage.classify import classify
from firebreak.triage.tree import SeverityTree, TreeNode, tree_bytes, tree_from_bytes

START = datetime(2026, 11, 21, 8, 36, 44, 120_000, tzinfo=UTC)
HOSTILE = "Pay\x1b[31m[red]<!channel>\nErrors"

Run = Callable[..., "Ran"]


class Ran:
    """Exit code and what was printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def tree() -> SeverityTree:
    made = SeverityTree(
        name="p1",
        service="pay",
        step=timedelta(seconds=1),
        conditions=(
            Condition(
                name="business_blocked",
                kind=ConditionKind.LABEL,
                dimension=Dimension.BUSINESS,
                label="business_impact",
                label_values=("blocked",),
            ),
        ),
        nodes=(
            TreeNode(operator="any", depth=0),
            TreeNode(operator="condition", depth=1, condition="business_blocked"),
        ),
        may_act_dimensions=2,
        trusted_labels=(),
        source_digest="a" * 64,
        policy="default",
        policy_digest="b" * 64,
    )
    return tree_from_bytes(tree_bytes(made))


def incident(number: int, *, alertname: str = "PayErrors") -> Incident:
    accepted = START + timedelta(seconds=10 * number)
    alert = Alert(
        fingerprint=f"{number:016x}",
        status=AlertStatus.FIRING,
        labels={"alertname": alertname, "service": "pay", "business_impact": "blocked"},
        starts_at=accepted,
    )
    return Incident(
        id=incident_id(f"pay{number}", alert.key, accepted),
        opened_at=accepted,
        accepted_at=accepted,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key=f"pay{number}",
        service="pay",
        target=TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v1"),
        alert=alert,
    )


async def write(path: Path, incidents: list[Incident], *, lie: bool = False) -> None:
    """Open each, classify it, call a person for the first, close the others. `lie`: the stored verdict is another."""
    async with await TimelineStore.open(path) as store:
        for number, one in enumerate(incidents):
            at = one.opened_at

            def draft(
                key: str, kind: EntryKind, body: dict[str, Any], *, one: Incident = one, at: datetime = at
            ) -> EntryDraft:
                return EntryDraft(incident_id=one.id, key=key, kind=kind, at=at, body=body, duration_ms=1.5)

            await store.open_or_join(
                one,
                opened=draft("opened", EntryKind.INCIDENT_OPENED, to_data(one)),
                joined=draft("joined", EntryKind.ALERT_JOINED, {"alert": to_data(one.alert), "firing": 1}),
                messages=(),
            )
            known = tree()
            facts = Facts(
                pinned_at=at,
                step=known.step,
                labels=one.alert.labels,
                service=one.service,
                tree_digest=known.digest,
                bindings={},
                answers=(),
            )
            verdict = to_data(classify(facts, known)) | ({"severity": "none"} if lie else {})
            await store.append(
                [
                    draft("verdict/0", EntryKind.VERDICT_REACHED, {"verdict": verdict, "round": 0}),
                    draft("facts/0", EntryKind.FACTS_GATHERED, {"facts": to_data(facts), "round": 0}),
                    draft("person/high", EntryKind.PERSON_CALLED, {"reason": "one dimension is not enough"}),
                ],
                documents=[tree_bytes(known)],
                phase=(one.id, IncidentPhase.WAITING_FOR_PERSON),
            )
            if number > 0:
                ending = draft("close", EntryKind.INCIDENT_CLOSED, {"outcome": "recovered", "reason": "healthy again"})
                await store.close_incident(ending, IncidentOutcome.RECOVERED, messages=(), cancel_all=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def three(data_dir: Path) -> list[Incident]:
    """Three incidents, the oldest still open; the newest has a hostile name."""
    made = [incident(0), incident(1), incident(2, alertname=HOSTILE)]
    asyncio.run(write(data_dir / TIMELINE_FILE, made))
    return made


@pytest.fixture
def run(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("show", "last")` as the command line does it."""

    def ran(*words: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["firebreak", *words, "--data-dir", str(data_dir)])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        out, err = capfd.readouterr()
        return Ran(int(str(code or 0)), out, err)

    return ran


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

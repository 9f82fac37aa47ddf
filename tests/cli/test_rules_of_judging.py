"""`firebreak explain` on what other rules of judging than today's have judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from firebreak.domain.codec import to_data
from firebreak.domain.condition import (
    AnswerStatus,
    Comparison,
    Condition,
    ConditionKind,
    Dimension,
    MetricAnswer,
    Point,
    VolumeFloor,
)
from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import Facts
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from firebreak.triage.classify import JUDGED_BY, classify
from firebreak.triage.queries import newest_sample
from firebreak.triage.tree import SeverityTree, tree_bytes, tree_from_bytes
from tests.cli.conftest import START, Run, tree

STEP = timedelta(seconds=1)
ERRORS = Condition(
    name="many_errors",
    kind=ConditionKind.METRIC,
    dimension=Dimension.ERRORS,
    query="errors",
    comparison=Comparison.GE,
    threshold=0.05,
    held_for=5 * STEP,
    inputs=("m",),
    sample_step=STEP,
    volume=VolumeFloor(query="calls", at_least=20.0),
)
JUST_NOW, ALL_ALONG = ("1",) * 7 + ("20",), ("20",) * 8

Keep = Callable[[Sequence[str], int | None], None]


def _tree() -> SeverityTree:
    known = tree()
    nodes = (known.nodes[0], replace(known.nodes[1], condition=ERRORS.name))
    return tree_from_bytes(tree_bytes(replace(known, conditions=(ERRORS,), nodes=nodes)))


def _answer(key: str, values: Sequence[str]) -> MetricAnswer:
    points = (Point(at=START - (len(values) - 1 - n) * STEP, value=value) for n, value in enumerate(values))
    return MetricAnswer(key=key, status=AnswerStatus.OK, points=tuple(points))


def _facts(known: SeverityTree, calls: Sequence[str]) -> Facts:
    newest = _answer(newest_sample("m"), (str(START.timestamp() - 1),) * 8)
    return Facts(
        pinned_at=START,
        step=STEP,
        labels={},
        service="pay",
        tree_digest=known.digest,
        bindings={},
        answers=(_answer("errors", ("0.5",) * 8), _answer("calls", calls), newest),
    )


@pytest.fixture
def keep(three: list[Incident], data_dir: Path) -> Keep:
    """`keep(calls, 1)`: look 7, its facts of that version (None: it has no number) with so many calls at each step. Its
    verdict is that of version 1, which asked for calls enough at the pinned time alone."""

    def kept(calls: Sequence[str], version: int | None) -> None:
        known = _tree()
        verdict = to_data(classify(_facts(known, ALL_ALONG), known))
        facts = to_data(_facts(known, calls)) | {"judged_by": version}
        if version is None:
            del facts["judged_by"]

        def draft(kind: EntryKind, body: dict[str, object]) -> EntryDraft:
            return EntryDraft(
                incident_id=three[2].id, key=f"{kind}/7", kind=kind, at=three[2].opened_at, body={**body, "round": 7}
            )

        async def write() -> None:
            async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
                entries = [
                    draft(EntryKind.VERDICT_REACHED, {"verdict": verdict}),
                    draft(EntryKind.FACTS_GATHERED, {"facts": facts}),
                ]
                await store.append(entries, documents=[tree_bytes(known)])

        asyncio.run(write())

    return kept


@pytest.mark.parametrize("version", [None, 1])
def test_a_verdict_by_earlier_rules_is_told_as_it_is_stored(run: Run, keep: Keep, version: int | None) -> None:
    """The rules have changed and not the record: facts without a number are of version 1, and this is no failure."""
    keep(JUST_NOW, version)
    ran = run("explain", "last", "--round", "7")
    assert (ran.code, ran.err) == (0, "")
    assert "verdict  true: P1: many_errors" in ran.out
    assert (
        "as stored: an earlier version of the rules of judging (1) reached this verdict; "
        f"those of this Firebreak ({JUDGED_BY}) give another one: verdict."
    ) in ran.out


def test_a_verdict_by_later_rules_is_told_as_it_is_stored(run: Run, keep: Keep) -> None:
    """A program that was set back reads what the newer one judged."""
    keep(JUST_NOW, JUDGED_BY + 1)
    ran = run("explain", "last", "--round", "7")
    assert ran.code == 0
    assert f"a later version of the rules of judging ({JUDGED_BY + 1}) reached this verdict" in ran.out


def test_a_verdict_on_which_all_rules_agree_is_the_same(run: Run, keep: Keep) -> None:
    """Older facts are no reason to say anything else than ever."""
    keep(ALL_ALONG, None)
    ran = run("explain", "last", "--round", "7")
    assert ran.code == 0
    assert ran.out.endswith("recomputed: same verdict\n")


def test_a_difference_under_the_present_rules_is_a_failure(run: Run, keep: Keep) -> None:
    """Nothing but the record itself explains it."""
    keep(JUST_NOW, JUDGED_BY)
    ran = run("explain", "last", "--round", "7")
    assert ran.code == 1
    assert "verdict  pending: true but not held yet" in ran.out
    assert "another verdict than the stored one: verdict." in ran.err

"""What the demo shows while an incident runs: phase, tree, tier, verification."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from firebreak.cli.game_day import GameDay
from firebreak.cli.live import LiveStory
from firebreak.domain.codec import to_data
from firebreak.domain.condition import ConditionResult, Dimension, Truth
from firebreak.domain.incident import Incident, IncidentPhase
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.domain.verdict import NodeResult, Severity, Verdict
from firebreak.lab.state import LabState
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
STEP = {"tier": 0, "step": 0, "tier_name": "restart", "step_id": "restart-pods", "action": "restart_workload"}


def entry(kind: EntryKind, **body: Any) -> TimelineEntry:
    return TimelineEntry(
        seq=1,
        incident_id="inc-1",
        key="k",
        kind=kind,
        at=AT,
        actor="engine",
        target="",
        uid="",
        duration_ms=None,
        body=body,
    )


def verdict(truth: Truth) -> TimelineEntry:
    condition = ConditionResult(name="latency_p99", dimension=Dimension.LATENCY, truth=truth, reason="747.5 ms > 500")
    reached = Verdict(
        severity=Severity.P1 if truth is Truth.TRUE else Severity.NONE,
        truth=truth,
        may_act=False,
        act_reason="one dimension holds",
        reason="latency",
        pinned_at=AT,
        tree="p1",
        tree_digest="a" * 64,
        dimensions=(),
        conditions=(condition,),
        nodes=(
            NodeResult(operator="any", truth=truth),
            NodeResult(operator="condition", truth=truth, condition="latency_p99", depth=1),
        ),
    )
    return entry(EntryKind.VERDICT_REACHED, verdict=to_data(reached))


def shown(*said: TimelineEntry | IncidentPhase) -> list[str]:
    """The lines, without their seconds."""
    console = Console(record=True, width=200, file=io.StringIO())
    story = LiveStory(console)
    for one in said:
        if isinstance(one, IncidentPhase):
            story.say_phase(7.1, one)
        else:
            story.say(7.1, one)
    return [line.removeprefix("   7.1 s  ").strip() for line in console.export_text().splitlines()]


def test_a_change_of_phase_is_a_line_of_its_own() -> None:
    """In words, with its seconds like every other."""
    assert shown(IncidentPhase.ACTING, IncidentPhase.WAITING_FOR_PERSON) == [
        "phase acting",
        "phase waiting for person",
    ]


def test_every_line_about_a_step_names_its_tier() -> None:
    """Whatever the step is called: restart, reroute and degrade are what the issue asks to see."""
    lines = shown(
        entry(EntryKind.EFFECT_RECORDED, **STEP, effect={"outcome": "applied", "reason": "written"}),
        entry(EntryKind.VERIFICATION, **STEP, outcome="verified", reason="healthy"),
        entry(EntryKind.UNDO_RECORDED, **STEP, effect={"outcome": "applied", "reason": "put back"}),
    )
    assert [line.partition("  ")[0] for line in lines] == ["tier restart"] * 3
    assert lines[1] == "tier restart  Step restart-pods (restart_workload), verified: healthy."


def test_what_is_about_no_step_names_no_tier() -> None:
    """Such as the call for a person."""
    assert shown(entry(EntryKind.PERSON_CALLED, reason="no tier is left")) == ["A person is called: no tier is left."]


def test_the_tree_is_shown_when_its_truth_changes_and_not_again() -> None:
    """Each condition with its values; a look that found the same is one line."""
    lines = shown(verdict(Truth.PENDING), verdict(Truth.PENDING), verdict(Truth.TRUE))
    assert [" ".join(line.split()) for line in lines] == [
        "verdict pending, severity none",
        "pending any",
        "pending latency_p99 747.5 ms > 500",
        "verdict pending, severity none",
        "verdict true, severity P1; may not act yet: one dimension holds",
        "true any",
        "true latency_p99 747.5 ms > 500",
    ]


def test_the_longest_truth_stands_apart_from_its_condition() -> None:
    """`not_applicable` is as wide as its column."""
    line = shown(verdict(Truth.NOT_APPLICABLE))[-1]
    assert line.split() == ["not_applicable", "latency_p99", "747.5", "ms", ">", "500"]


def test_each_stored_phase_is_told_once_and_before_its_entries(data_dir: Path, three: list[Incident]) -> None:
    """As the store says it: looks that find the same phase tell nothing."""
    told: list[object] = []
    day = GameDay(
        state=cast(LabState, None),  # the store alone is asked
        data_dir=data_dir,
        say=lambda _, seen: told.append(seen.key),
        say_phase=lambda _, phase: told.append(phase),
    )
    incident = three[0].id
    later = EntryDraft(incident_id=incident, key="intent/0.0", kind=EntryKind.INTENT_RECORDED, at=AT, body={})

    async def looks() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            entries = await day._follow(store, incident, 0.0, lambda _: True)
            entries = await day._follow(store, incident, 0.0, lambda _: True, told=len(entries))
            await store.append([later], phase=(incident, IncidentPhase.ACTING))
            await day._follow(store, incident, 0.0, lambda _: True, told=len(entries))

    asyncio.run(looks())
    assert told == [
        IncidentPhase.WAITING_FOR_PERSON,
        "opened",
        "verdict/0",
        "facts/0",
        "person/high",
        IncidentPhase.ACTING,
        "intent/0.0",
    ]

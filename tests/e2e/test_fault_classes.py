"""Each fault class from the real alert to the end, judged by what the API server, the pager and the chat saw."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from firebreak.cli.game_day import EngineProcess, GameDay
from firebreak.domain.condition import Dimension, Truth
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab.faults import FAULTS, Fault
from firebreak.lab.shape import SERVICES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),  # a lab is started first
]

RESTART_V1, RESTART_V2, RESTART_ORDER = (("deployments", name) for name in ("pay-v1", "pay-v2", "order-v1"))
SHIFT_PAY, SHIFT_ORDER, FLAG = ("httproutes", "pay"), ("httproutes", "order"), ("configmaps", "shop-flags")

WRITES = {
    "wedged-pods": [RESTART_V1],
    "bad-release": [RESTART_V2, SHIFT_PAY, SHIFT_PAY],  # the last one takes the shift back: its restore
    "dead-dependency": [RESTART_ORDER, SHIFT_ORDER, SHIFT_ORDER, FLAG, FLAG],  # shift undone; flag restored
    "unfixable": [RESTART_V1],  # no other version answers: rerouting is refused
    "blip": [],
}

LOW = [("trigger", "warning", "notice"), ("resolve", "", "notice")]
PAGES = {
    "wedged-pods": LOW,
    "bad-release": LOW,
    "dead-dependency": LOW,
    "unfixable": [LOW[0], ("trigger", "critical", "page"), ("resolve", "", "page"), LOW[1]],
    "blip": [],
}

TOLD = {
    "wedged-pods": ["classified", "applied/0.0", "healed/0.0", "closed"],
    "bad-release": ["classified", "applied/0.0", "not-verified/0.0", "applied/1.0", "healed/1.0", "closed"],
    "dead-dependency": [
        *("classified", "applied/0.0", "not-verified/0.0", "applied/1.0", "not-verified/1.0", "undone/1.0"),
        *("applied/2.0", "healed/2.0", "closed"),
    ],
    "unfixable": ["classified", "applied/0.0", "not-verified/0.0", "refused/1.0", "person/high", "closed"],
    "blip": [],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(world: Any) -> AsyncIterator[EngineProcess]:
    """One engine for all fault classes, as in the demo."""
    async with world.engine("acting") as started:
        yield started


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
async def test_a_fault_class_ends_as_it_says(world: Any, engine: EngineProcess, fault: Fault) -> None:
    """Ending, writes, pages, thread, record and post-mortem of one fault class."""
    since = world.marks()
    ending = await GameDay(state=engine.state, data_dir=engine.data_dir).play(fault)
    incident_id = ending.incident_id
    assert not ending.problems

    # The API server: exactly the writes that the tiers explain, each with a mark of its own.
    assert world.writes(since) == WRITES[fault.name]

    # The pager: low urgency at classification, resolved when healed; high urgency only where nothing heals.
    assert world.pages(since, incident_id) == PAGES[fault.name]

    # The chat: one thread in the service's channel, in the order of the phases.
    posts = [p for p in world.posts(since, incident_id) if not p[0].startswith("chat/restore")]
    assert [key.removeprefix("chat/") for key, *_ in posts] == TOLD[fault.name]
    assert {channel for _, channel, *_ in posts} <= {SERVICES[fault.service].chat_channel}
    assert all(thread == posts[0][3] for _, _, thread, _ in posts[1:])
    assert not posts or posts[0][2] == ""

    # Prometheus: the fault trips what it states (a busy machine may trip more); two held where it was acted on.
    entries = await world.entries(engine, incident_id)
    assert await world.tripped(entries) >= fault.trips
    assert (len(_held(entries)) >= 2) is (fault.outcome is not IncidentOutcome.NOTHING_DONE)

    # The record: what a restart destroys was kept before the first intent; the chain holds; the verdict is the same.
    kinds = world.kinds(entries)
    if EntryKind.INTENT_RECORDED in kinds:
        assert kinds.index(EntryKind.EVIDENCE_KEPT) < kinds.index(EntryKind.INTENT_RECORDED)
    assert kinds.count(EntryKind.INTENT_RECORDED) == len(WRITES[fault.name])
    assert kinds.count(EntryKind.INCIDENT_CLOSED) == 1
    code, out, err = await world.firebreak(engine, "explain", incident_id)
    assert (code, err) == (0, "")
    assert "recomputed: same verdict" in out
    code, _, err = await world.firebreak(engine, "timeline", incident_id, "--verify")
    assert code == 0
    assert "chain is good" in err
    _postmortem_tells_it(ending.postmortem, fault)


def _held(entries: Sequence[TimelineEntry]) -> set[Dimension]:
    """Dimensions in which a condition was true in any look."""
    looks = [e.body["verdict"]["conditions"] for e in entries if e.kind is EntryKind.VERDICT_REACHED]
    return {Dimension(result["dimension"]) for look in looks for result in look if result["truth"] == Truth.TRUE}


def _postmortem_tells_it(path: Any, fault: Fault) -> None:
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["outcome"] == fault.outcome.value
    assert len(told["verdict"]["conditions"]) >= 6
    assert told["verdict"]["nodes"][0]["depth"] == 0
    phases = {phase["phase"]: phase["took_ms"] for phase in told["phases"]}
    assert {"seen", "classified", "closed"} <= set(phases)
    assert all(took >= 0 for took in phases.values())
    written = [step for step in told["actions"] if step["effect"] == "applied"]
    for step in written:
        assert step["changes"]
        assert all(change["before"] != change["after"] for change in step["changes"])
    assert bool(written) == bool(WRITES[fault.name])
    text = path.read_text()
    for heading in ("## Summary", "## Impact", "## Severity", "## Timeline", "## Phase timings"):
        assert heading in text
    for condition in told["verdict"]["conditions"]:
        assert f"`{condition['name']}`" in text
    for step in written:
        assert "| Field | Before | After |" in text
        assert all(change["path"] in text for change in step["changes"])

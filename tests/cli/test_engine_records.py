"""What pages about the engine itself name can be read, though it is no incident."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activities import notices
from firebreak.domain.incident import Incident
from firebreak.domain.message import Message, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from tests.cli.conftest import HOSTILE, START, Run

FAULT = "engine-00ff-1795291200"


@pytest.fixture
def fault(data_dir: Path) -> EntryDraft:
    """A fault of the engine itself: a page names it, but it is no incident."""
    body = {"where": "FirebreakAlertRefused", "error": f"257 labels {HOSTILE}", "next_step": "Handle it by hand."}
    draft = EntryDraft(incident_id=FAULT, key="fault", kind=EntryKind.ENGINE_FAULT, at=START, body=body)

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([draft])

    asyncio.run(keep())
    return draft


def test_what_a_page_about_the_engine_itself_names_is_shown(run: Run, fault: EntryDraft) -> None:
    """What is wrong, since when, and what to do; also while there is no incident yet."""
    ran = run("show", FAULT)
    assert ran.code == 0
    assert f"{FAULT}  about the engine itself" in ran.out
    assert "what     257 labels Pay" in ran.out
    assert "next     Handle it by hand. Then end this page: firebreak close" in ran.out
    assert "\x1b" not in ran.out
    assert "engine.fault" in run("timeline", FAULT.upper()).out


def test_a_fault_of_the_engine_that_is_over_asks_for_nothing(run: Run, fault: EntryDraft, data_dir: Path) -> None:
    """As that of waiting alerts is once they have been taken up."""
    body = {"reason": "the waiting alerts have been taken up"}
    over = EntryDraft(incident_id=FAULT, key="taken-up", kind=EntryKind.RECOVERY_SEEN, at=START, body=body)

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([over])

    asyncio.run(keep())
    shown = run("show", FAULT).out
    assert "over since" in shown
    assert "next     nothing" in shown
    assert f", over since {START:%Y-%m-%d %H:%M:%S}: 257 labels" in run("incidents").err


def test_a_fault_of_the_engine_that_came_back_is_open(run: Run, fault: EntryDraft, data_dir: Path) -> None:
    """Its alert resolved and fired again."""
    over = replace(fault, key="ended/2", kind=EntryKind.RECOVERY_SEEN, body={"reason": "the alert resolved"})

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([over, replace(fault, key="fault/3")])

    asyncio.run(keep())
    shown = run("show", FAULT).out
    assert "state    open" in shown
    assert "firebreak close" in shown
    assert "over" not in run("incidents").err


@pytest.mark.parametrize("verb", ["postmortem", "explain"])
def test_what_only_incidents_have_is_refused_for_the_engine_itself(run: Run, fault: EntryDraft, verb: str) -> None:
    """With what can be read instead."""
    ran = run(verb, FAULT)
    assert ran.code == 2
    assert f"{FAULT} is about the engine itself, and no incident" in ran.err
    assert f"firebreak show {FAULT}" in ran.err


def test_faults_of_the_engine_are_told_beside_the_list(run: Run, three: list[Incident], fault: EntryDraft) -> None:
    """On standard error: the list itself stays one incident a line. A fault within an incident is that one's."""
    ran = run("incidents")
    assert len(ran.out.splitlines()) == 1 + len(three)
    (line,) = ran.err.splitlines()
    assert line.endswith(f"(firebreak show {FAULT})")
    assert "257 labels" in line
    assert "\x1b" not in line


def test_an_incident_with_a_fault_of_the_engine_is_an_incident(run: Run, three: list[Incident], data_dir: Path) -> None:
    """Its record is shown as ever, and the fault is not told a second time."""
    body = {"where": "restore", "error": "overdue", "next_step": "Take it back by hand."}
    draft = EntryDraft(
        incident_id=three[0].id, key="restore-overdue/0.0", kind=EntryKind.ENGINE_FAULT, at=START, body=body
    )

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([draft])

    asyncio.run(keep())
    assert "verdict" in run("show", three[0].id).out
    assert run("incidents").err == ""


def test_a_step_of_the_clock_is_read_by_its_id(run: Run, data_dir: Path) -> None:
    """It explains why times go back in other records; it called nobody, so that nothing of it can be ended."""
    body = {"before": "2026-11-21T09:36:44.000000Z", "after": "2026-11-21T08:36:44.000000Z"}
    draft = EntryDraft(
        incident_id="clock-1795291200", key="set-back/1", kind=EntryKind.CLOCK_SET_BACK, at=START, body=body
    )

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([draft])

    asyncio.run(keep())
    shown = run("show", "clock-1795291200")
    assert shown.code == 0
    assert "set back" in shown.out
    assert "next     nothing" in shown.out
    assert "clock.set_back" in run("timeline", "clock-1795291200").out
    ended = run("close", "clock-1795291200", "--reason", "seen")
    assert (ended.code, "there is nothing to end" in ended.err) == (2, True)


def tell(data_dir: Path, *drafts: EntryDraft) -> None:
    """Write them."""

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append(drafts)

    asyncio.run(keep())


def record(data_dir: Path) -> tuple[TimelineEntry, ...]:
    async def read() -> tuple[TimelineEntry, ...]:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            return await store.entries(FAULT)

    return asyncio.run(read())


def delivered(fault: EntryDraft, key: str, action: PagerAction) -> EntryDraft:
    """The pager took that message."""
    body = {"channel": "pager", "key": key, "pager": action.value, "receipt": "r"}
    return replace(fault, key=f"message/{key}", kind=EntryKind.MESSAGE_DELIVERED, body=body)


def test_a_page_about_the_engine_itself_is_ended_by_hand(run: Run, fault: EntryDraft, data_dir: Path) -> None:
    """The wish is in the record, and what resolves the page waits in the outbox: once, however often it is asked."""
    tell(data_dir, delivered(fault, "pager/fault", PagerAction.TRIGGER_HIGH))
    for reason, said in (("looked at it", "close requested;"), ("again", "requested before, by ada;")):
        ran = run("close", FAULT, "--reason", reason, "--by", "ada")
        assert (ran.code, said in ran.out) == (0, True), ran.out + ran.err

    async def due() -> tuple[Message, ...]:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            return await store.due(datetime.now(UTC), limit=9)

    (message,) = asyncio.run(due())
    assert (message.draft.incident_id, message.draft.pager) == (FAULT, PagerAction.RESOLVE_HIGH)
    shown = run("show", FAULT).out
    assert "over since" in shown
    assert "looked at it" in shown
    assert "next     nothing" in shown


def test_a_page_about_the_engine_itself_that_came_back_is_ended_by_hand(
    run: Run, fault: EntryDraft, data_dir: Path
) -> None:
    """Its alert resolved and fired again after the first close: the second one is a wish of its own."""
    assert run("close", FAULT, "--reason", "looked at it", "--by", "ada").code == 0
    over = replace(fault, key="ended/2", kind=EntryKind.RECOVERY_SEEN, body={"reason": "the alert resolved"})
    again = replace(fault, key="fault/3")

    async def come_back() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            (first,) = await store.due(datetime.now(UTC), limit=9)
            await store.delivered(first, "receipt", entry=replace(over, key="sent", kind=EntryKind.MESSAGE_DELIVERED))
            await store.append([over, again])

    asyncio.run(come_back())
    assert "close requested;" in run("close", FAULT, "--reason", "handled", "--by", "bob").out

    async def due() -> tuple[Message, ...]:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            return await store.due(datetime.now(UTC), limit=9)

    (message,) = asyncio.run(due())
    assert (message.draft.incident_id, message.draft.pager) == (FAULT, PagerAction.RESOLVE_HIGH)
    assert "handled" in run("show", FAULT).out


def test_a_page_about_the_engine_itself_that_has_been_ended_is_over(
    run: Run, fault: EntryDraft, data_dir: Path
) -> None:
    """The pager took what resolves it: as with an incident, a further close says so and changes nothing."""
    tell(data_dir, delivered(fault, "pager/fault", PagerAction.TRIGGER_HIGH))
    assert run("close", FAULT, "--reason", "looked at it", "--by", "ada").code == 0
    tell(data_dir, delivered(fault, "pager/fault/closed", PagerAction.RESOLVE_HIGH))
    before = record(data_dir)
    ran = run("close", FAULT, "--reason", "again", "--by", "bob")
    assert (ran.code, "is over already: closed by ada, looked at it" in ran.err) == (2, True)
    assert f"firebreak show {FAULT}" in ran.err
    assert record(data_dir) == before


def test_a_page_about_the_engine_itself_whose_alert_resolved_is_not_closed(
    run: Run, fault: EntryDraft, data_dir: Path
) -> None:
    """What ended it, and when, stays as it was."""
    over = replace(fault, key="ended/2", kind=EntryKind.RECOVERY_SEEN, body={"reason": "the alert resolved"})
    tell(data_dir, delivered(fault, "pager/fault", PagerAction.TRIGGER_HIGH), over)
    before = record(data_dir)
    ran = run("close", FAULT, "--reason", "seen", "--by", "ada")
    assert (ran.code, "is over already: the alert resolved" in ran.err) == (2, True)
    assert record(data_dir) == before


def test_a_page_about_the_engine_itself_that_did_not_get_through_is_taken_back(run: Run, data_dir: Path) -> None:
    """Nobody is called any more for what a person has handled. It was due, so it may be on its way: its end is sent,
    and until then it is not over."""
    draft, page = notices.fault(FAULT, "GatewayBacklog", "alerts wait", START)

    async def keep() -> None:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            await store.append([draft], messages=[page])

    asyncio.run(keep())
    assert run("close", FAULT, "--reason", "handled").code == 0

    async def due() -> tuple[Message, ...]:
        async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
            return await store.due(datetime.now(UTC), limit=9)

    assert [m.draft.pager for m in asyncio.run(due())] == [PagerAction.RESOLVE_HIGH]
    assert "close was requested before" in run("close", FAULT, "--reason", "again").out

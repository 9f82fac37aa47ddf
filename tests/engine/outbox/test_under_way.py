"""What hangs or takes long: it keeps its own place and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from activities import notices
from firebreak.domain.message import Channel, NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.outbox import OTHERS


async def test_a_hanging_chat_does_not_hold_up_a_page(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More messages hang than a batch holds: the pager's own loop goes on, for new ones too."""
    hanging = 0

    async def hang(*args: Any, **kwargs: Any) -> str:
        nonlocal hanging
        hanging += 1
        await asyncio.Event().wait()
        raise AssertionError("never set")

    monkeypatch.setattr(desk.people, "post", hang)
    for number in range(60):
        incident = f"inc-{number}"
        fault = EntryDraft(incident_id=incident, key="f", kind=EntryKind.ENGINE_FAULT, at=desk.now, body={})
        chat = notices.chat(incident, NoticeKind.PERSON_NEEDED, "x", desk.now)
        await desk.store.append([fault], messages=[chat])
    desk.people.routes |= {"": Route(chat_channel="C0", pager_key="fallback")}
    async with desk.running():
        async with asyncio.timeout(10):
            while not hanging:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.01)
        await desk.tell(*desk.classified())
        await desk.sent_by(("pager", "trigger_low"))
        desk.clock.forward(60)
        await desk.sent_by(("pager", "trigger_high"))
        assert hanging <= OTHERS[Channel.CHAT]


async def test_one_hanging_page_does_not_hold_up_the_others(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice that hangs, and a call that hangs, keep no later call from going out, of any incident."""
    send, stuck = desk.people.send, []

    async def sometimes(key: str, action: PagerAction, *, incident_id: str, **rest: Any) -> Any:
        if action is PagerAction.TRIGGER_LOW or incident_id == "inc-stuck":
            stuck.append((incident_id, action))
            await asyncio.Event().wait()
        return await send(key, action, incident_id=incident_id, **rest)

    monkeypatch.setattr(desk.people, "send", sometimes)
    low, high = PagerAction.TRIGGER_LOW, PagerAction.TRIGGER_HIGH
    for number in range(OTHERS[Channel.PAGER] + 2):
        await desk.tell(notices.pager(f"inc-{number}", NoticeKind.CLASSIFIED, "n", low, desk.now))
    await desk.tell(notices.pager("inc-stuck", NoticeKind.PERSON_NEEDED, "p", high, desk.now))
    await desk.tell(notices.pager("inc-stuck", NoticeKind.PERSON_NEEDED, "q", high, desk.now))
    async with desk.running():
        async with asyncio.timeout(10):
            while len(stuck) < OTHERS[Channel.PAGER] + 1:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.01)
        await desk.tell(*notices.person_needed("inc-0", "person/high", "why", desk.now))
        await desk.tell(*notices.person_needed("inc-new", "person/high", "why", desk.now))
        await desk.sent_by(("pager", "trigger_high"), 2)
        assert len(stuck) == len(set(stuck)), "one of an incident at a time, and each once"
        assert len(stuck) == OTHERS[Channel.PAGER] + 1


async def test_a_place_that_is_free_is_taken_at_once(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message hangs, hundreds pass it, each once, many under way at once and never more than the limit."""
    under_way, most, seen = 0, 0, []

    async def slow(channel: str, text: NoticeText, *, thread: str, dedup: str) -> str:
        nonlocal under_way, most
        seen.append(dedup)
        under_way += 1
        most = max(most, under_way)
        await (asyncio.Event().wait() if dedup.startswith("inc-0/") else asyncio.sleep(0.005))
        under_way -= 1
        return "ts"

    monkeypatch.setattr(desk.people, "post", slow)
    desk.people.routes |= {"": Route(chat_channel="C0", pager_key="fallback")}
    for number in range(200):
        incident = f"inc-{number}"
        fault = EntryDraft(incident_id=incident, key="f", kind=EntryKind.ENGINE_FAULT, at=desk.now, body={})
        await desk.store.append([fault], messages=[notices.chat(incident, NoticeKind.PERSON_NEEDED, "x", desk.now)])
    async with desk.running(), asyncio.timeout(20):
        while len(seen) < 200:  # noqa: ASYNC110 # the fake tells nobody
            await asyncio.sleep(0.01)
    assert len(set(seen)) == 200
    assert 1 < most <= OTHERS[Channel.CHAT]


async def test_what_ends_while_the_outbox_is_read_is_not_sent_again(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of the store that is older than a delivery says nothing new."""
    due, go = desk.store.due, asyncio.Event()
    send, stale = desk.people.send, asyncio.Event()

    async def old_answer(*args: Any, **kwargs: Any) -> Any:
        found = await due(*args, **kwargs)
        if desk.people.sent or not found:
            return found
        if go.is_set():  # the second look: it was read while the first delivery was under way
            stale.set()
            while desk.state("pager/x")[0] != "delivered":  # noqa: ASYNC110 # the file tells nobody
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        go.set()
        return found

    async def held(*args: Any, **kwargs: Any) -> Any:
        await stale.wait()
        return await send(*args, **kwargs)

    monkeypatch.setattr(desk.store, "due", old_answer)
    monkeypatch.setattr(desk.people, "send", held)
    await desk.tell(
        notices.pager(desk.incident_id, NoticeKind.PERSON_NEEDED, "pager/x", PagerAction.TRIGGER_HIGH, desk.now)
    )
    looks = 0
    async with desk.running():
        await desk.sent_by(("pager", "trigger_high"))
        async with asyncio.timeout(10):
            while looks < 50:
                looks += 1
                await asyncio.sleep(0.01)
    assert desk.people.sent == [("pager", "trigger_high")]


async def test_a_resolve_waits_for_the_call_that_was_taken_back_under_way(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healed while the deadline's call is being sent: its resolve comes after it, and is not dropped as needless."""
    send, begun, go = desk.people.send, asyncio.Event(), asyncio.Event()

    async def held(key: str, action: PagerAction, **rest: Any) -> Any:
        if action is PagerAction.TRIGGER_HIGH:
            begun.set()
            await go.wait()
        return await send(key, action, **rest)

    monkeypatch.setattr(desk.people, "send", held)
    await desk.tell(*desk.classified())
    await desk.all()
    desk.clock.forward(60)
    async with desk.running():
        await asyncio.wait_for(begun.wait(), 10)
        await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=(notices.DEADLINE,))
        looks = 0
        due = desk.store.due

        async def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal looks
            looks += 1
            return await due(*args, **kwargs)

        monkeypatch.setattr(desk.store, "due", counted)
        async with asyncio.timeout(10):
            while looks < 9:  # noqa: ASYNC110 # the pager's loop has seen the resolves by then
                await asyncio.sleep(0.01)
        go.set()
        await desk.sent_by(("pager", "resolve_high"))
    high = [what for channel, what in desk.people.sent if channel == "pager" and what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high"]

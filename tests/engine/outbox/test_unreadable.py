"""A message that nobody can read any more silences no other, and a person hears of what may have been a call."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

from firebreak.domain.errors import LedgerError
from firebreak.domain.message import PagerAction
from firebreak.domain.timeline import EntryKind

CALL = ("pager", "trigger_high")


def damage(desk: Any, key: str, change: str = "body = '{'") -> int:
    """Spoils the row; its number."""
    with closing(sqlite3.connect(desk.folder / "timeline.sqlite")) as raw, raw:
        raw.execute(f"UPDATE messages SET {change} WHERE key = ?", (key,))
        return int(raw.execute("SELECT number FROM messages WHERE key = ?", (key,)).fetchone()[0])


async def test_a_call_that_cannot_be_read_calls_a_person_once(desk: Any) -> None:
    """Under a record of its own, which names the incident; the incident's says that it was not sent."""
    await desk.tell(*desk.classified(60))
    await desk.all()
    number = damage(desk, "deadline")
    assert CALL not in desk.people.sent
    desk.clock.forward(60)
    await desk.all()
    desk.clock.forward(3600)
    await desk.all()
    assert desk.people.sent.count(CALL) == 1
    assert desk.incident_id in str(desk.people.texts[-1])
    assert desk.state("deadline")[0] == "given_up"
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert (failed["key"], failed["given_up"]) == ("deadline", True)
    (fault,) = await desk.entries(EntryKind.ENGINE_FAULT, f"damaged-message-{number}")
    assert f"firebreak show {desk.incident_id}" in fault["error"]


async def test_a_line_that_cannot_be_read_calls_nobody(desk: Any) -> None:
    """The chat's thread goes on behind it, and the record says what it lacks."""
    await desk.tell(*desk.classified(60))
    damage(desk, "chat/classified", "notice = 'x'")
    await desk.all()
    assert CALL not in desk.people.sent
    assert ("pager", "trigger_low") in desk.people.sent
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert failed["key"] == "chat/classified"


async def test_while_it_cannot_be_given_up_the_others_go_out(desk: Any, monkeypatch: Any) -> None:
    """A full disk: it is tried again after a pause, not at each look, and then a person is called."""
    await desk.tell(*desk.classified(0))
    damage(desk, "deadline")
    tries: list[int] = []

    async def full(*_: object, **__: object) -> None:
        tries.append(1)
        raise LedgerError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "give_up", full)
        for _ in range(4):
            await desk.sender.drain()
    before = len(tries)
    assert ("pager", "trigger_low") in desk.people.sent
    assert before == 2, "with the incident's entry, and without it"
    desk.clock.forward(15)
    await desk.all()
    assert CALL in desk.people.sent


async def test_a_record_that_cannot_be_written_keeps_nobody_from_hearing(desk: Any, monkeypatch: Any) -> None:
    """The incident's own: the call about the damage goes out without its entry there."""
    await desk.tell(*desk.classified(0))
    damage(desk, "deadline")
    give_up = desk.store.give_up

    async def picky(message: Any, *, entries: Any, messages: Any) -> None:
        if any(entry.incident_id == desk.incident_id for entry in entries):
            raise LedgerError("that record is damaged, too")
        await give_up(message, entries=entries, messages=messages)

    monkeypatch.setattr(desk.store, "give_up", picky)
    await desk.all()
    assert CALL in desk.people.sent
    assert await desk.entries(EntryKind.MESSAGE_FAILED) == []


async def test_a_resolve_that_cannot_be_read_calls_nobody(desk: Any) -> None:
    """The page stays open, which the record says; a second one would be of no use."""
    await desk.tell(*desk.classified(0))
    await desk.all()
    ending = desk.classified(0)[1]
    await desk.tell(replace(ending, key="pager/closed-high", pager=PagerAction.RESOLVE_HIGH))
    damage(desk, "pager/closed-high")
    sent = list(desk.people.sent)
    await desk.all()
    assert desk.people.sent == sent
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert failed["key"] == "pager/closed-high"

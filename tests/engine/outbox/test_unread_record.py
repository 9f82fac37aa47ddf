"""An incident whose record cannot be read: whoever must be called about it is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from activities import notices
from firebreak.domain.message import NoticeKind, PagerAction, Route
from firebreak.domain.timeline import EntryKind
from firebreak.engine.outbox import OutboxSender

TRIGGER, RESOLVE = ("pager", "trigger_high"), ("pager", "resolve_high")
AT = "at = '?'"
BODY = "body = CAST(X'7B22FF' AS TEXT)"
LARGE = "body = '{' || hex(zeroblob(1000))"  # decoded when it is read


async def damage(desk: Any, change: str, key: str = "opened") -> None:
    """Spoils an entry of the incident, before anybody has read it."""
    await desk.store._write(lambda raw: raw.execute("DROP TRIGGER IF EXISTS entries_never_change"))
    await desk.store._write(lambda raw: raw.execute(f"UPDATE entries SET {change} WHERE key = ?", (key,)))


async def sent_by_now(desk: Any) -> None:
    """After the tries at the record of all that waits."""
    for _ in range(9):
        await desk.all()
        desk.clock.forward(2)


def fresh_sender(desk: Any, fallback_key: str) -> None:
    """As after a restart; a service that is not known has the fallback key, as in production."""
    desk.sender = OutboxSender(replace(desk.sender._parts, fallback_key=fallback_key))
    desk.people.route = lambda service: desk.people.routes.get(service, Route(pager_key=fallback_key))


@pytest.mark.parametrize("change", [AT, BODY, LARGE])
async def test_a_call_whose_record_cannot_be_read_goes_out_in_plain_words(desk: Any, change: str) -> None:
    """By the fallback key, within seconds and once, with the reason, the incident and what is the matter in it."""
    await damage(desk, change)
    fresh_sender(desk, "fallback")
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    await desk.all()
    assert desk.people.sent == []  # what cannot be read may be so for a moment only
    await sent_by_now(desk)
    desk.clock.forward(3600)
    await desk.all()
    assert desk.people.sent == [TRIGGER]
    assert desk.people.keys == ["fallback"]
    assert desk.incident_id in desk.people.texts[0].title
    assert "nothing healed" in desk.people.texts[0].lines[0]
    assert "record cannot be read" in desk.people.texts[0].lines[1]
    assert desk.state("pager/person/high")[0] == "delivered"


async def test_a_record_that_can_be_read_again_makes_its_own_call(desk: Any) -> None:
    """A fault of a moment costs neither the words nor the key."""
    await damage(desk, AT)
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    await desk.all()
    await damage(desk, f"at = '{desk.now:%Y-%m-%dT%H:%M:%S}.000000Z'")
    await sent_by_now(desk)
    assert (desk.people.sent.count(TRIGGER), desk.people.keys) == (1, ["paykey"])
    assert "record cannot be read" not in str(desk.people.texts[0].lines)


async def test_no_later_call_waits_for_one_whose_record_cannot_be_read(desk: Any) -> None:
    """Nor for what ends one, which goes to every key that is known: nobody knows which one took the call."""
    await damage(desk, AT)
    fresh_sender(desk, "fallback")
    for key, action in (("a", PagerAction.TRIGGER_HIGH), ("b", PagerAction.RESOLVE_HIGH)):
        await desk.tell(desk.pager(key, action))
    await desk.tell(desk.pager("c", PagerAction.TRIGGER_HIGH))
    await sent_by_now(desk)
    assert desk.people.sent == [TRIGGER, RESOLVE, TRIGGER]
    assert desk.people.keys == ["fallback", "fallback", "fallback"]


async def test_who_was_called_is_told_the_end_after_a_restart_though_the_record_cannot_be_read(desk: Any) -> None:
    """The first entry, which names the service, may be whole; the record says of the end what nobody could know."""
    await desk.tell(*desk.classified())
    await desk.all()
    await damage(desk, AT, "message/chat/classified")
    desk.people.sent.clear()
    desk.people.keys.clear()
    fresh_sender(desk, "fallback")
    await desk.tell(desk.pager("a", PagerAction.TRIGGER_HIGH), desk.pager("b", PagerAction.RESOLVE_HIGH))
    await sent_by_now(desk)
    assert (desk.people.sent, desk.people.keys) == ([TRIGGER, RESOLVE, RESOLVE], ["paykey", "paykey", "fallback"])
    await damage(desk, f"at = '{desk.now:%Y-%m-%dT%H:%M:%S}.000000Z'", "message/chat/classified")
    told = [
        entry for entry in await desk.entries(EntryKind.MESSAGE_FAILED) if "resolve it there by hand" in entry["error"]
    ]
    assert [(entry["key"], entry["given_up"]) for entry in told] == [("b", False)]


async def test_the_end_of_a_call_for_which_no_key_is_known_is_never_given_up(desk: Any) -> None:
    """It waits until the record can be read, and then goes to who was called."""
    await desk.tell(desk.pager("a", PagerAction.TRIGGER_HIGH))
    await desk.all()
    await damage(desk, AT)
    fresh_sender(desk, "")
    await desk.tell(desk.pager("b", PagerAction.RESOLVE_HIGH))
    await sent_by_now(desk)
    assert desk.people.sent == [TRIGGER]
    await damage(desk, f"at = '{desk.now:%Y-%m-%dT%H:%M:%S}.000000Z'")
    desk.clock.forward(120)
    await desk.all()
    assert (desk.people.sent, desk.people.keys) == ([TRIGGER, RESOLVE], ["paykey", "paykey"])


async def test_what_calls_nobody_waits_until_the_record_can_be_read(desk: Any) -> None:
    """Nothing of it has left, so nothing of it may have arrived."""
    await damage(desk, AT)
    low = notices.pager(desk.incident_id, NoticeKind.CLASSIFIED, "low", PagerAction.TRIGGER_LOW, desk.now)
    await desk.tell(low)
    await desk.all()
    assert (desk.people.tried, desk.state("low")) == ([], ("waiting", 1))
    await damage(desk, f"at = '{desk.now:%Y-%m-%dT%H:%M:%S}.000000Z'")
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert failed["may_have_arrived"] is False
    desk.clock.forward(1)
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_low")]

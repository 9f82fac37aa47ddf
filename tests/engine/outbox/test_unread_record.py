"""An incident whose record cannot be read: whoever must be called about it is called."""

from __future__ import annotations

from typing import Any

import pytest

from activities import notices
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.timeline import EntryKind

TRIGGER, RESOLVE = ("pager", "trigger_high"), ("pager", "resolve_high")
AT = "at = '?'"
BODY = "body = CAST(X'7B22FF' AS TEXT)"
LARGE = "body = '{' || hex(zeroblob(1000))"  # decoded when it is read


async def damage(desk: Any, change: str, key: str = "opened") -> None:
    """Spoils an entry of the incident, before anybody has read it."""
    await desk.store._write(lambda raw: raw.execute("DROP TRIGGER IF EXISTS entries_never_change"))
    await desk.store._write(lambda raw: raw.execute(f"UPDATE entries SET {change} WHERE key = ?", (key,)))


@pytest.mark.parametrize("change", [AT, BODY, LARGE])
async def test_a_call_whose_record_cannot_be_read_goes_out_in_plain_words(desk: Any, change: str) -> None:
    """By the fallback key, at once and once, with the reason and the incident in it."""
    await damage(desk, change)
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    await desk.all()
    desk.clock.forward(3600)
    await desk.all()
    assert desk.people.sent == [TRIGGER]
    assert desk.people.keys == ["fallback"]
    assert desk.incident_id in desk.people.texts[0].title
    assert "nothing healed" in desk.people.texts[0].lines[0]
    assert desk.state("pager/person/high")[0] == "delivered"


async def test_no_later_call_waits_for_one_whose_record_cannot_be_read(desk: Any) -> None:
    """Nor for what ends one, which goes to every key: nobody knows which one took the call."""
    await damage(desk, AT)
    for key, action in (("a", PagerAction.TRIGGER_HIGH), ("b", PagerAction.RESOLVE_HIGH)):
        await desk.tell(desk.pager(key, action))
    await desk.tell(desk.pager("c", PagerAction.TRIGGER_HIGH))
    desk.sender = desk.with_fallback(desk.people)
    await desk.all()
    assert desk.people.sent == [TRIGGER, RESOLVE, RESOLVE, TRIGGER]
    assert desk.people.keys == ["fallback", "fallback", "fallback-key", "fallback"]


async def test_who_is_known_to_be_called_is_called_though_the_record_cannot_be_read_any_more(desk: Any) -> None:
    """This process has read the service's name before; the record says of the resolve what it could not know."""
    await desk.tell(*desk.classified())
    await desk.all()
    await damage(desk, AT, "message/chat/classified")
    desk.people.sent.clear()
    desk.people.keys.clear()
    desk.sender._sending._records._known.clear()
    await desk.tell(desk.pager("a", PagerAction.TRIGGER_HIGH), desk.pager("b", PagerAction.RESOLVE_HIGH))
    await desk.all()
    assert (desk.people.sent, desk.people.keys) == ([TRIGGER, RESOLVE], ["paykey", "paykey"])
    await damage(desk, f"at = '{desk.now:%Y-%m-%dT%H:%M:%S}.000000Z'", "message/chat/classified")
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert (failed["key"], failed["given_up"]) == ("b", False)
    assert "resolve it there by hand" in failed["error"]


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

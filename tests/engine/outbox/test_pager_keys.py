"""Whose routing key takes a call, and where its resolve goes."""

from __future__ import annotations

from typing import Any

from activities import notices
from firebreak.domain.errors import PermanentError
from firebreak.domain.message import NoticeKind, PagerAction, Route
from firebreak.domain.timeline import EntryKind


async def test_without_any_pager_key_it_is_written_down_and_tried_again(desk: Any) -> None:
    """A key may be configured a minute later: then the page goes out."""
    desk.people.routes["pay"] = Route(chat_channel="C0PAY")
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "why", desk.now))
    await desk.all()
    (failed,) = [f for f in await desk.entries(EntryKind.MESSAGE_FAILED) if f["channel"] == "pager"]
    assert "FIREBREAK_FALLBACK_PAGER_KEY" in failed["error"]
    desk.people.routes["pay"] = Route(chat_channel="C0PAY", pager_key="late")
    desk.clock.forward(1)
    await desk.all()
    assert desk.people.keys == ["late"]


class Refusing:
    """A pager that refuses one key, and quotes it."""

    def __init__(self, *, keys: set[str]) -> None:
        self.keys = keys
        self.sent: list[tuple[str, str]] = []

    async def send(self, routing_key: str, action: PagerAction, **rest: Any) -> str:
        if routing_key in self.keys:
            raise PermanentError(f"400 invalid key {routing_key}", advice=f"Correct {routing_key}.")
        self.sent.append((routing_key, action.value))
        return "receipt"


async def test_a_key_that_is_refused_makes_the_call_go_to_the_fallback(desk: Any) -> None:
    """At once; both are written down, no key is in any text; after a restart the resolve goes where the call went."""
    pager = Refusing(keys={"paykey"})
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    await desk.all()
    assert pager.sent == [("fallback-key", "trigger_high")]
    (failed,) = [f for f in await desk.entries(EntryKind.MESSAGE_FAILED) if f["channel"] == "pager"]
    (delivered,) = [f for f in await desk.entries(EntryKind.MESSAGE_DELIVERED) if f["channel"] == "pager"]
    assert "400 invalid key" in failed["error"]
    assert (failed["given_up"], delivered["routing"]) == (False, "fallback")
    assert "FIREBREAK_FALLBACK_PAGER_KEY" in delivered["reason"]
    assert "paykey" not in str(await desk.store.entries(desk.incident_id))
    assert "fallback-key" not in str(await desk.store.entries(desk.incident_id))
    assert "fallback-key" not in repr(desk.sender._parts)
    desk.sender = desk.with_fallback(pager)  # a new process
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.all()
    assert pager.sent[1:] == [("fallback-key", "resolve_high")]


async def test_a_resolve_goes_to_every_key_that_took_a_call(desk: Any) -> None:
    """The first call by the service's key, the second, after that was revoked, by the fallback's."""
    pager = Refusing(keys=set())
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(desk.incident_id, "one", "why", desk.now))
    await desk.all()
    pager.keys = {"paykey"}
    await desk.tell(*notices.person_needed(desk.incident_id, "two", "why", desk.now))
    await desk.all()
    pager.keys = set()
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    high = [(key, action) for key, action in pager.sent if action == "resolve_high"]
    assert sorted(high) == [("fallback-key", "resolve_high"), ("paykey", "resolve_high")]


async def test_a_resolve_that_one_key_refuses_still_ends_the_other(desk: Any) -> None:
    """What is refused is written down; the alert that can be ended is."""
    pager = Refusing(keys=set())
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(desk.incident_id, "one", "why", desk.now))
    await desk.all()
    pager.keys = {"paykey"}
    await desk.tell(*notices.person_needed(desk.incident_id, "two", "why", desk.now))
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.all()
    assert pager.sent[-1] == ("fallback-key", "resolve_high")
    assert desk.state("pager/healed/0.0/high")[0] == "delivered"
    assert "pager/healed/0.0/high" in [f["key"] for f in await desk.entries(EntryKind.MESSAGE_FAILED)]


async def test_a_call_that_both_keys_refuse_is_tried_for_ever(desk: Any) -> None:
    """Each try tries both; the text says so of both, without them."""
    pager = Refusing(keys={"paykey", "fallback-key"})
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "why", desk.now))
    await desk.all()
    assert desk.state("pager/person/high") == ("waiting", 1)
    (failed,) = [f for f in await desk.entries(EntryKind.MESSAGE_FAILED) if f["channel"] == "pager"]
    assert failed["error"].count("400 invalid key") == 2
    assert "paykey" not in failed["error"]
    assert "fallback-key" not in failed["error"]
    pager.keys = {"paykey"}
    desk.clock.forward(1)
    await desk.all()
    assert pager.sent == [("fallback-key", "trigger_high")]


async def test_a_resolve_that_cannot_reach_who_was_called_says_so(desk: Any) -> None:
    """pager_key was edited while somebody was called: the end goes to the new key, and the record says what to do."""
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "why", desk.now))
    await desk.all()
    before = desk.people.keys[-1]
    desk.people.routes = {"pay": Route(team="payments", chat_channel="C0PAY", pager_key="n" * 32)}
    end = notices.pager(desk.incident_id, NoticeKind.CLOSED, "pager/closed", PagerAction.RESOLVE_HIGH, desk.now)
    await desk.tell(end)
    await desk.all()
    assert desk.people.keys[-1] == "n" * 32 != before
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert "by hand" in failed["error"]
    marks = [body.get("marks", {}) for body in await desk.entries(EntryKind.MESSAGE_DELIVERED)]
    assert before not in str(marks)

"""A destination that asks to wait, or takes one message a second, is left alone: nothing is lost, nobody else waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

import firebreak.lab.slack as stand_in
from activities import notices
from firebreak.connectors.slack import PACE, Slack
from firebreak.domain.errors import TransientError
from firebreak.domain.message import Channel, MessageDraft, NoticeKind, PagerAction, Route
from firebreak.domain.timeline import EntryKind
from firebreak.engine.attempts import GIVE_UP_LOW
from firebreak.engine.clock import SystemClock
from firebreak.engine.outbox import BATCH
from firebreak.engine.sending import LONGEST_LEISURE

LOW = PagerAction.TRIGGER_LOW
ASKED = TransientError("429", retry_after=timedelta(seconds=30))


@pytest.fixture
def looks(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[Channel]:
    """How often the outbox was asked what is due, by channel."""
    due, seen = desk.store.due, Counter[Channel]()

    async def counted(*args: Any, channel: Channel, **kwargs: Any) -> Any:
        seen[channel] += 1
        return await due(*args, channel=channel, **kwargs)

    monkeypatch.setattr(desk.store, "due", counted)
    return seen


async def until(condition: Callable[[], bool], limit: float = 10) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 # the fakes tell nobody
            await asyncio.sleep(0.01)


def line(incident_id: str, at: datetime) -> MessageDraft:
    """One message for the incident's chat channel."""
    return notices.chat(incident_id, NoticeKind.PERSON_NEEDED, "x", at)


def told_low(incident_id: str, at: datetime) -> MessageDraft:
    """One low-urgency message for the incident's routing key."""
    return notices.pager(incident_id, NoticeKind.CLASSIFIED, "pager/low", LOW, at)


async def test_a_channel_that_asks_to_wait_is_left_alone_with_all_its_messages(desk: Any) -> None:
    """No other message of that channel is tried before; another team's channel and the pager go on at once."""
    desk.people.routes["order"] = Route(chat_channel="C0ORDER", pager_key="orderkey")
    desk.people.fail["C0PAY"] = [ASKED]
    await desk.open("inc-1", "inc-2")
    await desk.open("inc-order", service="order")
    await desk.tell(line(desk.incident_id, desk.now))
    await desk.all()
    assert desk.people.tried == [("C0PAY", f"{desk.incident_id}/chat/x")]
    await desk.tell(*(line(who, desk.now) for who in ("inc-1", "inc-2", "inc-order")), told_low("inc-1", desk.now))
    await desk.all()
    assert sorted(desk.people.tried[1:]) == [("C0ORDER", "inc-order/chat/x"), ("paykey", "inc-1/trigger_low")]
    desk.clock.forward(29.9)
    await desk.all()
    assert len(desk.people.tried) == 3
    desk.clock.forward(0.1)
    await desk.all()
    again = [("C0PAY", f"{who}/chat/x") for who in ("inc-1", "inc-2", desk.incident_id)]
    assert sorted(desk.people.tried[3:]) == again
    assert len(desk.people.dedups) == 4


async def test_who_is_asked_to_wait_again_and_again_is_never_given_up(desk: Any) -> None:
    """More often than what fails is tried, and then it does fail; it goes out when the receiver takes it."""
    desk.people.fail["C0PAY"] = [*[ASKED] * (GIVE_UP_LOW + 10), TransientError("down")]
    await desk.tell(line(desk.incident_id, desk.now))
    for waits in range(1, GIVE_UP_LOW + 12):
        await desk.all()
        assert len(desk.people.tried) == waits
        assert desk.state("chat/x")[0] == "waiting"
        desk.clock.forward(30)
    await desk.all()
    assert desk.state("chat/x") == ("delivered", 2), "having been asked to wait is no failure"
    assert not any(failed["given_up"] for failed in await desk.entries(EntryKind.MESSAGE_FAILED))


async def test_a_call_behind_the_end_of_an_earlier_one_goes_out(desk: Any) -> None:
    """A relapse: the tier had verified, so that a resolve stands before the call, and the key asks notices to wait."""
    desk.people.fail["trigger_low"] = [ASKED] * 3
    await desk.open("inc-1")
    await desk.tell(told_low("inc-1", desk.now), *desk.classified())
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.tell(*notices.person_needed(desk.incident_id, "relapse", "it broke again", desk.now))
    await desk.all()
    assert ("pager", "trigger_high") in desk.people.sent
    assert ("pager", "trigger_low") not in desk.people.sent


async def test_what_is_not_needed_takes_no_time_of_its_channel(desk: Any) -> None:
    """Incidents that ended without a thread have no last line: what is needed goes out in the same second."""
    desk.with_pace(1)
    quiet = [f"inc-{number}" for number in range(5)]
    await desk.open(*quiet)
    closed = [notices.chat(who, NoticeKind.CLOSED, "closed", desk.now - timedelta(minutes=1)) for who in quiet]
    await desk.tell(*closed, line(desk.incident_id, desk.now))
    await desk.all()
    assert desk.people.tried == [("C0PAY", f"{desk.incident_id}/chat/x")]


async def test_one_message_a_second_goes_into_a_channel(desk: Any) -> None:
    """Twenty are due at once: oldest first, none is lost, no attempt fails."""
    desk.with_pace(1)
    incidents = [f"inc-{number:02}" for number in range(20)]
    await desk.open(*incidents)
    oldest_last = [line(who, desk.now - timedelta(minutes=number)) for number, who in enumerate(incidents)]
    await desk.tell(*oldest_last)
    for sent in range(1, 21):
        await desk.all()
        assert len(desk.people.tried) == sent
        desk.clock.forward(0.9)
        await desk.all()
        assert len(desk.people.tried) == sent
        desk.clock.forward(0.1)
    await desk.all()
    assert desk.people.tried == [("C0PAY", f"{who}/chat/x") for who in reversed(incidents)]
    assert [await desk.entries(EntryKind.MESSAGE_FAILED, who) for who in incidents] == [[]] * 20
    assert [len(await desk.entries(EntryKind.MESSAGE_DELIVERED, who)) for who in incidents] == [1] * 20


async def test_a_call_goes_out_though_its_routing_key_asked_notices_to_wait(desk: Any) -> None:
    """Of the same incident and of others; the notices wait."""
    desk.people.fail["trigger_low"] = [ASKED]
    await desk.open("inc-1", "inc-2")
    await desk.tell(told_low(desk.incident_id, desk.now))
    await desk.all()
    await desk.tell(told_low("inc-1", desk.now))
    for who in (desk.incident_id, "inc-2"):
        await desk.tell(*notices.person_needed(who, "person/high", "why", desk.now))
    await desk.all()
    paged = [what for where, what in desk.people.tried if where == "paykey"]
    assert paged == [f"{desk.incident_id}/trigger_low", f"{desk.incident_id}/trigger_high", "inc-2/trigger_high"]
    assert desk.people.sent.count(("pager", "trigger_high")) == 2


async def test_a_call_is_seen_at_once_while_all_else_waits_for_the_pager(desk: Any, looks: Counter[Channel]) -> None:
    """The loop goes on looking for calls, though each look finds only what waits; the clock stands still."""
    desk.people.fail["trigger_low"] = [ASKED]
    await desk.open("inc-1", "inc-2")
    await desk.tell(told_low(desk.incident_id, desk.now))
    await desk.all()
    await desk.tell(told_low("inc-1", desk.now))
    async with desk.running():
        await until(lambda: looks[Channel.CHAT] > 4)
        await desk.tell(notices.pager("inc-2", NoticeKind.PERSON_NEEDED, "p", PagerAction.TRIGGER_HIGH, desk.now))
        await desk.sent_by(("pager", "trigger_high"))
    assert ("pager", "trigger_low") not in desk.people.sent


async def test_more_that_waits_than_a_batch_holds_hides_nothing(desk: Any, looks: Counter[Channel]) -> None:
    """A later message for another channel goes out within a few looks, at the same moment."""
    desk.people.routes["order"] = Route(chat_channel="C0ORDER", pager_key="orderkey")
    desk.people.fail["C0PAY"] = [ASKED]
    waiting = [f"inc-{number}" for number in range(3 * BATCH + 10)]
    await desk.open(*waiting)
    await desk.open("inc-order", service="order")
    await desk.tell(line(desk.incident_id, desk.now))
    await desk.all()
    looks.clear()
    await desk.tell(*(line(who, desk.now) for who in waiting), line("inc-order", desk.now))
    async with desk.running():
        await until(lambda: ("C0ORDER", "inc-order/chat/x") in desk.people.tried)
    assert looks[Channel.CHAT] <= 6
    assert len(desk.people.tried) == 2


async def test_a_channel_in_which_all_waits_is_not_looked_at_again_and_again(
    desk: Any, looks: Counter[Channel]
) -> None:
    """One look finds that all of it waits; the next comes a second later, and none is forgotten."""
    desk.people.fail["C0PAY"] = [ASKED]
    await desk.open("inc-1")
    await desk.tell(line(desk.incident_id, desk.now))
    await desk.all()
    await desk.tell(line("inc-1", desk.now))
    looks.clear()
    async with desk.running():
        await until(lambda: looks[Channel.PAGER] >= 8)
        assert looks[Channel.CHAT] == 1
        desk.clock.forward(1)
        await until(lambda: looks[Channel.CHAT] == 2)
        desk.clock.forward(29)
        await until(lambda: len(desk.people.dedups) == 2)


async def test_a_clock_that_is_set_back_keeps_no_channel_waiting(desk: Any, looks: Counter[Channel]) -> None:
    """What an hour later asked to be left alone for half a minute is not left alone for an hour."""
    desk.people.fail["C0PAY"] = [ASKED]
    await desk.open("inc-1", "inc-2")
    await desk.tell(line(desk.incident_id, desk.now))
    await desk.all()
    await desk.tell(line("inc-1", desk.now))
    looks.clear()
    async with desk.running():
        await until(lambda: looks[Channel.PAGER] > looks[Channel.CHAT] + 1 > 1)  # the chat is spared
        desk.clock.forward(-3600)
        await desk.tell(line("inc-2", desk.now))
        await until(lambda: "inc-2/chat/x" in desk.people.dedups)


async def test_a_message_that_has_no_destination_does_not_stop_the_others(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours while it is asked whom a message is for: written down with that message, later ones go out."""
    route = desk.people.route

    def broken(service: str) -> Route:
        if service == "order":
            raise KeyError("a bug of ours")
        found: Route = route(service)
        return found

    monkeypatch.setattr(desk.people, "route", broken)
    await desk.open("inc-order", service="order")
    await desk.tell(line("inc-order", desk.now - timedelta(seconds=1)), line(desk.incident_id, desk.now))
    await desk.all()
    assert desk.people.tried == [("C0PAY", f"{desk.incident_id}/chat/x")]
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED, "inc-order")
    assert "KeyError" in failed["error"]


async def test_without_a_chat_nothing_waits_for_its_pace(desk: Any) -> None:
    """No receiver is there to be spared: all of it is written down as failed at the same moment."""
    desk.with_pace(1, chat=None)
    await desk.open("inc-1", "inc-2")
    await desk.tell(*(line(who, desk.now) for who in ("inc-1", "inc-2")))
    await desk.all()
    for who in ("inc-1", "inc-2"):
        (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED, who)
        assert failed["given_up"]


async def test_slack_refuses_nothing_that_comes_at_its_pace(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five incidents at once, by the real connector, into a channel of the stand-in that takes hardly a burst."""
    monkeypatch.setattr(stand_in, "_BURST", 2)  # for what arrives a little early
    slack = stand_in.Slack(desk.folder / "slack.jsonl", "xoxb-secret", {"C0PAY": "pay"})
    channel = slack.channels["C0PAY"]
    incidents = [f"inc-{number}" for number in range(5)]
    await desk.open(*incidents)
    now = SystemClock().now()
    await desk.tell(*(line(who, now + timedelta(microseconds=n)) for n, who in enumerate(incidents)))
    async with TestServer(slack.app) as server, Slack(str(server.make_url("/api/")), "xoxb-secret") as chat:
        desk.with_pace(PACE.total_seconds(), chat=chat, clock=SystemClock())
        async with desk.running():
            await until(lambda: len(channel.messages) == 5, limit=30)
    assert [call["status"] for call in slack.log if call["method"] == "chat.postMessage"] == [200] * 5
    assert [message.metadata["event_payload"]["dedup"] for message in channel.messages] == [
        f"{who}/chat/x" for who in incidents
    ]


def written(desk: Any) -> int:
    """How many post-mortems are on disk."""
    return len(list((desk.folder / "postmortems").glob("*.md")))


async def closed(desk: Any, *incident_ids: str) -> None:
    """Incidents whose post-mortems are due now, and a call for a person beside each."""
    await desk.open(*incident_ids)
    messages = [notices.postmortem(incident_id, "postmortem", desk.clock.at) for incident_id in incident_ids]
    calls = [
        notices.pager(i, NoticeKind.PERSON_NEEDED, "pager/high", PagerAction.TRIGGER_HIGH, desk.clock.at)
        for i in incident_ids
    ]
    await desk.store.append([], messages=[*messages, *calls])


async def test_post_mortems_are_written_at_leisure(desk: Any) -> None:
    """In a storm, others are still being healed; a call for a person waits for none of them."""
    desk.with_pace(0, file_pace=timedelta(milliseconds=250))
    await closed(desk, "inc-1", "inc-2", "inc-3")
    await desk.all()
    assert (written(desk), desk.people.sent) == (1, [("pager", "trigger_high")] * 3)
    desk.clock.forward(0.2)
    await desk.all()
    assert written(desk) == 1
    for expected in (2, 3):
        desk.clock.forward(0.25)
        await desk.all()
        assert written(desk) == expected


async def test_a_post_mortem_that_has_waited_long_waits_no_more(desk: Any) -> None:
    """However many come, each is there about a minute after its incident's end."""
    desk.with_pace(0, file_pace=timedelta(milliseconds=250))
    await closed(desk, *(f"inc-{number}" for number in range(9)))
    desk.clock.forward(LONGEST_LEISURE.total_seconds())
    await desk.all()
    assert written(desk) == 9

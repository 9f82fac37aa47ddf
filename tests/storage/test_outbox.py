"""The outbox: order is kept, and a page never waits for a notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firebreak.domain.message import Channel, Message, PagerAction
from firebreak.domain.timeline import EntryKind
from firebreak.storage.sqlite_store import TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make

LOW, HIGH = PagerAction.TRIGGER_LOW, PagerAction.TRIGGER_HIGH


async def _due(store: TimelineStore, make: Make, at: float, limit: int = 99) -> list[str]:
    return [message.draft.key for message in await store.due(make.time(at), limit=limit)]


async def _one(store: TimelineStore, make: Make, at: float) -> Message:
    (message,) = await store.due(make.time(at), limit=9)
    return message


async def test_messages_come_when_due_oldest_first_one_a_channel(store: TimelineStore, make: Make) -> None:
    """At most one per incident and channel, in order of their due times, as many as asked for."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("a2", due=2),
            make.message("a1", due=1),
            make.message("chat", due=1.5, channel=Channel.CHAT),
            make.message("b0", due=0, incident="inc-b"),
            make.message("later", due=50, incident="inc-c"),
        ],
    )
    assert await _due(store, make, 10) == ["b0", "a1", "chat"]
    assert await _due(store, make, 10, limit=2) == ["b0", "a1"]
    assert await _due(store, make, 0.5) == ["b0"]
    assert await _due(store, make, 60) == ["b0", "a1", "chat", "later"]


async def test_the_next_message_follows_a_delivery(store: TimelineStore, make: Make) -> None:
    """Delivered with its receipt and entry in one go; the second telling of it changes nothing."""
    await store.append([make.draft()], messages=[make.message("a1", due=1), make.message("a2", due=2)])
    message = await _one(store, make, 10)
    entry = make.draft(key="delivered/a1", kind=EntryKind.MESSAGE_DELIVERED)
    await store.delivered(message, "ts-1", entry=entry)
    await store.delivered(message, "ts-2", entry=entry)
    assert await store.receipt("inc-a", "a1") == "ts-1"
    assert await store.receipt("inc-a", "a2") == ""
    assert [kept.key for kept in await store.entries("inc-a")] == ["k", "delivered/a1"]
    assert await _due(store, make, 10) == ["a2"]


async def test_a_later_message_waits_for_a_failing_earlier_one(store: TimelineStore, make: Make) -> None:
    """Order within a channel holds while the earlier one is retried, and ends when it is given up."""
    await store.append([make.draft()], messages=[make.message("a1", due=1), make.message("a2", due=2)])
    await store.failed(await _one(store, make, 10), next_try_at=make.time(20), entry=None)
    assert await _due(store, make, 10) == []
    assert await store.next_due() == make.time(20)
    retried = await _one(store, make, 20)
    assert (retried.draft.key, retried.attempts, retried.next_try_at) == ("a1", 1, make.time(20))
    await store.failed(retried, next_try_at=None, entry=make.draft(key="given-up", kind=EntryKind.MESSAGE_FAILED))
    assert await _due(store, make, 20) == ["a2"]
    assert await store.find("inc-a", "given-up") is not None


async def test_a_page_does_not_wait_for_a_failing_notice(store: TimelineStore, make: Make) -> None:
    """The deadline's call for a person overtakes a low-urgency notice, retried or just due."""
    await store.append(
        [make.draft()],
        messages=[make.message("notice", due=1, pager=LOW), make.message("page", due=60, pager=HIGH)],
    )
    assert await _due(store, make, 10) == ["notice"]
    assert await _due(store, make, 60) == ["page"]
    await store.failed(await _one(store, make, 10), next_try_at=make.time(300), entry=None)
    assert await store.next_due() == make.time(60)
    page = await _one(store, make, 60)
    assert page.draft.key == "page"
    await store.delivered(page, "r", entry=make.draft(key="delivered"))
    assert await _due(store, make, 60) == []
    assert await _due(store, make, 300) == ["notice"]


async def test_pages_keep_their_own_order(store: TimelineStore, make: Make) -> None:
    """A second page, and the resolution of a page, wait for the first page; so does a later notice."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("page-1", due=1, pager=HIGH),
            make.message("page-2", due=2, pager=HIGH),
            make.message("resolve", due=3, pager=PagerAction.RESOLVE_HIGH),
            make.message("notice", due=4, pager=LOW),
        ],
    )
    seen = []
    for n in range(4):
        message = await _one(store, make, 10)
        await store.failed(message, next_try_at=make.time(20 + n), entry=None)
        assert await _due(store, make, 10) == []
        await store.delivered(message, "r", entry=make.draft(key=f"d{n}"))
        seen.append(message.draft.key)
    assert seen == ["page-1", "page-2", "resolve", "notice"]


async def test_a_resolution_does_not_overtake(store: TimelineStore, make: Make) -> None:
    """Only a call for a person may pass a waiting notice."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("notice", due=1, pager=LOW),
            make.message("resolve", due=2, pager=PagerAction.RESOLVE_HIGH),
        ],
    )
    assert await _due(store, make, 10) == ["notice"]


async def test_a_cancelled_deadline_is_never_due(store: TimelineStore, make: Make) -> None:
    """Taken back before it was sent; taking back what was sent changes nothing."""
    await store.append(
        [make.draft()], messages=[make.message("deadline", due=60, pager=HIGH), make.message("sent", due=0)]
    )
    await store.delivered(await _one(store, make, 1), "r", entry=make.draft(key="d"))
    await store.append([make.draft(key="healed")], cancel=[("inc-a", "deadline"), ("inc-a", "sent"), ("inc-a", "none")])
    assert await _due(store, make, 100) == []
    assert await store.next_due() is None
    assert await store.receipt("inc-a", "sent") == "r"


async def test_a_message_that_was_sent_while_it_was_cancelled_counts_as_sent(store: TimelineStore, make: Make) -> None:
    """A person has read it, so its receipt is kept; a failure of it is not tried again."""
    await store.append([make.draft()], messages=[make.message("m1"), make.message("m2", channel=Channel.CHAT)])
    first, second = await store.due(make.time(1), limit=9)
    await store.append([make.draft(key="healed")], cancel=[("inc-a", "m1"), ("inc-a", "m2")])
    await store.delivered(first, "r", entry=make.draft(key="d"))
    await store.failed(second, next_try_at=make.time(2), entry=None)
    assert await store.receipt("inc-a", "m1") == "r"
    assert await _due(store, make, 100) == []


async def test_a_message_key_is_enqueued_once(store: TimelineStore, make: Make) -> None:
    """The same (incident, key) again stays as it was."""
    await store.append([make.draft()], messages=[make.message("m", due=5)])
    await store.append([make.draft(key="other")], messages=[make.message("m", due=1)])
    assert await store.next_due() == make.time(5)


async def test_one_channel_is_asked_for_alone(store: TimelineStore, make: Make) -> None:
    """Each channel's loop sees its own messages, whatever waits in the others."""
    await store.append(
        [make.draft()],
        messages=[make.message("page", due=2), make.message("chat", due=1, channel=Channel.CHAT)],
    )
    for channel, key in ((Channel.PAGER, "page"), (Channel.CHAT, "chat")):
        found = await store.due(make.time(9), limit=1, channel=channel)
        assert [message.draft.key for message in found] == [key]
    assert await store.due(make.time(9), limit=9, channel=Channel.POSTMORTEM) == ()


async def test_a_call_for_a_person_comes_before_older_notices(store: TimelineStore, make: Make) -> None:
    """Calls first, by due time, then the rest: a limit cuts off notices, never a call."""
    await store.append(
        [make.draft()],
        messages=[
            *(make.message(f"notice-{n}", due=n, incident=f"inc-{n}", pager=LOW) for n in range(3)),
            make.message("late", due=6, incident="inc-l", pager=HIGH),
            make.message("early", due=5, incident="inc-e", pager=HIGH),
        ],
    )
    assert await _due(store, make, 10, limit=2) == ["early", "late"]
    assert await _due(store, make, 10) == ["early", "late", "notice-0", "notice-1", "notice-2"]


async def test_what_failed_on_the_way_is_kept_before_the_delivery(store: TimelineStore, make: Make) -> None:
    """Both entries or none, in order."""
    await store.append([make.draft()], messages=[make.message("m")])
    message = await _one(store, make, 1)
    await store.delivered(message, "r", entry=make.draft(key="delivered"), before=(make.draft(key="refused"),))
    assert [entry.key for entry in await store.entries("inc-a")] == ["k", "refused", "delivered"]

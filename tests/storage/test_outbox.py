"""The outbox: order is kept, and a page never waits for a notice."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firebreak.domain.codec import format_time
from firebreak.domain.message import Channel, Message, MessageDraft, PagerAction
from firebreak.domain.timeline import EntryKind
from firebreak.storage.database import driver
from firebreak.storage.outbox import FEW
from firebreak.storage.sqlite_store import TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make

LOW, HIGH = PagerAction.TRIGGER_LOW, PagerAction.TRIGGER_HIGH


async def _due(store: TimelineStore, make: Make, at: float, limit: int = 99) -> list[str]:
    return [message.draft.key for message in await store.due(make.time(at), limit=limit)]


async def _one(store: TimelineStore, make: Make, at: float) -> Message:
    (message,) = await store.due(make.time(at), limit=9)
    return message


async def _receipt(store: TimelineStore, key: str) -> str | None:
    """Receipt of a delivered message; None when it was not delivered."""
    asked = "SELECT receipt FROM messages WHERE incident_id = 'inc-a' AND key = ? AND state = 'delivered'"
    row = await store._read(lambda connection: driver(connection).execute(asked, (key,)).fetchone())
    return None if row is None else str(row[0])


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
    assert await _receipt(store, "a1") == "ts-1"
    assert await _receipt(store, "a2") is None
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


async def test_what_ends_a_notice_does_not_overtake_it(store: TimelineStore, make: Make) -> None:
    """It would be opened again behind its end."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("notice", due=1, pager=LOW),
            make.message("resolve", due=2, pager=PagerAction.RESOLVE_LOW),
        ],
    )
    assert await _due(store, make, 10) == ["notice"]


async def test_what_ends_a_call_passes_a_waiting_notice(store: TimelineStore, make: Make) -> None:
    """Another call may stand behind it; and it passes no earlier call."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("notice", due=1, pager=LOW),
            make.message("call", due=2, pager=HIGH),
            make.message("resolve", due=3, pager=PagerAction.RESOLVE_HIGH),
            make.message("again", due=4, pager=HIGH),
        ],
    )
    for key in ("call", "resolve", "again", "notice"):
        (message,) = await store.due(make.time(10), limit=9)
        assert message.draft.key == key
        await store.delivered(message, "r", entry=make.draft(key=f"d-{key}"))


async def test_a_cancelled_deadline_is_never_due(store: TimelineStore, make: Make) -> None:
    """Taken back before it was sent; taking back what was sent changes nothing."""
    await store.append(
        [make.draft()], messages=[make.message("deadline", due=60, pager=HIGH), make.message("sent", due=0)]
    )
    await store.delivered(await _one(store, make, 1), "r", entry=make.draft(key="d"))
    await store.append([make.draft(key="healed")], cancel=[("inc-a", "deadline"), ("inc-a", "sent"), ("inc-a", "none")])
    assert await _due(store, make, 100) == []
    assert await store.next_due() is None
    assert await _receipt(store, "sent") == "r"


async def test_a_message_that_was_sent_while_it_was_cancelled_counts_as_sent(store: TimelineStore, make: Make) -> None:
    """A person has read it, so its receipt is kept; a failure of it is not tried again."""
    await store.append([make.draft()], messages=[make.message("m1"), make.message("m2", channel=Channel.CHAT)])
    first, second = await store.due(make.time(1), limit=9)
    await store.append([make.draft(key="healed")], cancel=[("inc-a", "m1"), ("inc-a", "m2")])
    await store.delivered(first, "r", entry=make.draft(key="d"))
    await store.failed(second, next_try_at=make.time(2), entry=None)
    assert await _receipt(store, "m1") == "r"
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


async def test_a_retry_after_the_clock_was_set_back_does_not_wait_for_the_old_time(
    store: TimelineStore, make: Make
) -> None:
    """It was due once: the next try is at its own time, though that is before."""
    await store.append([make.draft()], messages=[make.message("page", due=3600, pager=HIGH)])
    await store.failed(await _one(store, make, 3600), next_try_at=make.time(1), entry=None)
    assert await _due(store, make, 0.5) == []
    assert await _due(store, make, 1) == ["page"]


def _by_the_rule(rows: list[tuple[Any, ...]], now: str, channel: Channel | None) -> list[int]:
    """Numbers of what is due, by the module's own words."""
    lanes: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in sorted(rows, key=lambda r: (r[4], r[0])):
        lanes.setdefault((row[1], row[2]), []).append(row)
    found = []
    for lane in lanes.values():
        pages = [row for row in lane if row[3] in (HIGH.value, PagerAction.RESOLVE_HIGH.value)]
        fronts = {lane[0], *pages[:1]}
        ready = sorted((row for row in fronts if row[5] <= now), key=lambda row: row not in pages)
        found += ready[:1]
    found.sort(key=lambda r: (r[3] != HIGH.value, r[4], r[0]))
    return [row[0] for row in found if channel is None or row[2] == channel.value]


async def test_all_that_waits_moves_with_a_clock_that_was_set_back(store: TimelineStore, make: Make) -> None:
    """By the same, so that the order stays; what has gone out, or was taken back, is left as it is."""
    await store.append(
        [make.draft()],
        messages=[
            make.message("sent", due=0, incident="inc-b"),
            make.message("a1", due=10),
            make.message("a2", due=40),
            make.message("taken-back", due=9, incident="inc-c"),
        ],
    )
    await store.append([], cancel=[("inc-c", "taken-back")])
    await store.delivered(await _one(store, make, 5), "ts", entry=make.draft(key="delivered"))
    await store.failed(await _one(store, make, 12), next_try_at=make.time(30), entry=None)
    assert await store.wall_clock_was() == make.time()
    entry = make.draft("clock-1", "set-back/1", kind=EntryKind.CLOCK_SET_BACK, at=-8)
    assert await store.set_back(timedelta(seconds=20), entry=entry) == 2
    assert await store.wall_clock_was() == make.time(-8)
    assert await _due(store, make, 9) == []
    retried = await _one(store, make, 10)
    assert (retried.draft.key, retried.draft.due_at, retried.next_try_at) == ("a1", make.time(-10), make.time(10))
    await store.failed(retried, next_try_at=None, entry=None)
    assert await _due(store, make, 19) == []
    assert await _due(store, make, 20) == ["a2"]


async def test_what_is_due_is_what_the_rule_says(store: TimelineStore, make: Make) -> None:
    """Random lanes, retried, delivered, given up and taken back; few at once and many."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def told(count: int) -> list[MessageDraft]:
        return [
            make.message(
                f"m{rng.randrange(10**9)}",
                incident=f"inc-{rng.randrange(count)}",
                due=rng.randrange(20),
                channel=rng.choice(list(Channel)),
                pager=rng.choice(list(PagerAction)),
            )
            for _ in range(count)
        ]

    for count in (6, 12, 20, FEW, 3 * FEW):
        await store.append([make.draft()], messages=told(count))
        for at in range(0, 26, 5):
            moment = make.time(at)
            rows = await store._read(
                lambda connection: (
                    driver(connection)
                    .execute(
                        "SELECT number, incident_id, channel, pager, due_at, next_try_at FROM messages"
                        " WHERE state = 'waiting'"
                    )
                    .fetchall()
                )
            )
            for channel in (None, *Channel):
                due = await store.due(moment, limit=999, channel=channel)
                assert [m.number for m in due] == _by_the_rule(rows, format_time(moment), channel)
            for message in await store.due(moment, limit=5):
                match rng.randrange(4):
                    case 0:
                        key = f"d{message.number}"
                        await store.delivered(message, "r", entry=make.draft(message.draft.incident_id, key))
                    case 1:
                        again = make.time(at + rng.choice((-3, 1, 4)))
                        await store.failed(message, next_try_at=again, entry=None)
                    case 2:
                        await store.failed(message, next_try_at=None, entry=None)
                    case _:
                        await store.append([], cancel=[(message.draft.incident_id, message.draft.key)])

"""One row that this program cannot have written hides no other, and is named: a disk may spoil any byte."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firebreak.domain.alert import AcceptedAlert, IntakeClass, UnreadableDelivery
from firebreak.domain.errors import ChainBroken
from firebreak.domain.incident import UnreadableRestore, UnreadableRow
from firebreak.domain.message import Channel, PagerAction, UnreadableMessage
from firebreak.domain.timeline import EntryKind
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make

P1, OTHER = IntakeClass.P1_CANDIDATE, IntakeClass.OTHER
HIGH = PagerAction.TRIGGER_HIGH
NO_UTF8 = "CAST(X'7B22FF' AS TEXT)"

Damage = Callable[[str], Awaitable[Any]]


@pytest.fixture
def in_inbox(inbox: InboxStore) -> Damage:
    """Runs one statement on the inbox."""
    return lambda statement: inbox._write(lambda raw: raw.execute(statement).rowcount)


@pytest.fixture
def in_timeline(store: TimelineStore) -> Damage:
    """Runs one statement on the timeline."""
    return lambda statement: store._write(lambda raw: raw.execute(statement).rowcount)


# --- inbox ---


@pytest.mark.parametrize(
    "damage",
    ["alert = '{'", "alert = '[]'", """alert = '{"labels": []}'""", f"alert = {NO_UTF8}", "accepted_at = 'soon'"],
)
async def test_a_damaged_delivery_hides_no_other(inbox: InboxStore, in_inbox: Damage, make: Make, damage: str) -> None:
    """The others of its class are claimed; it is named, with its time where that can be read."""
    batch = [(make.alert(f"f{n}"), P1) for n in range(3)]
    await inbox.accept(batch, source="s", truncated=0, accepted_at=make.time())
    assert await in_inbox(f"UPDATE deliveries SET {damage} WHERE receipt = 1") == 1
    unreadable: list[UnreadableDelivery] = []
    assert [one.receipt for one in await inbox.claim(P1, limit=9, unreadable=unreadable)] == [2, 3]
    (damaged,) = unreadable
    assert damaged.receipt == 1
    assert damaged.accepted_at == (None if "accepted_at" in damage else make.time())
    assert damaged.fault


async def test_what_is_stored_of_a_damaged_delivery_is_kept(inbox: InboxStore, in_inbox: Damage, make: Make) -> None:
    """A person may still see which alert it was; bytes that are no UTF-8 included."""
    await inbox.accept([(make.alert(), P1)], source="s", truncated=0, accepted_at=make.time())
    await in_inbox("UPDATE deliveries SET alert = CAST(CAST(substr(alert, 1, 60) AS BLOB) || X'FF' AS TEXT)")
    unreadable: list[UnreadableDelivery] = []
    await inbox.claim(P1, limit=9, unreadable=unreadable)
    assert '"fingerprint":"f1"' in unreadable[0].stored
    assert unreadable[0].stored.endswith("\\xff")


async def test_a_damaged_delivery_is_the_oldest_all_the_same(inbox: InboxStore, in_inbox: Damage, make: Make) -> None:
    """Whoever watches how long alerts wait sees it."""
    await inbox.accept([(make.alert(), P1), (make.alert("f2"), P1)], source="s", truncated=0, accepted_at=make.time())
    await in_inbox("UPDATE deliveries SET alert = '{' WHERE receipt = 1")
    oldest = await inbox.oldest()
    assert isinstance(oldest, UnreadableDelivery)
    assert (oldest.receipt, oldest.accepted_at) == (1, make.time())
    await in_inbox("UPDATE deliveries SET disposition = 'parked' WHERE receipt = 1")
    assert isinstance(await inbox.oldest(), AcceptedAlert)


async def test_a_delivery_of_no_class_is_seen_with_the_urgent_ones(
    inbox: InboxStore, in_inbox: Damage, make: Make
) -> None:
    """Else nobody would ever claim it."""
    batch = [(make.alert(f"f{n}"), OTHER) for n in range(4)]
    await inbox.accept(batch, source="s", truncated=0, accepted_at=make.time())
    for receipt, spoilt in ((1, "othes"), (2, "a"), (3, "q")):
        await in_inbox(f"UPDATE deliveries SET intake_class = '{spoilt}' WHERE receipt = {receipt}")
    unreadable: list[UnreadableDelivery] = []
    assert [one.receipt for one in await inbox.claim(OTHER, limit=9, unreadable=unreadable)] == [4]
    assert unreadable == []
    assert await inbox.claim(P1, limit=9, unreadable=unreadable) == ()
    assert sorted(one.receipt for one in unreadable) == [1, 2, 3]
    assert await inbox.backlogs() == {P1: 3, OTHER: 1}


# --- outbox ---

DAMAGES = [
    "body = '{'",
    "body = '[]'",
    f"body = {NO_UTF8}",
    "notice = 'person_neede'",
    "pager = 'trigger_hig'",
    "due_at = '1'",
    "due_at = 'soon'",
    "next_try_at = '1'",
    "next_try_at = 'soon'",
    "channel = 'pagex'",
    "channel = 'a'",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("others", [1, 99], ids=["few", "many"])
async def test_a_damaged_message_hides_no_other(
    store: TimelineStore, in_timeline: Damage, make: Make, damage: str, others: int
) -> None:
    """Of its channel, few or many; it is named as what may have been a call, and once."""
    told = [make.message(f"m{n}", incident=f"inc-{n}", pager=HIGH) for n in range(others)]
    await store.append([make.draft()], messages=[make.message("bad", pager=HIGH), *told])
    assert await in_timeline(f"UPDATE messages SET {damage} WHERE key = 'bad'") == 1
    for channel in (None, Channel.PAGER):
        unreadable: list[UnreadableMessage] = []
        due = await store.due(make.time(1), limit=999, channel=channel, unreadable=unreadable)
        assert [message.draft.key for message in due] == [f"m{n}" for n in range(others)]
        (damaged,) = unreadable
        assert (damaged.incident_id, damaged.key, damaged.may_call) == ("inc-a", "bad", True)


async def test_a_limit_cuts_off_no_message_for_a_damaged_one(
    store: TimelineStore, in_timeline: Damage, make: Make
) -> None:
    """They do not count, however many there are."""
    bad = [make.message(f"bad{n}", incident=f"inc-{n}", pager=HIGH) for n in range(5)]
    await store.append([make.draft()], messages=[*bad, make.message("good")])
    await in_timeline("UPDATE messages SET body = '{' WHERE key LIKE 'bad%'")
    unreadable: list[UnreadableMessage] = []
    due = await store.due(make.time(1), limit=1, unreadable=unreadable)
    assert [message.draft.key for message in due] == ["good"]
    assert len(unreadable) == 5


@pytest.mark.parametrize(
    ("channel", "pager", "may_call"),
    [
        ("pager", "trigger_high", True),
        ("pager", "trigger_hig", True),
        ("pager", "trigger_low", False),
        ("pager", "resolve_high", False),
        ("chat", "nine", False),
        ("chax", "nine", True),
        ("chax", "none", False),
    ],
)
async def test_what_may_have_been_a_call_is_said(
    store: TimelineStore, in_timeline: Damage, make: Make, channel: str, pager: str, may_call: bool
) -> None:
    """Doubt calls; what was none for certain calls nobody."""
    await store.append([make.draft()], messages=[make.message("bad")])
    await in_timeline(f"UPDATE messages SET body = '{{', channel = '{channel}', pager = '{pager}'")
    unreadable: list[UnreadableMessage] = []
    await store.due(make.time(1), limit=9, unreadable=unreadable)
    assert [damaged.may_call for damaged in unreadable] == [may_call]


async def test_what_stood_behind_a_damaged_message_goes_out_once_it_is_given_up(
    store: TimelineStore, in_timeline: Damage, make: Make
) -> None:
    """With what the record says of it, and what calls a person, in one transaction."""
    messages = [make.message("bad", due=0, pager=HIGH), make.message("next", due=1, pager=HIGH)]
    await store.append([make.draft()], messages=messages)
    await in_timeline("UPDATE messages SET next_try_at = 'soon' WHERE key = 'bad'")
    unreadable: list[UnreadableMessage] = []
    assert await store.due(make.time(9), limit=9, unreadable=unreadable) == ()
    entry, told = make.draft(key="given-up"), make.message("told", incident="inc-b")
    await store.give_up(unreadable[0], entries=[entry], messages=[told])
    unreadable.clear()
    due = await store.due(make.time(9), limit=9, unreadable=unreadable)
    assert [message.draft.key for message in due] == ["next", "told"]
    assert unreadable == []
    assert [one.key for one in await store.entries("inc-a")] == ["k", "given-up"]


async def test_a_damaged_message_that_was_taken_back_meanwhile_is_not_told_of(
    store: TimelineStore, in_timeline: Damage, make: Make
) -> None:
    """A deadline, say, of what has healed: nobody is missing it."""
    await store.append([make.draft()], messages=[make.message("bad", pager=HIGH)])
    await in_timeline("UPDATE messages SET body = '{'")
    unreadable: list[UnreadableMessage] = []
    await store.due(make.time(9), limit=9, unreadable=unreadable)
    await store.append([make.draft(key="healed")], cancel=[("inc-a", "bad")])
    await store.give_up(unreadable[0], entries=[make.draft(key="given-up")], messages=[make.message("told")])
    assert [one.key for one in await store.entries("inc-a")] == ["k", "healed", "message/bad/taken-back"]
    assert await store.due(make.time(9), limit=9) == ()


@pytest.mark.parametrize("damage", ["due_at = 'soon'", "next_try_at = '1'", f"due_at = {NO_UTF8}"])
async def test_a_damaged_time_keeps_no_other_from_moving_with_the_clock(
    store: TimelineStore, in_timeline: Damage, make: Make, damage: str
) -> None:
    """The clock was set back: all others move, and it is left as it is."""
    messages = [make.message("bad", due=30), make.message("good", incident="inc-b", due=30)]
    await store.append([make.draft()], messages=messages)
    await in_timeline(f"UPDATE messages SET {damage} WHERE key = 'bad'")
    assert await store.set_back(timedelta(seconds=20), entry=make.draft("clock-1", "set-back/1")) == 1
    assert [message.draft.key for message in await store.due(make.time(10), limit=9)] == ["good"]


async def test_a_message_of_a_damaged_time_waits(store: TimelineStore, in_timeline: Damage, make: Make) -> None:
    """Who asks whether anything is to be sent hears: now."""
    await store.append([make.draft()], messages=[make.message("bad", due=60)])
    assert await store.next_due() == make.time(60)
    await in_timeline("UPDATE messages SET next_try_at = 'soon'")
    found = await store.next_due()
    assert found is not None
    assert found < make.time()


# --- restores ---


@pytest.mark.parametrize("damage", ["restore = '{'", "restore = '{}'", f"restore = {NO_UTF8}", "opened_at = 'soon'"])
async def test_a_damaged_restore_hides_no_other(
    store: TimelineStore, in_timeline: Damage, make: Make, damage: str
) -> None:
    """It is named, with its step."""
    whole = make.restore(step=1)
    await store.append([make.draft()], restores=[make.restore(), whole])
    assert await in_timeline(f"UPDATE restores SET {damage} WHERE step = 0") == 1
    unreadable: list[UnreadableRestore] = []
    assert await store.open_restores(unreadable=unreadable) == (whole,)
    assert [(one.incident_id, one.place) for one in unreadable] == [("inc-a", "1.0")]


# --- the record ---


async def test_an_entry_that_is_no_utf_8_is_damage_and_no_outage(
    store: TimelineStore, in_timeline: Damage, make: Make
) -> None:
    """Who waited for it to pass would wait for ever."""
    await store.append([make.draft()])
    await in_timeline("DROP TRIGGER entries_never_change")
    assert await in_timeline(f"UPDATE entries SET body = {NO_UTF8}") == 1
    for read in (lambda: store.find("inc-a", "k"), lambda: store.entries("inc-a")):
        with pytest.raises(ChainBroken, match="UTF-8"):
            await read()


@pytest.mark.parametrize("damage", [f"body = {NO_UTF8}", "body = '{'", "body = '[]'", "at = 'soon'"])
async def test_a_damaged_wish_to_close_hides_no_other(
    store: TimelineStore, in_timeline: Damage, make: Make, damage: str
) -> None:
    """It is named by its incident; one that is whole is read as ever."""
    names = []
    for number in range(2):
        incident = make.incident(make.alert(f"f{number}"), correlation=f"c{number}")
        wish = make.draft(incident.id, "close-requested", kind=EntryKind.CLOSE_REQUESTED)
        opened, joined = make.draft(incident.id, "opened"), make.draft(incident.id, "joined")
        await store.open_or_join(incident, opened=opened, joined=joined, messages=[])
        await store.append([wish])
        names.append(incident.id)
    await in_timeline("DROP TRIGGER entries_never_change")
    await in_timeline(f"UPDATE entries SET {damage} WHERE key = 'close-requested' AND incident_id = '{names[0]}'")
    unreadable: list[UnreadableRow] = []
    assert [one.incident_id for one in await store.close_requests(unreadable=unreadable)] == names[1:]
    assert [one.id for one in unreadable] == names[:1]

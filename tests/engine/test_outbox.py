"""Sending: in order, tried again, given up where that is right; and a call for a person never waits for the rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import notices
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.errors import LedgerError, PermanentError, TransientError
from firebreak.domain.incident import Incident, IncidentOutcome, Mode
from firebreak.domain.message import Channel, NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.outbox import GIVE_UP_LOW, OTHERS, OutboxParts, OutboxSender
from firebreak.postmortem.report import case_of

INCIDENT = "inc-20261121-090000-1f0a9c3e"


class People:
    """Chat, pager and routes in one; `sent` in order; `fail` gives errors by channel, for ever or once each."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.threads: list[str] = []
        self.dedups: list[str] = []
        self.keys: list[str] = []
        self.texts: list[NoticeText] = []
        self.fail: dict[str, list[Exception]] = {}
        self.dead: dict[str, Exception] = {}
        self.routes = {"pay": Route(team="payments", chat_channel="C0PAY", pager_key="paykey")}

    def _maybe(self, what: str) -> None:
        if self.fail.get(what):
            raise self.fail[what].pop(0)
        if what in self.dead:
            raise self.dead[what]

    async def post(self, channel: str, text: NoticeText, *, thread: str, dedup: str) -> str:
        self._maybe("chat")
        self.sent.append(("chat", dedup.rpartition("chat/")[2]))
        self.threads.append(thread)
        self.dedups.append(dedup)
        self.texts.append(text)
        return f"ts-{len(self.sent)}"

    async def send(
        self,
        routing_key: str,
        action: PagerAction,
        *,
        incident_id: str,
        text: NoticeText,
        details: Mapping[str, Any],
    ) -> str:
        self._maybe("pager")
        self._maybe(action.value)
        self.sent.append(("pager", action.value))
        self.keys.append(routing_key)
        self.texts.append(text)
        return "receipt"

    def route(self, service: str) -> Route:
        return self.routes.get(service, Route(pager_key="fallback"))


class Desk:
    """The sender over a real store, with people who answer as told."""

    def __init__(self, store: Any, clock: Any, folder: Path) -> None:
        self.store, self.clock, self.folder = store, clock, folder
        self.people = People()
        self.sender = self._sender(self.people)

    def _sender(self, chat: People | None) -> OutboxSender:
        return OutboxSender(
            OutboxParts(
                outbox=self.store,
                ledger=self.store,
                chat=chat,
                pager=self.people,
                routes=self.people,
                clock=self.clock,
                postmortems=self.folder / "postmortems",
            )
        )

    def with_fallback(self, pager: Any) -> OutboxSender:
        """A new sender, as after a restart, with a fallback key and this pager."""
        return OutboxSender(replace(self.sender._parts, pager=pager, fallback_key="fallback-key"))

    def without_chat(self) -> None:
        self.sender = self._sender(None)

    async def all(self) -> None:
        """Send until nothing is due now."""
        while await self.sender.drain():
            pass

    async def tell(self, *drafts: Any, cancel: tuple[str, ...] = ()) -> None:
        await self.store.append([], messages=drafts, cancel=[(INCIDENT, key) for key in cancel])

    @property
    def now(self) -> Any:
        return self.clock.at

    def state(self, key: str) -> tuple[str, int]:
        """(state, attempts) of a message."""
        with closing(sqlite3.connect(f"file:{self.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            row = raw.execute("SELECT state, attempts FROM messages WHERE key = ?", (key,)).fetchone()
            return (row[0], row[1])

    async def entries(self, kind: EntryKind) -> list[Mapping[str, Any]]:
        return [e.body for e in await self.store.entries(INCIDENT) if e.kind is kind]


@pytest.fixture
async def desk(store: Any, clock: Any, tmp_path: Path) -> Desk:
    made = Desk(store, clock, tmp_path)
    alert = Alert(
        fingerprint="f",
        status=AlertStatus.FIRING,
        labels={"alertname": "PayDown", "service": "pay"},
        starts_at=clock.at,
    )
    incident = Incident(
        id=INCIDENT,
        opened_at=clock.at,
        accepted_at=clock.at,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key="lab/pay",
        service="pay",
        target=None,
        alert=alert,
    )
    opened = EntryDraft(
        incident_id=INCIDENT, key="opened", kind=EntryKind.INCIDENT_OPENED, at=clock.at, body=to_data(incident)
    )
    await store.open_or_join(incident, opened=opened, joined=opened, messages=())
    return made


def classified(desk: Desk, deadline: float = 60) -> Any:
    return notices.classified(INCIDENT, desk.now, timedelta(seconds=deadline), Mode.ACT)


async def test_what_is_due_goes_out_and_is_written_down(desk: Desk) -> None:
    """Thread head and low urgency at once, by the service's own route; the deadline waits."""
    await desk.tell(*classified(desk))
    await desk.all()
    assert sorted(desk.people.sent) == [("chat", "classified"), ("pager", "trigger_low")]
    assert desk.people.keys == ["paykey"]
    delivered = await desk.entries(EntryKind.MESSAGE_DELIVERED)
    assert {(d["channel"], d["key"]) for d in delivered} == {("chat", "chat/classified"), ("pager", "pager/classified")}
    await desk.all()
    assert len(desk.people.sent) == 2


async def test_a_deadline_goes_out_at_its_time_and_not_before(desk: Desk) -> None:
    """59 s: nothing; 60 s: high urgency."""
    await desk.tell(*classified(desk))
    await desk.all()
    desk.clock.forward(59.9)
    await desk.all()
    assert ("pager", "trigger_high") not in desk.people.sent
    desk.clock.forward(0.1)
    await desk.all()
    assert desk.people.sent[-1] == ("pager", "trigger_high")


async def test_a_deadline_that_was_taken_back_never_goes_out(desk: Desk) -> None:
    """Verified healing before its time."""
    await desk.tell(*classified(desk))
    await desk.all()
    await desk.tell(*notices.healed(INCIDENT, desk.now), cancel=(notices.DEADLINE,))
    desk.clock.forward(3600)
    await desk.all()
    assert ("pager", "trigger_high") not in desk.people.sent
    assert ("pager", "resolve_low") in desk.people.sent


async def test_messages_of_one_channel_go_out_in_their_order(desk: Desk) -> None:
    """A second line never stands before a first one that failed once; replies go into the head's thread."""
    await desk.tell(*classified(desk))
    await desk.tell(
        notices.chat(INCIDENT, NoticeKind.STEP_APPLIED, "one", desk.now, tier=0, step=0),
        notices.chat(INCIDENT, NoticeKind.STEP_FAILED, "two", desk.now, tier=0, step=0),
    )
    desk.people.fail["chat"] = [TransientError("slow down")]
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "chat"] == []
    desk.clock.forward(1)
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "chat"] == ["classified", "one", "two"]
    head = await desk.store.receipt(INCIDENT, "chat/classified")
    assert desk.people.threads == ["", head, head]


async def test_a_failure_is_tried_again_after_growing_waits(desk: Desk) -> None:
    """1 s, 2 s, 4 s ... written down the first time, not at every try."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*classified(desk, deadline=1e6))
    await desk.all()
    for wait, attempts in ((1, 2), (2, 3), (4, 4)):
        desk.clock.forward(wait - 0.1)
        await desk.all()
        assert desk.state("pager/classified") == ("waiting", attempts - 1)
        desk.clock.forward(0.1)
        await desk.all()
        assert desk.state("pager/classified") == ("waiting", attempts)
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert (failed["attempts"], failed["given_up"]) == (1, False)


async def test_a_receiver_that_says_when_is_heeded(desk: Desk) -> None:
    """Retry-After goes before our own pace."""
    desk.people.fail["trigger_low"] = [TransientError("429", retry_after=timedelta(seconds=30))]
    await desk.tell(*classified(desk))
    await desk.all()
    desk.clock.forward(29)
    await desk.all()
    assert ("pager", "trigger_low") not in desk.people.sent
    desk.clock.forward(1)
    await desk.all()
    assert ("pager", "trigger_low") in desk.people.sent


async def test_information_is_given_up_in_the_end(desk: Desk) -> None:
    """Twenty tries, then the next message of its channel has its turn; written down as given up."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*classified(desk, deadline=1e6))
    for _ in range(GIVE_UP_LOW):
        await desk.all()
        desk.clock.forward(120)
    assert desk.state("pager/classified") == ("given_up", GIVE_UP_LOW)
    last = (await desk.entries(EntryKind.MESSAGE_FAILED))[-1]
    assert (last["attempts"], last["given_up"]) == (GIVE_UP_LOW, True)


async def test_a_call_for_a_person_is_never_given_up(desk: Desk) -> None:
    """Refused for good or down for hours: tried until somebody is called, at most two minutes apart."""
    desk.people.fail["trigger_high"] = [PermanentError("no such key"), *[TransientError("down")] * 40]
    await desk.tell(*notices.person_needed(INCIDENT, "person/high", "nothing healed", desk.now))
    for _ in range(41):
        await desk.all()
        desk.clock.forward(120)
    await desk.all()
    assert ("pager", "trigger_high") in desk.people.sent
    failed = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert not any(f["given_up"] for f in failed)
    assert len(failed) < 10, "a sign of life now and then, not an entry a try"


async def test_what_is_refused_for_good_is_given_up_at_once(desk: Desk) -> None:
    """A chat channel that does not exist: no second try, with what to do about it."""
    desk.people.dead["chat"] = PermanentError("channel_not_found", advice="Invite the bot.")
    await desk.tell(*classified(desk))
    await desk.all()
    assert desk.state("chat/classified") == ("given_up", 1)
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert "Invite the bot." in failed["error"]


async def test_the_deadline_goes_out_though_the_low_notice_fails(desk: Desk) -> None:
    """What cannot be delivered at low urgency does not hold up the call for a person."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*classified(desk))
    await desk.all()
    desk.clock.forward(60)
    await desk.all()
    assert ("pager", "trigger_high") in desk.people.sent


async def test_a_dead_chat_does_not_hold_up_the_pager(desk: Desk) -> None:
    """Channels are independent, also in one look."""
    desk.people.dead["chat"] = TransientError("down")
    await desk.tell(*classified(desk))
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_low")]


async def test_a_resolve_without_a_trigger_is_dropped(desk: Desk) -> None:
    """Nothing was opened, so nothing is closed; and no entry says that it was."""
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    assert [s for s in desk.people.sent if s[0] == "pager"] == []
    assert desk.state("pager/closed-low")[0] == "given_up"
    assert [d["channel"] for d in await desk.entries(EntryKind.MESSAGE_DELIVERED)] == ["postmortem"]


async def test_a_resolve_goes_out_once(desk: Desk) -> None:
    """Healed resolves, the close does not resolve a second time."""
    await desk.tell(*classified(desk))
    await desk.all()
    await desk.tell(*notices.healed(INCIDENT, desk.now), cancel=(notices.DEADLINE,))
    await desk.all()
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "pager"] == ["trigger_low", "resolve_low"]


async def test_a_page_after_a_resolve_is_resolved_again_at_the_end(desk: Desk) -> None:
    """Healed, relapsed, a person called: the close ends what the relapse opened."""
    await desk.tell(*classified(desk))
    desk.clock.forward(60)
    await desk.all()
    await desk.tell(*notices.healed(INCIDENT, desk.now))
    await desk.all()
    await desk.tell(*notices.person_needed(INCIDENT, "relapse/0.0", "relapsed", desk.now))
    await desk.all()
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    high = [what for channel, what in desk.people.sent if what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high", "trigger_high", "resolve_high"]


async def test_a_classified_incident_that_ends_with_nothing_done_leaves_no_notice_open(desk: Desk) -> None:
    """Low urgency was told, no healing will resolve it: the close does."""
    await desk.tell(*classified(desk))
    await desk.all()
    await desk.tell(*notices.closing(INCIDENT, desk.now), cancel=(notices.DEADLINE,))
    await desk.all()
    assert desk.people.sent[-1] != ("pager", "trigger_low")
    assert ("pager", "resolve_low") in desk.people.sent


async def test_the_last_line_goes_into_a_thread_or_nowhere(desk: Desk) -> None:
    """Without a head there is no thread: a lone `closed` in the channel would tell nobody anything."""
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    assert [s for s in desk.people.sent if s[0] == "chat"] == []


async def test_without_a_chat_it_is_written_down_and_the_pager_rings(desk: Desk) -> None:
    """Not configured is not silently dropped."""
    desk.without_chat()
    await desk.tell(*classified(desk))
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_low")]
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert "FIREBREAK_SLACK_TOKEN" in failed["error"]


async def test_without_any_pager_key_it_is_written_down_and_tried_again(desk: Desk) -> None:
    """A key may be configured a minute later: then the page goes out."""
    desk.people.routes["pay"] = Route(chat_channel="C0PAY")
    await desk.tell(*notices.person_needed(INCIDENT, "person/high", "why", desk.now))
    await desk.all()
    (failed,) = [f for f in await desk.entries(EntryKind.MESSAGE_FAILED) if f["channel"] == "pager"]
    assert "FIREBREAK_FALLBACK_PAGER_KEY" in failed["error"]
    desk.people.routes["pay"] = Route(chat_channel="C0PAY", pager_key="late")
    desk.clock.forward(1)
    await desk.all()
    assert desk.people.keys == ["late"]


async def test_a_closed_incident_has_its_post_mortem_files(desk: Desk) -> None:
    """Markdown and JSON beside each other, no half-written file; written down with its path."""
    end = EntryDraft(
        incident_id=INCIDENT,
        key="close",
        kind=EntryKind.INCIDENT_CLOSED,
        at=desk.now,
        body={"outcome": "nothing_done", "reason": "resolved first"},
    )
    await desk.store.close_incident(
        end, IncidentOutcome.NOTHING_DONE, messages=notices.closing(INCIDENT, desk.now), cancel_all=True
    )
    await desk.all()
    folder = desk.folder / "postmortems"
    assert sorted(p.name for p in folder.iterdir()) == [f"{INCIDENT}.json", f"{INCIDENT}.md"]
    assert "PayDown" in (folder / f"{INCIDENT}.md").read_text()
    delivered = await desk.entries(EntryKind.MESSAGE_DELIVERED)
    assert str(folder / f"{INCIDENT}.md") in str(delivered)


async def test_a_message_about_the_engine_itself_goes_to_the_fallback(desk: Desk) -> None:
    """Its id is no incident's: nobody's alert pages somebody."""
    fault = EntryDraft(
        incident_id="parked-1", key="fault", kind=EntryKind.ENGINE_FAULT, at=desk.now, body={"where": "x", "error": "y"}
    )
    high = PagerAction.TRIGGER_HIGH
    page = notices.pager("parked-1", NoticeKind.PERSON_NEEDED, "pager/fault", high, desk.now, reason="y")
    await desk.store.append([fault], messages=[page])
    await desk.all()
    assert desk.people.keys == ["fallback"]


async def test_a_store_that_is_away_stops_no_later_look(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on: what is due goes out when the store is back."""
    calls = 0
    due = desk.store.due

    async def once_away(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise LedgerError("locked")
        return await due(*args, **kwargs)

    monkeypatch.setattr(desk.store, "due", once_away)
    await desk.tell(*classified(desk))
    running = asyncio.create_task(desk.sender.run())
    try:
        async with asyncio.timeout(10):
            while len(desk.people.sent) < 2:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("error", [LedgerError("locked"), KeyError("a bug of ours")])
@pytest.mark.parametrize("away", [Channel.PAGER, Channel.CHAT])
async def test_a_look_that_fails_for_one_channel_is_made_for_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, away: Channel, error: Exception
) -> None:
    """For ever, and for whatever reason: what goes another way goes out."""
    due = desk.store.due

    async def broken(*args: Any, channel: Channel, **kwargs: Any) -> Any:
        if channel is away:
            raise error
        return await due(*args, channel=channel, **kwargs)

    monkeypatch.setattr(desk.store, "due", broken)
    await desk.tell(*classified(desk))
    async with running(desk):
        await sent_by(desk, ("chat", "classified") if away is Channel.PAGER else ("pager", "trigger_low"))
        desk.clock.forward(60)
        await desk.tell(notices.postmortem(INCIDENT, "postmortem", desk.now))
        async with asyncio.timeout(10):
            while desk.state("postmortem")[0] != "delivered":  # noqa: ASYNC110 # the file tells nobody
                await asyncio.sleep(0.01)


async def test_messages_of_one_moment_are_told_from_one_case(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chat and pager say what was known then; of what came since only that is read."""
    made: list[int] = []
    read: list[str] = []
    entries_after = desk.store.entries_after

    def counted(entries: Any, **options: Any) -> Any:
        made.append(len(entries))
        return case_of(entries, **options)

    async def seen(incident_id: str, seq: int) -> Any:
        found = await entries_after(incident_id, seq)
        read.extend(entry.key for entry in found)
        return found

    async def slow(*args: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0.05)
        return "receipt"

    for room in ("engine.records", "postmortem.notices"):
        monkeypatch.setattr(f"firebreak.{room}.case_of", counted)
    monkeypatch.setattr(desk.store, "entries_after", seen)
    monkeypatch.setattr(desk.people, "send", slow)
    monkeypatch.setattr(desk.people, "post", slow)
    await desk.tell(*classified(desk))
    await desk.sender.drain()
    assert made == [1]
    await desk.tell(*notices.healed(INCIDENT, desk.now))
    await desk.all()
    assert made == [1, 3]
    assert len(read) == len(set(read))


async def test_a_bug_in_one_message_does_not_stop_the_others(desk: Desk) -> None:
    """Whatever one receiver's answer breaks in us, the sender's loop and the pages of others go on."""
    desk.people.dead["chat"] = ZeroDivisionError("a bug of ours")
    await desk.tell(*classified(desk))
    running = asyncio.create_task(desk.sender.run())
    try:
        async with asyncio.timeout(10):
            while ("pager", "trigger_low") not in desk.people.sent:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.02)
        desk.clock.forward(60)
        async with asyncio.timeout(10):
            while ("pager", "trigger_high") not in desk.people.sent:  # the fake tells nobody
                assert not running.done(), "the sender's loop has ended"
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_page_whose_text_cannot_be_made_goes_out_in_plain_words(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call for a person is worth more than its wording."""

    def broken(*args: Any, **kwargs: Any) -> NoticeText:
        raise KeyError("a bug of ours")

    monkeypatch.setattr("firebreak.engine.delivery.render_notice", broken)
    await desk.tell(*notices.person_needed(INCIDENT, "person/high", "nothing healed", desk.now))
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_high")]
    assert "nothing healed" in desk.people.texts[0].lines


async def test_a_post_mortem_that_cannot_be_written_is_tried_again(desk: Desk) -> None:
    """A file stands where the folder should be (or the disk is full): written down, tried again, nothing else waits."""
    (desk.folder / "postmortems").write_text("in the way")
    await desk.tell(*classified(desk))
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    assert ("pager", "trigger_low") in desk.people.sent
    assert desk.state("postmortem") == ("waiting", 1)
    (desk.folder / "postmortems").unlink()
    desk.clock.forward(1)
    await desk.all()
    assert (desk.folder / "postmortems" / f"{INCIDENT}.md").exists()


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[None]:
    """The sender's loops at work."""
    task = asyncio.create_task(desk.sender.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sent_by(desk: Desk, what: tuple[str, str], count: int = 1) -> None:
    async with asyncio.timeout(10):
        while desk.people.sent.count(what) < count:  # noqa: ASYNC110 # the fake tells nobody
            await asyncio.sleep(0.01)


async def test_a_hanging_chat_does_not_hold_up_a_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
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
    async with running(desk):
        async with asyncio.timeout(10):
            while not hanging:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.01)
        await desk.tell(*classified(desk))
        await sent_by(desk, ("pager", "trigger_low"))
        desk.clock.forward(60)
        await sent_by(desk, ("pager", "trigger_high"))
        assert hanging <= OTHERS[Channel.CHAT]


async def test_one_hanging_page_does_not_hold_up_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice that hangs, and a call that hangs, keep no later call from going out, of any incident."""
    send, stuck = desk.people.send, []

    async def sometimes(key: str, action: PagerAction, *, incident_id: str, **rest: Any) -> str:
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
    async with running(desk):
        async with asyncio.timeout(10):
            while len(stuck) < OTHERS[Channel.PAGER] + 1:  # noqa: ASYNC110 # the fake tells nobody
                await asyncio.sleep(0.01)
        await desk.tell(*notices.person_needed("inc-0", "person/high", "why", desk.now))
        await desk.tell(*notices.person_needed("inc-new", "person/high", "why", desk.now))
        await sent_by(desk, ("pager", "trigger_high"), 2)
        assert len(stuck) == len(set(stuck)), "one of an incident at a time, and each once"
        assert len(stuck) == OTHERS[Channel.PAGER] + 1


async def test_a_place_that_is_free_is_taken_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
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
    async with running(desk), asyncio.timeout(20):
        while len(seen) < 200:  # noqa: ASYNC110 # the fake tells nobody
            await asyncio.sleep(0.01)
    assert len(set(seen)) == 200
    assert 1 < most <= OTHERS[Channel.CHAT]


async def test_what_ends_while_the_outbox_is_read_is_not_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    async def held(*args: Any, **kwargs: Any) -> str:
        await stale.wait()
        return await send(*args, **kwargs)

    monkeypatch.setattr(desk.store, "due", old_answer)
    monkeypatch.setattr(desk.people, "send", held)
    await desk.tell(notices.pager(INCIDENT, NoticeKind.PERSON_NEEDED, "pager/x", PagerAction.TRIGGER_HIGH, desk.now))
    looks = 0
    async with running(desk):
        await sent_by(desk, ("pager", "trigger_high"))
        async with asyncio.timeout(10):
            while looks < 50:
                looks += 1
                await asyncio.sleep(0.01)
    assert desk.people.sent == [("pager", "trigger_high")]


class Refusing:
    """A pager that refuses one key, and quotes it."""

    def __init__(self, people: People, *, keys: set[str]) -> None:
        self.people, self.keys = people, keys
        self.sent: list[tuple[str, str]] = []

    async def send(self, routing_key: str, action: PagerAction, **rest: Any) -> str:
        if routing_key in self.keys:
            raise PermanentError(f"400 invalid key {routing_key}", advice=f"Correct {routing_key}.")
        self.sent.append((routing_key, action.value))
        return "receipt"


async def test_a_key_that_is_refused_makes_the_call_go_to_the_fallback(desk: Desk) -> None:
    """At once; both are written down, no key is in any text; after a restart the resolve goes where the call went."""
    pager = Refusing(desk.people, keys={"paykey"})
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(INCIDENT, "person/high", "nothing healed", desk.now))
    await desk.all()
    assert pager.sent == [("fallback-key", "trigger_high")]
    (failed,) = [f for f in await desk.entries(EntryKind.MESSAGE_FAILED) if f["channel"] == "pager"]
    (delivered,) = [f for f in await desk.entries(EntryKind.MESSAGE_DELIVERED) if f["channel"] == "pager"]
    assert "400 invalid key" in failed["error"]
    assert (failed["given_up"], delivered["routing"]) == (False, "fallback")
    assert "FIREBREAK_FALLBACK_PAGER_KEY" in delivered["reason"]
    assert "paykey" not in str(await desk.store.entries(INCIDENT))
    assert "fallback-key" not in str(await desk.store.entries(INCIDENT))
    assert "fallback-key" not in repr(desk.sender._parts)
    desk.sender = desk.with_fallback(pager)  # a new process
    await desk.tell(*notices.healed(INCIDENT, desk.now))
    await desk.all()
    assert pager.sent[1:] == [("fallback-key", "resolve_high")]


async def test_a_resolve_goes_to_every_key_that_took_a_call(desk: Desk) -> None:
    """The first call by the service's key, the second, after that was revoked, by the fallback's."""
    pager = Refusing(desk.people, keys=set())
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(INCIDENT, "one", "why", desk.now))
    await desk.all()
    pager.keys = {"paykey"}
    await desk.tell(*notices.person_needed(INCIDENT, "two", "why", desk.now))
    await desk.all()
    pager.keys = set()
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.closing(INCIDENT, desk.now))
    await desk.all()
    high = [(key, action) for key, action in pager.sent if action == "resolve_high"]
    assert sorted(high) == [("fallback-key", "resolve_high"), ("paykey", "resolve_high")]


async def test_a_resolve_that_one_key_refuses_still_ends_the_other(desk: Desk) -> None:
    """What is refused is written down; the alert that can be ended is."""
    pager = Refusing(desk.people, keys=set())
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(INCIDENT, "one", "why", desk.now))
    await desk.all()
    pager.keys = {"paykey"}
    await desk.tell(*notices.person_needed(INCIDENT, "two", "why", desk.now))
    await desk.all()
    await desk.tell(*notices.healed(INCIDENT, desk.now))
    await desk.all()
    assert pager.sent[-1] == ("fallback-key", "resolve_high")
    assert desk.state("pager/resolve-high")[0] == "delivered"
    assert "pager/resolve-high" in [f["key"] for f in await desk.entries(EntryKind.MESSAGE_FAILED)]


async def test_a_call_that_both_keys_refuse_is_tried_for_ever(desk: Desk) -> None:
    """Each try tries both; the text says so of both, without them."""
    pager = Refusing(desk.people, keys={"paykey", "fallback-key"})
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*notices.person_needed(INCIDENT, "person/high", "why", desk.now))
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


@pytest.mark.parametrize(("action", "longest"), [(PagerAction.TRIGGER_HIGH, 15), (PagerAction.TRIGGER_LOW, 120)])
async def test_a_receiver_that_asks_for_an_hour_does_not_get_it(desk: Desk, action: PagerAction, longest: int) -> None:
    """At most 15 s when a person is called, two minutes for the rest."""
    desk.people.fail[action.value] = [TransientError("429", retry_after=timedelta(hours=1))]
    await desk.tell(notices.pager(INCIDENT, NoticeKind.PERSON_NEEDED, "x", action, desk.now, reason="why"))
    await desk.all()
    desk.clock.forward(longest - 1)
    await desk.all()
    assert desk.people.sent == []
    desk.clock.forward(1)
    await desk.all()
    assert desk.people.sent == [("pager", action.value)]


async def test_what_was_sent_and_cannot_be_written_is_not_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: only the writing is tried again, after growing pauses; then the next message has its turn."""
    delivered, tries = desk.store.delivered, 0

    async def full(*args: Any, **kwargs: Any) -> None:
        nonlocal tries
        tries += 1
        raise LedgerError("the disk is full")

    monkeypatch.setattr(desk.store, "delivered", full)
    await desk.tell(*classified(desk))
    await desk.tell(notices.chat(INCIDENT, NoticeKind.STEP_APPLIED, "one", desk.now, tier=0, step=0))
    for _ in range(600):  # a minute
        await desk.all()
        desk.clock.forward(0.1)
    assert sorted(desk.people.sent[:2]) == [("chat", "classified"), ("pager", "trigger_low")]
    assert desk.people.sent[2:] in ([], [("pager", "trigger_high")])
    assert 8 <= tries < 20, "both are tried, a few times"
    monkeypatch.setattr(desk.store, "delivered", delivered)
    desk.clock.forward(15)
    await desk.all()
    desk.clock.forward(15)
    await desk.all()
    assert desk.people.sent.count(("chat", "classified")) == 1
    assert desk.people.sent.count(("pager", "trigger_high")) == 1
    assert desk.people.sent[-1] == ("chat", "one")
    assert desk.state("pager/classified") == ("delivered", 1)


async def test_a_full_disk_keeps_no_page_from_going_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many more were sent and not written than may be under way at once: each new one goes out, once."""

    async def full(*args: Any, **kwargs: Any) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(desk.store, "delivered", full)
    for number in range(70):
        high = PagerAction.TRIGGER_HIGH
        await desk.tell(notices.pager(f"inc-{number:02}", NoticeKind.PERSON_NEEDED, "p", high, desk.now, reason="x"))
    for _ in range(5):
        await desk.all()
        desk.clock.forward(30)
    assert len(desk.people.sent) == 70


async def test_a_failure_that_cannot_be_written_is_not_tried_at_every_look(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a pager that is away: the growing pauses hold, and the call goes out in the end."""
    failed, calls = desk.store.failed, 0

    async def full(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        raise LedgerError("the disk is full")

    monkeypatch.setattr(desk.store, "failed", full)
    desk.people.dead["trigger_high"] = TransientError("down")
    await desk.tell(notices.pager(INCIDENT, NoticeKind.PERSON_NEEDED, "p", PagerAction.TRIGGER_HIGH, desk.now))
    for _ in range(100):  # ten seconds
        await desk.all()
        desk.clock.forward(0.1)
    assert calls == 4, "at 0, 1, 3 and 7 s"
    del desk.people.dead["trigger_high"]
    monkeypatch.setattr(desk.store, "failed", failed)
    desk.clock.forward(8)
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_high")]
    assert desk.state("p") == ("delivered", 5)


async def test_a_resolve_waits_for_the_call_that_was_taken_back_under_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healed while the deadline's call is being sent: its resolve comes after it, and is not dropped as needless."""
    send, begun, go = desk.people.send, asyncio.Event(), asyncio.Event()

    async def held(key: str, action: PagerAction, **rest: Any) -> str:
        if action is PagerAction.TRIGGER_HIGH:
            begun.set()
            await go.wait()
        return await send(key, action, **rest)

    monkeypatch.setattr(desk.people, "send", held)
    await desk.tell(*classified(desk))
    await desk.all()
    desk.clock.forward(60)
    async with running(desk):
        await asyncio.wait_for(begun.wait(), 10)
        await desk.tell(*notices.healed(INCIDENT, desk.now), cancel=(notices.DEADLINE,))
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
        await sent_by(desk, ("pager", "resolve_high"))
    high = [what for channel, what in desk.people.sent if channel == "pager" and what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high"]

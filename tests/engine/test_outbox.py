"""Sending: in order, tried again, given up where that is right; and a call for a person never waits for the rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import notices
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.errors import LedgerError, PermanentError, TransientError
from firebreak.domain.incident import Incident, IncidentOutcome, Mode
from firebreak.domain.message import NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.outbox import GIVE_UP_LOW, OutboxParts, OutboxSender

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

    monkeypatch.setattr("firebreak.engine.outbox.render_notice", broken)
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

"""What goes out, in which order, at which time, and what ends it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from activities import notices
from firebreak.domain.errors import PermanentError, TransientError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.postmortem.report import case_of


async def test_what_is_due_goes_out_and_is_written_down(desk: Any) -> None:
    """Thread head and low urgency at once, by the service's own route; the deadline waits."""
    await desk.tell(*desk.classified())
    await desk.all()
    assert sorted(desk.people.sent) == [("chat", "classified"), ("pager", "trigger_low")]
    assert desk.people.keys == ["paykey"]
    delivered = await desk.entries(EntryKind.MESSAGE_DELIVERED)
    assert {(d["channel"], d["key"]) for d in delivered} == {("chat", "chat/classified"), ("pager", "pager/classified")}
    await desk.all()
    assert len(desk.people.sent) == 2


async def test_a_deadline_goes_out_at_its_time_and_not_before(desk: Any) -> None:
    """59 s: nothing; 60 s: high urgency."""
    await desk.tell(*desk.classified())
    await desk.all()
    desk.clock.forward(59.9)
    await desk.all()
    assert ("pager", "trigger_high") not in desk.people.sent
    desk.clock.forward(0.1)
    await desk.all()
    assert desk.people.sent[-1] == ("pager", "trigger_high")


async def test_a_deadline_that_was_taken_back_never_goes_out(desk: Any) -> None:
    """Verified healing before its time."""
    await desk.tell(*desk.classified())
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=(notices.DEADLINE,))
    desk.clock.forward(3600)
    await desk.all()
    assert ("pager", "trigger_high") not in desk.people.sent
    assert ("pager", "resolve_low") in desk.people.sent


async def test_messages_of_one_channel_go_out_in_their_order(desk: Any) -> None:
    """A second line never stands before a first one that failed once; replies go into the head's thread."""
    await desk.tell(*desk.classified())
    await desk.tell(
        notices.chat(desk.incident_id, NoticeKind.STEP_APPLIED, "one", desk.now, tier=0, step=0),
        notices.chat(desk.incident_id, NoticeKind.STEP_FAILED, "two", desk.now, tier=0, step=0),
    )
    desk.people.fail["chat"] = [TransientError("slow down")]
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "chat"] == []
    desk.clock.forward(1)
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "chat"] == ["classified", "one", "two"]
    delivered = await desk.entries(EntryKind.MESSAGE_DELIVERED)
    (head,) = [d["receipt"] for d in delivered if d["key"] == "chat/classified"]
    assert desk.people.threads == ["", head, head]


async def test_a_resolve_without_a_trigger_is_dropped(desk: Any) -> None:
    """Nothing was opened, so nothing is closed; and no entry says that it was."""
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    assert [s for s in desk.people.sent if s[0] == "pager"] == []
    assert desk.state("pager/closed-low")[0] == "given_up"
    assert [d["channel"] for d in await desk.entries(EntryKind.MESSAGE_DELIVERED)] == ["postmortem"]


async def test_a_page_whose_answer_was_lost_is_resolved(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pager took it, and the healing is verified before the call could be repeated: nobody stays called."""
    send = desk.people.send

    async def lost(key: str, action: PagerAction, **more: Any) -> str:
        told: str = await send(key, action, **more)
        if action is PagerAction.TRIGGER_HIGH:
            raise TransientError("no answer in time: it may have acted")
        return told

    monkeypatch.setattr(desk.people, "send", lost)
    await desk.tell(*desk.classified(deadline=60))
    desk.clock.forward(60)
    await desk.all()
    desk.clock.forward(0.5)
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=("deadline",))
    await desk.all()
    assert desk.state("deadline") == ("cancelled", 1)
    assert ("pager", "resolve_high") in desk.people.sent


class Killed(BaseException):
    """The process dies here: no handler of ours runs, and what was on disk stays."""


async def healed(desk: Any) -> None:
    """A tier's last step is verified now, in one transaction with what it takes back."""
    verified = EntryDraft(
        incident_id=desk.incident_id,
        key="verify/0.0",
        kind=EntryKind.VERIFICATION,
        at=desk.now,
        body={"outcome": "verified", "tier": 0, "step": 0},
    )
    told = notices.healed(desk.incident_id, "healed/0.0", desk.now)
    await desk.store.append([verified], messages=told, cancel=[(desk.incident_id, notices.DEADLINE)])


async def closed(desk: Any) -> None:
    """Its hold is over."""
    end = EntryDraft(
        incident_id=desk.incident_id,
        key="close",
        kind=EntryKind.INCIDENT_CLOSED,
        at=desk.now,
        body={"outcome": "healed", "reason": "it held"},
    )
    messages = notices.closing(desk.incident_id, desk.now)
    await desk.store.close_incident(end, IncidentOutcome.HEALED, messages=messages)


async def test_a_page_that_was_on_its_way_when_the_sender_was_killed_is_resolved(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pager has it, the healing takes it back before that is written down, and `up` is killed: the next one ends
    it, once."""
    send = desk.people.send

    async def killed(key: str, action: PagerAction, **more: Any) -> str:
        told: str = await send(key, action, **more)
        if action is PagerAction.TRIGGER_HIGH:
            await healed(desk)
            raise Killed
        return told

    await desk.tell(*desk.classified(deadline=60))
    await desk.all()
    desk.clock.forward(60)
    with monkeypatch.context() as dying:
        dying.setattr(desk.people, "send", killed)
        with pytest.raises(Killed):
            await desk.sender.drain()
    assert desk.state("deadline") == ("cancelled", 0)
    desk.sender = desk._sender(desk.people)
    await desk.all()
    desk.clock.forward(600)
    await closed(desk)
    await desk.all()
    high = [what for channel, what in desk.people.sent if what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high"]


class _Answers:
    """A pager that refuses the service's key. `lost`: it takes calls, and the answer is lost so."""

    def __init__(self, desk: Any, lost: BaseException | None) -> None:
        self.desk, self.lost = desk, lost
        self.refused, self.sent = "paykey", list[tuple[str, str]]()

    async def send(self, key: str, action: PagerAction, **more: Any) -> str:
        if key == self.refused:
            raise PermanentError("400 invalid key")
        if action.value.endswith("_high"):
            self.sent.append((key, action.value))
        if action is PagerAction.TRIGGER_HIGH and self.lost is not None:
            lost, self.lost = self.lost, None
            if isinstance(lost, Killed):
                await healed(self.desk)
            raise lost
        return "receipt"


async def test_a_page_on_its_way_by_the_fallback_when_the_sender_was_killed_is_resolved_there(desk: Any) -> None:
    """The service's key was refused, and the record names none that took the call: the end goes to all, once."""
    pager = _Answers(desk, Killed())
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*desk.classified(deadline=60))
    await desk.all()
    desk.clock.forward(60)
    with pytest.raises(Killed):
        await desk.sender.drain()
    desk.sender = desk.with_fallback(pager)
    await desk.all()
    desk.clock.forward(600)
    await closed(desk)
    await desk.all()
    assert pager.sent == [("fallback-key", "trigger_high"), ("fallback-key", "resolve_high")]


async def test_a_call_that_was_repeated_after_a_lost_answer_is_resolved_where_it_was_taken(desk: Any) -> None:
    """The repeat says by which key it went: nobody else's pager is asked."""
    pager = _Answers(desk, TransientError("no answer in time"))
    pager.refused = ""
    desk.sender = desk.with_fallback(pager)
    await desk.tell(*desk.classified(deadline=60))
    for seconds in (60, 1):
        desk.clock.forward(seconds)
        await desk.all()
    await healed(desk)
    await desk.all()
    assert pager.sent == [("paykey", "trigger_high"), ("paykey", "trigger_high"), ("paykey", "resolve_high")]


async def test_a_deadline_that_is_taken_back_in_time_asks_for_no_end(desk: Any) -> None:
    """An ordinary healing calls nobody, and tells the pager of nothing that it never heard of; nor does its close."""
    await desk.tell(*desk.classified(deadline=60))
    await desk.all()
    desk.clock.forward(30)
    await healed(desk)
    await desk.all()
    desk.clock.forward(600)
    await closed(desk)
    await desk.all()
    assert [what for _, what in desk.people.sent if what.endswith("_high")] == []
    assert await desk.entries(EntryKind.MESSAGE_TAKEN_BACK) == []


async def test_a_page_that_was_refused_first_and_then_lost_is_resolved(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key at first; the second try may have arrived. The doubt is on record whichever try it was."""
    send, errors = desk.people.send, [PermanentError("no key"), TransientError("no answer in time")]

    async def flaky(key: str, action: PagerAction, **more: Any) -> str:
        if action is PagerAction.TRIGGER_HIGH:
            raise errors.pop(0)
        told: str = await send(key, action, **more)
        return told

    monkeypatch.setattr(desk.people, "send", flaky)
    await desk.tell(*desk.classified(deadline=60))
    desk.clock.forward(60)
    await desk.all()
    desk.clock.forward(1)
    await desk.all()
    assert errors == []
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=("deadline",))
    await desk.all()
    assert ("pager", "resolve_high") in desk.people.sent


async def test_a_call_that_was_refused_for_good_is_not_resolved(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was called, so nothing is open at the pager."""
    send = desk.people.send

    async def refuse(key: str, action: PagerAction, **more: Any) -> str:
        if action is PagerAction.TRIGGER_HIGH:
            raise PermanentError("a wrong key")
        told: str = await send(key, action, **more)
        return told

    monkeypatch.setattr(desk.people, "send", refuse)
    await desk.tell(*desk.classified(deadline=60))
    desk.clock.forward(60)
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=("deadline",))
    await desk.all()
    assert ("pager", "resolve_high") not in desk.people.sent


async def test_a_resolve_goes_out_once(desk: Any) -> None:
    """Healed resolves, the close does not resolve a second time."""
    await desk.tell(*desk.classified())
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=(notices.DEADLINE,))
    await desk.all()
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "pager"] == ["trigger_low", "resolve_low"]


async def test_a_page_after_a_resolve_is_resolved_again_at_the_end(desk: Any) -> None:
    """Healed, relapsed, a person called: the close ends what the relapse opened."""
    await desk.tell(*desk.classified())
    desk.clock.forward(60)
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.all()
    await desk.tell(*notices.person_needed(desk.incident_id, "relapse/0.0", "relapsed", desk.now))
    await desk.all()
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    high = [what for channel, what in desk.people.sent if what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high", "trigger_high", "resolve_high"]


async def test_a_page_after_the_end_is_resolved_when_a_person_says_so(desk: Any) -> None:
    """The close's own resolve is spent by then; what a person wrote ends the call, under the key of its own."""
    await desk.tell(*desk.classified())
    desk.clock.forward(60)
    await desk.all()
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    await desk.tell(*notices.person_needed(desk.incident_id, "restore-ended/0.0", "overdue", desk.now))
    await desk.all()
    await desk.tell(*notices.handled(desk.incident_id, "pager/restore-ended/0.0", desk.now))
    await desk.all()
    high = [what for channel, what in desk.people.sent if what.endswith("_high")]
    assert high == ["trigger_high", "resolve_high", "trigger_high", "resolve_high"]


async def test_a_second_healing_is_told_as_the_first(desk: Any) -> None:
    """Healed, relapsed, healed by another tier: the page of the relapse ends then, not at the close."""
    await desk.tell(*desk.classified(), *notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.all()
    await desk.tell(*notices.person_needed(desk.incident_id, "relapse/0.0", "relapsed", desk.now))
    await desk.all()
    await desk.tell(*notices.healed(desk.incident_id, "healed/1.0", desk.now))
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "pager"][-1] == "resolve_high"
    assert desk.people.sent[-1][0] == "chat"


async def test_a_classified_incident_that_ends_with_nothing_done_leaves_no_notice_open(desk: Any) -> None:
    """Low urgency was told, no healing will resolve it: the close does."""
    await desk.tell(*desk.classified())
    await desk.all()
    await desk.tell(*notices.closing(desk.incident_id, desk.now), cancel=(notices.DEADLINE,))
    await desk.all()
    assert desk.people.sent[-1] != ("pager", "trigger_low")
    assert ("pager", "resolve_low") in desk.people.sent


async def test_the_last_line_goes_into_a_thread_or_nowhere(desk: Any) -> None:
    """Without a head there is no thread: a lone `closed` in the channel would tell nobody anything."""
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    assert [s for s in desk.people.sent if s[0] == "chat"] == []


async def test_a_closed_incident_has_its_post_mortem_files(desk: Any) -> None:
    """Markdown and JSON beside each other, no half-written file; written down with its path."""
    end = EntryDraft(
        incident_id=desk.incident_id,
        key="close",
        kind=EntryKind.INCIDENT_CLOSED,
        at=desk.now,
        body={"outcome": "nothing_done", "reason": "resolved first"},
    )
    await desk.store.close_incident(
        end, IncidentOutcome.NOTHING_DONE, messages=notices.closing(desk.incident_id, desk.now)
    )
    await desk.all()
    folder = desk.folder / "postmortems"
    assert sorted(p.name for p in folder.iterdir()) == [f"{desk.incident_id}.json", f"{desk.incident_id}.md"]
    assert "PayDown" in (folder / f"{desk.incident_id}.md").read_text()
    delivered = await desk.entries(EntryKind.MESSAGE_DELIVERED)
    assert str(folder / f"{desk.incident_id}.md") in str(delivered)


async def test_a_post_mortem_is_written_in_a_folder_whose_name_is_no_utf_8(desk: Any) -> None:
    """Once: its path could not be recorded, and it was written again and again."""
    folder = desk.folder / "data \udce4"
    desk.with_pace(0, postmortems=folder)
    await desk.tell(notices.postmortem(desk.incident_id, "postmortem", desk.now))
    await desk.all()
    assert desk.state("postmortem")[0] == "delivered"
    assert (folder / f"{desk.incident_id}.md").exists()


async def test_a_message_about_the_engine_itself_goes_to_the_fallback(desk: Any) -> None:
    """Its id is no incident's: nobody's alert pages somebody."""
    fault = EntryDraft(
        incident_id="parked-1", key="fault", kind=EntryKind.ENGINE_FAULT, at=desk.now, body={"where": "x", "error": "y"}
    )
    high = PagerAction.TRIGGER_HIGH
    page = notices.pager("parked-1", NoticeKind.PERSON_NEEDED, "pager/fault", high, desk.now, reason="y")
    await desk.store.append([fault], messages=[page])
    await desk.all()
    assert desk.people.keys == ["fallback"]


async def test_messages_of_one_moment_are_told_from_one_case(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    await desk.tell(*desk.classified())
    await desk.sender.drain()
    assert made == [1]
    chat, low, _ = notices.healed(desk.incident_id, "healed/0.0", desk.now)
    await desk.tell(chat, low)
    await desk.all()
    assert made == [1, 3]
    assert len(read) == len(set(read))

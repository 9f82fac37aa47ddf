"""What fails is tried again or given up, written down, and holds up nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from activities import notices
from firebreak.domain.errors import LedgerError, PermanentError, TransientError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.message import Channel, NoticeKind, NoticeText, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.attempts import GIVE_UP_LOW


async def test_a_failure_is_tried_again_after_growing_waits(desk: Any) -> None:
    """1 s, 2 s, 4 s ... written down the first time, not at every try."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*desk.classified(deadline=1e6))
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


async def test_a_receiver_that_says_when_is_heeded(desk: Any) -> None:
    """Retry-After goes before our own pace."""
    desk.people.fail["trigger_low"] = [TransientError("429", retry_after=timedelta(seconds=30))]
    await desk.tell(*desk.classified())
    await desk.all()
    desk.clock.forward(29)
    await desk.all()
    assert ("pager", "trigger_low") not in desk.people.sent
    desk.clock.forward(1)
    await desk.all()
    assert ("pager", "trigger_low") in desk.people.sent


@pytest.mark.parametrize(("action", "longest"), [(PagerAction.TRIGGER_HIGH, 15), (PagerAction.TRIGGER_LOW, 120)])
async def test_a_receiver_that_asks_for_an_hour_does_not_get_it(desk: Any, action: PagerAction, longest: int) -> None:
    """At most 15 s when a person is called, two minutes for the rest."""
    desk.people.fail[action.value] = [TransientError("429", retry_after=timedelta(hours=1))]
    await desk.tell(notices.pager(desk.incident_id, NoticeKind.PERSON_NEEDED, "x", action, desk.now, reason="why"))
    await desk.all()
    desk.clock.forward(longest - 1)
    await desk.all()
    assert desk.people.sent == []
    desk.clock.forward(1)
    await desk.all()
    assert desk.people.sent == [("pager", action.value)]


async def test_the_end_of_a_page_is_told_however_long_the_pager_is_away(desk: Any) -> None:
    """Else a page about what healed meanwhile would stay open."""
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "why", desk.now))
    await desk.all()
    desk.people.dead["resolve_high"] = TransientError("503")
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    for _ in range(2 * GIVE_UP_LOW):
        await desk.all()
        desk.clock.forward(120)
    del desk.people.dead["resolve_high"]
    desk.clock.forward(120)
    await desk.all()
    assert desk.people.sent[-1] == ("pager", "resolve_high")


async def test_the_end_of_a_notice_is_told_however_long_the_pager_is_away(desk: Any) -> None:
    """Low urgency was told, and the pager is away around healing and close: the notice ends by itself, once."""
    await desk.tell(*desk.classified())
    await desk.all()
    desk.people.dead["resolve_low"] = TransientError("503")
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now), cancel=(notices.DEADLINE,))
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    for _ in range(3 * GIVE_UP_LOW):
        await desk.all()
        desk.clock.forward(120)
    del desk.people.dead["resolve_low"]
    desk.clock.forward(120)
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "pager"] == ["trigger_low", "resolve_low"]
    assert not any(failed["given_up"] for failed in await desk.entries(EntryKind.MESSAGE_FAILED))


async def test_the_end_of_a_notice_that_is_refused_for_good_is_given_up(desk: Any) -> None:
    """A key that is none any more ends nothing, however often it is tried."""
    await desk.tell(*desk.classified())
    await desk.all()
    desk.people.dead["resolve_low"] = PermanentError("no such key")
    await desk.tell(*notices.healed(desk.incident_id, "healed/0.0", desk.now))
    await desk.all()
    assert desk.state("pager/healed/0.0/low") == ("given_up", 1)


@pytest.mark.parametrize(("hours", "sent"), [(0.9, ["trigger_high", "resolve_high"]), (1.1, ["resolve_high"])])
async def test_nobody_is_called_about_what_has_long_been_over(desk: Any, hours: float, sent: list[str]) -> None:
    """No key was set, or the pager was away: on the day on which it can be told, old calls are not; that they were
    never told is on record. What may have arrived all the same is resolved."""
    desk.people.dead["trigger_high"] = TransientError("503")
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "why", desk.now))
    await desk.all()
    desk.clock.forward(60)
    await desk.store.close_incident(
        EntryDraft(
            incident_id=desk.incident_id,
            key="close",
            kind=EntryKind.INCIDENT_CLOSED,
            at=desk.now,
            body={"outcome": "recovered", "reason": "healthy"},
        ),
        IncidentOutcome.RECOVERED,
        messages=notices.closing(desk.incident_id, desk.now),
    )
    del desk.people.dead["trigger_high"]
    desk.clock.forward(3600 * hours)
    await desk.all()
    assert [what for channel, what in desk.people.sent if channel == "pager"] == sent
    told = [entry["error"] for entry in await desk.entries(EntryKind.MESSAGE_FAILED) if entry["given_up"]]
    assert any("the incident has been over since" in error for error in told) is ("trigger_high" not in sent)


@pytest.mark.parametrize(("late", "sent"), [(True, True), (False, False)])
async def test_order_tells_what_is_over_though_the_clock_was_set_back(desk: Any, late: bool, sent: bool) -> None:
    """A call that the close came before is sent, and one that came before the close is not, whatever their times."""
    called = EntryDraft(
        incident_id=desk.incident_id,
        key="person/late",
        kind=EntryKind.PERSON_CALLED,
        at=desk.now - timedelta(hours=1) * (1 if late else -1),
        body={"reason": "why", "urgency": "high"},
    )
    closed = EntryDraft(
        incident_id=desk.incident_id,
        key="close",
        kind=EntryKind.INCIDENT_CLOSED,
        at=desk.now,
        body={"outcome": "recovered", "reason": "healthy"},
    )
    page = notices.person_needed(desk.incident_id, "person/late", "why", called.at)[0]
    await desk.store.append([closed, called] if late else [called, closed], messages=[page])
    desk.clock.forward(2 * 3600)
    await desk.all()
    assert (("pager", "trigger_high") in desk.people.sent) is sent


async def test_information_is_given_up_in_the_end(desk: Any) -> None:
    """Twenty tries, then the next message of its channel has its turn; written down as given up."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*desk.classified(deadline=1e6))
    for _ in range(GIVE_UP_LOW):
        await desk.all()
        desk.clock.forward(120)
    assert desk.state("pager/classified") == ("given_up", GIVE_UP_LOW)
    last = (await desk.entries(EntryKind.MESSAGE_FAILED))[-1]
    assert (last["attempts"], last["given_up"]) == (GIVE_UP_LOW, True)


async def test_a_call_for_a_person_is_never_given_up(desk: Any) -> None:
    """Refused for good or down for hours: tried until somebody is called, at most two minutes apart."""
    desk.people.fail["trigger_high"] = [PermanentError("no such key"), *[TransientError("down")] * 40]
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    for _ in range(41):
        await desk.all()
        desk.clock.forward(120)
    await desk.all()
    assert ("pager", "trigger_high") in desk.people.sent
    failed = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert not any(f["given_up"] for f in failed)
    assert len(failed) < 10, "a sign of life now and then, not an entry a try"


async def test_what_is_refused_for_good_is_given_up_at_once(desk: Any) -> None:
    """A chat channel that does not exist: no second try, with what to do about it."""
    desk.people.dead["chat"] = PermanentError("channel_not_found", advice="Invite the bot.")
    await desk.tell(*desk.classified())
    await desk.all()
    assert desk.state("chat/classified") == ("given_up", 1)
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert "Invite the bot." in failed["error"]


async def test_the_deadline_goes_out_though_the_low_notice_fails(desk: Any) -> None:
    """What cannot be delivered at low urgency does not hold up the call for a person."""
    desk.people.dead["trigger_low"] = TransientError("down")
    await desk.tell(*desk.classified())
    await desk.all()
    desk.clock.forward(60)
    await desk.all()
    assert ("pager", "trigger_high") in desk.people.sent


async def test_a_dead_chat_does_not_hold_up_the_pager(desk: Any) -> None:
    """Channels are independent, also in one look."""
    desk.people.dead["chat"] = TransientError("down")
    await desk.tell(*desk.classified())
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_low")]


async def test_without_a_chat_it_is_written_down_and_the_pager_rings(desk: Any) -> None:
    """Not configured is not silently dropped."""
    desk.without_chat()
    await desk.tell(*desk.classified())
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_low")]
    (failed,) = await desk.entries(EntryKind.MESSAGE_FAILED)
    assert "FIREBREAK_SLACK_TOKEN" in failed["error"]


async def test_a_store_that_is_away_stops_no_later_look(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    await desk.tell(*desk.classified())
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
    desk: Any, monkeypatch: pytest.MonkeyPatch, away: Channel, error: Exception
) -> None:
    """For ever, and for whatever reason: what goes another way goes out."""
    due = desk.store.due

    async def broken(*args: Any, channel: Channel, **kwargs: Any) -> Any:
        if channel is away:
            raise error
        return await due(*args, channel=channel, **kwargs)

    monkeypatch.setattr(desk.store, "due", broken)
    await desk.tell(*desk.classified())
    async with desk.running():
        await desk.sent_by(("chat", "classified") if away is Channel.PAGER else ("pager", "trigger_low"))
        desk.clock.forward(60)
        await desk.tell(notices.postmortem(desk.incident_id, "postmortem", desk.now))
        async with asyncio.timeout(10):
            while desk.state("postmortem")[0] != "delivered":  # noqa: ASYNC110 # the file tells nobody
                await asyncio.sleep(0.01)


async def test_a_bug_in_one_message_does_not_stop_the_others(desk: Any) -> None:
    """Whatever one receiver's answer breaks in us, the sender's loop and the pages of others go on."""
    desk.people.dead["chat"] = ZeroDivisionError("a bug of ours")
    await desk.tell(*desk.classified())
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
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call for a person is worth more than its wording."""

    def broken(*args: Any, **kwargs: Any) -> NoticeText:
        raise KeyError("a bug of ours")

    monkeypatch.setattr("firebreak.engine.sending.render_notice", broken)
    await desk.tell(*notices.person_needed(desk.incident_id, "person/high", "nothing healed", desk.now))
    await desk.all()
    assert desk.people.sent == [("pager", "trigger_high")]
    assert "nothing healed" in desk.people.texts[0].lines


async def test_a_post_mortem_that_cannot_be_written_is_tried_again(desk: Any) -> None:
    """A file stands where the folder should be (or the disk is full): written down, tried again, nothing else waits."""
    (desk.folder / "postmortems").write_text("in the way")
    await desk.tell(*desk.classified())
    await desk.tell(*notices.closing(desk.incident_id, desk.now))
    await desk.all()
    assert ("pager", "trigger_low") in desk.people.sent
    assert desk.state("postmortem") == ("waiting", 1)
    (desk.folder / "postmortems").unlink()
    desk.clock.forward(1)
    await desk.all()
    assert (desk.folder / "postmortems" / f"{desk.incident_id}.md").exists()
    assert (desk.folder / "postmortems").stat().st_mode & 0o077 == 0  # it quotes logs

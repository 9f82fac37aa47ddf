"""A full disk: what was sent is not sent again, and what was not goes out."""

from __future__ import annotations

from typing import Any

import pytest

from activities import notices
from firebreak.domain.errors import LedgerError, TransientError
from firebreak.domain.message import NoticeKind, PagerAction


async def test_what_was_sent_and_cannot_be_written_is_not_sent_again(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: only the writing is tried again, after growing pauses; then the next message has its turn."""
    delivered, tries = desk.store.delivered, 0

    async def full(*args: Any, **kwargs: Any) -> None:
        nonlocal tries
        tries += 1
        raise LedgerError("the disk is full")

    monkeypatch.setattr(desk.store, "delivered", full)
    await desk.tell(*desk.classified())
    await desk.tell(notices.chat(desk.incident_id, NoticeKind.STEP_APPLIED, "one", desk.now, tier=0, step=0))
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


async def test_a_full_disk_keeps_no_page_from_going_out(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a pager that is away: the growing pauses hold, and the call goes out in the end."""
    failed, calls = desk.store.failed, 0

    async def full(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        raise LedgerError("the disk is full")

    monkeypatch.setattr(desk.store, "failed", full)
    desk.people.dead["trigger_high"] = TransientError("down")
    await desk.tell(notices.pager(desk.incident_id, NoticeKind.PERSON_NEEDED, "p", PagerAction.TRIGGER_HIGH, desk.now))
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

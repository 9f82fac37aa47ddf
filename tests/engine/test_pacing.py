"""A destination that asks to be left alone is left alone, with all of its messages; the others go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from firebreak.domain.message import Channel
from firebreak.engine.pacing import LONGEST, Destination, Pacing

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
ROOM = Destination(Channel.CHAT, "C0PAY")
SECOND = timedelta(seconds=1)


def test_between_two_messages_of_one_destination_lies_its_pace() -> None:
    """One a second into one channel."""
    pacing = Pacing({Channel.CHAT: SECOND})
    assert pacing.ready_at(ROOM, NOW) == NOW
    pacing.begun(ROOM, NOW)
    assert pacing.ready_at(ROOM, NOW) == NOW + SECOND
    assert pacing.ready_at(ROOM, NOW + SECOND) == NOW + SECOND


@pytest.mark.parametrize("other", [Destination(Channel.CHAT, "C0ORDER"), Destination(Channel.PAGER, "C0PAY")])
def test_another_destination_does_not_wait(other: Destination) -> None:
    """Neither another room nor another channel of the same name."""
    pacing = Pacing({Channel.CHAT: SECOND})
    pacing.begun(ROOM, NOW)
    pacing.asked(ROOM, NOW, timedelta(seconds=30))
    assert pacing.ready_at(other, NOW) == NOW


def test_who_asks_for_longer_than_its_pace_gets_it() -> None:
    """The longer of the two, in whatever order they come."""
    pacing = Pacing({Channel.CHAT: SECOND})
    pacing.asked(ROOM, NOW, timedelta(seconds=30))
    pacing.begun(ROOM, NOW)
    assert pacing.ready_at(ROOM, NOW) == NOW + timedelta(seconds=30)


def test_a_channel_without_a_pace_is_sent_to_at_once() -> None:
    """The pager takes what comes."""
    pacing = Pacing({Channel.CHAT: SECOND})
    key = Destination(Channel.PAGER, "paykey")
    pacing.begun(key, NOW)
    assert pacing.ready_at(key, NOW) == NOW


def test_what_has_no_address_never_waits() -> None:
    """It is refused or handled without any receiver."""
    pacing = Pacing({Channel.CHAT: SECOND})
    nowhere = Destination(Channel.CHAT, "")
    pacing.begun(nowhere, NOW)
    pacing.asked(nowhere, NOW, timedelta(seconds=30))
    assert pacing.ready_at(nowhere, NOW) == NOW


def test_a_clock_that_is_set_back_keeps_nobody_for_hours() -> None:
    """What is to wait for longer than any wait lasts is free, and is forgotten."""
    pacing = Pacing({Channel.CHAT: SECOND})
    pacing.asked(ROOM, NOW, timedelta(hours=2))
    assert pacing.ready_at(ROOM, NOW) == NOW + LONGEST
    before = NOW - timedelta(hours=1)
    assert pacing.ready_at(ROOM, before) == before
    pacing.begun(ROOM, before)
    assert pacing.ready_at(ROOM, before) == before + SECOND


def test_what_is_over_is_forgotten() -> None:
    """A thousand rooms over a year cost nothing."""
    pacing = Pacing({Channel.CHAT: SECOND})
    for n in range(1000):
        pacing.begun(Destination(Channel.CHAT, f"C{n}"), NOW + n * SECOND)
    assert len(pacing._paced) == 1

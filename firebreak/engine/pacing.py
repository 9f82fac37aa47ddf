"""How often one destination takes a message: a chat channel, a pager's key, the disk. Pure, with the clock passed in.

A receiver that limits its senders does so for a destination, so what waits is the destination and not each of its
messages: hundreds of messages that are tried again one by one keep it from ever taking one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from firebreak.domain.message import Channel

LONGEST = timedelta(minutes=5)
"""No wait is longer, so that a clock which is set back keeps no destination for hours."""


@dataclass(frozen=True, slots=True)
class Destination:
    """`address`: a chat channel, a routing key (never to be logged), or `files`; empty = never kept waiting."""

    channel: Channel
    address: str


class Pacing:
    """When each destination takes its next message. `between` two messages of one destination lies at least that."""

    def __init__(self, between: Mapping[Channel, timedelta]) -> None:
        self._between = between
        self._paced: dict[Destination, datetime] = {}
        self._asked: dict[Destination, datetime] = {}

    def ready_at(self, destination: Destination, now: datetime) -> datetime:
        """`now`, or the later moment at which it takes a message again."""
        return max(_until(self._paced, destination, now), _until(self._asked, destination, now))

    def begun(self, destination: Destination, now: datetime) -> None:
        """A message is on its way to it."""
        _wait(self._paced, destination, now, self._between.get(destination.channel, timedelta(0)))

    def unused(self, destination: Destination) -> None:
        """The message that had begun was not needed any more: the next one need not wait for it."""
        self._paced.pop(destination, None)

    def asked(self, destination: Destination, now: datetime, wait: timedelta) -> None:
        """It asked to be left alone for `wait`."""
        _wait(self._asked, destination, now, wait)


def _until(waits: Mapping[Destination, datetime], destination: Destination, now: datetime) -> datetime:
    until = waits.get(destination, now)
    return until if now < until <= now + LONGEST else now


def _wait(waits: dict[Destination, datetime], destination: Destination, now: datetime, wait: timedelta) -> None:
    for known in [each for each in waits if _until(waits, each, now) <= now]:
        del waits[known]
    if destination.address and wait > timedelta(0):
        waits[destination] = max(_until(waits, destination, now), now + min(wait, LONGEST))

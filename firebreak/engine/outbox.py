"""Sending what the outbox holds: one loop in one process, apart from workers and Temporal, so that a dead worker cannot
keep a page from going out. The loop waits for no delivery, so neither can a hanging chat. A failed delivery is written
down and tried again; it never stops a healing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.domain.message import HIGH, Channel, Message, UnreadableMessage
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.attempts import LONGEST_RETRY, asked_for, failed_attempt, message_entry, pause
from firebreak.engine.damage import unreadable_message
from firebreak.engine.pacing import Destination, Pacing
from firebreak.engine.sending import OutboxParts, Sending, Sent
from firebreak.engine.waiting_times import WaitingTimes

log = structlog.get_logger()

LOOK = 0.2  # seconds between two looks at the outbox
SOON = 0.02  # seconds from a place that is free to the next look: those that end together share one
BATCH = 50
CALLS = 20
"""Calls for a person under way at once, and what ends them; nothing else takes their places."""

OTHERS = {Channel.PAGER: 4, Channel.CHAT: 20, Channel.POSTMORTEM: 2}
"""Other messages under way at once. Few to the pager: its connections are for the calls; files are work for a core."""

SPARED = timedelta(seconds=1)
"""Until the next look at a channel in which all that is due waits for its destinations; the pager is not spared."""

LONGEST_SEND = 60.0  # seconds; the connectors' own limits are shorter, this one is for what they do not bound
LONGEST_WRITE_RETRY = timedelta(seconds=15)
_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class _Unwritten:
    """Sent, but the store could not keep that: only the writing is tried again."""

    message: Message
    receipt: str
    entry: EntryDraft
    before: tuple[EntryDraft, ...]
    tries: int = 0
    again_at: datetime = _NEVER  # while a try is under way


class OutboxSender:
    """`run` until cancelled; `drain` once (tests)."""

    def __init__(self, parts: OutboxParts) -> None:
        self._parts = parts
        self._sending = Sending(parts)
        self._times = WaitingTimes(parts.outbox, parts.clock, parts.elapsed)
        self._pacing = Pacing({Channel.CHAT: parts.chat_pace, Channel.POSTMORTEM: parts.file_pace})
        self._paced: dict[Channel, int] = dict.fromkeys(Channel, 0)  # due, and waiting for their destinations
        self._look_at: dict[Channel, datetime] = {}
        self._busy: dict[int, Message] = {}  # under way, or sent and not written: their lanes wait
        self._unwritten: dict[int, _Unwritten] = {}
        self._doubted: set[int] = set()  # triggers whose doubt is on record
        self._later: dict[int, tuple[datetime, int]] = {}  # next try and attempts that the store could not keep
        self._damaged: dict[int, float] = {}  # unreadable ones: when each may be given up again
        self._tasks: dict[Channel, set[asyncio.Task[None]]] = {channel: set() for channel in Channel}
        self._ended = asyncio.Event()  # one of them since the last look began

    async def run(self) -> None:
        try:
            while True:
                self._ended.clear()
                await self._mind_the_clock()
                for channel in Channel:
                    await self._look(channel)
                try:
                    async with asyncio.timeout(LOOK - SOON):
                        await self._ended.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(SOON)
        finally:
            left = [task for tasks in self._tasks.values() for task in tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def drain(self) -> int:
        """Send what is due, and wait for it. Returns how many were begun."""
        await self._mind_the_clock()
        begun = sum([await self._begin(channel) for channel in Channel])
        await asyncio.gather(*(task for tasks in self._tasks.values() for task in tasks))
        return begun

    async def _mind_the_clock(self) -> None:
        """What is kept in memory moves with what waits in the store."""
        by = await self._times.moved()
        if not by:
            return
        self._later = {number: (at - by, attempts) for number, (at, attempts) in self._later.items()}
        for sent in self._unwritten.values():
            sent.again_at = sent.again_at if sent.again_at == _NEVER else sent.again_at - by

    async def _look(self, channel: Channel) -> None:
        now = self._parts.clock.now()
        if now < self._look_at.get(channel, _EVER) <= now + SPARED:  # later still: the clock was set back
            return
        try:
            await self._begin(channel)
        except FirebreakError as error:
            log.warning("outbox.store_away", channel=channel.value, error=str(error))
        except Exception as error:  # noqa: BLE001 # whatever it is: without these looks nobody is ever called again
            log.error("outbox.fault", channel=channel.value, error=repr(error))

    async def _begin(self, channel: Channel) -> int:
        """Begin what is due and has a place; waits for no delivery. Returns how many were begun.

        Never two of one incident and channel at once, but high urgency waits for high urgency only: a call for a
        person, and what ends an earlier one, since a call may stand behind that."""
        now = self._parts.clock.now()
        self._write_again(channel, now)
        taken = dict(self._busy)  # from before the look: what ends during it may be in its answer all the same
        waiting = len(taken) + len(self._later) + self._paced[channel]
        limit = BATCH + waiting  # so that none of these can crowd out what could go
        unreadable: list[UnreadableMessage] = []
        due = await self._parts.outbox.due(now, limit=limit, channel=channel, unreadable=unreadable)
        lanes = {_lane(message) for message in taken.values()}
        high_lanes = {_lane(message) for message in taken.values() if message.draft.pager in HIGH}
        places = self._places(channel)
        begun = sum([self._give_up(channel, damaged) for damaged in unreadable])
        paced = 0
        ready_at = now + SPARED
        for message in due:
            high = message.draft.pager in HIGH
            not_before, attempts = self._later.get(message.number, (now, 0))
            blocked = message.number in taken or _lane(message) in (high_lanes if high else lanes)
            if blocked or not places[high] or not_before > now:
                continue
            destination = Destination(channel, "") if high else await self._destination(message)
            free_at = self._pacing.ready_at(destination, now)
            if free_at > now:
                paced, ready_at = paced + 1, min(ready_at, free_at)
                continue
            self._pacing.begun(destination, now)
            places[high] -= 1
            begun += 1
            self._busy[message.number] = message
            attempt = replace(message, attempts=max(message.attempts, attempts))
            self._start(channel, self._deliver(attempt, destination))
        self._paced[channel] = paced
        # Not where a limit may hide what could go, and not at the pager: a call for a person is seen at once.
        spared = paced and places[False] and len(due) < limit and channel is not Channel.PAGER
        self._look_at[channel] = ready_at if spared else now
        return begun

    def _give_up(self, channel: Channel, damaged: UnreadableMessage) -> bool:
        """Begin it; False while it is under way, and for a pause after a try that failed."""
        now = self._parts.elapsed()
        if now < self._damaged.get(damaged.number, now):
            return False
        self._damaged[damaged.number] = now + LONGEST_WRITE_RETRY.total_seconds()
        self._start(channel, self._given_up(damaged))
        return True

    async def _given_up(self, damaged: UnreadableMessage) -> None:
        """It holds up its incident's messages no longer. A record that cannot be written keeps nobody from hearing."""
        entries, pages = unreadable_message(damaged, self._parts.clock.now())
        log.error("outbox.unreadable", incident=damaged.incident_id, key=damaged.key, fault=damaged.fault)
        for written in (entries, entries[1:]):
            try:
                await self._parts.outbox.give_up(damaged, entries=written, messages=pages)
            except Exception as error:  # noqa: BLE001 # whatever it is, it is tried again: the others go out meanwhile
                log.error("outbox.not_given_up", key=damaged.key, error=repr(error))
            else:
                return

    async def _destination(self, message: Message) -> Destination:
        try:
            return await self._sending.destination(message)
        except Exception:  # noqa: BLE001 # its attempt meets the same and writes it down; the others must not wait for it
            return Destination(message.draft.channel, "")

    def _places(self, channel: Channel) -> dict[bool, int]:
        """How many more may be under way: of high urgency (True), others (False). Who only waits to be written
        takes no place: a full disk keeps no page from going out."""
        places = {True: CALLS, False: OTHERS[channel]}
        for number, message in self._busy.items():
            if message.draft.channel is channel and number not in self._unwritten:
                places[message.draft.pager in HIGH] -= 1
        return places

    def _start(self, channel: Channel, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[channel].add(task)
        task.add_done_callback(functools.partial(self._end, channel))

    def _end(self, channel: Channel, task: asyncio.Task[None]) -> None:
        self._tasks[channel].discard(task)
        self._ended.set()

    async def _deliver(self, message: Message, destination: Destination) -> None:
        try:
            sent = await self._attempt(message, destination)
            if sent is None:
                return
            now = self._parts.clock.now()
            refused: tuple[EntryDraft, ...] = ()
            if sent.refused:
                error = {"error": sent.refused, "attempts": message.attempts + 1, "given_up": False}
                refused = (message_entry(message, EntryKind.MESSAGE_FAILED, now, suffix="/refused", **error),)
            entry = message_entry(message, EntryKind.MESSAGE_DELIVERED, now, receipt=sent.receipt, **sent.body)
            await self._write(_Unwritten(message=message, receipt=sent.receipt, entry=entry, before=refused))
        finally:
            if message.number not in self._unwritten:
                self._busy.pop(message.number, None)

    async def _attempt(self, message: Message, destination: Destination) -> Sent | None:
        """None = it has been dealt with: not needed, or failed."""
        try:
            async with asyncio.timeout(LONGEST_SEND):
                sent = await self._sending.send(message)
            if sent is None:
                self._pacing.unused(destination)
                self._look_at.pop(destination.channel, None)
                await self._count(message, None, None)
            return sent
        except FirebreakError as error:
            if asked := asked_for(error):
                self._pacing.asked(destination, self._parts.clock.now(), min(asked, LONGEST_RETRY))
            await self._failed(message, error)
        except TimeoutError:
            await self._failed(message, TransientError(f"no answer within {LONGEST_SEND:.0f} s"))
        except Exception as error:  # noqa: BLE001 # one message that breaks us (or a full disk) must not silence the rest
            log.error("outbox.message_fault", key=message.draft.key, error=repr(error))
            await self._failed(message, TransientError(f"a fault of the engine: {type(error).__name__}"))
        return None

    async def _write(self, sent: _Unwritten) -> None:
        """Keep that it was sent. What cannot be kept now is remembered: it is written later, and not sent again."""
        number = sent.message.number
        try:
            await self._parts.outbox.delivered(sent.message, sent.receipt, entry=sent.entry, before=sent.before)
        except Exception as error:  # noqa: BLE001 # whatever it is, people have read the message
            sent.tries += 1
            sent.again_at = self._parts.clock.now() + pause(sent.tries, LONGEST_WRITE_RETRY)
            self._unwritten[number] = sent
            log.error("outbox.unwritten", key=sent.message.draft.key, tries=sent.tries, error=repr(error))
        else:
            self._unwritten.pop(number, None)
            self._later.pop(number, None)
            self._busy.pop(number, None)

    def _write_again(self, channel: Channel, now: datetime) -> None:
        for sent in self._unwritten.values():
            if sent.message.draft.channel is channel and sent.again_at <= now:
                sent.again_at = _NEVER
                self._start(channel, self._write(sent))

    async def _failed(self, message: Message, error: FirebreakError) -> None:
        now = self._parts.clock.now()
        failure = failed_attempt(message, error, now, doubted=message.number in self._doubted)
        log.warning("outbox.failed", incident=message.draft.incident_id, key=message.draft.key, error=str(error))
        if failure.may_have_arrived and failure.entry is not None:
            self._doubted.add(message.number)
        counted = replace(message, attempts=failure.attempts - 1)  # the store adds this one
        await self._count(counted, failure.next_try_at, failure.entry)

    async def _count(self, message: Message, next_try: datetime | None, entry: EntryDraft | None) -> None:
        """Keep the attempt. Where the store cannot, the pause is kept here: a full disk makes no storm of messages."""
        try:
            await self._parts.outbox.failed(message, next_try_at=next_try, entry=entry)
        except Exception as error:  # noqa: BLE001 # the message is tried again whatever the store says
            again = next_try or self._parts.clock.now() + LONGEST_RETRY
            self._later[message.number] = (again, message.attempts + 1)
            log.error("outbox.uncounted", key=message.draft.key, error=repr(error))
        else:
            self._later.pop(message.number, None)


def _lane(message: Message) -> tuple[str, Channel]:
    return message.draft.incident_id, message.draft.channel

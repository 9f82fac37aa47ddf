"""OutboxPort: messages wait in the store until they were told, in order, and a page never waits for a notice.

Order. Within one incident and channel messages go out by (due time, number): a later one is not due before the
earlier one was delivered or given up. One exception: high urgency (TRIGGER_HIGH, RESOLVE_HIGH) waits for nothing but
high urgency, so that a low-urgency notice that cannot be delivered never holds up the call for a person.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.age import LastSeenRight
from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import HIGH, Channel, Message, MessageDraft, UnreadableMessage
from firebreak.domain.timeline import EntryDraft
from firebreak.storage.database import driver
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.outbox_rows import COLUMNS, NEVER, chosen, strays
from firebreak.storage.schema import entries
from firebreak.storage.schema import messages as rows
from firebreak.storage.sql import Sql
from firebreak.storage.store import UNDECODABLE, Store, encode_json

FEW = 50
"""Messages that are read at once, on the event loop: some 10 us each."""


_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing is moved to before it, whatever year a broken clock had said."""


class MessageState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    CANCELLED = "cancelled"  # taken back before it was sent


# Spelled out: the partial index needs it.
_WAITING: ColumnElement[str] = literal_column(f"'{MessageState.WAITING.value}'")


def waiting(table: FromClause) -> ColumnElement[bool]:
    """Condition of what was neither sent nor taken back nor given up."""
    return table.c.state == _WAITING


class OutboxStore(Store):
    """See OutboxPort. One process sends, so that taking a message needs no lock."""

    async def due(
        self,
        now: datetime,
        *,
        limit: int,
        channel: Channel | None = None,
        unreadable: list[UnreadableMessage] | None = None,
    ) -> tuple[Message, ...]:
        """At most one message per incident and channel; of high and low urgency, the high. Calls for a person
        (TRIGGER_HIGH) first, then oldest first, so that `limit` never cuts off a call. Asked many times a second:
        answered at once, unless much is due. In `unreadable` comes what cannot be read: it holds up what stands behind
        it until it is given up, and nothing else; no `limit` cuts it off, nor does it count."""
        moment = format_time(now)

        def at_once(raw: sqlite3.Connection) -> list[tuple[Any, ...]] | None:
            (count,) = _COUNT_DUE[channel].run(raw, now=moment, most=FEW + 1).fetchone()
            if count > FEW:
                return None
            return _DUE[channel].rows(raw, now=moment) if count else []

        found = await self._peek(at_once)
        if found is not None:
            ready, damaged = chosen(found, limit)
        else:
            ready, damaged = await self._read(
                lambda connection: chosen(_DUE[channel].rows(driver(connection), now=moment), limit)
            )
        if unreadable is not None:
            unreadable.extend(damaged)
        return ready

    async def next_due(self) -> datetime | None:
        """When `due` will next return something: in the past when it would now, or when a time cannot be read; None
        when nothing waits."""
        ((text,),) = await self._read(lambda connection: _NEXT_DUE.rows(driver(connection)))
        try:
            return None if text is None else parse_time(text)
        except UNDECODABLE:
            return _FIRST

    async def delivered(
        self, message: Message, receipt: str, *, entry: EntryDraft, before: Sequence[EntryDraft] = ()
    ) -> None:
        """Keeps the receipt and the entries in one transaction. Also for a message that was cancelled while it was
        being sent: a person has read it."""
        items = prepared((*before, entry))

        def unit(raw: sqlite3.Connection) -> None:
            _DELIVERED.run(raw, of=message.number, receipt=receipt, attempts=message.attempts + 1)
            append_entries(raw, items)

        await self._write(unit)

    async def failed(self, message: Message, *, next_try_at: datetime | None, entry: EntryDraft | None) -> None:
        """Counts the attempt and sets the next one, or gives up; the entry, if any, in the same transaction."""
        items = prepared(() if entry is None else (entry,))

        def unit(raw: sqlite3.Connection) -> None:
            if next_try_at is None:
                _GIVEN_UP.run(raw, of=message.number, attempts=message.attempts + 1)
            else:
                again = format_time(next_try_at)
                _AGAIN.run(raw, of=message.number, attempts=message.attempts + 1, next_try_at=again)
            append_entries(raw, items)

        await self._write(unit)

    async def give_up(
        self, message: UnreadableMessage, *, entries: Sequence[EntryDraft], messages: Sequence[MessageDraft]
    ) -> None:
        """With the entries, and the messages that tell of it, in one transaction. Nothing is written about one that was
        taken back meanwhile."""
        items = prepared(entries)

        def unit(raw: sqlite3.Connection) -> None:
            if _DROPPED.run(raw, of=message.number).rowcount:
                append_entries(raw, items)
                enqueue_messages(raw, messages)

        await self._write(unit)

    async def set_back(self, by: timedelta, *, entry: EntryDraft, seen: LastSeenRight | None = None) -> int:
        """Moves both times of what waits since before the step back (`seen`; None: of all) and returns how many. Their
        order stays, and what was written since, whose times are of the new clock, comes after what was due before. What
        cannot be read is left as it is. With the entry, the record no longer ends in what is the future now: no later
        start moves them again."""
        items = prepared((entry,))

        def unit(raw: sqlite3.Connection) -> int:
            moved = [times for row in _TIMES.rows(raw) if (times := _earlier_by(by, *row, seen=seen)) is not None]
            if moved:
                _MOVE.run_each(raw, moved)
            append_entries(raw, items)
            return len(moved)

        return await self._write(unit)

    async def newest_message(self) -> int:
        """Number of the last one that was written; 0 before the first. Asked at each look."""
        (number,) = await self._peek(lambda raw: _NEWEST_MESSAGE.run(raw).fetchone())
        return int(number or 0)

    async def wall_clock_was(self) -> datetime | None:
        """The time of the newest entry; None in an empty record."""
        row = await self._peek(lambda raw: _NEWEST.run(raw).fetchone())
        return None if row is None else parse_time(row[0])


def _earlier_by(
    by: timedelta, number: int, due_at: str, next_try_at: str, *, seen: LastSeenRight | None
) -> dict[str, Any] | None:
    """Values of `_MOVE`; None for what was written since the step, and for times that cannot be read."""
    try:
        if seen is not None and not seen.is_before_step(number, parse_time(due_at), by):
            return None
        due, again = (format_time(max(parse_time(text), _FIRST + by) - by) for text in (due_at, next_try_at))
    except UNDECODABLE:
        return None
    return {"of": number, "due_at": due, "next_try_at": again}


_earlier = rows.alias("earlier")


def _is_first(*of: ColumnElement[bool]) -> ColumnElement[bool]:
    """No earlier message of the same incident and channel (among those `of` a kind) waits."""
    before = tuple_(_earlier.c.due_at, _earlier.c.number) < tuple_(rows.c.due_at, rows.c.number)
    lane = (_earlier.c.incident_id == rows.c.incident_id, _earlier.c.channel == rows.c.channel)
    return ~exists(select(1).where(waiting(_earlier), *lane, before, *of)).correlate(rows)


def _front(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Waiting messages that wait for no other: the first of each incident and channel, and the first of its
    high-urgency ones."""
    urgent = and_(_urgent(rows), _is_first(_urgent(_earlier)))
    return select(*COLUMNS).where(*conditions, or_(_is_first(), urgent))


def _urgent(table: FromClause) -> ColumnElement[bool]:
    return or_(*(table.c.pager == action.value for action in HIGH))


def _its_time(channel: Channel | None) -> tuple[ColumnElement[bool], ...]:
    """`due_at` is in the index of what waits: no row is read of what waits for its time, which most of them do, and for
    long. Nothing is tried again before it is due."""
    its = () if channel is None else (rows.c.channel == channel.value,)
    return (waiting(rows), *its, rows.c.due_at <= bindparam("now"))


def _due(channel: Channel | None) -> Sql:
    tried = or_(rows.c.next_try_at <= bindparam("now"), rows.c.next_try_at > NEVER)
    lost = (select(*COLUMNS).where(waiting(rows), *place) for place in strays(channel))
    return Sql(union_all(_front(*_its_time(channel), tried), *lost))


def _count_due(channel: Channel | None) -> Sql:
    """How many `_due` may have to look at, by the index alone; `most` at most."""
    places = (_its_time(channel), *((waiting(rows), *place) for place in strays(channel)))
    found = union_all(*(select(rows.c.due_at).where(*place) for place in places))
    return Sql(select(func.count()).select_from(found.limit(bindparam("most")).subquery()))


_CHANNELS = (None, *Channel)
_DUE = {channel: _due(channel) for channel in _CHANNELS}
_COUNT_DUE = {channel: _count_due(channel) for channel in _CHANNELS}
_NEXT_DUE = Sql(_front(waiting(rows)).with_only_columns(func.min(rows.c.next_try_at)))
_ENQUEUE = Sql(
    insert(rows)
    .values({column.name: bindparam(column.name) for column in rows.c if column.name != "number"})
    .on_conflict_do_nothing(index_elements=["incident_id", "key"])
)
_DELIVERED = Sql(
    update(rows)
    .where(rows.c.number == bindparam("of"), rows.c.state != MessageState.DELIVERED.value)
    .values(state=MessageState.DELIVERED.value, receipt=bindparam("receipt"), attempts=bindparam("attempts"))
)
_failed = update(rows).where(rows.c.number == bindparam("of"), waiting(rows))
_GIVEN_UP = Sql(_failed.values(state=MessageState.GIVEN_UP.value, attempts=bindparam("attempts")))
_DROPPED = Sql(_failed.values(state=MessageState.GIVEN_UP.value))
_AGAIN = Sql(
    _failed.values(
        next_try_at=bindparam("next_try_at"),
        due_at=func.min(rows.c.due_at, bindparam("next_try_at")),  # else a clock that is set back keeps it for longer
        attempts=bindparam("attempts"),
    )
)
_NEWEST = Sql(select(entries.c.at).order_by(entries.c.seq.desc()).limit(1))
_NEWEST_MESSAGE = Sql(select(func.max(rows.c.number)))
_TIMES = Sql(select(rows.c.number, rows.c.due_at, rows.c.next_try_at).where(waiting(rows)))
_MOVE = Sql(_failed.values(due_at=bindparam("due_at"), next_try_at=bindparam("next_try_at")))


def enqueue_messages(raw: sqlite3.Connection, drafts: Sequence[MessageDraft]) -> None:
    """Put messages into the outbox; one whose (incident, key) is known stays as it is."""
    if not drafts:
        return
    _ENQUEUE.run_each(
        raw,
        [
            {
                "incident_id": draft.incident_id,
                "key": draft.key,
                "channel": draft.channel.value,
                "notice": draft.notice.value,
                "pager": draft.pager.value,
                "due_at": format_time(draft.due_at),
                "next_try_at": format_time(draft.due_at),
                "attempts": 0,
                "state": MessageState.WAITING.value,
                "receipt": "",
                "body": encode_json(to_data(draft.body)),
            }
            for draft in drafts
        ],
    )

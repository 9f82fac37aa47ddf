"""OutboxPort: messages wait in the store until they were told, in order, and a page never waits for a notice.

Order. Within one incident and channel messages go out by (due time, number): a later one is not due before the
earlier one was delivered or given up. One exception: high urgency (TRIGGER_HIGH, RESOLVE_HIGH) waits for nothing but
high urgency, so that a low-urgency notice that cannot be delivered never holds up the call for a person.
"""

from __future__ import annotations

import functools
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
    update,
)
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import Channel, Message, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft
from firebreak.storage.database import driver
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.schema import entries
from firebreak.storage.schema import messages as rows
from firebreak.storage.sql import Sql
from firebreak.storage.store import Store, decode_json, encode_json

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
_HIGH = (PagerAction.TRIGGER_HIGH, PagerAction.RESOLVE_HIGH)


def _waiting(table: FromClause) -> ColumnElement[bool]:
    return table.c.state == _WAITING


class OutboxStore(Store):
    """See OutboxPort. One process sends, so that taking a message needs no lock."""

    async def due(self, now: datetime, *, limit: int, channel: Channel | None = None) -> tuple[Message, ...]:
        """At most one message per incident and channel; of high and low urgency, the high. Calls for a person
        (TRIGGER_HIGH) first, then oldest first, so that `limit` never cuts off a call. Asked many times a second:
        answered at once, unless much is due."""
        moment = format_time(now)

        def at_once(raw: sqlite3.Connection) -> tuple[Message, ...] | None:
            (count,) = _COUNT_DUE[channel].run(raw, now=moment, most=FEW + 1).fetchone()
            if count > FEW:
                return None
            return _chosen(raw, channel, moment, limit) if count else ()

        found = await self._peek(at_once)
        if found is not None:
            return found
        return await self._read(lambda connection: _chosen(driver(connection), channel, moment, limit))

    async def next_due(self) -> datetime | None:
        """When `due` will next return something: in the past when it would now, None when nothing waits."""
        (text,) = await self._read(lambda connection: _NEXT_DUE.run(driver(connection)).fetchone())
        return None if text is None else parse_time(text)

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

    async def set_back(self, by: timedelta, *, entry: EntryDraft) -> int:
        """Moves both times of all that waits back, so that its order stays. Returns how many. With the entry, the
        record no longer ends in what is the future now: no later start moves them again."""
        items = prepared((entry,))

        def unit(raw: sqlite3.Connection) -> int:
            waiting = _TIMES.run(raw).fetchall()
            moved = [
                {"of": number, "due_at": _earlier_by(by, due_at), "next_try_at": _earlier_by(by, next_try_at)}
                for number, due_at, next_try_at in waiting
            ]
            if moved:
                _MOVE.run_each(raw, moved)
            append_entries(raw, items)
            return len(moved)

        return await self._write(unit)

    async def wall_clock_was(self) -> datetime | None:
        """The time of the newest entry; None in an empty record."""
        row = await self._peek(lambda raw: _NEWEST.run(raw).fetchone())
        return None if row is None else parse_time(row[0])


def _earlier_by(by: timedelta, text: str) -> str:
    return format_time(max(parse_time(text), _FIRST + by) - by)


def _chosen(raw: sqlite3.Connection, channel: Channel | None, moment: str, limit: int) -> tuple[Message, ...]:
    chosen: dict[tuple[str, Channel], Message] = {}
    for row in _DUE[channel].run(raw, now=moment):
        message = _message(*row)
        lane = (message.draft.incident_id, message.draft.channel)
        if lane not in chosen or message.draft.pager in _HIGH:
            chosen[lane] = message
    ordered = sorted(
        chosen.values(),
        key=lambda m: (m.draft.pager is not PagerAction.TRIGGER_HIGH, m.draft.due_at, m.number),
    )
    return tuple(ordered[:limit])


_earlier = rows.alias("earlier")


def _is_first(*of: ColumnElement[bool]) -> ColumnElement[bool]:
    """No earlier message of the same incident and channel (among those `of` a kind) waits."""
    before = tuple_(_earlier.c.due_at, _earlier.c.number) < tuple_(rows.c.due_at, rows.c.number)
    lane = (_earlier.c.incident_id == rows.c.incident_id, _earlier.c.channel == rows.c.channel)
    return ~exists(select(1).where(_waiting(_earlier), *lane, before, *of)).correlate(rows)


def _front(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Waiting messages that wait for no other: the first of each incident and channel, and the first of its
    high-urgency ones."""
    urgent = and_(_urgent(rows), _is_first(_urgent(_earlier)))
    return select(*_COLUMNS).where(*conditions, or_(_is_first(), urgent))


def _urgent(table: FromClause) -> ColumnElement[bool]:
    return or_(*(table.c.pager == action.value for action in _HIGH))


def _its_time(channel: Channel | None) -> tuple[ColumnElement[bool], ...]:
    """`due_at` is in the index of what waits: no row is read of what waits for its time, which most of them do, and for
    long. Nothing is tried again before it is due."""
    its = () if channel is None else (rows.c.channel == channel.value,)
    return (_waiting(rows), *its, rows.c.due_at <= bindparam("now"))


_COLUMNS = (
    rows.c.number,
    rows.c.incident_id,
    rows.c.key,
    rows.c.channel,
    rows.c.notice,
    rows.c.pager,
    rows.c.due_at,
    rows.c.next_try_at,
    rows.c.attempts,
    rows.c.body,
)
_CHANNELS = (None, *Channel)
_DUE = {c: Sql(_front(*_its_time(c), rows.c.next_try_at <= bindparam("now"))) for c in _CHANNELS}
_COUNT_DUE = {
    c: Sql(
        select(func.count()).select_from(select(rows.c.due_at).where(*_its_time(c)).limit(bindparam("most")).subquery())
    )
    for c in _CHANNELS
}
_NEXT_DUE = Sql(_front(_waiting(rows)).with_only_columns(func.min(rows.c.next_try_at)))
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
_failed = update(rows).where(rows.c.number == bindparam("of"), _waiting(rows))
_GIVEN_UP = Sql(_failed.values(state=MessageState.GIVEN_UP.value, attempts=bindparam("attempts")))
_AGAIN = Sql(
    _failed.values(
        next_try_at=bindparam("next_try_at"),
        due_at=func.min(rows.c.due_at, bindparam("next_try_at")),  # else a clock that is set back keeps it for longer
        attempts=bindparam("attempts"),
    )
)
_NEWEST = Sql(select(entries.c.at).order_by(entries.c.seq.desc()).limit(1))
_TIMES = Sql(select(rows.c.number, rows.c.due_at, rows.c.next_try_at).where(_waiting(rows)))
_MOVE = Sql(_failed.values(due_at=bindparam("due_at"), next_try_at=bindparam("next_try_at")))
_cancel = update(rows).where(_waiting(rows), rows.c.incident_id == bindparam("incident"))
_cancel = _cancel.values(state=MessageState.CANCELLED.value)
_CANCEL = Sql(_cancel.where(rows.c.key == bindparam("message")))
_CANCEL_AFTER = Sql(_cancel.where(rows.c.due_at > bindparam("after")))


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


def cancel_messages(raw: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Take back messages that were not sent yet, by (incident, message key)."""
    for incident_id, key in keys:
        _CANCEL.run(raw, incident=incident_id, message=key)


def cancel_waiting_after(raw: sqlite3.Connection, incident_id: str, at: datetime) -> None:
    """Take back the incident's unsent messages that are due after `at`."""
    _CANCEL_AFTER.run(raw, incident=incident_id, after=format_time(at))


@functools.lru_cache(maxsize=4_096)  # read once a second while a chat is slow; shared, so never to be changed
def _message(
    number: int,
    incident_id: str,
    key: str,
    channel: str,
    notice: str,
    pager: str,
    due_at: str,
    next_try_at: str,
    attempts: int,
    body: str,
) -> Message:
    return Message(
        number=number,
        draft=MessageDraft(
            incident_id=incident_id,
            key=key,
            channel=Channel(channel),
            notice=NoticeKind(notice),
            due_at=parse_time(due_at),
            pager=PagerAction(pager),
            body=decode_json(body),
        ),
        attempts=attempts,
        next_try_at=parse_time(next_try_at),
    )

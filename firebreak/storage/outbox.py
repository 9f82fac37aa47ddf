"""OutboxPort: messages wait in the store until they were told, in order, and a page never waits for a notice.

Order. Within one incident and channel messages go out by (due time, number): a later one is not due before the
earlier one was delivered or given up. One exception: a high-urgency page (TRIGGER_HIGH) waits only for other
high-urgency messages, so that a low-urgency notice that cannot be delivered never holds up the call for a person.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, literal_column, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import Channel, Message, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft
from firebreak.storage.database import driver
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.schema import messages as rows
from firebreak.storage.sql import Sql
from firebreak.storage.store import Store, decode_json, encode_json


class MessageState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    CANCELLED = "cancelled"  # taken back before it was sent


_WAITS = rows.c.state == literal_column(f"'{MessageState.WAITING.value}'")  # spelled out: the partial index needs it
_HIGH = (PagerAction.TRIGGER_HIGH.value, PagerAction.RESOLVE_HIGH.value)


class OutboxStore(Store):
    """See OutboxPort. One process sends, so that taking a message needs no lock."""

    async def due(self, now: datetime, *, limit: int, channel: Channel | None = None) -> tuple[Message, ...]:
        """At most one message per incident and channel; of a page and a notice, the page. Calls for a person
        (TRIGGER_HIGH) first, then oldest first, so that `limit` never cuts off a call."""

        def query(connection: Connection) -> tuple[Message, ...]:
            chosen: dict[tuple[str, Channel], Message] = {}
            for row in _DUE[channel].run(driver(connection), now=format_time(now)):
                message = _message(*row)
                lane = (message.draft.incident_id, message.draft.channel)
                if lane not in chosen or message.draft.pager is PagerAction.TRIGGER_HIGH:
                    chosen[lane] = message
            ordered = sorted(
                chosen.values(),
                key=lambda m: (m.draft.pager is not PagerAction.TRIGGER_HIGH, m.draft.due_at, m.number),
            )
            return tuple(ordered[:limit])

        return await self._read(query)

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

    async def receipt(self, incident_id: str, key: str) -> str:
        """Receipt of a delivered message; empty when it was not delivered."""
        row = await self._peek(lambda raw: _RECEIPT.run(raw, incident=incident_id, message=key).fetchone())
        return "" if row is None else str(row[0])

    async def paged(self, incident_id: str) -> tuple[PagerAction, ...]:
        """What was delivered to the pager about an incident, in the order of the messages."""
        return await self._peek(
            lambda raw: tuple(PagerAction(pager) for (pager,) in _PAGED.run(raw, incident=incident_id))
        )


def _front(channel: Channel | None) -> Select[Any]:
    """Waiting messages (of one channel, or of all) that wait for no other: the first of each incident and channel, and
    the first of its high-urgency ones where that is a page."""
    high = or_(*(rows.c.pager == action for action in _HIGH))
    order = (rows.c.due_at, rows.c.number)
    lane = (rows.c.incident_id, rows.c.channel)
    ranked = (
        select(
            rows.c.number,
            rows.c.pager,
            func.row_number().over(partition_by=lane, order_by=order).label("rank"),
            func.row_number().over(partition_by=(*lane, case((high, 1), else_=0)), order_by=order).label("own_rank"),
        )
        .where(_WAITS, *(() if channel is None else (rows.c.channel == channel.value,)))
        .subquery()
    )
    first = or_(ranked.c.rank == 1, and_(ranked.c.own_rank == 1, ranked.c.pager == PagerAction.TRIGGER_HIGH.value))
    return select(*_COLUMNS).join(ranked, ranked.c.number == rows.c.number).where(first)


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
_DUE = {channel: Sql(_front(channel).where(rows.c.next_try_at <= bindparam("now"))) for channel in (None, *Channel)}
_NEXT_DUE = Sql(_front(None).with_only_columns(func.min(rows.c.next_try_at)))
_IS_DELIVERED = rows.c.state == MessageState.DELIVERED.value
_RECEIPT = Sql(
    select(rows.c.receipt).where(
        rows.c.incident_id == bindparam("incident"), rows.c.key == bindparam("message"), _IS_DELIVERED
    )
)
_PAGED = Sql(
    select(rows.c.pager)
    .where(rows.c.incident_id == bindparam("incident"), _IS_DELIVERED, rows.c.pager != PagerAction.NONE.value)
    .order_by(rows.c.due_at, rows.c.number)
)
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
_failed = update(rows).where(rows.c.number == bindparam("of"), _WAITS)
_GIVEN_UP = Sql(_failed.values(state=MessageState.GIVEN_UP.value, attempts=bindparam("attempts")))
_AGAIN = Sql(_failed.values(next_try_at=bindparam("next_try_at"), attempts=bindparam("attempts")))
_cancel = update(rows).where(_WAITS, rows.c.incident_id == bindparam("incident"))
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

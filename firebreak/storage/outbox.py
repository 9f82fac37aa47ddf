"""OutboxPort: messages wait in the store until they were told, in order, and a page never waits for a notice.

Order. Within one incident and channel messages go out by (due time, number): a later one is not due before the
earlier one was delivered or given up. One exception: a high-urgency page (TRIGGER_HIGH) waits only for other
high-urgency messages, so that a low-urgency notice that cannot be delivered never holds up the call for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, literal_column, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import Channel, Message, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.schema import messages as rows
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
        front = _FRONT[channel].where(rows.c.next_try_at <= format_time(now))

        def query(connection: Connection) -> tuple[Message, ...]:
            chosen: dict[tuple[str, str], Row[Any]] = {}
            for row in connection.execute(front):
                lane = (row.incident_id, row.channel)
                if lane not in chosen or row.pager == PagerAction.TRIGGER_HIGH.value:
                    chosen[lane] = row
            ordered = sorted(
                chosen.values(),
                key=lambda row: (row.pager != PagerAction.TRIGGER_HIGH.value, row.due_at, row.number),
            )
            return tuple(_message(row) for row in ordered[:limit])

        return await self._read(query)

    async def next_due(self) -> datetime | None:
        """When `due` will next return something: in the past when it would now, None when nothing waits."""
        front = _FRONT[None].with_only_columns(func.min(rows.c.next_try_at))
        text = await self._read(lambda connection: connection.execute(front).scalar_one())
        return None if text is None else parse_time(text)

    async def delivered(
        self, message: Message, receipt: str, *, entry: EntryDraft, before: Sequence[EntryDraft] = ()
    ) -> None:
        """Keeps the receipt and the entries in one transaction. Also for a message that was cancelled while it was
        being sent: a person has read it."""
        items = prepared((*before, entry))

        def unit(connection: Connection) -> None:
            connection.execute(
                update(rows)
                .where(rows.c.number == message.number, rows.c.state != MessageState.DELIVERED.value)
                .values(state=MessageState.DELIVERED.value, receipt=receipt, attempts=message.attempts + 1)
            )
            append_entries(connection, items)

        await self._write(unit)

    async def failed(self, message: Message, *, next_try_at: datetime | None, entry: EntryDraft | None) -> None:
        """Counts the attempt and sets the next one, or gives up; the entry, if any, in the same transaction."""
        items = prepared(() if entry is None else (entry,))
        change: dict[str, object] = {"attempts": message.attempts + 1}
        if next_try_at is None:
            change["state"] = MessageState.GIVEN_UP.value
        else:
            change["next_try_at"] = format_time(next_try_at)

        def unit(connection: Connection) -> None:
            connection.execute(update(rows).where(rows.c.number == message.number, _WAITS).values(**change))
            append_entries(connection, items)

        await self._write(unit)

    async def receipt(self, incident_id: str, key: str) -> str:
        """Receipt of a delivered message; empty when it was not delivered."""
        query = select(rows.c.receipt).where(
            rows.c.incident_id == incident_id, rows.c.key == key, rows.c.state == MessageState.DELIVERED.value
        )
        return await self._read(lambda connection: str(connection.execute(query).scalar_one_or_none() or ""))

    async def paged(self, incident_id: str) -> tuple[PagerAction, ...]:
        """What was delivered to the pager about an incident, in the order of the messages."""
        query = (
            select(rows.c.pager)
            .where(
                rows.c.incident_id == incident_id,
                rows.c.state == MessageState.DELIVERED.value,
                rows.c.pager != PagerAction.NONE.value,
            )
            .order_by(rows.c.due_at, rows.c.number)
        )
        return await self._read(
            lambda connection: tuple(PagerAction(pager) for pager in connection.execute(query).scalars())
        )


def _front(channel: Channel | None) -> Select[Any]:
    """Waiting messages (of one channel, or of all) that wait for no other: the first of each incident and channel, and
    the first of its high-urgency ones where that is a page."""
    high = rows.c.pager.in_(_HIGH)
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
    return select(rows).join(ranked, ranked.c.number == rows.c.number).where(first)


_FRONT = {channel: _front(channel) for channel in (None, *Channel)}


def enqueue_messages(connection: Connection, drafts: Sequence[MessageDraft]) -> None:
    """Put messages into the outbox; one whose (incident, key) is known stays as it is."""
    if not drafts:
        return
    connection.execute(
        insert(rows).on_conflict_do_nothing(index_elements=["incident_id", "key"]),
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


def cancel_messages(connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Take back messages that were not sent yet, by (incident, message key)."""
    for incident_id, key in keys:
        connection.execute(_CANCEL.where(rows.c.incident_id == incident_id, rows.c.key == key))


def cancel_waiting_after(connection: Connection, incident_id: str, at: datetime) -> None:
    """Take back the incident's unsent messages that are due after `at`."""
    connection.execute(_CANCEL.where(rows.c.incident_id == incident_id, rows.c.due_at > format_time(at)))


_CANCEL = update(rows).where(_WAITS).values(state=MessageState.CANCELLED.value)


def _message(row: Row[Any]) -> Message:
    return Message(
        number=row.number,
        draft=MessageDraft(
            incident_id=row.incident_id,
            key=row.key,
            channel=Channel(row.channel),
            notice=NoticeKind(row.notice),
            due_at=parse_time(row.due_at),
            pager=PagerAction(row.pager),
            body=decode_json(row.body),
        ),
        attempts=row.attempts,
        next_try_at=parse_time(row.next_try_at),
    )

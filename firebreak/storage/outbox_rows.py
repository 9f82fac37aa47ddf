"""Rows of the outbox as messages. One that cannot be read is named, so that somebody can be told of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement

from firebreak.domain.codec import parse_time
from firebreak.domain.message import HIGH, Channel, Message, MessageDraft, NoticeKind, PagerAction, UnreadableMessage
from firebreak.storage.schema import messages as rows
from firebreak.storage.sql import beside
from firebreak.storage.store import UNDECODABLE, decode_json

COLUMNS = (
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
NEVER = "3"
"""Times are text: what sorts behind this is no time before the year 3000, and would never be due."""


def strays(channel: Channel | None) -> list[tuple[ColumnElement[bool], ...]]:
    """Conditions of rows that would wait for ever, each for an index of its own: of no time, or of no channel that
    there is. The latter are seen with the pager's, since they may be calls."""
    late = [(rows.c.channel == c.value, rows.c.due_at > NEVER) for c in Channel if channel in (None, c)]
    lost = [(place,) for place in beside(rows.c.channel, list(Channel))] if channel in (None, Channel.PAGER) else []
    return [*late, *lost]


def chosen(found: Sequence[tuple[Any, ...]], limit: int) -> tuple[tuple[Message, ...], tuple[UnreadableMessage, ...]]:
    """One message of each incident and channel, of high and low urgency the high, calls first; and what cannot be
    read."""
    front: dict[tuple[str, Channel], Message] = {}
    damaged: dict[int, UnreadableMessage] = {}
    for row in found:
        message = _message(*row)
        if isinstance(message, UnreadableMessage):
            damaged[message.number] = message
            continue
        lane = (message.draft.incident_id, message.draft.channel)
        if lane not in front or message.draft.pager in HIGH:
            front[lane] = message
    ordered = sorted(
        front.values(),
        key=lambda m: (m.draft.pager is not PagerAction.TRIGGER_HIGH, m.draft.due_at, m.number),
    )
    return tuple(ordered[:limit]), tuple(damaged.values())


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
) -> Message | UnreadableMessage:
    """Of `COLUMNS`."""
    try:
        if max(due_at, next_try_at) > NEVER:
            raise ValueError(f"no time before the year 3000: {max(due_at, next_try_at)!r}")
        return Message(
            number=number,
            draft=MessageDraft(
                incident_id=incident_id,
                key=key,
                channel=Channel(channel),
                notice=NoticeKind(notice),
                due_at=parse_time(due_at),
                pager=PagerAction(pager),
                body=_object(body),
            ),
            attempts=int(attempts),
            next_try_at=parse_time(next_try_at),
        )
    except UNDECODABLE as damage:
        return UnreadableMessage(
            number=number,
            incident_id=str(incident_id),
            key=str(key),
            channel=str(channel),
            notice=str(notice),
            pager=str(pager),
            fault=f"{type(damage).__name__}: {damage}",
            may_call=_may_call(channel, pager),
        )


def _object(text: str) -> dict[str, Any]:
    body = decode_json(text)
    if not isinstance(body, dict):
        raise TypeError(f"its body is a {type(body).__name__}, and no JSON object")
    return body


def _may_call(channel: str, pager: str) -> bool:
    known = pager in list(PagerAction)
    return pager == PagerAction.TRIGGER_HIGH or (not known and channel not in (Channel.CHAT, Channel.POSTMORTEM))

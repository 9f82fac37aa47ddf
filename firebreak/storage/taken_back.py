"""Messages that are taken back before they are sent. A call that was due by then may be on its way already, and a kill
of the sender may come before that is written down: the record says so, and what ends the call is sent all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, or_, select, update

from firebreak.domain.codec import format_time
from firebreak.domain.message import PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.outbox import MessageState, waiting
from firebreak.storage.schema import messages as rows
from firebreak.storage.sql import Sql

IN_WRITING = timedelta(seconds=1)
"""How long a change may take until it is on disk: what falls due meanwhile may be sent first."""


def cancel_messages(raw: sqlite3.Connection, keys: Sequence[tuple[str, str]], at: datetime | None) -> None:
    """Take back messages that were not sent yet, by (incident, message key). `at`: when that was decided; None where no
    entry says it, and then nothing is said of doubt, either."""
    for incident_id, key in keys:
        if at is not None:
            _doubt(raw, incident_id, at, _DUE.run(raw, incident=incident_id, message=key, soon=_soon(at)))
        _CANCEL.run(raw, incident=incident_id, message=key)


def cancel_waiting_after(raw: sqlite3.Connection, incident_id: str, at: datetime) -> None:
    """Take back the incident's unsent messages that are due after `at`."""
    after = format_time(at)
    _doubt(raw, incident_id, at, _DUE_AFTER.run(raw, incident=incident_id, after=after, soon=_soon(at)))
    _CANCEL_AFTER.run(raw, incident=incident_id, after=after)


def _soon(at: datetime) -> str:
    return format_time(at + IN_WRITING)


def _doubt(raw: sqlite3.Connection, incident_id: str, at: datetime, due: Iterable[tuple[Any, ...]]) -> None:
    drafts = [
        EntryDraft(
            incident_id=incident_id,
            key=f"message/{key}/taken-back",
            kind=EntryKind.MESSAGE_TAKEN_BACK,
            at=at,
            body={"channel": channel, "notice": notice, "key": key, "pager": pager},
        )
        for key, channel, notice, pager in due
    ]
    append_entries(raw, prepared(drafts))


_its = (waiting(rows), rows.c.incident_id == bindparam("incident"))
_one = (*_its, rows.c.key == bindparam("message"))
_later = (*_its, rows.c.due_at > bindparam("after"))
_calls = or_(*(rows.c.pager == action.value for action in (PagerAction.TRIGGER_HIGH, PagerAction.TRIGGER_LOW)))
_due = select(rows.c.key, rows.c.channel, rows.c.notice, rows.c.pager)
# What waits for its next try is not on its way; what an earlier one may have done is on record.
_due = _due.where(_calls, rows.c.next_try_at <= bindparam("soon"))
_DUE = Sql(_due.where(*_one))
_DUE_AFTER = Sql(_due.where(*_later))
_cancel = update(rows).values(state=MessageState.CANCELLED.value)
_CANCEL = Sql(_cancel.where(*_one))
_CANCEL_AFTER = Sql(_cancel.where(*_later))

"""Restores: durable promises to take a step back, which outlive their incident."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.domain.incident import UnreadableRestore
from firebreak.domain.message import MessageDraft
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import Appended, EntryDraft
from firebreak.storage.entries import append_entries, excluded, prepared
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.schema import restores
from firebreak.storage.sql import Sql
from firebreak.storage.store import UNDECODABLE, Store, decode_json, encode_json


class RestoresStore(Store):
    """The part of LedgerPort and IncidentsPort that speaks of restores."""

    async def end_restore(
        self,
        record: RestoreRecord,
        *,
        outcome: str,
        entry: EntryDraft,
        messages: Sequence[MessageDraft],
        unless: Sequence[str] = (),
    ) -> Appended:
        """Ends the record at `entry.at`, with its entry and messages, in one transaction. The second time the entry is
        found, and nothing changes; `unless` as for `append`."""
        items = prepared((entry,))
        ended = replace(record, ended_at=entry.at, outcome=outcome)

        def unit(raw: sqlite3.Connection) -> Appended:
            instead = excluded(raw, items, unless)
            if instead is not None:
                return instead
            (done,) = append_entries(raw, items)
            if not done.found:
                keep_restores(raw, (ended,))
                enqueue_messages(raw, messages)
            return done

        return await self._write(unit)

    async def open_restores(self, *, unreadable: list[UnreadableRestore] | None = None) -> tuple[RestoreRecord, ...]:
        """Restores that were opened and have not ended, oldest first; those that cannot be read in `unreadable`."""
        found = await self._peek(lambda raw: [_record(*row) for row in _OPEN.rows(raw)])
        if unreadable is not None:
            unreadable.extend(one for one in found if isinstance(one, UnreadableRestore))
        return tuple(one for one in found if isinstance(one, RestoreRecord))


def keep_restores(raw: sqlite3.Connection, records: Sequence[RestoreRecord]) -> None:
    """Open new records; end those that are open and come with `ended_at`. An ended one stays as it is."""
    for record in records:
        _KEEP.run(
            raw,
            incident_id=record.incident_id,
            tier=record.tier,
            step=record.step,
            plan_digest=record.plan_digest,
            opened_at=format_time(record.opened_at),
            restore=encode_json(to_data(record.restore)),
            ended_at=None if record.ended_at is None else format_time(record.ended_at),
            outcome=record.outcome,
        )


_OPEN = Sql(
    select(
        restores.c.incident_id,
        restores.c.tier,
        restores.c.step,
        restores.c.plan_digest,
        restores.c.opened_at,
        restores.c.restore,
        restores.c.outcome,
    )
    .where(restores.c.ended_at.is_(None))
    .order_by(restores.c.opened_at)
)
_new = insert(restores)
_KEEP = Sql(
    _new.on_conflict_do_update(
        index_elements=["incident_id", "tier", "step"],
        set_={"ended_at": _new.excluded.ended_at, "outcome": _new.excluded.outcome},
        where=restores.c.ended_at.is_(None),
    )
)


def _record(
    incident_id: str, tier: int, step: int, plan_digest: str, opened_at: str, restore: str, outcome: str
) -> RestoreRecord | UnreadableRestore:
    try:
        return RestoreRecord(
            incident_id=incident_id,
            tier=int(tier),
            step=int(step),
            plan_digest=plan_digest,
            opened_at=parse_time(opened_at),
            restore=_restore(restore),
            outcome=outcome,
        )
    except UNDECODABLE as damage:
        fault = f"{type(damage).__name__}: {damage}"
        return UnreadableRestore(incident_id=str(incident_id), place=f"{tier}.{step}", fault=fault)


@functools.lru_cache(maxsize=256)  # what is open is asked for in every round of the dispatcher
def _restore(text: str) -> Restore:
    return from_data(Restore, decode_json(text))

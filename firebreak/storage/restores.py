"""Restores: durable promises to take a step back, which outlive their incident."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence

from sqlalchemy import bindparam, select, update
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
        place: tuple[int, int],
        *,
        outcome: str,
        entry: EntryDraft,
        messages: Sequence[MessageDraft],
        unless: Sequence[str] = (),
    ) -> Appended:
        """Ends the promise about `place` (tier, step) at `entry.at`, with its entry and messages, in one transaction.
        The second time the entry is found, and nothing changes; `unless` as for `append`."""
        items = prepared((entry,))
        of = {"incident": entry.incident_id, "its_tier": place[0], "its_step": place[1]}

        def unit(raw: sqlite3.Connection) -> Appended:
            instead = excluded(raw, items, unless)
            if instead is not None:
                return instead
            (done,) = append_entries(raw, items)
            if not done.found:
                _END.run(raw, **of, ended_at=items[0].at, outcome=outcome)
                enqueue_messages(raw, messages)
            return done

        return await self._write(unit)

    async def open_restores(self, *, unreadable: list[UnreadableRestore] | None = None) -> tuple[RestoreRecord, ...]:
        """Restores that were opened and have not ended, oldest first; those that cannot be read in `unreadable`."""
        found = await self._peek(lambda raw: [_record(*row) for row in _OPEN.rows(raw)])
        if unreadable is not None:
            unreadable.extend(one for one in found if isinstance(one, UnreadableRestore))
        return tuple(one for one in found if isinstance(one, RestoreRecord))


def open_anew(raw: sqlite3.Connection, records: Sequence[RestoreRecord]) -> None:
    """Open what was never opened; what was, stays as it is."""
    for record in records:
        _OPEN_ANEW.run(
            raw,
            incident_id=record.incident_id,
            tier=record.tier,
            step=record.step,
            plan_digest=record.plan_digest,
            opened_at=format_time(record.opened_at),
            restore=encode_json(to_data(record.restore)),
            ended_at=None,
            outcome="",
        )


_OPEN = Sql(
    select(
        restores.c.incident_id,
        restores.c.tier,
        restores.c.step,
        restores.c.plan_digest,
        restores.c.opened_at,
        restores.c.restore,
    )
    .where(restores.c.ended_at.is_(None))
    .order_by(restores.c.opened_at)
)
_OPEN_ANEW = Sql(insert(restores).on_conflict_do_nothing(index_elements=["incident_id", "tier", "step"]))
_END = Sql(
    update(restores)
    .where(
        restores.c.incident_id == bindparam("incident"),
        restores.c.tier == bindparam("its_tier"),
        restores.c.step == bindparam("its_step"),
        restores.c.ended_at.is_(None),
    )
    .values(ended_at=bindparam("ended_at"), outcome=bindparam("outcome"))
)


def _record(
    incident_id: str, tier: int, step: int, plan_digest: str, opened_at: str, restore: str
) -> RestoreRecord | UnreadableRestore:
    try:
        return RestoreRecord(
            incident_id=incident_id,
            tier=int(tier),
            step=int(step),
            plan_digest=plan_digest,
            opened_at=parse_time(opened_at),
            restore=_restore(restore),
        )
    except UNDECODABLE as damage:
        fault = f"{type(damage).__name__}: {damage}"
        return UnreadableRestore(incident_id=str(incident_id), place=f"{tier}.{step}", fault=fault)


@functools.lru_cache(maxsize=256)  # what is open is asked for in every round of the dispatcher
def _restore(text: str) -> Restore:
    return from_data(Restore, decode_json(text))

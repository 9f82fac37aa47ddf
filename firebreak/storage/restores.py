"""Restores: durable promises to take a step back, which outlive their incident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.domain.message import MessageDraft
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.timeline import Appended, EntryDraft
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.schema import restores
from firebreak.storage.store import Store, decode_json, encode_json


class RestoresStore(Store):
    """The part of LedgerPort and IncidentsPort that speaks of restores."""

    async def end_restore(
        self, record: RestoreRecord, *, outcome: str, entry: EntryDraft, messages: Sequence[MessageDraft]
    ) -> Appended:
        """Ends the record at `entry.at`, with its entry and messages, in one transaction. The second time the entry is
        found, and nothing changes."""
        items = prepared((entry,))
        ended = replace(record, ended_at=entry.at, outcome=outcome)

        def unit(connection: Connection) -> Appended:
            (done,) = append_entries(connection, items)
            if not done.found:
                keep_restores(connection, (ended,))
                enqueue_messages(connection, messages)
            return done

        return await self._write(unit)

    async def open_restores(self) -> tuple[RestoreRecord, ...]:
        """Restores that were opened and have not ended, oldest first."""
        query = select(restores).where(restores.c.ended_at.is_(None)).order_by(restores.c.opened_at)

        def run(connection: Connection) -> tuple[RestoreRecord, ...]:
            return tuple(
                RestoreRecord(
                    incident_id=row.incident_id,
                    tier=row.tier,
                    step=row.step,
                    plan_digest=row.plan_digest,
                    opened_at=parse_time(row.opened_at),
                    restore=from_data(Restore, decode_json(row.restore)),
                    outcome=row.outcome,
                )
                for row in connection.execute(query)
            )

        return await self._read(run)


def keep_restores(connection: Connection, records: Sequence[RestoreRecord]) -> None:
    """Open new records; end those that are open and come with `ended_at`. An ended one stays as it is."""
    for record in records:
        statement = insert(restores).values(
            incident_id=record.incident_id,
            tier=record.tier,
            step=record.step,
            plan_digest=record.plan_digest,
            opened_at=format_time(record.opened_at),
            restore=encode_json(to_data(record.restore)),
            ended_at=None if record.ended_at is None else format_time(record.ended_at),
            outcome=record.outcome,
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["incident_id", "tier", "step"],
                set_={"ended_at": statement.excluded.ended_at, "outcome": statement.excluded.outcome},
                where=restores.c.ended_at.is_(None),
            )
        )

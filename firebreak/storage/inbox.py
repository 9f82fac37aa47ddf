"""InboxPort: alerts on disk before their sender hears 200, each settled exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from firebreak.domain.alert import AcceptedAlert, Alert, Disposition, IntakeClass
from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.storage.database import driver
from firebreak.storage.schema import INBOX_REVISION, deliveries, probe
from firebreak.storage.store import Store, decode_json, encode_json


class InboxStore(Store):
    """`inbox.sqlite`: written by the gateway's process, settled by the dispatchers. See InboxPort."""

    schema = "inbox"
    revision = INBOX_REVISION

    async def accept(
        self,
        alerts: Sequence[tuple[Alert, IntakeClass]],
        *,
        source: str,
        truncated: int,
        accepted_at: datetime,
    ) -> tuple[int, ...]:
        """All of them or none. Receipts rise by one within a call."""
        moment = format_time(accepted_at)
        packed = [(intake_class.value, encode_json(to_data(alert))) for alert, intake_class in alerts]

        def unit(connection: Connection) -> tuple[int, ...]:
            raw = driver(connection)
            last = raw.execute("SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'").fetchone()
            first = (last[0] if last else 0) + 1
            raw.executemany(
                _ACCEPT,
                [
                    (receipt, moment, intake_class, source, truncated, alert)
                    for receipt, (intake_class, alert) in enumerate(packed, start=first)
                ],
            )
            return tuple(range(first, first + len(packed)))

        return await self._write(unit) if packed else ()

    async def claim(self, intake_class: IntakeClass, *, limit: int) -> tuple[AcceptedAlert, ...]:
        """Deliveries of the class without a disposition, oldest first. Takes no lock: one dispatcher per class."""
        query = (
            select(deliveries)
            .where(deliveries.c.intake_class == intake_class.value, deliveries.c.disposition.is_(None))
            .order_by(deliveries.c.receipt)
            .limit(limit)
        )
        return await self._read(lambda connection: tuple(_accepted(row) for row in connection.execute(query)))

    async def settle(self, dispositions: Sequence[tuple[int, Disposition, str]]) -> None:
        """(receipt, disposition, incident id or reason); the first disposition of a receipt stays."""
        if not dispositions:
            return
        changes = [
            {"of": receipt, "disposition": disposition.value, "detail": detail}
            for receipt, disposition, detail in dispositions
        ]
        await self._write(lambda connection: connection.execute(_SETTLE, changes) and None)

    async def backlog(self) -> int:
        """Deliveries without a disposition."""
        query = select(func.count()).select_from(deliveries).where(deliveries.c.disposition.is_(None))
        return await self._read(lambda connection: int(connection.execute(query).scalar_one()))

    async def oldest(self) -> AcceptedAlert | None:
        """The delivery that has waited longest for a disposition, of any class."""
        query = select(deliveries).where(deliveries.c.disposition.is_(None)).order_by(deliveries.c.receipt).limit(1)
        row = await self._read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _accepted(row)

    async def probe(self) -> None:
        """Write and sync one row for nothing: LedgerError when an alert could not be kept now."""
        beat = update(probe).where(probe.c.id == 1).values(beats=probe.c.beats + 1)
        await self._write(lambda connection: connection.execute(beat) and None)

    async def disposition(self, receipt: int) -> tuple[Disposition, str] | None:
        """How a delivery ended and its detail; None while it waits, or when there is none of that number."""
        query = select(deliveries.c.disposition, deliveries.c.detail).where(deliveries.c.receipt == receipt)
        row = await self._read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None or row.disposition is None else (Disposition(row.disposition), row.detail)


_ACCEPT = (
    "INSERT INTO deliveries (receipt, accepted_at, intake_class, source, truncated, alert) VALUES (?, ?, ?, ?, ?, ?)"
)
_SETTLE = (
    update(deliveries)
    .where(deliveries.c.receipt == bindparam("of"), deliveries.c.disposition.is_(None))
    .values(disposition=bindparam("disposition"), detail=bindparam("detail"))
)


def _accepted(row: Row[Any]) -> AcceptedAlert:
    return AcceptedAlert(
        receipt=row.receipt,
        accepted_at=parse_time(row.accepted_at),
        intake_class=IntakeClass(row.intake_class),
        source=row.source,
        truncated=row.truncated,
        alert=from_data(Alert, decode_json(row.alert)),
    )

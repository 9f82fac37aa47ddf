"""InboxPort: alerts on disk before their sender hears 200, each settled exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, func, insert, select, update

from firebreak.domain.alert import AcceptedAlert, Alert, Disposition, IntakeClass
from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.storage.database import driver
from firebreak.storage.schema import INBOX_REVISION, deliveries, probe
from firebreak.storage.sql import Sql
from firebreak.storage.store import Store, decode_json, encode_json

FEW = 32
"""Deliveries that are decoded on the event loop (some 20 us each); more go to the reading thread."""


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
        packed = [
            {
                "accepted_at": moment,
                "intake_class": intake_class.value,
                "source": source,
                "truncated": truncated,
                "alert": encode_json(to_data(alert)),
            }
            for alert, intake_class in alerts
        ]

        def unit(raw: sqlite3.Connection) -> tuple[int, ...]:
            last = raw.execute("SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'").fetchone()
            receipts = tuple(range((last[0] if last else 0) + 1, (last[0] if last else 0) + 1 + len(packed)))
            _ACCEPT.run_each(raw, [{"receipt": receipt, **row} for receipt, row in zip(receipts, packed, strict=True)])
            return receipts

        return await self._write(unit) if packed else ()

    async def claim(self, intake_class: IntakeClass, *, limit: int) -> tuple[AcceptedAlert, ...]:
        """Deliveries of the class without a disposition, oldest first. Takes no lock: one dispatcher per class."""
        rows = await self._peek(lambda raw: _CLAIM.run(raw, intake=intake_class.value, limit=limit).fetchall())
        if len(rows) <= FEW:
            return _accepted(rows)
        return await self._read(lambda _: _accepted(rows))

    async def settle(self, dispositions: Sequence[tuple[int, Disposition, str]]) -> None:
        """(receipt, disposition, incident id or reason); the first disposition of a receipt stays."""
        if not dispositions:
            return
        changes = [
            {"of": receipt, "disposition": disposition.value, "detail": detail}
            for receipt, disposition, detail in dispositions
        ]
        await self._write(lambda raw: _SETTLE.run_each(raw, changes))

    async def backlog(self) -> int:
        """Deliveries without a disposition."""
        (count,) = await self._read(lambda connection: _BACKLOG.run(driver(connection)).fetchone())
        return int(count)

    async def oldest(self) -> AcceptedAlert | None:
        """The delivery that has waited longest for a disposition, of any class."""
        found = _accepted(await self._read(lambda connection: _OLDEST.run(driver(connection)).fetchall()))
        return found[0] if found else None

    async def probe(self) -> None:
        """Write and sync one row for nothing: LedgerError when an alert could not be kept now."""
        await self._write(_BEAT.run)

    async def disposition(self, receipt: int) -> tuple[Disposition, str] | None:
        """How a delivery ended and its detail; None while it waits, or when there is none of that number."""
        row = await self._peek(lambda raw: _END.run(raw, of=receipt).fetchone())
        return None if row is None or row[0] is None else (Disposition(row[0]), row[1])


_ACCEPT = Sql(
    insert(deliveries).values(
        {name: bindparam(name) for name in ("receipt", "accepted_at", "intake_class", "source", "truncated", "alert")}
    )
)
_waits = (deliveries.c.disposition.is_(None),)
_all = select(
    deliveries.c.receipt,
    deliveries.c.accepted_at,
    deliveries.c.intake_class,
    deliveries.c.source,
    deliveries.c.truncated,
    deliveries.c.alert,
)
_CLAIM = Sql(
    _all.where(deliveries.c.intake_class == bindparam("intake"), *_waits)
    .order_by(deliveries.c.receipt)
    .limit(bindparam("limit"))
)
_OLDEST = Sql(_all.where(*_waits).order_by(deliveries.c.receipt).limit(1))
_BACKLOG = Sql(select(func.count()).select_from(deliveries).where(*_waits))
_END = Sql(select(deliveries.c.disposition, deliveries.c.detail).where(deliveries.c.receipt == bindparam("of")))
_SETTLE = Sql(
    update(deliveries)
    .where(deliveries.c.receipt == bindparam("of"), *_waits)
    .values(disposition=bindparam("disposition"), detail=bindparam("detail"))
)
_BEAT = Sql(update(probe).where(probe.c.id == 1).values(beats=probe.c.beats + 1))


def _accepted(rows: Sequence[tuple[int, str, str, str, int, str]]) -> tuple[AcceptedAlert, ...]:
    return tuple(
        AcceptedAlert(
            receipt=receipt,
            accepted_at=parse_time(accepted_at),
            intake_class=IntakeClass(intake_class),
            source=source,
            truncated=truncated,
            alert=from_data(Alert, decode_json(alert)),
        )
        for receipt, accepted_at, intake_class, source, truncated, alert in rows
    )

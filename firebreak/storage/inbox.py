"""InboxPort: alerts on disk before their sender hears 200, each settled exactly once."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, select, union_all, update

from firebreak.domain.alert import AcceptedAlert, Alert, Disposition, IntakeClass, UnreadableDelivery
from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.storage.database import driver
from firebreak.storage.schema import INBOX_REVISION, deliveries, identity, probe
from firebreak.storage.sql import Sql, beside
from firebreak.storage.store import UNDECODABLE, Store, decode_json, encode_json

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
            first = _newest(raw) + 1
            receipts = tuple(range(first, first + len(packed)))
            _ACCEPT.run_each(raw, [{"receipt": receipt, **row} for receipt, row in zip(receipts, packed, strict=True)])
            return receipts

        return await self._write(unit) if packed else ()

    async def claim(
        self, intake_class: IntakeClass, *, limit: int, unreadable: list[UnreadableDelivery] | None = None
    ) -> tuple[AcceptedAlert, ...]:
        """Deliveries of the class without a disposition, oldest first. Takes no lock: one dispatcher per class. Those
        that cannot be read, and for P1 candidates those of no class that there is, come in `unreadable`."""

        def look(raw: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows = _CLAIM.rows(raw, intake=intake_class.value, limit=limit)
            strays = _STRAYS.rows(raw, limit=limit) if intake_class is IntakeClass.P1_CANDIDATE else []
            return rows + strays

        rows = await self._peek(look)
        if len(rows) <= FEW:
            found = _deliveries(rows)
        else:
            found = await self._read(lambda _: _deliveries(rows))
        if unreadable is not None:
            unreadable.extend(one for one in found if isinstance(one, UnreadableDelivery))
        return tuple(one for one in found if isinstance(one, AcceptedAlert))

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
        return sum((await self.backlogs()).values())

    async def backlogs(self) -> dict[IntakeClass, int]:
        """The same of each class; those of no class that there is count as P1 candidates, whose dispatcher has them."""
        rows = await self._read(lambda connection: _BACKLOGS.rows(driver(connection)))
        known = {of: sum(count for name, count in rows if name == of) for of in IntakeClass}
        strays = sum(count for name, count in rows if name not in known)
        return {**known, IntakeClass.P1_CANDIDATE: known[IntakeClass.P1_CANDIDATE] + strays}

    async def was_handled(self) -> bool:
        """Whether any delivery ever became something that the timeline tells of."""
        return bool(await self._read(lambda connection: _HANDLED.run(driver(connection)).fetchone()))

    async def oldest(self, *, after: int = 0) -> AcceptedAlert | UnreadableDelivery | None:
        """The delivery that has waited longest for a disposition, of any class and of those that came after that
        receipt."""
        found = _deliveries(await self._read(lambda connection: _OLDEST.rows(driver(connection), after=after)))
        return found[0] if found else None

    async def newest(self) -> int:
        """Receipt of the last delivery that there was; 0 before the first."""
        return await self._peek(_newest)

    async def taken_up(self, *, after: int) -> frozenset[IntakeClass]:
        """Classes of which a delivery that came after that receipt has its disposition. Reads all that came since."""
        rows = await self._read(lambda connection: _TAKEN_UP.rows(driver(connection), after=after))
        return frozenset(IntakeClass(row[0]) for row in rows if row[0] in set(IntakeClass))

    async def name(self) -> str:
        """Which inbox the receipts are of; empty when that is lost."""
        row = await self._peek(lambda raw: raw.execute("SELECT inbox FROM identity WHERE id = 1").fetchone())
        return str(row[0]) if row else ""

    async def holds(self, receipt: int, accepted_at: str) -> bool:
        """Whether it has that delivery, accepted at that time (as it is stored)."""
        row = await self._peek(lambda raw: _ACCEPTED_AT.run(raw, of=receipt).fetchone())
        return row is not None and row[0] == accepted_at

    async def rename(self) -> None:
        """As of a new inbox: all that it hands out from now on is new."""
        await self._write(lambda raw: _RENAME.run(raw, inbox=secrets.token_hex(8)))

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
    select(identity.c.inbox).where(identity.c.id == 1).scalar_subquery(),
)
_CLAIM = Sql(
    _all.where(deliveries.c.intake_class == bindparam("intake"), *_waits)
    .order_by(deliveries.c.receipt)
    .limit(bindparam("limit"))
)
_strays = (_all.where(*_waits, place) for place in beside(deliveries.c.intake_class, list(IntakeClass)))
_STRAYS = Sql(union_all(*_strays).limit(bindparam("limit")))
_number = deliveries.c.receipt + 0
"""By the number itself SQLite would rather walk all deliveries that ever were than those that wait."""
_first = select(deliveries.c.receipt).where(*_waits, _number > bindparam("after")).order_by(_number).limit(1)
_OLDEST = Sql(_all.where(deliveries.c.receipt == _first.scalar_subquery()))
_TAKEN_UP = Sql(
    select(deliveries.c.intake_class)
    .where(deliveries.c.receipt > bindparam("after"), deliveries.c.disposition.is_not(None))
    .distinct()
)
_BACKLOGS = Sql(select(deliveries.c.intake_class, func.count()).where(*_waits).group_by(deliveries.c.intake_class))
_HANDLED = Sql(select(deliveries.c.receipt).where(deliveries.c.disposition != Disposition.IGNORED.value).limit(1))
_END = Sql(select(deliveries.c.disposition, deliveries.c.detail).where(deliveries.c.receipt == bindparam("of")))
_ACCEPTED_AT = Sql(select(deliveries.c.accepted_at).where(deliveries.c.receipt == bindparam("of")))
_RENAME = Sql(update(identity).where(identity.c.id == 1).values(inbox=bindparam("inbox")))
_SETTLE = Sql(
    update(deliveries)
    .where(deliveries.c.receipt == bindparam("of"), *_waits)
    .values(disposition=bindparam("disposition"), detail=bindparam("detail"))
)
_BEAT = Sql(update(probe).where(probe.c.id == 1).values(beats=probe.c.beats + 1))


def _newest(raw: sqlite3.Connection) -> int:
    last = raw.execute("SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'").fetchone()
    return int(last[0]) if last else 0


def _deliveries(rows: Sequence[tuple[Any, ...]]) -> list[AcceptedAlert | UnreadableDelivery]:
    return [_delivery(*row) for row in rows]


def _delivery(
    receipt: int, accepted_at: str, intake_class: str, source: str, truncated: int, alert: str, inbox: str | None
) -> AcceptedAlert | UnreadableDelivery:
    try:
        return AcceptedAlert(
            receipt=receipt,
            accepted_at=parse_time(accepted_at),
            intake_class=IntakeClass(intake_class),
            source=source,
            truncated=int(truncated),
            alert=from_data(Alert, decode_json(alert)),
            inbox=str(inbox or ""),  # its row may be gone: then nobody knows, which is no reason to wait
        )
    except UNDECODABLE as damage:
        fault = f"{type(damage).__name__}: {damage}"
    try:
        known: datetime | None = parse_time(accepted_at)
    except UNDECODABLE:
        known = None
    return UnreadableDelivery(receipt=receipt, accepted_at=known, stored=str(alert), fault=fault)

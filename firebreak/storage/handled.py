"""Which deliveries have been handled already: each alert keeps the last one that changed it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, bindparam, case, func, or_, select

from firebreak.domain import ids
from firebreak.domain.codec import format_time
from firebreak.storage.schema import alerts, entries
from firebreak.storage.sql import Sql


@dataclass(frozen=True, slots=True)
class Delivered:
    """What tells one delivery from another. `receipt` 0: of no inbox; `inbox` empty: nobody knows of which."""

    inbox: str
    receipt: int
    accepted_at: datetime

    @property
    def columns(self) -> dict[str, object]:
        """As each alert keeps them."""
        return {"inbox": self.inbox, "receipt": self.receipt, "accepted_at": format_time(self.accepted_at)}


def was_seen(raw: sqlite3.Connection, fingerprint: str, delivery: Delivered) -> bool:
    """Whether this delivery, or a later one of the same label set, has been handled. Within one inbox the receipts
    tell, whatever the clock did; one of another inbox is new. Where either inbox is not known (an older record), it was
    seen when it is beyond neither receipt nor time: receipts begin anew with a new inbox, times may go back."""
    return delivery.receipt > 0 and _SEEN.run(raw, alert=fingerprint, **delivery.columns).fetchone() is not None


def newest_of_inbox(raw: sqlite3.Connection, inbox: str) -> tuple[int, str] | None:
    """(receipt, time of acceptance as it is stored) of the last delivery of that inbox that the record keeps; None for
    none. Reads all alerts, and all records of the engine's own."""
    found = (_NEWEST.rows(raw, inbox=inbox), _NEWEST_OWN.rows(raw, inbox=inbox))
    return max(((int(row[0]), str(row[1])) for rows in found for row in rows), default=None)


_NEWEST = Sql(
    select(alerts.c.receipt, alerts.c.accepted_at)
    .where(alerts.c.inbox == bindparam("inbox"))
    .order_by(alerts.c.receipt.desc())
    .limit(1)
)
_body = case((func.json_valid(entries.c.body) == 1, entries.c.body))  # a damaged one stops no start
_receipt = func.json_extract(_body, "$.receipt")
_NEWEST_OWN = Sql(
    select(_receipt, func.json_extract(_body, "$.accepted_at"))
    .where(
        entries.c.incident_id >= ids.OWN_ALERTS,
        entries.c.incident_id < f"{ids.OWN_ALERTS}~",
        func.json_extract(_body, "$.inbox") == bindparam("inbox"),
        func.typeof(_receipt) == "integer",
    )
    .order_by(_receipt.desc())
    .limit(1)
)
_unknown = or_(alerts.c.inbox == "", bindparam("inbox") == "")
_SEEN = Sql(
    select(alerts.c.receipt)
    .where(
        alerts.c.fingerprint == bindparam("alert"),
        alerts.c.receipt >= bindparam("receipt"),
        or_(
            and_(~_unknown, alerts.c.inbox == bindparam("inbox")),
            and_(_unknown, alerts.c.accepted_at >= bindparam("accepted_at")),
        ),
    )
    .limit(1)
)

"""IncidentsPort: which alert belongs to which incident.

The rule for a firing alert with key K = fingerprint@start:

1. K is known and firing in our books: DUPLICATE of its incident, open or closed (a re-delivery tells nothing new),
   unless that incident closed more than `rearm` before this delivery was accepted: then it is like new (2 or 3), since
   Alertmanager repeats what still fires, and somebody must look at it afresh. So it is where the incident closed more
   than `rearm` after that: the clock was set back. (What was accepted before the close, and is handled late, lies
   before it by less.)
2. K is new, and an incident with the same correlation key is open: JOINED.
3. K is new, and none is open: OPENED.
4. K is known but was resolved, and fires again with the same start: like new (2 or 3). It happens when the sender
   lost sight of the alert for a while (Prometheus unreachable, so Alertmanager let it expire) and, seldom, when an old
   delivery is late. Opening once too often costs one look at the evidence; missing an outage costs the outage.
   K then belongs to the incident that it joined or opened, the former one keeps it on its timeline.
5. As 4, but an incident with the very id exists already (refired within the second that the id is made of):
   DUPLICATE.

A delivery that was handled before changes nothing, whatever came after it: a crash may come before it is written into
the inbox what became of it, and then all since the last such note are handled again, in their order. Each alert keeps
inbox, receipt and time of acceptance of the last delivery that changed it (firebreak/storage/handled.py). A new inbox
and a clock that is set back make no new alert pass for an old one.

A fingerprint is one label set, of which only one alert can be at a time: what resolves it resolves its earlier starts
too (Alertmanager may merge alerts and move the start).

Whatever a delivery turns out to be, how many alerts its body left out (`truncated`) counts for the incident that it is
about, which keeps the highest such figure: a later body that is whole may be of another group, and says nothing of
those.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, func, literal_column, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.alert import Alert, Disposition, IntakeClass
from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.domain.errors import ChainBroken
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase, IncidentRow, UnreadableRow
from firebreak.domain.message import MessageDraft
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.database import driver
from firebreak.storage.entries import COLUMNS, append_entries, entry_of, find_entry, prepared
from firebreak.storage.faults import UNREADABLE
from firebreak.storage.handled import Delivered, was_seen
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.schema import alerts, entries, incidents
from firebreak.storage.sql import Sql
from firebreak.storage.store import UNDECODABLE, Store, decode_json, encode_json


class IncidentsStore(Store):
    """See IncidentsPort."""

    async def open_or_join(
        self,
        incident: Incident,
        *,
        opened: EntryDraft,
        joined: EntryDraft,
        messages: Sequence[MessageDraft],
        receipt: int = 0,
        inbox: str = "",
        rearm: timedelta = timedelta(minutes=5),
    ) -> tuple[str, Disposition]:
        """By the rule above, in one transaction. `receipt` and `inbox`: the delivery's (0: of no inbox). `opened` and
        `messages` are written when the incident opens, `joined` (under the id of the incident that was joined) when it
        joins, nothing for a duplicate but how many alerts its body left out, where those are more than before."""
        last = Delivered(inbox, receipt, incident.accepted_at)
        owner = await self._peek(lambda raw: _owner(raw, incident, last, rearm))
        if owner is not None and incident.truncated <= owner[1]:
            return owner[0], Disposition.DUPLICATE  # most of what is sent: no transaction, and nothing is made ready
        opening, columns = prepared((opened,)), _columns(incident)

        def unit(raw: sqlite3.Connection) -> tuple[str, Disposition]:
            owner = _owner(raw, incident, last, rearm)
            if owner is not None:
                _leave_out(raw, owner[0], incident.truncated)
                return owner[0], Disposition.DUPLICATE
            same = _OPEN_BY_CORRELATION.run(raw, correlation=incident.correlation_key).fetchone()
            if same is not None:
                _own(raw, incident, last, same[0])
                _leave_out(raw, same[0], incident.truncated)
                append_entries(raw, prepared((replace(joined, incident_id=same[0]),)))
                return same[0], Disposition.JOINED
            if _BY_ID.run(raw, incident=incident.id).fetchone() is not None:
                _leave_out(raw, incident.id, incident.truncated)
                return incident.id, Disposition.DUPLICATE
            _INSERT.run(raw, **columns)
            _own(raw, incident, last, incident.id)
            append_entries(raw, opening)
            enqueue_messages(raw, messages)
            return incident.id, Disposition.OPENED

        return await self._write(unit)

    async def resolve_alert(
        self,
        alert: Alert,
        *,
        at: datetime,
        accepted_at: datetime | None = None,
        receipt: int = 0,
        inbox: str = "",
        truncated: int = 0,
        entry: EntryDraft | None = None,
    ) -> tuple[str, int] | None:
        """(incident id, alerts that may still fire there: at least one where any were left out) of the newest start
        that the resolved alert covers, also when it had been resolved before; None when no incident knows it.
        `accepted_at` (None: now, which is `at`), `receipt` (0: of no inbox) and `inbox` are the delivery's, `truncated`
        is how many its body left out. `entry` is written, under the id of that incident and in the same transaction,
        when something ended that fired: what is told again costs no entry."""
        over = format_time(max(alert.ends_at or alert.starts_at, alert.starts_at))
        last = Delivered(inbox, receipt, at if accepted_at is None else accepted_at)
        change = {"resolved_at": format_time(at), **last.columns}

        def unit(raw: sqlite3.Connection) -> tuple[str, int] | None:
            newest = _NEWEST.run(raw, alert=alert.fingerprint, over=over).fetchone()
            if newest is None:
                return None
            ended = 0
            if not was_seen(raw, alert.fingerprint, last):
                ended = _RESOLVE.run(raw, alert=alert.fingerprint, over=over, **change).rowcount
            if entry is not None and ended:
                append_entries(raw, prepared((replace(entry, incident_id=newest[0]),)))
            _leave_out(raw, newest[0], truncated)
            firing = _firing(raw, newest[0])
            return newest[0], max(firing, 1) if _truncated(raw, newest[0]) else firing

        return await self._write(unit)

    async def incident(self, incident_id: str) -> Incident | None:
        """What the incident was opened with, open or closed; None for an unknown id. ChainBroken when neither its row
        nor its record says it."""

        def read(raw: sqlite3.Connection) -> Incident | None:
            found = _DATA.rows(raw, incident=incident_id)
            return _incident(raw, incident_id, found[0][0]) if found else None

        return await self._peek(read)

    async def knows(self, incident_id: str) -> bool:
        """Whether there is an incident of that id, open or closed, be its data as it may."""
        return await self._peek(lambda raw: _BY_ID.run(raw, incident=incident_id).fetchone()) is not None

    async def open_incidents(self) -> tuple[Incident | UnreadableRow, ...]:
        """Incidents that have not closed, oldest first. One damaged row hides no other: it is read from the record."""

        def one(raw: sqlite3.Connection, incident_id: str, data: str) -> Incident | UnreadableRow:
            try:
                return _incident(raw, incident_id, data)
            except ChainBroken as damage:
                return UnreadableRow(id=incident_id, fault=str(damage))

        def all_of(raw: sqlite3.Connection) -> tuple[Incident | UnreadableRow, ...]:
            return tuple(one(raw, *row) for row in _OPEN.rows(raw))

        return await self._read(lambda connection: all_of(driver(connection)))

    async def firing(self, incident_id: str) -> int:
        """How many of its alerts still fire, as far as their source has told."""
        return await self._peek(lambda raw: _firing(raw, incident_id))

    async def firing_alerts(self, incident_id: str) -> frozenset[str]:
        """Keys of those that `firing` counts."""
        rows = await self._peek(lambda raw: _FIRING_KEYS.run(raw, incident=incident_id).fetchall())
        return frozenset(row[0] for row in rows)

    async def truncated(self, incident_id: str) -> int:
        """The most alerts that one body about it left out, so far."""
        return await self._peek(lambda raw: _truncated(raw, incident_id))

    async def close_requests(self, *, unreadable: list[UnreadableRow] | None = None) -> tuple[TimelineEntry, ...]:
        """CLOSE_REQUESTED entries of incidents that are still open, in order. What cannot be read hides no other: it
        comes in `unreadable`."""
        found = []
        for row in sorted(await self._peek(_CLOSE_REQUESTS.rows)):
            try:
                found.append(entry_of(row))
            except ChainBroken as damage:
                if unreadable is not None:
                    unreadable.append(UnreadableRow(id=row[_INCIDENT], fault=str(damage)))
        return tuple(found)

    async def rows(self, *, limit: int) -> tuple[IncidentRow, ...]:
        """The newest `limit` incidents, newest first. ChainBroken when one of them cannot be read."""
        found = await self.listed(limit=limit)
        if broken := next((row for row in found if isinstance(row, UnreadableRow)), None):
            raise ChainBroken(f"the row of incident {broken.id} cannot be read: {broken.fault}", advice=UNREADABLE)
        return tuple(row for row in found if isinstance(row, IncidentRow))

    async def listed(self, *, limit: int) -> tuple[IncidentRow | UnreadableRow, ...]:
        """As `rows`, for people: what cannot be read does not hide the others."""
        firing = (
            select(func.count())
            .where(alerts.c.incident_id == incidents.c.id, alerts.c.firing == 1)
            .correlate(incidents)
            .scalar_subquery()
            .label("alerts_firing")
        )
        query = select(incidents, firing).order_by(incidents.c.opened_at.desc(), incidents.c.id.desc()).limit(limit)
        return await self._read(lambda connection: tuple(_row(row) for row in connection.execute(query)))

    async def engine_faults(self, *, limit: int) -> tuple[TimelineEntry, ...]:
        """The newest faults of the engine itself that have a record of their own, and are of no incident."""
        own = ~select(incidents.c.id).where(incidents.c.id == entries.c.incident_id).exists()
        query = select(*COLUMNS).where(entries.c.kind == EntryKind.ENGINE_FAULT.value, own)
        query = query.order_by(entries.c.seq.desc()).limit(limit)
        return await self._read(lambda connection: tuple(entry_of(row) for row in connection.execute(query)))


_BY_KEY = Sql(
    select(alerts.c.incident_id, alerts.c.firing, incidents.c.closed_at, incidents.c.truncated)
    .outerjoin(incidents, incidents.c.id == alerts.c.incident_id)
    .where(alerts.c.alert_key == bindparam("alert"))
)
_BY_ID = Sql(select(incidents.c.id).where(incidents.c.id == bindparam("incident")))
_OPEN = Sql(
    select(incidents.c.id, incidents.c.data).where(incidents.c.closed_at.is_(None)).order_by(incidents.c.opened_at)
)
_DATA = Sql(select(incidents.c.data).where(incidents.c.id == bindparam("incident")))
_OPEN_BY_CORRELATION = Sql(
    select(incidents.c.id).where(
        incidents.c.correlation_key == bindparam("correlation"), incidents.c.closed_at.is_(None)
    )
)
_INSERT = Sql(plain_insert(incidents))
_LAST = ("inbox", "receipt", "accepted_at")  # which delivery changed it last
_new = insert(alerts)
_OWN = Sql(
    _new.on_conflict_do_update(
        index_elements=["alert_key"],
        set_={name: _new.excluded[name] for name in ("incident_id", "firing", "resolved_at", *_LAST)},
    )
)
_covered = (alerts.c.fingerprint == bindparam("alert"), alerts.c.starts_at <= bindparam("over"))
_NEWEST = Sql(select(alerts.c.incident_id).where(*_covered).order_by(alerts.c.starts_at.desc()).limit(1))
_RESOLVE = Sql(
    update(alerts)
    .where(*_covered, alerts.c.firing == 1)
    .values(firing=0, **{name: bindparam(name) for name in ("resolved_at", *_LAST)})
)
_fires_in = (alerts.c.incident_id == bindparam("incident"), alerts.c.firing == 1)
_FIRING = Sql(select(func.count()).where(*_fires_in))
_FIRING_KEYS = Sql(select(alerts.c.alert_key).where(*_fires_in))
_TRUNCATED = Sql(select(incidents.c.truncated).where(incidents.c.id == bindparam("incident")))
_LEAVE_OUT = Sql(
    update(incidents)
    .where(incidents.c.id == bindparam("incident"), incidents.c.truncated < bindparam("left_out"))
    .values(truncated=bindparam("left_out"))
)
# The kind is spelled out: a bound parameter would miss the partial index.
# Not sorted: asked to sort, SQLite would rather walk all entries in their order.
_CLOSE_REQUESTS = Sql(
    select(*COLUMNS).where(
        entries.c.kind == literal_column(f"'{EntryKind.CLOSE_REQUESTED.value}'"),
        entries.c.incident_id == incidents.c.id,
        incidents.c.closed_at.is_(None),
    )
)

_INCIDENT = entries.c.keys().index("incident_id")


def _owner(raw: sqlite3.Connection, incident: Incident, last: Delivered, rearm: timedelta) -> tuple[str, int] | None:
    """Id of the incident of which the alert that opens `incident` tells nothing new, and what was left out there."""
    known = _BY_KEY.run(raw, alert=incident.alert.key).fetchone()
    if known is None:
        return None
    incident_id, firing, closed_at, truncated = known
    like_new = not firing or (closed_at is not None and abs(incident.accepted_at - parse_time(closed_at)) > rearm)
    if like_new and not was_seen(raw, incident.alert.fingerprint, last):
        return None
    return str(incident_id), truncated or 0


def _own(raw: sqlite3.Connection, incident: Incident, last: Delivered, incident_id: str) -> None:
    """The alert of that delivery fires and belongs to `incident_id` from now on."""
    alert = incident.alert
    _OWN.run(
        raw,
        alert_key=alert.key,
        fingerprint=alert.fingerprint,
        starts_at=format_time(alert.starts_at),
        incident_id=incident_id,
        firing=1,
        resolved_at=None,
        **last.columns,
    )


def _firing(raw: sqlite3.Connection, incident_id: str) -> int:
    (count,) = _FIRING.run(raw, incident=incident_id).fetchone()
    return int(count)


def _truncated(raw: sqlite3.Connection, incident_id: str) -> int:
    found = _TRUNCATED.run(raw, incident=incident_id).fetchone()
    return 0 if found is None else int(found[0])


def _leave_out(raw: sqlite3.Connection, incident_id: str, truncated: int) -> None:
    """A body about `incident_id` left out so many: the figure rises, and never falls."""
    _LEAVE_OUT.run(raw, incident=incident_id, left_out=truncated)


def _columns(incident: Incident) -> dict[str, object]:
    return {
        "id": incident.id,
        "correlation_key": incident.correlation_key,
        "service": incident.service,
        "alertname": incident.alert.labels.get("alertname", ""),
        "intake_class": incident.intake_class.value,
        "opened_at": format_time(incident.opened_at),
        "closed_at": None,
        "outcome": IncidentOutcome.OPEN.value,
        "phase": IncidentPhase.SEEN.value,
        "data": encode_json(to_data(incident)),
        "truncated": incident.truncated,
    }


def _incident(raw: sqlite3.Connection, incident_id: str, data: str) -> Incident:
    """Of its row; where that cannot be read, of the entry that opened it, which the chain guards."""
    try:
        return from_data(Incident, decode_json(data))
    except UNDECODABLE as damage:
        why: Exception = damage
    opened = find_entry(raw, incident_id, "opened")
    try:
        if opened is not None:
            return from_data(Incident, opened.body)
    except (*UNDECODABLE, ChainBroken) as damage:
        why = damage
    raise ChainBroken(f"the row of incident {incident_id} cannot be read: {why}", advice=UNREADABLE)


def _row(row: Row[Any]) -> IncidentRow | UnreadableRow:
    try:
        return IncidentRow(
            id=row.id,
            service=row.service,
            alertname=row.alertname,
            opened_at=parse_time(row.opened_at),
            closed_at=None if row.closed_at is None else parse_time(row.closed_at),
            outcome=IncidentOutcome(row.outcome),
            phase=IncidentPhase(row.phase),
            intake_class=IntakeClass(row.intake_class),
            alerts_firing=row.alerts_firing,
        )
    except (ValueError, TypeError) as error:
        return UnreadableRow(id=str(row.id), fault=str(error))

"""The part of IncidentsPort that reads incidents, and what somebody or the engine itself has said beside them."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Row, bindparam, func, literal_column, select

from firebreak.domain.alert import IntakeClass
from firebreak.domain.codec import from_data, parse_time
from firebreak.domain.errors import ChainBroken
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase, IncidentRow, UnreadableRow
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.storage.database import driver
from firebreak.storage.entries import COLUMNS, entry_of, find_entry
from firebreak.storage.faults import UNREADABLE
from firebreak.storage.schema import alerts, entries, incidents
from firebreak.storage.sql import Sql
from firebreak.storage.store import UNDECODABLE, Store, decode_json


class IncidentsStore(Store):
    """See IncidentsPort."""

    async def incident(self, incident_id: str) -> Incident | None:
        """What the incident was opened with, open or closed; None for an unknown id. ChainBroken when neither its row
        nor its record says it."""

        def read(raw: sqlite3.Connection) -> Incident | None:
            found = _DATA.rows(raw, incident=incident_id)
            return _incident(raw, incident_id, found[0][0]) if found else None

        return await self._peek(read)

    async def knows(self, incident_id: str) -> bool:
        """Whether there is an incident of that id, open or closed, be its data as it may."""
        return await self._peek(lambda raw: BY_ID.run(raw, incident=incident_id).fetchone()) is not None

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

    async def ids(self) -> tuple[str, ...]:
        """Of all incidents, newest first."""
        return await self._read(lambda connection: tuple(str(one) for (one,) in _IDS.rows(driver(connection))))

    async def listed(self, *, limit: int, incident_id: str = "") -> tuple[IncidentRow | UnreadableRow, ...]:
        """As `rows`, for people: what cannot be read does not hide the others. `incident_id`: of that one alone."""
        firing = (
            select(func.count())
            .where(alerts.c.incident_id == incidents.c.id, alerts.c.firing == 1)
            .correlate(incidents)
            .scalar_subquery()
            .label("alerts_firing")
        )
        query = select(incidents, firing).order_by(*_NEWEST_FIRST).limit(limit)
        if incident_id:
            query = query.where(incidents.c.id == incident_id)
        return await self._read(lambda connection: tuple(_row(row) for row in connection.execute(query)))

    async def engine_faults(self, *, limit: int) -> tuple[TimelineEntry, ...]:
        """The newest faults of the engine itself that have a record of their own, and are of no incident."""
        own = ~select(incidents.c.id).where(incidents.c.id == entries.c.incident_id).exists()
        query = select(*COLUMNS).where(entries.c.kind == EntryKind.ENGINE_FAULT.value, own)
        query = query.order_by(entries.c.seq.desc()).limit(limit)
        return await self._read(lambda connection: tuple(entry_of(row) for row in connection.execute(query)))


_NEWEST_FIRST = (incidents.c.opened_at.desc(), incidents.c.id.desc())
_IDS = Sql(select(incidents.c.id).order_by(*_NEWEST_FIRST))
BY_ID = Sql(select(incidents.c.id).where(incidents.c.id == bindparam("incident")))
_OPEN = Sql(
    select(incidents.c.id, incidents.c.data).where(incidents.c.closed_at.is_(None)).order_by(incidents.c.opened_at)
)
_DATA = Sql(select(incidents.c.data).where(incidents.c.id == bindparam("incident")))
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
        if strange := [text for text in (row.id, row.service, row.alertname) if type(text) is not str]:
            raise TypeError(f"a text that is {type(strange[0]).__name__}")
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

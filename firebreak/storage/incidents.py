"""IncidentsPort: which alert belongs to which incident.

The rule for a firing alert with key K = fingerprint@start:

1. K is known and firing in our books: DUPLICATE of its incident, open or closed (a re-delivery tells nothing new),
   unless that incident closed more than `rearm` before this delivery was accepted: then it is like new (2 or 3), since
   Alertmanager repeats what still fires, and somebody must look at it afresh.
2. K is new, and an incident with the same correlation key is open: JOINED.
3. K is new, and none is open: OPENED.
4. K is known but was resolved, and fires again with the same start: like new (2 or 3). It happens when the sender
   lost sight of the alert for a while (Prometheus unreachable, so Alertmanager let it expire) and, seldom, when an old
   delivery is late. Opening once too often costs one look at the evidence; missing an outage costs the outage.
   K then belongs to the incident that it joined or opened, the former one keeps it on its timeline.
5. As 4, but an incident with the very id exists already (refired within the second that the id is made of):
   DUPLICATE.

A fingerprint is one label set, of which only one alert can be at a time: what resolves it resolves its earlier starts
too (Alertmanager may merge alerts and move the start).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal_column, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.alert import Alert, Disposition, IntakeClass
from firebreak.domain.codec import format_time, from_data, parse_time, to_data
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase, IncidentRow
from firebreak.domain.message import MessageDraft
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.entries import COLUMNS, PreparedEntry, append_entries, entry_of, prepared
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.schema import alerts, entries, incidents
from firebreak.storage.store import Store, decode_json, encode_json


class IncidentsStore(Store):
    """See IncidentsPort."""

    async def open_or_join(
        self,
        incident: Incident,
        *,
        opened: EntryDraft,
        joined: EntryDraft,
        messages: Sequence[MessageDraft],
        rearm: timedelta = timedelta(minutes=5),
    ) -> tuple[str, Disposition]:
        """By the rule above, in one transaction. `opened` and `messages` are written when the incident opens,
        `joined` (under the id of the incident that was joined) when it joins, nothing for a duplicate."""
        opening, joining = prepared((opened, joined))

        def unit(connection: Connection) -> tuple[str, Disposition]:
            alert = incident.alert
            known = connection.execute(_BY_KEY, {"key": alert.key}).one_or_none()
            if known is not None and known.firing and not _rearmed(known.closed_at, incident, rearm):
                return known.incident_id, Disposition.DUPLICATE
            same = connection.execute(_OPEN_BY_CORRELATION, {"key": incident.correlation_key}).scalar_one_or_none()
            if same is not None:
                _own(connection, alert, same)
                _append_joined(connection, joining, same)
                return same, Disposition.JOINED
            if connection.execute(_BY_ID, {"id": incident.id}).one_or_none() is not None:
                return incident.id, Disposition.DUPLICATE
            connection.execute(plain_insert(incidents), _columns(incident))
            _own(connection, alert, incident.id)
            append_entries(connection, (opening,))
            enqueue_messages(connection, messages)
            return incident.id, Disposition.OPENED

        return await self._write(unit)

    async def resolve_alert(self, alert: Alert, *, at: datetime) -> tuple[str, int] | None:
        """(incident id, alerts still firing there) of the newest start that the resolved alert covers, also when it
        had been resolved before; None when no incident knows it."""
        over = format_time(max(alert.ends_at or alert.starts_at, alert.starts_at))
        covered = (alerts.c.fingerprint == alert.fingerprint, alerts.c.starts_at <= over)
        newest = select(alerts.c.incident_id).where(*covered).order_by(alerts.c.starts_at.desc()).limit(1)

        def unit(connection: Connection) -> tuple[str, int] | None:
            incident_id = connection.execute(newest).scalar_one_or_none()
            if incident_id is None:
                return None
            connection.execute(
                update(alerts).where(*covered, alerts.c.firing == 1).values(firing=0, resolved_at=format_time(at))
            )
            left = select(func.count()).where(alerts.c.incident_id == incident_id, alerts.c.firing == 1)
            return incident_id, int(connection.execute(left).scalar_one())

        return await self._write(unit)

    async def incident(self, incident_id: str) -> Incident | None:
        """What the incident was opened with, open or closed; None for an unknown id."""
        query = select(incidents.c.data).where(incidents.c.id == incident_id)
        data = await self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        return None if data is None else _incident(data)

    async def open_incidents(self) -> tuple[Incident, ...]:
        """Incidents that have not closed, oldest first."""
        query = select(incidents.c.data).where(incidents.c.closed_at.is_(None)).order_by(incidents.c.opened_at)
        return await self._read(
            lambda connection: tuple(_incident(data) for data in connection.execute(query).scalars())
        )

    async def firing(self, incident_id: str) -> int:
        """How many of its alerts still fire, as far as their source has told."""
        query = select(func.count()).where(alerts.c.incident_id == incident_id, alerts.c.firing == 1)
        return await self._read(lambda connection: int(connection.execute(query).scalar_one()))

    async def close_requests(self) -> tuple[TimelineEntry, ...]:
        """CLOSE_REQUESTED entries of incidents that are still open, in order."""
        # The kind is spelled out: a bound parameter would miss the partial index.
        # Sorted here: asked to sort, SQLite would rather walk all entries in their order.
        query = select(*COLUMNS).where(
            entries.c.kind == literal_column(f"'{EntryKind.CLOSE_REQUESTED.value}'"),
            entries.c.incident_id == incidents.c.id,
            incidents.c.closed_at.is_(None),
        )
        found = await self._read(lambda connection: [entry_of(row) for row in connection.execute(query)])
        return tuple(sorted(found, key=lambda entry: entry.seq))

    async def rows(self, *, limit: int) -> tuple[IncidentRow, ...]:
        """The newest `limit` incidents, newest first."""
        firing = (
            select(func.count())
            .where(alerts.c.incident_id == incidents.c.id, alerts.c.firing == 1)
            .correlate(incidents)
            .scalar_subquery()
            .label("alerts_firing")
        )
        query = select(incidents, firing).order_by(incidents.c.opened_at.desc(), incidents.c.id.desc()).limit(limit)
        return await self._read(lambda connection: tuple(_row(row) for row in connection.execute(query)))


_BY_KEY = (
    select(alerts.c.incident_id, alerts.c.firing, incidents.c.closed_at)
    .outerjoin(incidents, incidents.c.id == alerts.c.incident_id)
    .where(alerts.c.alert_key == bindparam("key"))
)
_BY_ID = select(incidents.c.id).where(incidents.c.id == bindparam("id"))
_OPEN_BY_CORRELATION = select(incidents.c.id).where(
    incidents.c.correlation_key == bindparam("key"), incidents.c.closed_at.is_(None)
)


def _rearmed(closed_at: str | None, incident: Incident, rearm: timedelta) -> bool:
    return closed_at is not None and incident.accepted_at - parse_time(closed_at) > rearm


def _own(connection: Connection, alert: Alert, incident_id: str) -> None:
    """`alert` fires and belongs to `incident_id` from now on."""
    statement = insert(alerts).values(
        alert_key=alert.key,
        fingerprint=alert.fingerprint,
        starts_at=format_time(alert.starts_at),
        incident_id=incident_id,
        firing=1,
        resolved_at=None,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["alert_key"],
            set_={"incident_id": statement.excluded.incident_id, "firing": 1, "resolved_at": None},
        )
    )


def _append_joined(connection: Connection, joining: PreparedEntry, incident_id: str) -> None:
    append_entries(connection, (replace(joining, draft=replace(joining.draft, incident_id=incident_id)),))


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
    }


def _incident(data: str) -> Incident:
    return from_data(Incident, decode_json(data))


def _row(row: Row[Any]) -> IncidentRow:
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

"""The part of IncidentsPort that says which alert belongs to which incident.

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

from sqlalchemy import bindparam, func, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.alert import Alert, Disposition
from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase
from firebreak.domain.message import MessageDraft
from firebreak.domain.timeline import EntryDraft
from firebreak.storage.entries import append_entries, prepared
from firebreak.storage.handled import Delivered, was_seen
from firebreak.storage.incidents import BY_ID
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.schema import alerts, incidents
from firebreak.storage.sql import Sql
from firebreak.storage.store import Store, encode_json


class AlertsStore(Store):
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
            if BY_ID.run(raw, incident=incident.id).fetchone() is not None:
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


_BY_KEY = Sql(
    select(alerts.c.incident_id, alerts.c.firing, incidents.c.closed_at, incidents.c.truncated)
    .outerjoin(incidents, incidents.c.id == alerts.c.incident_id)
    .where(alerts.c.alert_key == bindparam("alert"))
)
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

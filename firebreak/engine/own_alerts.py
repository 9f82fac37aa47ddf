"""Alerts about the engine itself, the gateway's own and those of rules that watch it from outside: no tree judges them,
they are pages that end with their alert.

A record, and so a page, is of one fingerprint and one start. A fingerprint is one label set, of which only one alert
can be at a time, but Alertmanager may merge alerts and move the start, and two of them may tell different ones:

- An alert that began before somebody was paged about its fingerprint is what that open page is about. One that began
  since has ended in between, unheard: it is a page of its own.
- What resolves a fingerprint ends the open pages of all starts up to then.
- A page that was closed by hand is over, though its alert may fire on: who closed it has it for `REARM`, then what is
  told again pages anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from activities import notices
from firebreak.domain import ids
from firebreak.domain.age import is_to_come
from firebreak.domain.alert import AcceptedAlert, AlertStatus, Disposition
from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.engine.parts import DispatcherParts

REARM = timedelta(minutes=5)
"""How long after a close by hand the same alert pages nobody, as with an incident: the sender repeats what still fires,
and what was on its way at the close is no news."""


@dataclass(frozen=True, slots=True)
class _Record:
    """`last` = its last change by a delivery: a page, or its end. `closed_at`: when a person closed that page."""

    id: str
    starts_at: datetime  # to the second
    last: TimelineEntry
    closed_at: datetime | None

    @property
    def paged(self) -> bool:
        """And nothing that was delivered has ended it, though a person may have."""
        return self.last.kind is EntryKind.ENGINE_FAULT

    def has_somebody(self, accepted_at: datetime, now: datetime) -> bool:
        """Whether a person has it when that is accepted: the page is open, or was closed by hand later or just before.
        While the close is still to come, the clock was set back: then what is long before it may well be after it."""
        if not self.paged or self.closed_at is None:
            return self.paged
        since = accepted_at - self.closed_at
        return abs(since) <= REARM if is_to_come(self.closed_at, now) else since <= REARM

    @property
    def accepted_at(self) -> datetime:
        """When the delivery was that made the last change. Older records do not say it: shortly before the entry."""
        at = self.last.body.get("accepted_at")
        return parse_time(at) if at else self.last.at


async def take(parts: DispatcherParts, accepted: AcceptedAlert) -> tuple[Disposition, str]:
    """Page, or end the page. A delivery that comes again finds what it or a later one changed, and changes nothing."""
    records = await _records(parts, accepted.alert.fingerprint)
    if accepted.alert.status is AlertStatus.FIRING:
        return Disposition.PAGED, await _fires(parts, accepted, records)
    over = max(accepted.alert.ends_at or accepted.alert.starts_at, accepted.alert.starts_at)
    covered = [record for record in records if record.starts_at <= over]
    if not covered:
        return Disposition.IGNORED, "nobody was paged about this alert"
    for record in covered:
        if record.paged and not _was_seen(accepted, record):
            await _end(parts, accepted, record)
    return Disposition.RESOLVED, covered[0].id


async def _fires(parts: DispatcherParts, accepted: AcceptedAlert, records: list[_Record]) -> str:
    """The record of its page."""
    alert = accepted.alert
    name = ids.own_alert_record(alert.fingerprint, alert.starts_at)
    told = [r for r in records if r.id == name or alert.starts_at <= r.accepted_at]
    told = [r for r in told if r.has_somebody(accepted.accepted_at, parts.clock.now())]
    if told:
        return told[0].id
    newest = max(records, key=lambda record: record.last.seq, default=None)
    if newest is not None and _was_seen(accepted, newest):
        return newest.id
    where = alert.labels.get("alertname", "?")
    said = (alert.annotations.get(key) for key in ("summary", "description"))
    reason = f"{where}: {'. '.join(text for text in said if text) or 'it fires'}"
    entry, page = notices.fault(name, where, reason, parts.clock.now(), alert=alert)
    again = any(record.id == name for record in records)
    key = ids.delivery_key("fault", accepted.receipt, accepted.accepted_at) if again else entry.key
    entry = replace(entry, key=key, body={**entry.body, **_delivery(accepted)})
    await parts.ledger.append([entry], messages=[replace(page, key=notices.page_key(key))])
    return name


async def _end(parts: DispatcherParts, accepted: AcceptedAlert, record: _Record) -> None:
    now = parts.clock.now()
    done = EntryDraft(
        incident_id=record.id,
        key=ids.delivery_key("ended", accepted.receipt, accepted.accepted_at),
        kind=EntryKind.RECOVERY_SEEN,
        at=now,
        actor="alertmanager",
        body={"reason": "the alert resolved", "alert": to_data(accepted.alert), **_delivery(accepted)},
    )
    end = notices.pager(record.id, NoticeKind.HEALED, notices.page_key(done.key), PagerAction.RESOLVE_HIGH, now)
    await parts.ledger.append([done], messages=[end])


async def _records(parts: DispatcherParts, fingerprint: str) -> list[_Record]:
    """Of all its starts, the latest first."""
    found = []
    for name in await parts.ledger.records(ids.own_alert_records(fingerprint)):
        starts_at = ids.own_alert_start(name, fingerprint)
        entries = await parts.ledger.entries(name) if starts_at else ()
        last = _last_change(entries)
        if starts_at and last:
            found.append(_Record(name, starts_at, last, _closed_at(entries, last)))
    return sorted(found, key=lambda record: record.starts_at, reverse=True)


def _delivery(accepted: AcceptedAlert) -> dict[str, object]:
    at = format_time(accepted.accepted_at)
    return {"inbox": accepted.inbox, "receipt": accepted.receipt, "accepted_at": at}


def _last_change(entries: tuple[TimelineEntry, ...]) -> TimelineEntry | None:
    changes = (EntryKind.ENGINE_FAULT, EntryKind.RECOVERY_SEEN)
    return next((entry for entry in reversed(entries) if entry.kind in changes), None)


def _closed_at(entries: tuple[TimelineEntry, ...], page: TimelineEntry) -> datetime | None:
    """By the very page: one that came back is another."""
    wish = ids.close_key(notices.page_key(page.key))
    return next((entry.at for entry in entries if entry.key == wish), None)


def _was_seen(accepted: AcceptedAlert, record: _Record) -> bool:
    """Whether this delivery, or a later one than made the last change, has been handled already. Within one inbox the
    receipts tell, whatever the clock did; one of another inbox is new. (Older records lack the inbox: then it is beyond
    neither receipt nor time. Of a first page they may lack the receipt, too.)"""
    receipt, inbox = int(record.last.body.get("receipt", 0)), record.last.body.get("inbox")
    if inbox and accepted.inbox:
        return bool(inbox == accepted.inbox and accepted.receipt <= receipt)
    return accepted.receipt <= receipt and accepted.accepted_at <= record.accepted_at

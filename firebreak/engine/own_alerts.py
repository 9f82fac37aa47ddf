"""Alerts about the engine itself, the gateway's own and those of rules that watch it from outside: no tree judges them,
they are pages that end with their alert."""

from __future__ import annotations

from dataclasses import replace

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import AcceptedAlert, AlertStatus, Disposition
from firebreak.domain.codec import format_time, parse_time, to_data
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.engine.parts import DispatcherParts


async def take(parts: DispatcherParts, accepted: AcceptedAlert) -> tuple[Disposition, str]:
    """Page, or end the page. A delivery that comes again finds what it or a later one changed, and changes nothing."""
    alert = accepted.alert
    record = f"engine-{alert.fingerprint}-{int(alert.starts_at.timestamp())}"
    fires = alert.status is AlertStatus.FIRING
    last = _last_change(await parts.ledger.entries(record))
    if last is None and not fires:
        return Disposition.IGNORED, "nobody was paged about this alert"
    seen = last is not None and _was_seen(accepted, last)
    now = parts.clock.now()
    delivery = {"receipt": accepted.receipt, "accepted_at": format_time(accepted.accepted_at)}
    if fires:
        where = alert.labels.get("alertname", "?")
        reason = ". ".join(text for text in (alert.annotations.get(k) for k in ("summary", "description")) if text)
        if last is None or (last.kind is EntryKind.RECOVERY_SEEN and not seen):
            entry, page = notices.fault(record, where, reason, now, alert=alert)
            key = entry.key if last is None else ids.delivery_key("fault", accepted.receipt, accepted.accepted_at)
            entry = replace(entry, key=key, body={**entry.body, **delivery})
            await parts.ledger.append([entry], messages=[replace(page, key=notices.page_key(key))])
        return Disposition.PAGED, record
    if last is not None and last.kind is EntryKind.ENGINE_FAULT and not seen:
        done = EntryDraft(
            incident_id=record,
            key=ids.delivery_key("ended", accepted.receipt, accepted.accepted_at),
            kind=EntryKind.RECOVERY_SEEN,
            at=now,
            actor="alertmanager",
            body={"reason": "the alert resolved", "alert": to_data(alert), **delivery},
        )
        end = notices.pager(record, NoticeKind.HEALED, notices.page_key(done.key), PagerAction.RESOLVE_HIGH, now)
        await parts.ledger.append([done], messages=[end])
    return Disposition.RESOLVED, record


def _last_change(entries: tuple[TimelineEntry, ...]) -> TimelineEntry | None:
    changes = (EntryKind.ENGINE_FAULT, EntryKind.RECOVERY_SEEN)
    return next((entry for entry in reversed(entries) if entry.kind in changes), None)


def _was_seen(accepted: AcceptedAlert, last: TimelineEntry) -> bool:
    """Whether this delivery, or a later one, has been handled already: it is beyond neither receipt nor time of the one
    that made the last change. Receipts alone would begin anew with a new inbox, times alone may be set back. (Older
    records lack the time of acceptance, which was shortly before the entry's, and of a first page the receipt.)"""
    receipt, at = int(last.body.get("receipt", 0)), last.body.get("accepted_at")
    return accepted.receipt <= receipt and accepted.accepted_at <= (parse_time(at) if at else last.at)

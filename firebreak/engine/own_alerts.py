"""Alerts about the engine itself, the gateway's own and those of rules that watch it from outside: no tree judges them,
they are pages that end with their alert."""

from __future__ import annotations

from dataclasses import replace

from activities import notices
from firebreak.domain.alert import AcceptedAlert, AlertStatus, Disposition
from firebreak.domain.codec import to_data
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.engine.parts import DispatcherParts, tell_fault


async def take(parts: DispatcherParts, accepted: AcceptedAlert) -> tuple[Disposition, str]:
    """Page, or end the page. A delivery that comes again finds the receipt of a later one, and changes nothing."""
    alert = accepted.alert
    record = f"engine-{alert.fingerprint}-{int(alert.starts_at.timestamp())}"
    fires = alert.status is AlertStatus.FIRING
    last = _last_change(await parts.ledger.entries(record))
    if last is None and not fires:
        return Disposition.IGNORED, "nobody was paged about this alert"
    now = parts.clock.now()
    if fires:
        where = alert.labels.get("alertname", "?")
        reason = ". ".join(text for text in (alert.annotations.get(k) for k in ("summary", "description")) if text)
        if last is None:
            await tell_fault(parts, record, where, reason, alert)
        elif last.kind is EntryKind.RECOVERY_SEEN and accepted.receipt > _receipt(last):
            entry, page = notices.fault(record, where, reason, now, alert=alert)
            again = replace(entry, key=f"fault/{accepted.receipt}", body={**entry.body, "receipt": accepted.receipt})
            await parts.ledger.append([again], messages=[replace(page, key=f"pager/{again.key}")])
        return Disposition.PAGED, record
    if last is not None and last.kind is EntryKind.ENGINE_FAULT and accepted.receipt > _receipt(last):
        done = EntryDraft(
            incident_id=record,
            key=f"ended/{accepted.receipt}",
            kind=EntryKind.RECOVERY_SEEN,
            at=now,
            actor="alertmanager",
            body={"reason": "the alert resolved", "alert": to_data(alert), "receipt": accepted.receipt},
        )
        end = notices.pager(record, NoticeKind.HEALED, f"pager/{done.key}", PagerAction.RESOLVE_HIGH, now)
        await parts.ledger.append([done], messages=[end])
    return Disposition.RESOLVED, record


def _last_change(entries: tuple[TimelineEntry, ...]) -> TimelineEntry | None:
    changes = (EntryKind.ENGINE_FAULT, EntryKind.RECOVERY_SEEN)
    return next((entry for entry in reversed(entries) if entry.kind in changes), None)


def _receipt(entry: TimelineEntry) -> int:
    """Of the delivery that made this change; the first one's is not kept, and none came before it."""
    return int(entry.body.get("receipt", 0))

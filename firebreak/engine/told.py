"""What an incident's record says was told, and what need not be told any more. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from activities.notices import page_key
from firebreak.domain.message import Channel, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.timeline import EntryKind, TimelineEntry

ENDS = {
    PagerAction.RESOLVE_LOW: PagerAction.TRIGGER_LOW,
    PagerAction.RESOLVE_HIGH: PagerAction.TRIGGER_HIGH,
}
"""Which trigger a resolve ends."""

_HEADS = ("chat/classified", "chat/person/high")
"""Messages that may have begun the incident's thread."""

SERVICE, FALLBACK = "service", "fallback"  # whose routing key; stored in delivered entries, never the key itself
STALE = timedelta(hours=1)
"""How long an incident may be over before a call about it, which could not go out, is not sent any more."""


def _delivered(entries: Sequence[TimelineEntry]) -> Iterator[Mapping[str, Any]]:
    """What the sender wrote of each message that went out, in the order in which they did. That is written in one
    transaction with the message's own state, so nothing else need be asked."""
    return (entry.body for entry in entries if entry.kind is EntryKind.MESSAGE_DELIVERED)


def _perhaps_delivered(entries: Sequence[TimelineEntry]) -> Iterator[TimelineEntry]:
    """The entries of `_delivered`, and of the triggers whose answer was lost, or that were taken back when they were
    due: one that was on its way then is open at the pager, and a kill may have come before that was written down."""
    for entry in entries:
        lost = entry.kind is EntryKind.MESSAGE_FAILED and entry.body.get("may_have_arrived")
        lost = lost or entry.kind is EntryKind.MESSAGE_TAKEN_BACK
        if entry.kind is EntryKind.MESSAGE_DELIVERED or (lost and entry.body.get("pager") in ENDS.values()):
            yield entry


def needless(draft: MessageDraft, entries: Sequence[TimelineEntry]) -> bool:
    """A resolve goes out only for what was triggered, or may have been, and is not resolved yet; a last line only into
    a thread."""
    if draft.channel is Channel.CHAT and draft.notice is NoticeKind.CLOSED:
        return not thread_of(entries)
    if draft.pager not in ENDS:
        return False
    pair = (draft.pager, ENDS[draft.pager])
    told = [entry.body["pager"] for entry in _perhaps_delivered(entries) if entry.body.get("pager") in pair]
    return not told or told[-1] == draft.pager


def long_over(draft: MessageDraft, entries: Sequence[TimelineEntry], now: datetime) -> datetime | None:
    """When the incident closed that a call was about, where that is STALE: the call could not go out before (no key,
    a pager that was away), and would get somebody up for nothing. A call that came after the close, as a restore's, is
    not over with it."""
    if draft.pager not in ENDS.values():
        return None
    closed = next((e for e in entries if e.kind is EntryKind.INCIDENT_CLOSED), None)
    if closed is None or closed.at >= now - STALE:
        return None
    # By order where the record says it: times go back where the clock was set back. A deadline has no entry.
    called = next((e for e in entries if draft.key == page_key(e.key)), None)
    before = called.seq < closed.seq if called else draft.due_at < closed.at
    return closed.at if before else None


def thread_of(entries: Sequence[TimelineEntry]) -> str:
    """Receipt of the incident's head, or empty."""
    receipts = {body.get("key"): str(body.get("receipt", "")) for body in _delivered(entries)}
    return next((receipts[key] for key in _HEADS if receipts.get(key)), "")


def triggered(entries: Sequence[TimelineEntry], resolve: PagerAction) -> set[str]:
    """Whose keys took a trigger since the last resolve, as the delivered entries say: known also after a restart."""
    names: set[str] = set()
    for body in _delivered(entries):
        if body.get("pager") == resolve.value:
            names.clear()
        elif body.get("pager") == ENDS[resolve].value:
            names.update(str(body.get("routing", SERVICE)).split(", "))
    return names


def unsure(entries: Sequence[TimelineEntry], resolve: PagerAction) -> bool:
    """Whether a trigger since the last resolve may have been taken by a key that the record does not name."""
    lost: set[str] = set()
    for entry in _perhaps_delivered(entries):
        key = str(entry.body.get("key", ""))
        if entry.body.get("pager") == resolve.value:
            lost = set()
        elif entry.body.get("pager") == ENDS[resolve].value:
            lost = lost - {key} if entry.kind is EntryKind.MESSAGE_DELIVERED else lost | {key}
    return bool(lost)


def mark(key: str) -> str:
    """Tells one routing key from another without being one."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def marks(entries: Sequence[TimelineEntry], resolve: PagerAction) -> set[str]:
    """Of the keys that took a trigger since the last resolve."""
    found: set[str] = set()
    for body in _delivered(entries):
        if body.get("pager") == resolve.value:
            found.clear()
        elif body.get("pager") == ENDS[resolve].value:
            found.update(body.get("marks", {}).values())
    return found


def service_of(entries: Sequence[TimelineEntry]) -> str:
    """The service of an incident, as its first entry says it; empty for what never became an incident."""
    for entry in entries:
        if entry.kind is EntryKind.INCIDENT_OPENED:
            return str(entry.body.get("service", ""))
    return ""

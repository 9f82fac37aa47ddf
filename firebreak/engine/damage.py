"""Stored rows that nobody can read any more: what a person is told of each, once. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import UnreadableDelivery
from firebreak.domain.incident import UnreadableRestore
from firebreak.domain.message import MessageDraft, UnreadableMessage
from firebreak.domain.timeline import EntryDraft, EntryKind

KEPT = 4_000
"""Characters of what is stored that the record keeps."""

_SHOWN = 200  # of these in the page


def unreadable_delivery(delivery: UnreadableDelivery, now: datetime) -> tuple[EntryDraft, MessageDraft]:
    """Nobody knows what the alert says: a person looks where it came from."""
    at = delivery.accepted_at
    when = f"accepted at {at:%Y-%m-%d %H:%M:%S} UTC" if at else "accepted at an unknown time"
    reason = (
        f"delivery {delivery.receipt} of the inbox, {when}, cannot be read ({delivery.fault}), and its alert is not "
        f"handled: look for it at Alertmanager. What is stored: {delivery.stored[:_SHOWN]}"
    )
    record = ids.delivery_record("parked", delivery.receipt, at)
    entry, page = notices.fault(record, "inbox", reason, now)
    return replace(entry, body={**entry.body, "stored": delivery.stored[:KEPT]}), page


def unreadable_message(
    message: UnreadableMessage, now: datetime
) -> tuple[tuple[EntryDraft, ...], tuple[MessageDraft, ...]]:
    """The record says first that it was not sent. Where it may have been a call, a person is called about that."""
    failed = EntryDraft(
        incident_id=message.incident_id,
        key=f"message/{message.key}/unreadable",
        kind=EntryKind.MESSAGE_FAILED,
        at=now,
        body={
            "channel": message.channel,
            "notice": message.notice,
            "key": message.key,
            "pager": message.pager,
            "error": f"it cannot be read, and is not sent: {message.fault}",
            "given_up": True,
        },
    )
    if not message.may_call:
        return (failed,), ()
    reason = (
        f"a message of {message.incident_id} ({message.key}), perhaps a call for a person, cannot be read "
        f"({message.fault}) and was not sent: see `firebreak show {message.incident_id}`"
    )
    entry, page = notices.fault(ids.message_record(message.number), "outbox", reason, now)
    return (failed, entry), (page,)


def unreadable_restore(restore: UnreadableRestore, now: datetime) -> tuple[EntryDraft, MessageDraft]:
    """The step stays in force, and nothing of ours takes it back."""
    reason = (
        f"the restore of step {restore.place} of {restore.incident_id} cannot be read ({restore.fault}): the step is "
        f"in force, and nothing takes it back. See `firebreak show {restore.incident_id}`, and take it back by hand"
    )
    return notices.fault(ids.restore_record(restore.incident_id, restore.place), "restore", reason, now)

"""Ids of incidents and workflows, and keys of writes, made here only: from incident and step, never from a run id or an
attempt. Also the keys of entries and records that name a step, a message or a delivery."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

_INCIDENT = re.compile(r"^inc-(\d{8})-(\d{6})-([0-9a-f]{8})$")


def incident_id(correlation_key: str, alert_key: str, accepted_at: datetime) -> str:
    """`inc-20261121-083644-1f0a9c3e`: readable, sortable, and the same for the same opening alert."""
    digest = hashlib.sha256(f"{correlation_key}\n{alert_key}".encode()).hexdigest()[:8]
    return f"inc-{accepted_at.astimezone(UTC):%Y%m%d-%H%M%S}-{digest}"


def is_incident_id(text: str) -> bool:
    return _INCIDENT.match(text) is not None


def incident_workflow_id(incident: str) -> str:
    return f"firebreak-{incident}"


def restore_workflow_id(incident: str, tier: int, step: int) -> str:
    return f"firebreak-{incident}-restore-{tier}-{step}"


def step_key(incident: str, tier: int, step: int, *, undo: bool = False) -> str:
    """Idempotency key of one write: the same for every attempt at it."""
    return f"{incident}/{tier}.{step}{'/undo' if undo else ''}"


def step_annotation(key: str) -> str:
    """One annotation per step (one per object would be overwritten by the next): `firebreak.dev/step-<16 hex>`."""
    return f"firebreak.dev/step-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def is_step_annotation(name: str) -> bool:
    """Whether `step_annotation` may have made it."""
    return re.fullmatch(r"firebreak\.dev/step-[0-9a-f]{16}", name) is not None


def close_key(page: str = "") -> str:
    """Entry key of a person's wish to close: the incident, or (`page`, its message's key) a call that no incident's end
    ends, since it came later or is about the engine itself. Said once for each."""
    return f"close-requested/{page}" if page else "close-requested"


def delivery_key(kind: str, receipt: int, accepted_at: datetime) -> str:
    """Entry key of what one delivery changed: `ended/7/20261121-090000`. The receipt alone would come again with a new
    inbox."""
    return f"{kind}/{receipt}/{accepted_at.astimezone(UTC):%Y%m%d-%H%M%S}"


def delivery_record(kind: str, receipt: int, accepted_at: datetime | None) -> str:
    """Record of what is wrong with one delivery, which is of no incident: `parked-7-20261121-090000`; where nobody can
    read when it was accepted (None), `parked-7-unknown`."""
    if accepted_at is None:
        return f"{kind}-{receipt}-unknown"
    return delivery_key(kind, receipt, accepted_at).replace("/", "-")


def unread_record(store: str, since: datetime) -> str:
    """Record of a time in which a store cannot be read: `inbox-20261121-090000`, of when that began."""
    return f"{store}-{since.astimezone(UTC):%Y%m%d-%H%M%S}"


OWN_ALERTS = "engine-"
"""What the records of all alerts about the engine itself begin with."""


def own_alert_record(fingerprint: str, starts_at: datetime) -> str:
    """Record of an alert about the engine itself, of one start: `engine-1f0a9c3e-1795291200`."""
    return f"{own_alert_records(fingerprint)}{int(starts_at.timestamp())}"


def own_alert_records(fingerprint: str) -> str:
    """What the records of all its starts begin with."""
    return f"{OWN_ALERTS}{fingerprint}-"


def own_alert_start(record: str, fingerprint: str) -> datetime | None:
    """Inverse, to the second; None for the record of another alert, whose fingerprint begins with this one."""
    start = record.removeprefix(own_alert_records(fingerprint))
    try:
        return datetime.fromtimestamp(int(start), UTC)
    except (ValueError, OverflowError):  # no number, or no time that a calendar has
        return None


def message_record(number: int) -> str:
    """Record of what is wrong with one message of the outbox: `damaged-message-17`."""
    return f"damaged-message-{number}"


def shared_queue_record(now: datetime) -> str:
    """Record of the page that another engine takes work from our queues, one a day: `queue-20261121`."""
    return f"queue-{now.astimezone(UTC):%Y%m%d}"


def orphan_record(incident: str) -> str:
    """Record of an open incident whose workflow cannot act any more: `orphan-inc-...`."""
    return f"orphan-{incident}"


def restore_record(incident: str, place: str) -> str:
    """Record of what is wrong with the stored restore of one step: `damaged-restore-inc-...-1.0`."""
    return f"damaged-restore-{incident}-{place}".lower()


def score_key(number: int) -> str:
    """Entry key of the n-th time (1, 2, ...) that a person set the health score."""
    return f"score/{number}"


def move_key(kind: str, tier: int, step: int) -> str:
    """Entry key of one move on one step: `effect/0.0`."""
    return f"{kind}/{tier}.{step}"


def overdue_key(tier: int, step: int) -> str:
    """Entry key of the fault that a restore's own workflow has said nothing in time."""
    return move_key("restore-overdue", tier, step)


def pager_notice_key(incident: str) -> str:
    return f"{incident}-notice"


def pager_page_key(incident: str) -> str:
    return f"{incident}-page"


def label_fingerprint(labels: dict[str, str]) -> str:
    """16 hex digits over the sorted labels, for sources that send no fingerprint of their own."""
    text = "\x00".join(f"{k}\x01{v}" for k, v in sorted(labels.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

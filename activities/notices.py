"""Which messages go with which entry: rows of the outbox, written in the same transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from firebreak.domain.alert import Alert
from firebreak.domain.codec import to_data
from firebreak.domain.incident import IncidentOutcome, Mode
from firebreak.domain.message import Channel, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind

UNCLASSIFIED_AFTER = timedelta(seconds=60)
"""How long after it was due a look may be missing before a person is called."""

DEADLINE = "deadline"
"""Key of the page that goes out by itself unless a verified healing takes it back (issue item 10: 60 s)."""

FELL_BACK = "sent with FIREBREAK_FALLBACK_PAGER_KEY: the service's own pager_key was refused"


def chat(incident_id: str, notice: NoticeKind, key: str, now: datetime, **body: Any) -> MessageDraft:
    return MessageDraft(
        incident_id=incident_id, key=f"chat/{key}", channel=Channel.CHAT, notice=notice, due_at=now, body=body
    )


def pager(
    incident_id: str, notice: NoticeKind, key: str, action: PagerAction, due_at: datetime, **body: Any
) -> MessageDraft:
    return MessageDraft(
        incident_id=incident_id,
        key=key,
        channel=Channel.PAGER,
        notice=notice,
        due_at=due_at,
        pager=action,
        body=body,
    )


def classified(incident_id: str, now: datetime, deadline: timedelta, mode: Mode) -> tuple[MessageDraft, ...]:
    """Low urgency at once, the thread's head, and the high-urgency page that waits for its time."""
    said = mode.value
    return (
        chat(incident_id, NoticeKind.CLASSIFIED, "classified", now, mode=said),
        pager(incident_id, NoticeKind.CLASSIFIED, "pager/classified", PagerAction.TRIGGER_LOW, now, mode=said),
        pager(incident_id, NoticeKind.DEADLINE, DEADLINE, PagerAction.TRIGGER_HIGH, now + deadline, mode=said),
    )


def person_needed(incident_id: str, key: str, reason: str, now: datetime, **body: Any) -> tuple[MessageDraft, ...]:
    body = {"reason": reason, **body}
    return (
        pager(incident_id, NoticeKind.PERSON_NEEDED, page_key(key), PagerAction.TRIGGER_HIGH, now, **body),
        chat(incident_id, NoticeKind.PERSON_NEEDED, key, now, **body),
    )


def joined_late(
    incident_id: str, outcome: IncidentOutcome, now: datetime
) -> tuple[EntryDraft, tuple[MessageDraft, ...]]:
    """An alert joined, and the incident ends before anybody has looked at it: a call that comes after the incident's
    last word, and that only `firebreak close` ends."""
    if outcome is IncidentOutcome.CLOSED_BY_HAND:
        what = "after its close was asked for: nobody has looked at it"
    else:
        what = f"just before it closed as {outcome.value}: no look at the evidence has seen it"
    reason = f"an alert joined {incident_id} {what} (firebreak timeline {incident_id})"
    key, body = "person/late", {"reason": reason, "urgency": "high"}
    entry = EntryDraft(incident_id=incident_id, key=key, kind=EntryKind.PERSON_CALLED, at=now, body=body)
    return entry, person_needed(incident_id, key, reason, now)


def healed(incident_id: str, key: str, now: datetime) -> tuple[MessageDraft, ...]:
    """Verified: the low-urgency notice ends by itself, and so does a page that had gone out meanwhile. `key` names the
    step: after a relapse another one may heal, and is told, too."""
    return (
        chat(incident_id, NoticeKind.HEALED, key, now),
        pager(incident_id, NoticeKind.HEALED, f"pager/{key}/low", PagerAction.RESOLVE_LOW, now),
        pager(incident_id, NoticeKind.HEALED, f"pager/{key}/high", PagerAction.RESOLVE_HIGH, now),
    )


def closing(incident_id: str, now: datetime) -> tuple[MessageDraft, ...]:
    """The last word. What was never opened is not closed: the sender drops a resolve without a trigger, and a last
    line without a thread."""
    return (
        postmortem(incident_id, "postmortem", now),
        chat(incident_id, NoticeKind.CLOSED, "closed", now),
        pager(incident_id, NoticeKind.CLOSED, "pager/closed-low", PagerAction.RESOLVE_LOW, now),
        pager(incident_id, NoticeKind.CLOSED, "pager/closed-high", PagerAction.RESOLVE_HIGH, now),
    )


def handled(incident_id: str, page: str, now: datetime) -> tuple[MessageDraft, ...]:
    """A person has dealt with a call (`page`, its message's key) that came after the incident's end. The post-mortem
    says so, too."""
    return (
        pager(incident_id, NoticeKind.CLOSED, f"{page}/closed", PagerAction.RESOLVE_HIGH, now),
        postmortem(incident_id, f"postmortem/{page}/closed", now),
    )


def fault_handled(record_id: str, page: str, now: datetime) -> MessageDraft:
    """A person has dealt with a fault of the engine itself. Keyed by the page that is ended (its message's key): the
    same fault may page again."""
    return pager(record_id, NoticeKind.HEALED, f"{page}/closed", PagerAction.RESOLVE_HIGH, now)


def postmortem(incident_id: str, key: str, now: datetime) -> MessageDraft:
    """(Re)writes the post-mortem's files."""
    return MessageDraft(
        incident_id=incident_id, key=key, channel=Channel.POSTMORTEM, notice=NoticeKind.CLOSED, due_at=now
    )


def unclassified_key(look: int) -> str:
    """Key of the page for an incident that is not classified in time. Each look takes back the one before and arms
    its own: whoever dies meanwhile, a person is called."""
    return f"deadline/unclassified/{look}"


def unclassified(incident_id: str, look: int, now: datetime, deadline: timedelta, mode: Mode) -> MessageDraft:
    """`mode`: in mode act the engine may still write when it looks at last, and the page says so."""
    return pager(
        incident_id,
        NoticeKind.PERSON_NEEDED,
        unclassified_key(look),
        PagerAction.TRIGGER_HIGH,
        now + deadline,
        reason="the alert was accepted, but nothing has classified it in time: look at the engine and at Temporal",
        mode=mode.value,
    )


def page_key(key: str) -> str:
    """Key of the page that goes out with the entry of that key."""
    return f"pager/{key}"


def fault(
    record_id: str, where: str, reason: str, now: datetime, *, alert: Alert | None = None
) -> tuple[EntryDraft, MessageDraft]:
    """A fault of the engine itself, in a record of its own, and the page about it."""
    body = {"where": where, "error": reason, "next_step": "Handle it by hand."}
    entry = EntryDraft(
        incident_id=record_id,
        key="fault",
        kind=EntryKind.ENGINE_FAULT,
        at=now,
        body=body if alert is None else {**body, "alert": to_data(alert)},
    )
    page = pager(record_id, NoticeKind.PERSON_NEEDED, "pager/fault", PagerAction.TRIGGER_HIGH, now, reason=reason)
    return entry, page

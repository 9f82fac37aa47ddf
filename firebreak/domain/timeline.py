"""The append-only record. Entries are never changed; kinds are never renamed or removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class EntryKind(StrEnum):
    INCIDENT_OPENED = "incident.opened"
    ALERT_JOINED = "alert.joined"
    ALERT_RESOLVED = "alert.resolved"
    FACTS_GATHERED = "facts.gathered"
    VERDICT_REACHED = "verdict.reached"
    PLAN_PINNED = "plan.pinned"
    EVIDENCE_KEPT = "evidence.kept"
    STEP_CHECKED = "step.checked"
    STEP_REFUSED = "step.refused"
    INTENT_RECORDED = "intent.recorded"
    EFFECT_RECORDED = "effect.recorded"
    STEP_WOULD_APPLY = "step.would_apply"
    VERIFICATION = "step.verified"  # verified or not: see `outcome` in the body
    HOLD_ENDED = "hold.ended"  # stayed healthy after the verification, or relapsed: see `outcome`
    UNDO_RECORDED = "undo.recorded"
    RECOVERY_SEEN = "recovery.seen"
    PERSON_CALLED = "person.called"  # high urgency was asked for, with its reason
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_TAKEN_BACK = "message.taken_back"  # a call, when it was due: it may have been on its way
    RESTORE_OPENED = "restore.opened"
    RESTORE_HELD_BACK = "restore.held_back"  # the part is well, and yet it may not be taken back: why, the first time
    RESTORE_ENDED = "restore.ended"
    SCORE_SET = "score.set"  # a person's own health score (row A2)
    CLOSE_REQUESTED = "close.requested"
    INCIDENT_CLOSED = "incident.closed"
    ENGINE_FAULT = "engine.fault"  # something of ours broke; the person is told
    CLOCK_SET_BACK = "clock.set_back"  # why the times of entries go back, and those of waiting messages with them


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDraft:
    """An entry to be written. (`incident_id`, `key`) is unique for ever: a second append finds the first one.
    `body` is JSON data. `actor`: `engine`, `alertmanager`, `person:<name>`. `target` is TargetRef.text."""

    incident_id: str
    key: str
    kind: EntryKind
    at: datetime
    body: Mapping[str, Any]
    actor: str = "engine"
    target: str = ""
    uid: str = ""
    duration_ms: float | None = None  # how long the phase or call took, by the monotonic clock


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """A written entry. `seq` is gap-free over the whole store; `digest` covers all fields and `previous`."""

    seq: int
    incident_id: str
    key: str
    kind: EntryKind
    at: datetime
    actor: str
    target: str
    uid: str
    duration_ms: float | None
    body: Mapping[str, Any] = field(default_factory=dict)
    previous: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """`entry` as stored; `found` = it had been written before (by an earlier attempt), and is returned unchanged."""

    entry: TimelineEntry
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTiming:
    """How long one phase of an incident took (row D5), milliseconds by the wall clock of the entries. `waited_ms` was
    asked for by a rule (a `for` time) and is not part of `took_ms`. `budget_source` says where the budget is from."""

    phase: str
    started_at: datetime
    ended_at: datetime
    took_ms: float
    waited_ms: float
    budget_ms: float
    budget_source: str
    over: bool

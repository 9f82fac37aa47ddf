"""Messages to people. They are rows of the outbox, written in the same transaction as the entry they tell of, and
rendered when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Channel(StrEnum):
    PAGER = "pager"
    CHAT = "chat"
    POSTMORTEM = "postmortem"  # writes the post-mortem files of a closed incident


class PagerAction(StrEnum):
    TRIGGER_LOW = "trigger_low"  # dedup key `<incident>-notice`, severity warning
    TRIGGER_HIGH = "trigger_high"  # dedup key `<incident>-page`, severity critical
    RESOLVE_LOW = "resolve_low"
    RESOLVE_HIGH = "resolve_high"
    NONE = "none"


HIGH = (PagerAction.TRIGGER_HIGH, PagerAction.RESOLVE_HIGH)
"""What calls a person, and what ends that call."""


class NoticeKind(StrEnum):
    """Which phase a message tells of; each has one text for the pager and one for the thread."""

    CLASSIFIED = "classified"
    STEP_APPLIED = "step_applied"
    STEP_FAILED = "step_failed"
    STEP_UNDONE = "step_undone"
    WOULD_APPLY = "would_apply"
    HEALED = "healed"
    PERSON_NEEDED = "person_needed"
    DEADLINE = "deadline"
    RESTORED = "restored"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDraft:
    """`key` is unique per incident; `due_at` in the future = a deadline that `cancels` of a later append may take
    back. `body` adds what the renderer cannot read from the timeline."""

    incident_id: str
    key: str
    channel: Channel
    notice: NoticeKind
    due_at: datetime
    pager: PagerAction = PagerAction.NONE
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An outbox row. `attempts` so far; `receipt` of the delivery (Slack `ts`, pager dedup key)."""

    number: int
    draft: MessageDraft
    attempts: int
    next_try_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableMessage:
    """In the place of an outbox row that this program cannot have written; `fault` says why. Texts are as they are
    stored. `may_call`: it was a call for a person (TRIGGER_HIGH), or nobody can tell that it was none."""

    number: int
    incident_id: str
    key: str
    channel: str
    notice: str
    pager: str
    fault: str
    may_call: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeText:
    """What a person reads: `title` <= 150 characters, `lines` plain text (untrusted parts included: the connector
    escapes for its medium). `service`: whose incident it is; empty where that is not known, or of the engine itself."""

    title: str
    lines: tuple[str, ...]
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where messages of a service go. Empty = not configured: written down as failed, never silently dropped."""

    team: str = ""
    chat_channel: str = ""
    pager_key: str = ""

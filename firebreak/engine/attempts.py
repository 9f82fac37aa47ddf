"""What a failed attempt means: whether a message is tried again, when, and what the record says of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from firebreak.domain.errors import FirebreakError, LedgerError, PermanentError, TransientError
from firebreak.domain.message import HIGH, Message, PagerAction
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.sending import LongOver

FIRST_RETRY = timedelta(seconds=1)
LONGEST_RETRY = timedelta(minutes=2)
LONGEST_ASKED_HIGH = timedelta(seconds=15)  # of a Retry-After, when a person is called
TOLD_EVERY = 10  # attempts of one message between two entries about it
GIVE_UP_LOW = 20
"""Attempts for what is only information. A call for a person is tried for ever, as is who asks to wait, and what ends a
call or a notice: what was opened would stay open, and nothing else ends it."""

_FOR_EVER = (*HIGH, PagerAction.RESOLVE_LOW)
_TRIGGERS = (PagerAction.TRIGGER_HIGH, PagerAction.TRIGGER_LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """`attempts` that count now, this one included; `next_try_at` None = given up; `entry` None = nothing that the
    record does not say already; `may_have_arrived`: a trigger whose answer was lost must be resolved one day."""

    attempts: int
    next_try_at: datetime | None
    entry: EntryDraft | None
    may_have_arrived: bool


def failed_attempt(message: Message, error: FirebreakError, now: datetime, *, doubted: bool) -> FailedAttempt:
    """`message` could not be sent: `error`. `doubted`: the record says already that it may have arrived."""
    attempts = message.attempts + 1
    pager = message.draft.pager
    refused = isinstance(error, PermanentError)
    unsent = refused or isinstance(error, LedgerError)  # what it would say could not be read
    spared = pager not in HIGH and asked_for(error) is not None  # no failure of the message: it is not counted
    hopeless = refused or (pager not in _FOR_EVER and attempts >= GIVE_UP_LOW)
    calls = pager is PagerAction.TRIGGER_HIGH
    gone = isinstance(error, LongOver) or (hopeless and not calls and not spared)
    doubt = not unsent and pager in _TRIGGERS
    entry = None
    if attempts == 1 or gone or attempts % TOLD_EVERY == 0 or (doubt and not doubted):
        entry = message_entry(
            message,
            EntryKind.MESSAGE_FAILED,
            now,
            suffix=f"/failed/{attempts}",
            error=f"{error} {error.next_step()}",
            attempts=attempts,
            given_up=gone,
            may_have_arrived=not unsent,
        )
    return FailedAttempt(
        attempts=attempts - 1 if spared else attempts,
        next_try_at=None if gone else now + _until_next(attempts, error, high=pager in HIGH),
        entry=entry,
        may_have_arrived=doubt,
    )


def message_entry(message: Message, kind: EntryKind, at: datetime, *, suffix: str = "", **body: Any) -> EntryDraft:
    """What the record says of a message."""
    draft = message.draft
    return EntryDraft(
        incident_id=draft.incident_id,
        key=f"message/{draft.key}{suffix}",
        kind=kind,
        at=at,
        body={
            "channel": draft.channel.value,
            "notice": draft.notice.value,
            "key": draft.key,
            "pager": draft.pager.value,
            **body,
        },
    )


def asked_for(error: FirebreakError) -> timedelta | None:
    """How long the receiver asks to be left alone."""
    return error.retry_after if isinstance(error, TransientError) else None


def pause(attempts: int, longest: timedelta) -> timedelta:
    """Grows by two with each attempt."""
    return min(FIRST_RETRY * (1 << min(attempts - 1, 10)), longest)


def _until_next(attempts: int, error: FirebreakError, *, high: bool) -> timedelta:
    """What the receiver asks for, within limits, else our own growing pause."""
    if asked := asked_for(error):
        return min(asked, LONGEST_ASKED_HIGH if high else LONGEST_RETRY)
    return pause(attempts, LONGEST_RETRY)

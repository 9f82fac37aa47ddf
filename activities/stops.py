"""What stops a step: an incident that is over or a person's, evidence or an intent that is too old.

Pure; the clock is passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from activities.messages import StepInput
from firebreak.documents.durations import spoken
from firebreak.domain import ids
from firebreak.domain.action import Effect, EffectOutcome, Intent
from firebreak.domain.age import is_to_come
from firebreak.domain.timeline import TimelineEntry

_WHY = {
    "close": "the incident has been closed: nothing is written for it any more",
    ids.close_key(): "a person has asked for the end of the incident: nothing is written for it any more",
    "person/high": "a person has been called and has the incident: nothing is written under their hands",
}
HANDS_OFF = tuple(_WHY)
"""Keys of the entries after which nothing more is decided or written for an incident. A story that has not heard of
them yet, or is started anew since Temporal has lost it, finds them."""

OLDEST_EVIDENCE = timedelta(seconds=60)
"""Nothing is written on older evidence, nor undone: workers or Temporal were away. By then the paging deadline has
called a person as a rule (issue item 10), whose work it would be written over. Evidence of a time that is still to come
is of an unknown age, which is too old. What an intent has already brought about is read from the world, however long
ago that was."""

STILL_ON_ITS_WAY = OLDEST_EVIDENCE + timedelta(seconds=10) + timedelta(seconds=60)
"""So long after it was meant a write may still land that is not there now: it is sent for as long as its intent is not
too old, by an attempt of 10 s at most, and an API server may work at a request for 60 s (its `--request-timeout`)."""

_OLDEST = spoken(OLDEST_EVIDENCE)
_UNKNOWN_AGE = "which is still to come: the clock was set back since, and how long ago it was nobody can tell"


def hands_off(entry: TimelineEntry) -> str:
    """Why nothing is written any more: `entry` is one of HANDS_OFF."""
    return _WHY[entry.key]


def too_old(given: StepInput, now: datetime, intent: Intent | None = None) -> str:
    """Why nothing may be written any more, or empty."""
    if given.rests_on is not None:
        evidence = f"the evidence is of {given.rests_on:%H:%M:%S} UTC"
        if is_to_come(given.rests_on, now):
            return f"{evidence}, {_UNKNOWN_AGE}: nothing is done on it"
        if now - given.rests_on > OLDEST_EVIDENCE:
            return f"{evidence}, more than {_OLDEST} ago: nothing is done on it"
    if intent is not None:
        meant = f"meant at {intent.stamp:%H:%M:%S} UTC"
        if is_to_come(intent.stamp, now):
            return f"{meant}, {_UNKNOWN_AGE}: it is not written any more"
        if now - intent.stamp > OLDEST_EVIDENCE:
            return f"{meant}, not written then; after {_OLDEST} not any more"
    return ""


def let_go(intent: Intent, why: str, now: datetime, *, otherwise: EffectOutcome = EffectOutcome.REFUSED) -> Effect:
    """Of an intent that an earlier attempt may have sent, that is not on its object, and that nobody sends any more:
    UNKNOWN for as long as it may still land, `otherwise` after that. A stamp that is still to come is of an unknown
    age: the clock was set back."""
    outcome = otherwise
    if now - intent.stamp < STILL_ON_ITS_WAY:
        outcome = EffectOutcome.UNKNOWN
        doubt = f"An earlier attempt may have sent it, and it may still land: look at {intent.target.ref.text}"
        why = f"{why.removesuffix('.')}. {doubt}"
    return intent.came_to(outcome, why)

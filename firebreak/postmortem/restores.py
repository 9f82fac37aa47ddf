"""Steps that worked and are to be taken back by evidence: what became of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firebreak.domain.action import EffectOutcome
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading
from firebreak.postmortem.actions import changes_of
from firebreak.postmortem.in_force import NOT_KNOWN, WROTE
from firebreak.postmortem.model import RestorePart, StepState

ABOUT_RESTORES = frozenset({EntryKind.RESTORE_OPENED, EntryKind.RESTORE_HELD_BACK, EntryKind.RESTORE_ENDED})
"""Kinds that `restores_of` looks at."""

IN_FORCE = "still in force"
_WORDS = {
    "restored": "taken back",
    "undone": "ended by the undo of the step",
    "overdue": "not taken back in time, still in force",
    "abandoned": "not taken back, since its workflow has ended; still in force",
    "refused": "not taken back, since that was refused",
    "unknown": NOT_KNOWN,
}
_BEGUN_WORDS = {
    "overdue": f"its time limit is over; {NOT_KNOWN}",
    "abandoned": f"its workflow has ended; {NOT_KNOWN}",
}
"""Where the intent to take it back is on record."""


def restores_of(entries: Sequence[TimelineEntry]) -> tuple[RestorePart, ...]:
    """Steps that are to be taken back, with how that ended."""
    found: dict[tuple[int, int], RestorePart] = {}
    for entry in entries:
        if entry.kind not in ABOUT_RESTORES:
            continue
        body, ended = entry.body, entry.kind is EntryKind.RESTORE_ENDED
        place = (reading.whole(body, "tier"), reading.whole(body, "step"))
        before = found.get(place)
        effect = reading.mapping(body, "effect")
        found[place] = RestorePart(
            tier=place[0],
            step=place[1],
            step_id=reading.text(body, "step_id") or (before.step_id if before else ""),
            opened_at=before.opened_at if before else (None if ended else entry.at),
            ended_at=entry.at if ended else None,
            outcome=(reading.text(body, "outcome") or "ended") if ended else "",
            reason=reading.text(body, "reason"),
            told=restore_words(body) if ended else IN_FORCE,
            held_back_at=entry.at if entry.kind is EntryKind.RESTORE_HELD_BACK else None,
            taken_back=ended and taken_back(body),
            target=reading.target_text(effect, "target"),
            changes=changes_of(effect) if reading.text(effect, "outcome") in WROTE else (),
        )
    return tuple(found[place] for place in sorted(found))


def restore_words(body: Mapping[str, Any]) -> str:
    """How a restore ended, in words; one that mode observe kept from writing took nothing back."""
    outcome = reading.text(body, "outcome")
    if reading.text(body, "effect", "outcome") == EffectOutcome.WOULD_APPLY.value:
        return StepState.NOT_TAKEN_BACK.value
    words = _WORDS | _BEGUN_WORDS if body.get("begun") is True else _WORDS
    return words.get(outcome, outcome.replace("_", " ") or "ended")


def taken_back(body: Mapping[str, Any]) -> bool:
    """Whether the end of a restore is that the step is in force no more."""
    effect = reading.text(body, "effect", "outcome")
    return reading.text(body, "outcome") == "restored" and (not effect or effect in WROTE)

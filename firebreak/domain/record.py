"""Rules by which several rooms read an incident's record, so that they say the same of it. Tolerant of bodies that lack
keys, or have another shape (older records)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from firebreak.domain.timeline import EntryKind, TimelineEntry

_DECIDED = (EntryKind.PLAN_PINNED, EntryKind.PERSON_CALLED, EntryKind.INCIDENT_CLOSED)
_JUDGED = (EntryKind.VERIFICATION, EntryKind.HOLD_ENDED)


def first(entries: Iterable[TimelineEntry], *kinds: EntryKind) -> TimelineEntry | None:
    """The first one of these kinds."""
    return next((entry for entry in entries if entry.kind in kinds), None)


def looks(entries: Sequence[TimelineEntry]) -> list[TimelineEntry]:
    """The verdicts up to the one that something was decided on (a plan, a call, the end), which is the last of them."""
    decided = first(entries, *_DECIDED)
    return [e for e in entries if e.kind is EntryKind.VERDICT_REACHED and (decided is None or e.seq < decided.seq)]


def proof_of_health(entries: Sequence[TimelineEntry], *, recovery: bool = True) -> TimelineEntry | None:
    """The last verification of a whole tier (or, where `recovery` counts, recovery) that no later look took back. A
    tier heals by all of its steps: what an earlier one was verified for may not be what hurts."""
    last_steps = _last_steps(entries)
    proof: TimelineEntry | None = None
    for entry in entries:
        if entry.kind is EntryKind.RECOVERY_SEEN:
            proof = entry if recovery else proof
        elif entry.kind in _JUDGED and entry.body.get("outcome") != "verified":
            proof = None
        elif entry.kind is EntryKind.VERIFICATION:
            step = _whole(entry.body.get("step"))
            proof = entry if step >= last_steps.get(_whole(entry.body.get("tier")), step) else None
    return proof


def _last_steps(entries: Sequence[TimelineEntry]) -> Mapping[int, int]:
    """Of each tier of the pinned plan."""
    pinned = first(entries, EntryKind.PLAN_PINNED)
    tiers = _list(pinned.body.get("tiers")) if pinned else ()
    steps = [tier.get("steps") if isinstance(tier, Mapping) else None for tier in tiers]
    return {tier: len(_list(of_tier)) - 1 for tier, of_tier in enumerate(steps)}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else -1

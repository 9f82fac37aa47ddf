"""A runbook as chosen for one incident: every parameter filled in, pinned by its bytes and SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from firebreak.domain.condition import Condition
from firebreak.domain.target import TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Healthy *and* carrying traffic: all `conditions` true for `hold`, counted from the effect plus `settle`,
    within `within` of the effect; looked at every `poll`."""

    conditions: tuple[Condition, ...]
    hold: timedelta
    within: timedelta
    settle: timedelta
    poll: timedelta
    flush: timedelta = timedelta(0)  # the averaging window: until then every rate holds samples from before the effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """When a step that worked is taken back: `conditions` on the broken part itself true for `hold`. After `within`
    a person is paged and nothing flips."""

    conditions: tuple[Condition, ...]
    hold: timedelta
    within: timedelta
    poll: timedelta


class UndoRule(StrEnum):
    BY_ACTION = "action"  # the action's own inverse, from the snapshot in the effect
    NONE = "none"  # cannot be undone; the runbook says why that is fine


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a tier. `check` are conditions that must be true now before anything is done (none = the action's
    own check alone)."""

    id: str
    action: str
    params: Mapping[str, Any]
    target: TargetRef | None
    check: tuple[Condition, ...] = ()
    verify: Verify | None = None
    undo: UndoRule = UndoRule.BY_ACTION
    undo_reason: str = ""
    restore: Restore | None = None
    approval: str = ""  # who must agree; not empty = the step is refused and pages for now


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`source` names the runbook file, `source_digest` its bytes. `digest` (of the canonical JSON of all other fields)
    is set when the plan is kept, else empty. `hold` = how long all must stay healthy before the incident closes."""

    runbook: str
    source: str
    source_digest: str
    service: str
    target: TargetRef
    tiers: tuple[Tier, ...]
    evidence: tuple[str, ...]
    hold: timedelta
    recovery: tuple[Condition, ...]  # what healthy means when no step is under verification
    digest: str = ""
    bindings: Mapping[str, str] = field(default_factory=dict)

    def step(self, tier: int, step: int) -> Step:
        return self.tiers[tier].steps[step]


# --- progress through a plan: the state that the workflow carries, and the next move -------------------------


class StepStatus(StrEnum):
    APPLIED = "applied"  # written (or found written, or already so); not verified yet
    VERIFIED = "verified"
    REFUSED = "refused"
    NOT_VERIFIED = "not_verified"  # measured: it did not heal, or what it healed broke again
    UNDECIDED = "undecided"  # in place, and nobody can tell whether it healed
    FAILED = "failed"  # the write failed for good, or its outcome stays unknown
    WOULD_APPLY = "would_apply"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What became of one step so far. `wrote` = the cluster was (or may have been) changed by it; `seen_at` = when its
    verification looked at the evidence."""

    tier: int
    step: int
    status: StepStatus
    reason: str
    wrote: bool = False
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutline:
    id: str
    action: str
    undoable: bool
    needs_approval: bool
    first_look: timedelta  # earliest time after the effect at which a verification can hold
    within: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOutline:
    name: str
    steps: tuple[StepOutline, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutline:
    """As much of the plan as the story needs; the hands read the rest from the store by `digest`."""

    digest: str
    runbook: str
    tiers: tuple[TierOutline, ...]
    hold: timedelta = timedelta(0)  # how long all must stay healthy after the verification
    keeps_evidence: bool = True  # whether there is something to be kept before the first write


class MoveKind(StrEnum):
    ACT = "act"
    VERIFY = "verify"
    UNDO = "undo"
    PAGE = "page"
    DONE = "done"  # a tier was verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    kind: MoveKind
    tier: int = -1
    step: int = -1
    reason: str = ""

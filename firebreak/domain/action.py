"""The contract of one remediation action (row B6): check, intent, effect, read-back, undo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from firebreak.domain.access import Right
from firebreak.domain.target import BoundTarget, ResourceKind, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """One wrong parameter: `path` inside the parameters ("" = all of them) and a sentence."""

    path: tuple[str | int, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """What the linter and the schema generator know of an action, without its code. `target_kinds`: what a step's
    target may be; empty = of the target only cluster and namespace are read. `rights`: what it needs of the cluster."""

    name: str
    summary: str
    mutates: bool
    reversible: bool
    irreversible_reason: str
    params_schema: Mapping[str, Any]
    validate: Callable[[Mapping[str, Any]], tuple[ParamProblem, ...]]
    target_kinds: frozenset[ResourceKind] = frozenset()
    rights: tuple[Right, ...] = ()


class CheckOutcome(StrEnum):
    READY = "ready"
    ALREADY_SO = "already_so"  # the world is already as wanted: nothing to write, go on to verify
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One touched field: a path a person can read, its value before and after (JSON text)."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """`target` is what was read; `changes` is exactly what would be written; `reason` is always a sentence. `beside`:
    what else no other incident may act upon meanwhile."""

    outcome: CheckOutcome
    reason: str
    target: BoundTarget | None = None
    changes: tuple[FieldChange, ...] = ()
    beside: tuple[TargetRef, ...] = ()


class HeldBackCheck(CheckResult):
    """REFUSED for now: what the write needs beside its target (ready pods, say) may yet come."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What will be done, written and fsynced before it is done. `step_key` is the idempotency key that is written
    onto the object (annotation `firebreak.dev/step-<hash>`); `stamp` is the time that the write carries, so that a
    repeat writes the same bytes."""

    step_key: str
    action: str
    params: Mapping[str, Any]
    target: BoundTarget
    changes: tuple[FieldChange, ...]
    stamp: datetime
    undo: bool = False

    def came_to(self, outcome: EffectOutcome, reason: str) -> Effect:
        """Its effect where no object says it: nothing is known to have been written."""
        return Effect(outcome=outcome, reason=reason, step_key=self.step_key, target=self.target)


class EffectOutcome(StrEnum):
    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"  # our own step key was found on the object
    NOT_APPLIED = "not_applied"  # read back: the write did not happen
    REFUSED = "refused"  # the API server or the action said no; nothing was written
    UNKNOWN = "unknown"  # time-out or crash: the world must be read first
    WOULD_APPLY = "would_apply"  # mode observe: nothing was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What did happen, read from the API server's own answer."""

    outcome: EffectOutcome
    reason: str
    step_key: str
    target: BoundTarget
    changes: tuple[FieldChange, ...] = ()


class HeldBackEffect(Effect):
    """REFUSED for now, as a `HeldBackCheck`: who can wait looks again. Stored it is a refusal like others."""

    __slots__ = ()


class ProgressState(StrEnum):
    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"  # a stuck roll-out is a failure
    UNKNOWN = "unknown"  # it cannot be read now
    CHANGED = "changed"  # what was written is not in force any more: somebody else has changed it since


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an applied effect has come in the world (roll-outs take time; a flag is done at once)."""

    state: ProgressState
    reason: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What an action may know besides its parameters."""

    step_key: str
    default_target: TargetRef
    stamp: datetime

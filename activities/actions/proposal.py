"""What an action is given, and what it answers before anything is written: a proposal, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, field_validator

from activities.actions.marks import bound
from firebreak.domain.action import CheckOutcome, CheckResult, FieldChange
from firebreak.domain.ports import KubeObject
from firebreak.domain.target import SYSTEM_NAMESPACES, TargetRef


class ActionParams(BaseModel):
    """Parameters of one action as a runbook gives them. A number may come as text: filled placeholders are text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("namespace", check_fields=False)  # whichever action has one
    @classmethod
    def _not_the_systems(cls, value: str | None) -> str | None:
        if value in SYSTEM_NAMESPACES:  # the write would be refused: better found by the linter than in an incident
            raise ValueError(of_the_system(value))
        return value


def of_the_system(namespace: str) -> str:
    return f"namespace {namespace!r} is the system's own and never a target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an action would do: `changes` to `obj`, which it read as `ref`; `reason` says why it may. A change whose
    before is its after is a guard: bound like a touched field, never written. `beside`: what else must be ours."""

    ref: TargetRef
    obj: KubeObject
    changes: tuple[FieldChange, ...]
    reason: str
    beside: tuple[TargetRef, ...] = ()


def refused(reason: str, *, ref: TargetRef | None = None, obj: KubeObject | None = None) -> CheckResult:
    """Refusal is a value: nothing will be written, and `reason` says why."""
    target = bound(ref, obj) if ref is not None and obj is not None else None
    return CheckResult(outcome=CheckOutcome.REFUSED, reason=reason, target=target)


def already_so(reason: str, ref: TargetRef, obj: KubeObject) -> CheckResult:
    return CheckResult(outcome=CheckOutcome.ALREADY_SO, reason=reason, target=bound(ref, obj))

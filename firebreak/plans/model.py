"""The runbook document as it is written.

The editors' JSON Schema is generated from these models: each field's description is shown while one types.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.fields import Block, Name, Number, Span, SpanOrName
from firebreak.domain.plan import UndoRule

Slug: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=500)]
ConditionNames: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
EvidenceKind: TypeAlias = Literal["pods", "events", "previous_logs", "changes"]
Approver: TypeAlias = Literal["", "on-call", "team"]
TargetKind: TypeAlias = Literal["Deployment", "StatefulSet", "DaemonSet", "ConfigMap", "HTTPRoute"]


class MatchBlock(Block):
    """Which incidents the runbook is for. All of it must fit."""

    severity: Literal["P1"] = Field(description="Severity of the verdict.")
    services: tuple[Text, ...] = Field(default=(), description="Names of services.yaml; left out = every service.")
    labels: dict[Text, str] = Field(default_factory=dict, description="Labels that the alert must carry, with values.")
    params: tuple[Name, ...] = Field(
        default=(),
        description="Parameters that the service must have in services.yaml. Each is a placeholder of this runbook.",
    )


class VerifyBlock(Block):
    """How it is seen that a step healed: healthy *and* carrying traffic."""

    conditions: ConditionNames = Field(description="Conditions that must all be true.")
    hold: SpanOrName = Field(description="How long all must stay true without a break. More than nothing.")
    within: SpanOrName = Field(description="Time limit from the effect on; more than settle and hold together.")
    settle: SpanOrName = Field(default=timedelta(0), description="Time after the effect in which nothing is judged.")
    poll: SpanOrName = Field(description="Time between two looks.")


class RestoreBlock(Block):
    """When a step that worked is taken back: by evidence of the broken part itself, never of the symptom it hides."""

    conditions: ConditionNames = Field(description="Conditions on the broken part itself that must all be true.")
    hold: SpanOrName = Field(description="How long all must stay true without a break. More than nothing.")
    within: SpanOrName = Field(description="Time limit; after it a person is paged and nothing flips.")
    poll: SpanOrName = Field(description="Time between two looks.")


class FixedTarget(Block):
    """One object, in place of the alert's own target. Its cluster is the alert's."""

    namespace: Text = Field(description="Namespace; never one of the system's.")
    kind: TargetKind = Field(description="Kind of the object.")
    name: Text = Field(description="Name of the object.")


class StepBlock(Block):
    """One step: check, intent, effect, verification, and the way back."""

    id: Slug = Field(description="Name of the step, unique in the runbook.")
    action: Text = Field(description="What is done: the name of an action.")
    params: dict[Name, Any] = Field(
        default_factory=dict,
        description="Parameters of the action. A value `$name`, as a whole, is filled from the bindings.",
    )
    target: Literal["alert"] | FixedTarget = Field(
        default="alert", description="`alert` = the workload that the alert leads to, or one fixed object."
    )
    check: Literal["action"] | ConditionNames | None = Field(
        default=None,
        description="Before anything is done: `action` = the action's own check alone, or conditions that must be true "
        "as well. Every step that writes says one of both.",
    )
    verify: VerifyBlock | None = Field(default=None, description="How it is seen that the step healed.")
    undo: UndoRule | None = Field(
        default=None, description="`action` = the action's own inverse when the tier fails; `none` = see undo_reason."
    )
    undo_reason: str = Field(default="", max_length=500, description="Why it is fine that this step is not undone.")
    restore: RestoreBlock | None = Field(
        default=None, description="When the step, having worked, is taken back. Every step that can be undone says it."
    )
    approval: Approver = Field(
        default="", description="Who must agree first. Such a step does not act yet: it is refused, and a person paged."
    )


class TierBlock(Block):
    """Steps that belong together: all of them verified, or the tier failed and is undone."""

    name: Slug = Field(description="Name of the tier, unique in the runbook: restart, reroute, degrade, page.")
    steps: Annotated[tuple[StepBlock, ...], Field(min_length=1, max_length=20)] = Field(
        description="Steps in order; the next one when the one before is verified."
    )


class RunbookModel(Block):
    """A runbook: what is done about an incident, in tiers, the last of which calls a person."""

    kind: Literal["runbook"] = Field(description="This file is a runbook.")
    name: Slug = Field(description="Name of the runbook, unique in the catalog.")
    summary: Text = Field(description="When to use it, in a sentence for people.")
    match: MatchBlock = Field(description="Which incidents it is for.")
    priority: int = Field(
        default=0, strict=True, ge=-1000, le=1000, description="Of several that match, the highest is chosen."
    )
    durations: dict[Name, Span] = Field(
        default_factory=dict, description="Named durations; the policy's of the same name win."
    )
    thresholds: dict[Name, Number] = Field(
        default_factory=dict, description="Named thresholds; the policy's and the service's of the same name win."
    )
    conditions: dict[Name, ConditionBlock] = Field(
        default_factory=dict, description="Condition blocks, used below by their names."
    )
    evidence: tuple[EvidenceKind, ...] = Field(
        default=("pods", "events", "previous_logs", "changes"),
        description="What is kept before the first write, because a restart would destroy it.",
    )
    hold: SpanOrName = Field(description="How long all must stay healthy before the incident closes.")
    recovery: ConditionNames = Field(description="What healthy means when no step is under verification.")
    tiers: Annotated[tuple[TierBlock, ...], Field(min_length=1, max_length=10)] = Field(
        description="Tiers in order; the next one when the one before is verified not to have worked. Last: page."
    )

"""A post-mortem as frozen values: what Markdown, JSON, notices and the CLI show. Texts are raw: whoever shows them
escapes them for his medium. In one file, though it is long: together they are the schema of the JSON export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from firebreak.domain.timeline import PhaseTiming

SCHEMA = 1  # of the JSON export; rises when a field changes its meaning or goes
WORKFLOW_ENDED = "workflow"
"""Where the fault is when an incident's workflow has ended before the incident (`FaultLine.where`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """One alert of the incident, as it was when it joined; `resolved_at` when its end was told."""

    name: str
    fingerprint: str
    starts_at: datetime | None
    joined_at: datetime
    labels: Mapping[str, str]
    resolved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionLine:
    """One condition as it was judged. `sample_age` in seconds."""

    name: str
    dimension: str
    truth: str
    reason: str
    query: str
    value: str
    threshold: str
    unit: str
    sample_age: float | None
    volume: float | None
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """One node of the severity tree; `condition` is empty for inner nodes."""

    depth: int
    operator: str
    truth: str
    condition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictPart:
    """The verdict that decided. `looks` = how often the evidence was gathered up to it; `again_at` = when it is to be
    gathered again, where that is all that it led to."""

    severity: str
    truth: str
    may_act: bool
    act_reason: str
    reason: str
    tree: str
    tree_digest: str
    reached_at: datetime
    pinned_at: datetime | None
    looks: int
    health_score: float | None
    dimensions: tuple[str, ...]
    nodes: tuple[NodeLine, ...]
    conditions: tuple[ConditionLine, ...]
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """`undo` is the plan's UndoRule, `checks` the runbook's conditions for the step, `approval` who must agree to it;
    empty where not recorded."""

    tier: int
    tier_name: str
    step: int
    step_id: str
    action: str
    undo: str = ""
    checks: tuple[str, ...] = ()
    approval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPart:
    runbook: str
    source: str
    source_digest: str
    digest: str
    reason: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLine:
    """Something that changed before the incident, newest first in the report; `about` = Kind/name."""

    at: datetime | None
    about: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """Last lines of a container's instance before the present one."""

    pod: str
    container: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePart:
    """What was kept before the first write, one line each; `missing` says what is not among it, and why, `unanswered`
    which of that a question got no answer for: of the rest there is none, or too much. No changes mean that there were
    none only where they were looked for (the runbook asks for them; else events alone may tell of some) and nothing of
    them is unseen: `changes_unseen` says what could not be read, and why."""

    kept_at: datetime
    pods: tuple[str, ...]
    events: tuple[str, ...]
    logs: tuple[LogPart, ...]
    changes: tuple[ChangeLine, ...]
    missing: tuple[str, ...]
    unanswered: tuple[str, ...]
    changes_looked_for: bool
    changes_unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldLine:
    """One touched field; `before` and `after` are JSON text."""

    path: str
    before: str
    after: str


class StepState(StrEnum):
    """How far a step came, as its entries show."""

    NOT_TRIED = "not tried"
    REFUSED = "refused"
    INTENDED = "intended"  # an intent without an effect: the outcome is not known yet
    WOULD_APPLY = "would apply"
    APPLIED = "applied"
    ALREADY_SO = "already so"
    FAILED = "failed"
    UNKNOWN = "outcome unknown"
    NOT_VERIFIED = "not verified"
    UNDECIDED = "not known whether it healed"
    CHANGED = "changed by somebody else since it was written"
    VERIFIED = "verified"
    VERIFIED_AS_IT_WAS = "verified, though it was already so and nothing was written"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"
    NOT_TAKEN_BACK = "not taken back: mode observe"
    PERSON_CALLED = "person called"  # a step of the page tier: its page was delivered
    CALL_NOT_DELIVERED = "call decided, no page delivered"  # as far as the record goes


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPart:
    """One step of the plan with all that its entries tell."""

    tier: int
    tier_name: str
    step: int
    step_id: str
    action: str
    state: StepState
    reason: str
    target: str = ""
    uid: str = ""
    intent_at: datetime | None = None
    effect_at: datetime | None = None
    effect: str = ""
    changes: tuple[FieldLine, ...] = ()
    verified_at: datetime | None = None
    verification: str = ""
    looks: int = 0
    conditions: tuple[ConditionLine, ...] = ()
    undone_at: datetime | None = None
    undo: str = ""
    undo_changes: tuple[FieldLine, ...] = ()


class Called(StrEnum):
    """Whether a person was called with high urgency: by decision, by a deadline, by a relapse. Deciding it is not
    reaching anybody: the key may be refused, or the pager away."""

    DELIVERED = "delivered"  # the pager took a page
    NOT_DELIVERED = "not_delivered"  # decided, or tried; the record knows of no page that went out
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonLine:
    """A call or a message. `what`: called (decided, whoever heard of it), delivered or failed. `message`: its key, by
    which a failure and a later delivery are of one message; empty where it is not recorded."""

    at: datetime
    what: str
    urgency: str
    channel: str
    notice: str
    detail: str
    attempts: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePart:
    """A step that worked and is to be taken back; `outcome` empty = still in force, `told` is it in words.
    `held_back_at`: its part was well then, and `reason` says why it stayed all the same, the first time: that may be
    over. `changes` are what the restore itself wrote."""

    tier: int
    step: int
    step_id: str
    opened_at: datetime | None
    ended_at: datetime | None
    outcome: str
    reason: str
    told: str = ""
    held_back_at: datetime | None = None
    taken_back: bool = False
    target: str = ""
    changes: tuple[FieldLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultLine:
    at: datetime
    where: str
    error: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstLine:
    """The worst that any verdict saw of one dimension, when, and since when the dimension was hurt."""

    dimension: str
    condition: ConditionLine
    at: datetime
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactPart:
    """`until` None = not known or not over; `alerts` counts distinct alerts; `worst` has one line a dimension."""

    dimensions: tuple[str, ...]
    conditions: tuple[ConditionLine, ...]
    since: datetime
    until: datetime | None
    duration_ms: float | None
    alerts: int
    left_out: int
    worst: tuple[WorstLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLine:
    """One entry in a sentence; `after_ms` counts from the acceptance of the alert."""

    seq: int
    at: datetime
    after_ms: float
    kind: str
    actor: str
    target: str
    uid: str
    duration_ms: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An incident as far as notices tell of it. `cluster`: the one that the alert is of, by its own word (empty: not
    known); `elsewhere` says why that is not known to be the engine's own. `outcome` is `open` until it closed;
    `in_force` are the follow-ups about steps that nobody takes back but a person. `called_after_the_end`: an alert
    joined at the last moment, a restore was not taken back, something of the engine's broke; no close ends such a
    page. `asked_to_end`: a person has asked for its end (`firebreak close`), and has it."""

    incident_id: str
    service: str
    cluster: str
    elsewhere: str
    target: str
    refusal: str
    outcome: str
    reason: str
    observed_only: bool
    accepted_at: datetime
    closed_at: datetime | None
    asked_to_end: bool
    called_after_the_end: bool
    verdict: VerdictPart | None
    plan: PlanPart | None
    evidence: EvidencePart | None
    actions: tuple[ActionPart, ...]
    called: Called
    people: tuple[PersonLine, ...]
    restores: tuple[RestorePart, ...]
    faults: tuple[FaultLine, ...]
    alerts: tuple[AlertLine, ...]
    in_force: tuple[str, ...]
    follow_ups: tuple[str, ...]

    @property
    def where(self) -> str:
        """What follows the service's name, so that nobody takes it for the one of the same name in our cluster."""
        if not self.elsewhere:
            return ""
        return f" of cluster {self.cluster}" if self.cluster else " of an unknown cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Case):
    """One incident, told whole: what the post-mortem adds. `head` is the digest of the last entry told of."""

    schema: int
    closed_by: str
    opened_at: datetime
    headline: str
    summary: tuple[str, ...]
    impact: ImpactPart
    phases: tuple[PhaseTiming, ...]
    timeline: tuple[EntryLine, ...]
    first_seq: int
    last_seq: int
    head: str

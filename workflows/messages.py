"""What starts a workflow, what it is told on its way, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from activities.messages import GatherResult
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.plan import PlanOutline, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentState:
    """All that the story has to remember: survives continue-as-new, and is what `status` answers."""

    phase: IncidentPhase = IncidentPhase.SEEN
    plan: PlanOutline | None = None
    records: tuple[StepRecord, ...] = ()
    look: int = 0
    quiet_since: datetime | None = None
    doubtful_since: datetime | None = None
    resolutions: int = 0  # how often all its alerts had resolved
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentInput:
    """`first_look`: what the first look at the evidence said, where it was made before the workflow was started."""

    incident_id: str
    state: IncidentState = field(default_factory=IncidentState)
    first_look: GatherResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentResult:
    incident_id: str
    outcome: IncidentOutcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertResolved:
    """Signal `alert_resolved`: how many alerts of the incident still fire."""

    firing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequested:
    """Signal `close_requested`: a person ended the incident by hand."""

    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWatch:
    """Input of the restore workflow: the step that is to be taken back some day. `since`: as the last look of an
    earlier run answered."""

    incident_id: str
    plan_digest: str
    tier: int
    step: int
    opened_at: datetime
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreEnd:
    outcome: str

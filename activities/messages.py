"""What the story tells the hands, and what they answer: one input and one result per activity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.plan import PlanOutline, StepRecord
from firebreak.domain.verdict import NextLook


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherInput:
    """The `round`-th look at the evidence (0, 1, ...). `quiet_since`: since when each look found it healthy;
    `doubtful_since`: since when each look was inconclusive."""

    incident_id: str
    round: int
    quiet_since: datetime | None = None
    doubtful_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherResult:
    """`seen_at`: the pinned time of the evidence that this rests on."""

    next: NextLook
    reason: str
    again_at: datetime | None = None
    quiet_since: datetime | None = None
    doubtful_since: datetime | None = None
    plan: PlanOutline | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepInput:
    incident_id: str
    plan_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """One step of the pinned plan. `rests_on`: time of the latest evidence, of the verdict or of a verification."""

    incident_id: str
    plan_digest: str
    tier: int
    step: int
    rests_on: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyInput:
    """`round`: the how-manieth look at this step's evidence; `since`: as the look before answered."""

    incident_id: str
    plan_digest: str
    tier: int
    step: int
    round: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """`record` is set once it is decided; until then `again_at` says when to look again, and `since` from when its time
    limit counts."""

    record: StepRecord | None
    again_at: datetime | None = None
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryInput:
    """The `round`-th look while a person has the incident."""

    incident_id: str
    round: int
    quiet_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryResult:
    recovered: bool
    reason: str
    again_at: datetime
    quiet_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonInput:
    """Call a person at once, with high urgency. `key` makes the call unique within the incident; `looks` at the
    evidence so far: their deadlines are taken back, since this is the page."""

    incident_id: str
    key: str
    reason: str
    looks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseInput:
    incident_id: str
    outcome: IncidentOutcome
    reason: str
    by: str = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreInput:
    """One look at whether a step may be taken back; `since`: as the look before answered."""

    incident_id: str
    plan_digest: str
    tier: int
    step: int
    opened_at: datetime
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """`ended`: restored, or overdue and paged; else look again at `again_at`. `since`: from when its time limit
    counts."""

    ended: bool
    outcome: str
    again_at: datetime | None = None
    since: datetime | None = None

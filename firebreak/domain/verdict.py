"""What the engine decided about an incident, and on what. Recomputable from the stored facts by anyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from firebreak.domain.condition import ConditionResult, Dimension, MetricAnswer, Truth


class Severity(StrEnum):
    P1 = "P1"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All evidence of one classification, gathered at one pinned time. `tree_digest` and `bindings` say how the
    queries were rendered, so that the verdict can be recomputed from this value and the kept document alone."""

    pinned_at: datetime
    step: timedelta
    labels: Mapping[str, str]
    service: str
    tree_digest: str
    bindings: Mapping[str, str]
    answers: tuple[MetricAnswer, ...]
    human_score: float | None = None  # a person's own score 0-100 (row A2)
    truncated: int = 0  # alerts that the source left out, as far as was known at the look
    judged_by: int = 1  # version of the rules that judged them (triage.classify); the first ones kept no number


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """One node of the tree as it came out; leaves name their condition. For `firebreak explain`."""

    operator: str  # all | any | at_least:N | condition
    truth: Truth
    condition: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`truth` is the tree's own: TRUE -> `severity` P1; PENDING -> look again at `holds_at`; INCONCLUSIVE -> page.
    `may_act` needs two independent dimensions or a trusted label; `act_reason` says which, or what is missing."""

    severity: Severity
    truth: Truth
    may_act: bool
    act_reason: str
    reason: str
    pinned_at: datetime
    tree: str
    tree_digest: str
    dimensions: tuple[Dimension, ...]
    conditions: tuple[ConditionResult, ...]
    nodes: tuple[NodeResult, ...]
    holds_at: datetime | None = None
    health_score: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class NextLook(StrEnum):
    """What a look at the evidence leads to."""

    ACT = "act"
    AGAIN = "again"  # at a stated time, or earlier when the alert resolves
    CALL_PERSON = "call_person"
    NOTHING = "nothing"  # resolved or broke before it held: close, nothing done


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """`next` with its reason; `again_at` with AGAIN. `quiet_since` / `doubtful_since`: start of the unbroken run of
    looks that found the evidence healthy / inconclusive (None = this look did not)."""

    next: NextLook
    reason: str
    again_at: datetime | None = None
    quiet_since: datetime | None = None
    doubtful_since: datetime | None = None

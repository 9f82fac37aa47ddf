"""Conditions, the queries that feed them, and what came back. Used by the severity tree and by a step's verify."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Comparison(StrEnum):
    GT = ">"
    GE = ">="
    LT = "<"
    LE = "<="
    EQ = "=="
    NE = "!="


class Absence(StrEnum):
    """What an empty answer means. Default of every document: INCONCLUSIVE."""

    ZERO = "zero"
    NOT_APPLICABLE = "not_applicable"
    INCONCLUSIVE = "inconclusive"


class Dimension(StrEnum):
    """The independent dimensions of row A1. Two different ones let the engine act."""

    LATENCY = "latency"
    ERRORS = "errors"
    BUSINESS = "business"
    HEALTH = "health"  # of a verification; never counts for a verdict


class Truth(StrEnum):
    """TRUE held for its time; PENDING is true but has not held yet; INCONCLUSIVE is never true."""

    TRUE = "true"
    PENDING = "pending"
    FALSE = "false"
    NOT_APPLICABLE = "not_applicable"
    INCONCLUSIVE = "inconclusive"


class ConditionKind(StrEnum):
    METRIC = "metric"
    LABEL = "label"
    SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFloor:
    """A ratio says nothing over a handful of calls (row A1: at least 20). `query` counts calls in the window."""

    query: str
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFlow:
    """One flow of the health score (row A2): `weight` share of `success_query` (0..1) and the fall in call volume
    `volume_ratio_query` (now / baseline, 1 = as usual)."""

    name: str
    weight: float
    success_query: str
    volume_ratio_query: str
    volume_weight: float
    absence: Absence = Absence.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One leaf, fully rendered: durations and labels are filled in. Times in `timedelta`, values in `unit`.

    METRIC compares the single series of `query` with `threshold`; it must have compared true for `held_for` up to the
    pinned time. LABEL is true when the alert's `label` has one of `label_values`. SCORE compares the health score
    0-100 (low is bad) of `flows`. `inputs` are the selectors whose newest sample's age is asked for."""

    name: str
    kind: ConditionKind
    dimension: Dimension
    title: str = ""
    unit: str = ""
    query: str = ""
    comparison: Comparison = Comparison.GT
    threshold: float = 0.0
    held_for: timedelta = timedelta(0)
    inputs: tuple[str, ...] = ()
    stale_after: timedelta = timedelta(minutes=1)
    own: bool = False  # its query asks about this incident's service or workload, not about everything
    sample_step: timedelta = timedelta(seconds=15)  # resolution of the range query (the named duration `step`)
    volume: VolumeFloor | None = None
    absence: Absence = Absence.INCONCLUSIVE
    label: str = ""
    label_values: tuple[str, ...] = ()
    flows: tuple[ScoreFlow, ...] = ()
    fault: str = ""  # why it could not be rendered for this incident: then it is INCONCLUSIVE, and asks nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """One expression of a batch. `key` is unique in the batch and chosen by the asker."""

    key: str
    expr: str


class AnswerStatus(StrEnum):
    OK = "ok"  # zero or one series came back; zero = the answer is empty
    AMBIGUOUS = "ambiguous"  # more than one series: the query must aggregate
    WARNED = "warned"  # warnings or a partial response: never trusted
    REFUSED = "refused"  # 4xx: the expression is wrong
    UNAVAILABLE = "unavailable"  # time-out, 5xx, unreachable, not JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluated step. `value` is Prometheus' own text ("0.25", "NaN", "+Inf"): floats would lose it in JSON."""

    at: datetime
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAnswer:
    """What one query of a batch gave: the steps that had a value, oldest first, up to the pinned time."""

    key: str
    status: AnswerStatus
    points: tuple[Point, ...] = ()
    detail: str = ""  # the error, the warnings, or the number of series


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """One condition's outcome with all that it was judged by. `since` = first step of the unbroken true run;
    `holds_at` = the earliest time at which a PENDING condition could hold; ages in seconds."""

    name: str
    dimension: Dimension
    truth: Truth
    reason: str
    query: str = ""
    value: str = ""
    threshold: str = ""
    unit: str = ""
    sample_age: float | None = None
    volume: float | None = None
    since: datetime | None = None
    holds_at: datetime | None = None

"""A small world for judging: one pinned time, answers made from plain values, conditions with few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firebreak.domain.condition import (
    AnswerStatus,
    Comparison,
    Condition,
    ConditionKind,
    Dimension,
    MetricAnswer,
    Point,
)
from firebreak.triage.queries import newest_sample

PINNED = datetime(2026, 11, 21, 8, 36, 20, tzinfo=UTC)
STEP = timedelta(seconds=1)

MakeAnswer = Callable[..., MetricAnswer]
MakeCondition = Callable[..., Condition]
MakeFresh = Callable[..., MetricAnswer]


@pytest.fixture
def pinned() -> datetime:
    return PINNED


@pytest.fixture
def step() -> timedelta:
    return STEP


@pytest.fixture
def answer() -> MakeAnswer:
    """`answer("q", "0.1", None, "0.2")`: values at the last steps, the last one at the pinned time; None = a gap."""

    def make(
        key: str, *values: str | None, status: AnswerStatus = AnswerStatus.OK, detail: str = "", step: timedelta = STEP
    ) -> MetricAnswer:
        points = tuple(
            Point(at=PINNED - (len(values) - 1 - index) * step, value=value)
            for index, value in enumerate(values)
            if value is not None
        )
        return MetricAnswer(key=key, status=status, points=points, detail=detail)

    return make


@pytest.fixture
def fresh(answer: MakeAnswer) -> MakeFresh:
    """The newest sample of a selector is `age` seconds old, at each of the last `steps`."""

    def make(selector: str, age: float = 1.0, steps: int = 20) -> MetricAnswer:
        stamps = [str(PINNED.timestamp() - (steps - 1 - n) - age) for n in range(steps)]
        return answer(newest_sample(selector), *stamps)

    return make


@pytest.fixture
def condition() -> MakeCondition:
    """`q >= 0.05` in errors, held 5 s, fed by `m`; keywords change it."""

    def make(**change: Any) -> Condition:
        base: Mapping[str, Any] = {
            "name": "errors_ratio",
            "kind": ConditionKind.METRIC,
            "dimension": Dimension.ERRORS,
            "unit": "ratio",
            "query": "q",
            "comparison": ">=",
            "threshold": 0.05,
            "held_for": timedelta(seconds=5),
            "inputs": ("m",),
            "stale_after": timedelta(seconds=10),
            "sample_step": STEP,
            "own": True,
        }
        merged = {**base, **change}
        merged["comparison"] = Comparison(merged["comparison"])
        return Condition(**merged)

    return make

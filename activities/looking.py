"""Judging conditions: one batch of queries at one pinned time, for checks, verifications and restores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import activity

from firebreak.domain.condition import AnswerStatus, Condition, ConditionResult, MetricAnswer
from firebreak.domain.errors import TransientError
from firebreak.domain.ports import Clock, MetricsPort
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import batch_of, span_of, step_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LookLimits:
    """Time limits of one batch: in a local activity, and in the patient attempt."""

    query: timedelta = timedelta(milliseconds=700)
    patient_query: timedelta = timedelta(seconds=8)


class Looking:
    """The back end's faults make a condition inconclusive; only what was late in a swift look is asked again."""

    def __init__(self, metrics: MetricsPort, clock: Clock, limits: LookLimits) -> None:
        self.limits = limits
        self._metrics = metrics
        self._clock = clock

    def limit(self) -> timedelta:
        """How long a batch may take in the activity that asks."""
        return self.limits.query if activity.info().is_local else self.limits.patient_query

    async def at_once(
        self,
        conditions: tuple[Condition, ...],
        limit: timedelta,
        *,
        labels: Mapping[str, str] | None = None,
        human_score: float | None = None,
        not_before: datetime | None = None,
    ) -> tuple[ConditionResult, ...]:
        """Each condition's outcome now. `labels` and `human_score` as in `evaluate`; samples before `not_before` do not
        count."""
        if not conditions:
            return ()
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        step = step_of(conditions)
        answers = await self._metrics.range_batch(
            batch_of(conditions), start=pinned - span_of(conditions), end=pinned, step=step, timeout=limit
        )
        if limit <= self.limits.query:
            not_late(answers)
        return tuple(
            evaluate(c, answers, pinned, step, labels=labels, human_score=human_score, not_before=not_before)
            for c in conditions
        )


def not_late(answers: Iterable[MetricAnswer]) -> None:
    """TransientError when an answer was not had in a swift look: the patient attempt asks again with more time. What it
    does not get either is inconclusive."""
    late = next((answer for answer in answers if answer.status is AnswerStatus.UNAVAILABLE), None)
    if late is not None:
        raise TransientError(f"Prometheus did not answer in time: {late.detail}")

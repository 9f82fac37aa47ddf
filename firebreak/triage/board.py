"""The answers of one batch by expression and whole millisecond, which is Prometheus' own resolution."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from firebreak.domain.condition import AnswerStatus, MetricAnswer

_DISTRUST = {
    AnswerStatus.AMBIGUOUS: "more than one series came back, the query must aggregate",
    AnswerStatus.WARNED: "the answer came with warnings or was partial",
    AnswerStatus.REFUSED: "Prometheus refused the query",
    AnswerStatus.UNAVAILABLE: "Prometheus did not answer",
}


class Board:
    """`pinned` and `step` in milliseconds."""

    def __init__(self, answers: Iterable[MetricAnswer], pinned_at: datetime, step: timedelta) -> None:
        self._answers = {answer.key: answer for answer in answers}
        self._points: dict[str, dict[int, str]] = {}
        self.pinned = millis(pinned_at)
        self.step = step // timedelta(milliseconds=1)
        if self.step <= 0:
            raise ValueError("the step of a range query is at least a millisecond")

    def distrust(self, expressions: Iterable[str]) -> str:
        """Why an answer cannot be trusted, or empty."""
        for expr in expressions:
            answer = self._answers.get(expr)
            if answer is None:
                return f"no answer to {expr}"
            if answer.status is not AnswerStatus.OK:
                detail = f": {answer.detail}" if answer.detail else ""
                return f"{_DISTRUST[answer.status]}{detail}"
        return ""

    def text(self, expr: str, at: int) -> str | None:
        points = self._points.get(expr)
        if points is None:
            points = {millis(point.at): point.value for point in self._answers[expr].points}
            self._points[expr] = points
        return points.get(at)

    def number(self, expr: str, at: int) -> float | None:
        """NaN also for a text that is no number."""
        text = self.text(expr, at)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            return math.nan


def millis(at: datetime) -> int:
    """Unix time in whole milliseconds."""
    return round(at.timestamp() * 1000)


def time_of(at: int) -> datetime:
    """Inverse of `millis`, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)

"""One condition, judged on what came back: pure, and every outcome has a sentence.

Order of judgement: was everything asked answered cleanly; are the inputs fresh; are there enough calls; is there a
value at the pinned time; does it compare; since when without a break; has it held. Whatever cannot be trusted on that
way is INCONCLUSIVE, never true (issue item 7).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from firebreak.documents.durations import spoken
from firebreak.domain.condition import (
    Absence,
    Comparison,
    Condition,
    ConditionKind,
    ConditionResult,
    MetricAnswer,
    Truth,
)
from firebreak.triage.board import Board, millis, time_of
from firebreak.triage.queries import expressions_of, newest_sample, whole_steps
from firebreak.triage.score import Score, health_score

_COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
}


_HOLE = 2  # of `stale_after`: what a past step may be without a sample
_AHEAD, _OLDEST = 5.0, 1e10
"""Ages in seconds between which a back end can be believed: Prometheus gives no sample of after the pinned time."""


def evaluate(
    condition: Condition,
    answers: Iterable[MetricAnswer],
    pinned_at: datetime,
    step: timedelta,
    *,
    labels: Mapping[str, str] | None = None,
    human_score: float | None = None,
    not_before: datetime | None = None,
) -> ConditionResult:
    """The condition's outcome at `pinned_at`. `answers` is what `queries.batch_of` asked, over at least
    `queries.span_of`, every `step`; times count in whole milliseconds, as Prometheus does.

    `labels` are the alert's, for label conditions. `human_score` overrides a score (row A2). `not_before` (for a
    verification: effect plus settling) leaves out every step, and every input, that is older."""
    draft = _Draft(condition, pinned_at)
    if condition.fault:
        return draft.result(Truth.INCONCLUSIVE, condition.fault)
    if condition.kind is ConditionKind.LABEL:
        return _label(condition, draft, labels or {})
    if condition.kind is ConditionKind.SCORE and human_score is not None:
        return _human(condition, draft, human_score)
    board = Board(answers, pinned_at, step)
    return _Judgement(condition, draft, board, not_before).result()


@dataclass(slots=True)
class _Draft:
    """What is known of the outcome so far; every way out passes `result`."""

    condition: Condition
    pinned_at: datetime
    value: str = ""
    sample_age: float | None = None
    volume: float | None = None

    def result(
        self, truth: Truth, reason: str, *, since: datetime | None = None, holds_at: datetime | None = None
    ) -> ConditionResult:
        c = self.condition
        label = c.kind is ConditionKind.LABEL
        flows = "; ".join(query for flow in c.flows for query in (flow.success_query, flow.volume_ratio_query))
        return ConditionResult(
            name=c.name,
            dimension=c.dimension,
            truth=truth,
            reason=reason,
            query=f"label {c.label}" if label else c.query or flows,
            value=self.value,
            threshold=" or ".join(c.label_values) if label else f"{c.comparison} {c.threshold:g}",
            unit=c.unit,
            sample_age=self.sample_age,
            volume=self.volume,
            since=since,
            holds_at=holds_at,
        )


def _label(condition: Condition, draft: _Draft, labels: Mapping[str, str]) -> ConditionResult:
    draft.value = labels.get(condition.label, "")
    if condition.label in labels and draft.value in condition.label_values:
        return draft.result(Truth.TRUE, f"the alert says {condition.label}={draft.value}")
    said = f"says {condition.label}={draft.value}" if condition.label in labels else f"has no label {condition.label}"
    return draft.result(Truth.FALSE, f"the alert {said}, not {' or '.join(condition.label_values)}")


def _human(condition: Condition, draft: _Draft, score: float) -> ConditionResult:
    draft.value = f"{score:g}"
    if not 0 <= score <= 100:
        return draft.result(Truth.INCONCLUSIVE, f"a person set the score to {score:g}, which is not from 0 to 100")
    bad = _COMPARE[condition.comparison](score, condition.threshold)
    words = f"a person set the health score to {score:g} of 100 (low is bad)"
    return draft.result(
        Truth.TRUE if bad else Truth.FALSE,
        f"{words}, {'' if bad else 'not '}{condition.comparison} {condition.threshold:g}",
    )


class _Judgement:
    """One METRIC or SCORE condition against its answers."""

    def __init__(self, condition: Condition, draft: _Draft, board: Board, not_before: datetime | None) -> None:
        self.c = condition
        self.draft = draft
        self.board = board
        self.not_before = None if not_before is None else millis(not_before)
        self.score: Score | None = None
        self.unseen = False

    def result(self) -> ConditionResult:
        draft, board = self.draft, self.board
        if why := board.distrust(expressions_of(self.c)):
            return draft.result(Truth.INCONCLUSIVE, why)
        if ended := self._stale() or self._too_few() or self._no_value():
            return ended
        value = self._value(board.pinned)
        if value is None or math.isnan(value):
            return draft.result(Truth.INCONCLUSIVE, "the value is NaN: neither true nor false")
        words = f"{_short(value)}{' ' + self.c.unit if self.c.unit else ''}"
        compares = f"{self.c.comparison} {self.c.threshold:g}"
        factors = f" ({'; '.join(self.score.factors)})" if self.score else ""
        if not self._true(value):
            return draft.result(Truth.FALSE, f"{words}, not {compares}{factors}")
        return self._held(f"{words} {compares}{factors}")

    def _stale(self) -> ConditionResult | None:
        """Ages of all inputs at the pinned time; the oldest one counts."""
        oldest: float | None = None
        for selector in self.c.inputs:
            newest = self.board.number(newest_sample(selector), self.board.pinned)
            if newest is None or math.isnan(newest):
                if self._value(self.board.pinned) is None and self.c.absence is Absence.NOT_APPLICABLE:
                    return self.draft.result(Truth.NOT_APPLICABLE, f"nothing has {selector}: it does not apply here")
                return self.draft.result(Truth.INCONCLUSIVE, f"no sample of {selector}: its exporter does not report")
            age = self.board.pinned / 1000 - newest
            if not -_AHEAD <= age <= _OLDEST:
                return self.draft.result(
                    Truth.INCONCLUSIVE, f"the newest sample of {selector} is said to be of {newest:g}: no time to go by"
                )
            if oldest is None or age > oldest:
                oldest, oldest_selector = age, selector
            if self.not_before is not None and newest * 1000 < self.not_before <= self.board.pinned:
                self.draft.sample_age = round(age, 3)
                return self.draft.result(Truth.INCONCLUSIVE, f"no sample of {selector} since the change took effect")
        if oldest is None:
            return None
        self.draft.sample_age = round(oldest, 3)
        if oldest > self.c.stale_after.total_seconds():
            limit = spoken(self.c.stale_after)
            return self.draft.result(
                Truth.INCONCLUSIVE,
                f"the newest sample of {oldest_selector} is {spoken(timedelta(seconds=oldest))} old, more than {limit}",
            )
        return None

    def _too_few(self) -> ConditionResult | None:
        floor = self.c.volume
        if floor is None:
            return None
        volume = self.board.number(floor.query, self.board.pinned)
        if volume is None and self.c.absence is Absence.ZERO:
            volume = 0.0
        if volume is None and self.c.absence is Absence.NOT_APPLICABLE:
            return self.draft.result(Truth.NOT_APPLICABLE, "how many calls there were is not known: left out")
        if volume is None or not math.isfinite(volume):
            return self.draft.result(Truth.INCONCLUSIVE, "how many calls there were is not known")
        self.draft.volume = volume
        if volume < floor.at_least:
            return self.draft.result(
                Truth.NOT_APPLICABLE, f"{_short(volume)} calls, and it says nothing below {floor.at_least:g}"
            )
        return None

    def _no_value(self) -> ConditionResult | None:
        value = self._value(self.board.pinned)
        if self.score is not None:
            if not self.score.applies:
                return self.draft.result(Truth.NOT_APPLICABLE, self.score.why)
            if value is None:
                return self.draft.result(Truth.INCONCLUSIVE, self.score.why)
            self.draft.value = f"{value:.1f}"
            return None
        if value is not None:
            self.draft.value = self.board.text(self.c.query, self.board.pinned) or "0"
            return None
        if self.c.absence is Absence.NOT_APPLICABLE:
            return self.draft.result(Truth.NOT_APPLICABLE, "the query gives no value: it does not apply here")
        return self.draft.result(Truth.INCONCLUSIVE, "the query gives no value at the pinned time")

    def _value(self, at: int) -> float | None:
        """Value at one step; None = a gap. A missing series is zero only while its inputs report."""
        if self.c.kind is ConditionKind.SCORE:
            score = health_score(self.c.flows, lambda expr: self.board.number(expr, at))
            if at == self.board.pinned:
                self.score = score
            return score.value
        value = self.board.number(self.c.query, at)
        if value is None and self.c.absence is Absence.ZERO and self._reporting(at):
            return 0.0
        return value

    def _reporting(self, at: int) -> bool:
        """In a verification of a past step (`_stale` has judged the pinned one) by the limit of `_seen`."""
        limit = self.c.stale_after.total_seconds() * (1 if self.not_before is None else _HOLE)
        newest = [self.board.number(newest_sample(selector), at) for selector in self.c.inputs]
        return all(n is not None and at / 1000 - n <= limit for n in newest)

    def _true(self, value: float | None) -> bool:
        return value is not None and not math.isnan(value) and _COMPARE[self.c.comparison](value, self.c.threshold)

    def _counts(self, at: int) -> bool:
        """Whether the step is true, and on calls enough to say so: what one call says holds for no time. Not asked of a
        verification, whose calls may only be coming back; of that it is asked whether anybody saw them."""
        if not self._true(self._value(at)):
            return False
        floor = self.c.volume
        if self.not_before is not None:
            self.unseen = not self._seen(at)
            return not self.unseen
        if floor is None or at == self.board.pinned:
            return True
        volume = self.board.number(floor.query, at)
        return volume is not None and volume >= floor.at_least

    def _seen(self, at: int) -> bool:
        """Whether no input's newest sample was older than twice `stale_after` then: Prometheus goes on saying an old
        value for minutes, and what nobody saw proves no healing. Twice, since with scrapes 60 s apart and a limit of
        30 s half of all steps are older. A step that knows of none (a scrape failed) goes by the steps before it."""
        limit = _HOLE * self.c.stale_after.total_seconds()
        return all(-_AHEAD <= at / 1000 - self._newest(selector, at) <= limit for selector in self.c.inputs)

    def _newest(self, selector: str, at: int) -> float:
        """Unix time of the newest sample of which one step knows, or the last step before it that knows of one."""
        steps = whole_steps(_HOLE * self.c.stale_after, timedelta(milliseconds=self.board.step))
        known = (self.board.number(newest_sample(selector), at - n * self.board.step) for n in range(steps + 1))
        return next((newest for newest in known if newest is not None), math.nan)

    def _held(self, words: str) -> ConditionResult:
        """The unbroken run of true steps up to the pinned time, and whether it is long enough."""
        c, board = self.c, self.board
        needed = whole_steps(c.held_for, timedelta(milliseconds=board.step))
        counted = -1  # steps of the run, the pinned one being number 0
        at = board.pinned
        while counted < needed + 1 and (self.not_before is None or at >= self.not_before) and self._counts(at):
            counted += 1
            at -= board.step
        if counted < 0:  # true now, but nothing before the effect has settled counts
            start = self.not_before or board.pinned
            holds_at = time_of(start + needed * board.step)
            return self.draft.result(
                Truth.PENDING, f"{words}; counted from {_clock(time_of(start))} on", holds_at=holds_at
            )
        since = time_of(board.pinned - counted * board.step)
        held = timedelta(milliseconds=counted * board.step)
        words = f"{words} since {_clock(since)}{' or before' if counted > needed else ''}"
        if held >= c.held_for:
            length = f", held {spoken(held)} of {spoken(c.held_for)}" if c.held_for else ""
            return self.draft.result(Truth.TRUE, f"{words}{length}", since=since)
        # In whole steps: at a time between two steps the run would start one step later again.
        holds_at = since + timedelta(milliseconds=needed * board.step)
        unseen = "; before that no sample was fresh" if self.unseen else ""
        return self.draft.result(
            Truth.PENDING,
            f"{words}, held {spoken(held)} of {spoken(c.held_for)}: could hold at {_clock(holds_at)}{unseen}",
            since=since,
            holds_at=holds_at,
        )


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"

"""What is asked: every expression once, all up to one pinned time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from firebreak.domain.condition import ConditionKind, ScoreFlow, VolumeFloor
from firebreak.triage.queries import batch_of, expressions_of, hold_span, span_of, step_of, whole_steps

Make = Callable[..., Any]


def test_each_expression_is_asked_once_however_many_need_it(condition: Make) -> None:
    """Two conditions over the same input and volume share their queries."""
    floor = VolumeFloor(query="calls", at_least=20)
    batch = batch_of([condition(volume=floor), condition(query="other", volume=floor)])
    assert [q.expr for q in batch] == ["q", "calls", "max(timestamp(m))", "other"]
    assert all(q.key == q.expr for q in batch)


def test_a_score_asks_for_both_factors_of_every_flow(condition: Make) -> None:
    """Success and volume, and the age of what they read."""
    flow = ScoreFlow(name="pay", weight=1, success_query="s", volume_ratio_query="v", volume_weight=0)
    leaf = condition(kind=ConditionKind.SCORE, query="", flows=(flow,))
    assert expressions_of(leaf) == ("s", "v", "max(timestamp(m))")


def test_labels_and_faults_ask_nothing(condition: Make) -> None:
    """What needs no metric, or could not be rendered, puts no load on Prometheus."""
    assert batch_of([condition(kind=ConditionKind.LABEL, label="x"), condition(fault="no $service")]) == ()


@pytest.mark.parametrize(
    ("held", "step", "stale", "span"),
    [(120, 15, 30, 135), (0, 15, 10, 30), (5, 1, 3, 6), (10, 4, 10, 16), (100, 15, 60, 120), (0, 15, 30, 45)],
)
def test_the_span_is_whole_steps_and_one_more(condition: Make, held: int, step: int, stale: int, span: int) -> None:
    """So that the last step is the pinned time itself, the first one lies before the time asked for, and behind it all
    samples that are not stale."""
    seconds = {"held_for": held, "sample_step": step, "stale_after": stale}
    leaf = condition(**{name: timedelta(seconds=value) for name, value in seconds.items()})
    assert span_of([leaf]) == timedelta(seconds=span)
    assert span_of([leaf]) % step_of([leaf]) == timedelta(0)
    assert hold_span([leaf]) == min(
        span_of([leaf]), (whole_steps(leaf.held_for, leaf.sample_step) + 1) * step_of([leaf])
    )


def test_a_sample_that_may_be_old_makes_no_range_that_prometheus_refuses(condition: Make) -> None:
    """It would refuse all that is asked beside it, too."""
    nightly = condition(held_for=timedelta(0), sample_step=timedelta(seconds=15), stale_after=timedelta(days=2))
    assert span_of([nightly, condition(sample_step=timedelta(seconds=1))]) == timedelta(seconds=1001)


def test_what_asks_for_no_sample_wants_none_fresh(condition: Make) -> None:
    """A label is judged without Prometheus."""
    label = condition(kind=ConditionKind.LABEL, label="x", inputs=(), held_for=timedelta(0))
    assert span_of([label]) == label.sample_step


def test_steps_are_rounded_up() -> None:
    """120 s are 8 steps of 15 s, and 3 steps of 50 s."""
    assert whole_steps(timedelta(seconds=120), timedelta(seconds=15)) == 8
    assert whole_steps(timedelta(seconds=120), timedelta(seconds=50)) == 3
    assert span_of([]) == timedelta(seconds=1)

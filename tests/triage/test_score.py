"""The business health score of row A2: 0 to 100, low is bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.domain.condition import Absence, ScoreFlow
from firebreak.triage.score import Score, health_score

PAY = ScoreFlow(name="pay", weight=0.6, success_query="ps", volume_ratio_query="pv", volume_weight=0.3)
ORDER = ScoreFlow(name="order", weight=0.4, success_query="os", volume_ratio_query="ov", volume_weight=0.3)


def scored(values: Mapping[str, float | None], *flows: ScoreFlow) -> Score:
    return health_score(flows or (PAY, ORDER), values.get)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ps": 1, "pv": 1, "os": 1, "ov": 1}, 100.0),
        ({"ps": 0, "pv": 1, "os": 0, "ov": 1}, 0.0),
        ({"ps": 0, "pv": 1, "os": 1, "ov": 1}, 40.0),
        ({"ps": 1, "pv": 0, "os": 1, "ov": 0}, 70.0),
        ({"ps": 0.5, "pv": 0.5, "os": 1, "ov": 2}, 65.5),
        ({"ps": 1.02, "pv": math.inf, "os": 1, "ov": 1}, 100.0),
    ],
)
def test_weights_success_and_fall_of_volume_make_the_score(values: dict[str, float], expected: float) -> None:
    """Worked by hand; more calls than usual, and rates above one, raise nothing."""
    assert scored(values).value == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(0.6, 0.3, 0.1), (0.35, 0.3, 0.35), (0.8, 0.2), (3, 41, 2)])
def test_a_score_that_is_the_threshold_by_hand_is_the_threshold(weights: tuple[float, ...]) -> None:
    """All calls are gone, which is a P1 at 70 or below: not 70.00000000000001, which is none."""
    flows = tuple(replace(PAY, name=f"flow{n}", weight=w, volume_weight=0.3) for n, w in enumerate(weights))
    assert scored({"ps": 1.0, "pv": 0.0}, *flows).value == 70.0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"pv": 1}, "pay has no success"),
        ({"ps": 1}, "pay has no volume"),
        ({"ps": math.nan, "pv": 1}, "success of pay is NaN"),
        ({"ps": 1, "pv": math.nan}, "volume of pay is NaN"),
    ],
)
def test_a_missing_factor_is_named_and_gives_no_score(values: dict[str, float], why: str) -> None:
    """Half a score would look better or worse than the truth."""
    score = scored(values)
    assert (score.value, score.why) == (None, why)


def test_a_flow_may_be_left_out_where_its_document_says_so() -> None:
    """No calls and no baseline: the other flows alone; no baseline: its success alone; no calls any more: its volume
    says so; nothing at all: it does not apply."""
    night = ScoreFlow(
        name="night",
        weight=9,
        success_query="ns",
        volume_ratio_query="nv",
        volume_weight=1,
        absence=Absence.NOT_APPLICABLE,
    )
    assert scored({"ps": 0.5, "pv": 1}, PAY, night).value == pytest.approx(50)
    assert scored({"ns": 0.5}, night).value == pytest.approx(50)
    assert scored({"ps": 1, "pv": 1, "nv": 0}, PAY, night).value == pytest.approx(100 * 0.6 / 9.6)
    assert scored({"ps": 0.5, "pv": 1, "nv": 1}, PAY, night).value == pytest.approx(50)
    left = scored({}, night)
    assert (left.value, left.applies) == (None, False)


def test_few_calls_count_by_their_volume_alone() -> None:
    """Two calls that fail at night say nothing of success, and three fewer than a week ago nothing of a fall; what fell
    from many to few counts as fallen."""
    few = ScoreFlow(
        name="few",
        weight=1,
        success_query="s",
        volume_ratio_query="v",
        volume_weight=0.3,
        absence=Absence.NOT_APPLICABLE,
    )
    assert scored({"v": 0.5}, few).value == pytest.approx(85)
    assert scored({"v": 0.0}, few).value == pytest.approx(70)
    score = scored({"ps": 1, "pv": 1}, PAY, few)
    assert (score.value, score.factors[-1]) == (100.0, "few: too few calls, left out")


def test_absence_as_zero_is_a_dead_flow() -> None:
    """A flow whose document says zero is at its worst when it is silent."""
    dead = ScoreFlow(
        name="x", weight=1, success_query="s", volume_ratio_query="v", volume_weight=0.3, absence=Absence.ZERO
    )
    assert scored({}, dead).value == 0.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=80, deadline=None)
def test_better_readings_never_lower_the_score(worse: float, better: float, less: float, more: float) -> None:
    """Monotone in success and volume, and never outside 0 to 100."""
    worse, better, less, more = min(worse, better), max(worse, better), min(less, more), max(less, more)
    low = scored({"ps": worse, "pv": less, "os": 0.5, "ov": 1}).value
    high = scored({"ps": better, "pv": more, "os": 0.5, "ov": 1}).value
    assert low is not None
    assert high is not None
    assert 0 <= low <= high + 1e-9 <= 100 + 1e-6

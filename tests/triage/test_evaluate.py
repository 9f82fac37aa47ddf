"""One condition, case by case. Each case is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firebreak.domain.condition import (
    Absence,
    AnswerStatus,
    Condition,
    ConditionKind,
    ConditionResult,
    MetricAnswer,
    ScoreFlow,
    Truth,
    VolumeFloor,
)
from firebreak.triage.evaluate import evaluate

Make = Callable[..., Any]
HALF: str = "0.5"

TRUE, PENDING, FALSE = Truth.TRUE, Truth.PENDING, Truth.FALSE
NA, DOUBT = Truth.NOT_APPLICABLE, Truth.INCONCLUSIVE


@pytest.fixture
def judge(answer: Make, fresh: Make, condition: Make, pinned: datetime, step: timedelta) -> Make:
    """Judges `condition(**change)` on values of `q`, with fresh inputs unless told otherwise."""

    def run(
        *values: str | None,
        age: float | None = 1.0,
        calls: str | tuple[str | None, ...] | None = None,
        status: AnswerStatus = AnswerStatus.OK,
        detail: str = "",
        more: tuple[MetricAnswer, ...] = (),
        not_before: datetime | None = None,
        **change: Any,
    ) -> ConditionResult:
        answers = [answer("q", *values, status=status, detail=detail), *more]
        answers.append(answer("max(timestamp(m))") if age is None else fresh("m", age))
        if "volume" in change:
            at_each = calls if isinstance(calls, tuple) else (calls,) * 20
            answers.append(answer("calls", *at_each))
        return evaluate(condition(**change), answers, pinned, step, not_before=not_before)

    return run


FLOOR = VolumeFloor(query="calls", at_least=20)

CASES: list[tuple[str, tuple[str | None, ...], dict[str, Any], Truth, str]] = [
    ("true for longer than its time is true", (HALF,) * 8, {}, TRUE, "0.5 ratio >= 0.05 since 08:36:14 or before"),
    (
        "true for exactly its time is true",
        ("0", *(HALF,) * 6),
        {},
        TRUE,
        "0.5 ratio >= 0.05 since 08:36:15, held 5 s of 5 s",
    ),
    (
        "true for less is pending, with its earliest time",
        ("0", *(HALF,) * 5),
        {},
        PENDING,
        "held 4 s of 5 s: could hold at 08:36:21",
    ),
    ("true for the first time now is pending", ("0", HALF), {}, PENDING, "could hold at 08:36:25"),
    ("one moment below starts the time anew", (*(HALF,) * 6, "0", HALF, HALF), {}, PENDING, "since 08:36:19"),
    ("no time asked for is true at once", ("0", HALF), {"held_for": timedelta(0)}, TRUE, "since 08:36:20"),
    ("below the threshold is false", ("0.01",) * 8, {}, FALSE, "0.01 ratio, not >= 0.05"),
    ("true until a moment ago is false", (*(HALF,) * 8, "0.01"), {}, FALSE, "not >= 0.05"),
    ("on the threshold, >= is true", ("0.05",) * 7, {}, TRUE, ">= 0.05"),
    ("on the threshold, > is false", ("0.05",) * 7, {"comparison": ">"}, FALSE, "not > 0.05"),
    ("< holds below", ("0.01",) * 7, {"comparison": "<"}, TRUE, "< 0.05"),
    ("<= holds on the threshold", ("0.05",) * 7, {"comparison": "<="}, TRUE, "<= 0.05"),
    ("== compares exactly", ("1",) * 7, {"comparison": "==", "threshold": 1.0}, TRUE, "== 1"),
    ("!= is true for another value", ("2",) * 7, {"comparison": "!=", "threshold": 1.0}, TRUE, "!= 1"),
    ("a gap breaks the run", (HALF, HALF, HALF, None, HALF, HALF, HALF), {}, PENDING, "since 08:36:18"),
    (
        "a gap that counts as zero breaks a run above",
        (HALF, HALF, HALF, None, HALF, HALF, HALF),
        {"absence": Absence.ZERO},
        PENDING,
        "since 08:36:18",
    ),
    (
        "a gap that counts as zero keeps a run below",
        ("0", "0", "0", None, "0", "0", "0"),
        {"absence": Absence.ZERO, "comparison": "<"},
        TRUE,
        "< 0.05",
    ),
    ("NaN now is inconclusive", (HALF,) * 7 + ("NaN",), {}, DOUBT, "NaN"),
    ("NaN is inconclusive also where absence is zero", ("NaN",), {"absence": Absence.ZERO}, DOUBT, "NaN"),
    ("NaN != 1 is not true", ("NaN",) * 8, {"comparison": "!=", "threshold": 1.0}, DOUBT, "NaN"),
    ("NaN within breaks the run", (*(HALF,) * 6, "NaN", HALF), {}, PENDING, "since 08:36:20"),
    ("+Inf compares", ("+Inf",) * 7, {}, TRUE, "inf ratio >= 0.05"),
    ("-Inf compares", ("-Inf",) * 7, {}, FALSE, "-inf ratio, not >= 0.05"),
    ("what is no number is inconclusive", ("broken",) * 7, {}, DOUBT, "NaN"),
    ("no answer is inconclusive by default", (), {}, DOUBT, "no value at the pinned time"),
    ("values until a moment ago are no value now", (*(HALF,) * 7, None), {}, DOUBT, "no value at the pinned time"),
    ("no answer can mean zero", (), {"absence": Absence.ZERO}, FALSE, "0 ratio, not >= 0.05"),
    ("no answer can mean that it does not apply", (), {"absence": Absence.NOT_APPLICABLE}, NA, "does not apply"),
    ("a stale sample is inconclusive", (HALF,) * 8, {"age": 11}, DOUBT, "11 s old, more than 10 s"),
    ("a sample as old as allowed is fresh", (HALF,) * 8, {"age": 10}, TRUE, "held"),
    ("an exporter that stopped is inconclusive", (), {"age": None}, DOUBT, "no sample of m: its exporter"),
    (
        "an exporter that stopped is not zero",
        (),
        {"age": None, "absence": Absence.ZERO},
        DOUBT,
        "no sample of m: its exporter",
    ),
    (
        "nothing at all where it need not apply",
        (),
        {"age": None, "absence": Absence.NOT_APPLICABLE},
        NA,
        "does not apply",
    ),
    ("a warning is inconclusive", (HALF,) * 8, {"status": AnswerStatus.WARNED, "detail": "x"}, DOUBT, "partial: x"),
    ("a refused query is inconclusive", (), {"status": AnswerStatus.REFUSED}, DOUBT, "refused"),
    ("a time-out is inconclusive", (), {"status": AnswerStatus.UNAVAILABLE}, DOUBT, "did not answer"),
    (
        "a time-out is not zero",
        (),
        {"status": AnswerStatus.UNAVAILABLE, "absence": Absence.ZERO},
        DOUBT,
        "did not answer",
    ),
    ("two series are inconclusive", (HALF,) * 8, {"status": AnswerStatus.AMBIGUOUS}, DOUBT, "must aggregate"),
    ("too few calls do not apply", (HALF,) * 8, {"volume": FLOOR, "calls": "19"}, NA, "19 calls"),
    ("just enough calls count", (HALF,) * 8, {"volume": FLOOR, "calls": "20"}, TRUE, "held"),
    (
        "what held on too few calls has not held",
        (HALF,) * 8,
        {"volume": FLOOR, "calls": ("1",) * 7 + ("20",)},
        PENDING,
        "since 08:36:20, held 0 s of 5 s",
    ),
    (
        "a moment of too few calls starts the time anew",
        (HALF,) * 8,
        {"volume": FLOOR, "calls": (*("20",) * 5, "19", "20", "20")},
        PENDING,
        "since 08:36:19",
    ),
    (
        "an unknown number of calls holds for nothing",
        (HALF,) * 8,
        {"volume": FLOOR, "calls": (*("20",) * 5, None, "20", "20")},
        PENDING,
        "since 08:36:19",
    ),
    ("NaN over too few calls does not apply", ("NaN",), {"volume": FLOOR, "calls": "0"}, NA, "0 calls"),
    ("an unknown number of calls is inconclusive", (HALF,) * 8, {"volume": FLOOR}, DOUBT, "how many calls"),
    ("no number of calls is inconclusive", (HALF,) * 8, {"volume": FLOOR, "calls": "+Inf"}, DOUBT, "how many calls"),
    (
        "no calls at all do not apply where absence is zero",
        (),
        {"volume": FLOOR, "absence": Absence.ZERO},
        NA,
        "0 calls",
    ),
    ("what could not be rendered is inconclusive", (HALF,) * 8, {"fault": "no $service"}, DOUBT, "no $service"),
]


@pytest.mark.parametrize(("values", "change", "truth", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_condition_is_judged_as_the_sentence_says(
    judge: Make, values: tuple[str | None, ...], change: dict[str, Any], truth: Truth, words: str
) -> None:
    """The case's id is the sentence."""
    result = judge(*values, **change)
    assert (result.truth, words in result.reason) == (truth, True), result


def test_a_result_carries_all_that_it_was_judged_by(judge: Make, pinned: datetime) -> None:
    """Query, value as Prometheus wrote it, threshold, unit, age, volume, since."""
    result = judge("0", *("0.420",) * 6, volume=FLOOR, calls="123")
    assert (result.query, result.value, result.threshold, result.unit) == ("q", "0.420", ">= 0.05", "ratio")
    assert (result.sample_age, result.volume, result.since) == (1.0, 123.0, pinned - timedelta(seconds=5))
    assert result.reason == "0.42 ratio >= 0.05 since 08:36:15, held 5 s of 5 s"


def test_pending_names_the_time_at_which_a_look_finds_it_held(judge: Make, pinned: datetime) -> None:
    """Since plus the time asked for: looking then, the run's first step is on the grid again."""
    result = judge("0", HALF, HALF, HALF)
    assert result.since == pinned - timedelta(seconds=2)
    assert result.holds_at == pinned + timedelta(seconds=3)


def test_a_time_that_is_no_multiple_of_the_step_is_rounded_up(
    answer: Make, fresh: Make, condition: Make, pinned: datetime
) -> None:
    """Else the look at that time would find a run one step shorter, and so on for ever."""
    four = timedelta(seconds=4)
    answers = [answer("q", "0", HALF, HALF, step=four), fresh("m")]
    result = evaluate(condition(held_for=timedelta(seconds=10)), answers, pinned, four)
    assert result.since == pinned - four
    assert result.holds_at == pinned - four + 3 * four


def test_a_late_grid_has_no_value_at_the_pinned_time(
    answer: Make, fresh: Make, condition: Make, pinned: datetime, step: timedelta
) -> None:
    """A last step beside the pinned time is no evidence of it."""
    result = evaluate(condition(), [answer("q", *(HALF,) * 8), fresh("m")], pinned + timedelta(milliseconds=400), step)
    assert result.truth is DOUBT


def test_an_answer_that_is_missing_from_the_batch_is_inconclusive(
    answer: Make, condition: Make, pinned: datetime, step: timedelta
) -> None:
    """Every expression needs its answer."""
    result = evaluate(condition(), [answer("q", *(HALF,) * 8)], pinned, step)
    assert (result.truth, result.reason) == (DOUBT, "no answer to max(timestamp(m))")


def test_the_oldest_of_several_inputs_decides(
    answer: Make, fresh: Make, condition: Make, pinned: datetime, step: timedelta
) -> None:
    """One fresh exporter does not vouch for another."""
    answers = [answer("q", *(HALF,) * 8), fresh("m", 1), fresh("n", 30)]
    result = evaluate(condition(inputs=("m", "n")), answers, pinned, step)
    assert (result.truth, result.sample_age) == (DOUBT, 30.0)
    assert "newest sample of n is 30 s old" in result.reason


def test_a_zero_within_the_run_needs_a_reporting_exporter(
    answer: Make, condition: Make, pinned: datetime, step: timedelta
) -> None:
    """Healthy by absence counts only while the inputs reported."""
    reported = [str(pinned.timestamp() - n - 1) if n < 3 else None for n in range(7, -1, -1)]
    answers = [answer("q"), answer("max(timestamp(m))", *reported)]
    result = evaluate(condition(absence=Absence.ZERO, comparison="<"), answers, pinned, step)
    assert (result.truth, result.since) == (PENDING, pinned - timedelta(seconds=2))


def test_before_the_effect_nothing_counts(judge: Make, pinned: datetime) -> None:
    """A verification counts from the effect on: the same values, healthy long before, are pending after it."""
    effect = pinned - timedelta(seconds=2)
    result = judge(*("0",) * 9, comparison="<", not_before=effect)
    assert (result.truth, result.since) == (PENDING, effect)
    assert result.holds_at == effect + timedelta(seconds=5)
    held = judge(*("0",) * 9, comparison="<", not_before=pinned - timedelta(seconds=5))
    assert held.truth is TRUE


def test_a_look_before_the_effect_has_settled_is_pending(judge: Make, pinned: datetime) -> None:
    """It can hold at the earliest its time after that."""
    settled = pinned + timedelta(seconds=1)
    result = judge(*("0",) * 9, comparison="<", not_before=settled)
    assert (result.truth, result.holds_at) == (PENDING, settled + timedelta(seconds=5))
    assert judge(*(HALF,) * 9, comparison="<", not_before=settled).truth is FALSE


def test_a_sample_from_before_the_effect_verifies_nothing(judge: Make, pinned: datetime) -> None:
    """Fresh enough for a verdict is not enough for a verification."""
    result = judge(*("0",) * 9, comparison="<", age=3, not_before=pinned - timedelta(seconds=2))
    assert (result.truth, "since the change took effect" in result.reason) == (DOUBT, True)


@pytest.mark.parametrize(
    ("newest_ages", "truth", "since"),
    [
        ((2, 1, 1, 1, 1, 1, 1, 1), TRUE, 7),
        ((1, 2, 3, 4, 5, 1, 1, 1), PENDING, 2),  # nothing was scraped for a while
        ((1, 1, 1, None, 1, 1, 1, 1), TRUE, 7),  # one scrape failed
        ((1, None, None, None, None, 1, 1, 1), PENDING, 2),
        ((3, 4, 1, 2, 3, 4, 1, 2), TRUE, 7),  # looked at while it was fresh
        ((1, 1, 1, -1e300, 1, 1, 1, 1), PENDING, 3),
    ],
    ids=["seen all along", "a hole", "a gap of one scrape", "a longer gap", "scraped seldom", "no time to go by"],
)
def test_what_nobody_saw_proves_no_healing(
    answer: Make,
    condition: Make,
    pinned: datetime,
    step: timedelta,
    newest_ages: tuple[float | None, ...],
    truth: Truth,
    since: int,
) -> None:
    """Prometheus says a value for minutes after its last sample: in a verification such steps break the run."""
    last = len(newest_ages) - 1
    newest = [None if age is None else repr(pinned.timestamp() - (last - n) - age) for n, age in enumerate(newest_ages)]
    answers = [answer("q", *("0",) * 8), answer("max(timestamp(m))", *newest)]
    judged = condition(comparison="<", stale_after=timedelta(seconds=2), held_for=timedelta(seconds=5))
    result = evaluate(judged, answers, pinned, step, not_before=pinned - timedelta(minutes=1))
    assert (result.truth, result.since) == (truth, pinned - timedelta(seconds=min(since, 6)))
    assert ("before that no sample was fresh" in result.reason) is (truth is PENDING)


@pytest.mark.parametrize(
    ("newest_ages", "truth", "since"),
    [
        ((3, 4, 1, 2, 3, 4, 1, 2), TRUE, 6),  # looked at while it was fresh
        ((3, 4, 1, 2, 3, 5, 1, 2), PENDING, 1),
        ((3, 4, 1, 2, None, 4, 1, 2), PENDING, 2),  # its exporter was gone: then no series is no zero
    ],
    ids=["scraped seldom", "a hole", "a failed scrape"],
)
def test_no_series_is_healthy_as_long_as_anybody_saw_it(
    answer: Make,
    condition: Make,
    pinned: datetime,
    step: timedelta,
    newest_ages: tuple[float | None, ...],
    truth: Truth,
    since: int,
) -> None:
    """In a verification no errors hold as long between two samples as few errors do."""
    newest = [None if age is None else repr(pinned.timestamp() - (7 - n) - age) for n, age in enumerate(newest_ages)]
    judged = condition(
        comparison="<", absence=Absence.ZERO, stale_after=timedelta(seconds=2), held_for=timedelta(seconds=5)
    )
    answers = [answer("q"), answer("max(timestamp(m))", *newest)]
    result = evaluate(judged, answers, pinned, step, not_before=pinned - timedelta(minutes=1))
    assert (result.truth, result.since) == (truth, pinned - timedelta(seconds=since))


@pytest.mark.parametrize(
    ("labels", "truth", "words"),
    [
        ({"business_impact": "blocked"}, TRUE, "the alert says business_impact=blocked"),
        ({"business_impact": "none"}, FALSE, "not blocked"),
        ({}, FALSE, "has no label business_impact"),
    ],
)
def test_a_label_condition_reads_the_alert_alone(
    condition: Make, pinned: datetime, step: timedelta, labels: dict[str, str], truth: Truth, words: str
) -> None:
    """True when the alert has one of the values, else false; never inconclusive."""
    leaf = condition(kind=ConditionKind.LABEL, label="business_impact", label_values=("blocked",))
    result = evaluate(leaf, [], pinned, step, labels=labels)
    assert (result.truth, words in result.reason) == (truth, True)


@pytest.fixture
def score(condition: Make) -> Condition:
    flow = ScoreFlow(name="pay", weight=1, success_query="s", volume_ratio_query="v", volume_weight=0.3)
    made: Condition = condition(
        kind=ConditionKind.SCORE, query="", flows=(flow,), comparison="<=", threshold=70.0, unit="points"
    )
    return made


def test_a_score_must_hold_like_any_other_condition(
    answer: Make, fresh: Make, score: Condition, pinned: datetime, step: timedelta
) -> None:
    """It is computed at every step; each factor is in the reason."""
    answers = [answer("s", "1", *("0.8",) * 6), answer("v", *("0.5",) * 7), fresh("m")]
    result = evaluate(score, answers, pinned, step)
    assert (result.truth, result.value, result.since) == (TRUE, "68.0", pinned - timedelta(seconds=5))
    assert "pay: success 80.0%, volume down 50%, weight 1" in result.reason
    assert result.query == "s; v"


def test_a_score_with_a_factor_missing_is_inconclusive(
    answer: Make, fresh: Make, score: Condition, pinned: datetime, step: timedelta
) -> None:
    """And says which."""
    result = evaluate(score, [answer("s", "0.1"), answer("v"), fresh("m")], pinned, step)
    assert (result.truth, result.reason) == (DOUBT, "pay has no volume")


@pytest.mark.parametrize(("said", "truth"), [(55.0, TRUE), (70.0, TRUE), (71.0, FALSE), (-1.0, DOUBT)])
def test_a_persons_score_stands_above_the_computed_one(
    score: Condition, pinned: datetime, step: timedelta, said: float, truth: Truth
) -> None:
    """At once, without any answer; not when it is out of range (row A2)."""
    result = evaluate(score, [], pinned, step, human_score=said)
    assert (result.truth, result.value) == (truth, f"{said:g}")
    assert "a person set" in result.reason


VALUES = st.lists(st.sampled_from([None, "0", "0.04", "0.05", HALF, "NaN", "+Inf", "-Inf", "x"]), max_size=9)


@given(
    values=VALUES,
    age=st.sampled_from([None, 0.0, 9.9, 10.1]),
    status=st.sampled_from(list(AnswerStatus)),
    absence=st.sampled_from(list(Absence)),
    comparison=st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_true_needs_clean_fresh_unbroken_evidence(
    judge: Make, values: list[str | None], age: float | None, status: AnswerStatus, absence: Absence, comparison: str
) -> None:
    """Whatever comes in, there is a sentence; and nothing untrusted is ever true or pending."""
    result = judge(*values, age=age, status=status, absence=absence, comparison=comparison)
    assert result.reason
    assert (result.holds_at is not None) == (result.truth is PENDING)
    if result.truth in (TRUE, PENDING):
        assert status is AnswerStatus.OK
        assert age is not None
        assert age <= 10
        assert absence is Absence.ZERO or (values and values[-1] not in (None, "NaN", "x"))
    if result.truth is TRUE and absence is not Absence.ZERO:
        assert len(values) >= 6
        assert all(value not in (None, "NaN", "x") for value in values[-6:])


@pytest.mark.parametrize("said", ["+Inf", "-Inf", "1e300", "-1e300", "1e15"])
def test_a_sample_time_that_cannot_be_is_no_evidence(
    answer: Make, condition: Make, pinned: datetime, step: timedelta, said: str
) -> None:
    """A back end that says so knows nothing about age: from the far future a sample would be fresh for ever."""
    answers = [answer("q", *(HALF,) * 8), answer("max(timestamp(m))", said)]
    result = evaluate(condition(), answers, pinned, step)
    assert (result.truth, result.sample_age) == (DOUBT, None)
    assert "no time to go by" in result.reason

"""The shipped documents where Prometheus has no data of a week ago: a new house, or a short retention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from activities.actions import specs
from activities.rulebook import Rulebook, RulebookPaths
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.condition import AnswerStatus, Condition, MetricAnswer, MetricQuery, Point, Truth
from firebreak.domain.incident import Incident
from firebreak.domain.verdict import Facts, Verdict
from firebreak.locator import runbooks_dir
from firebreak.triage.classify import classify
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import batch_of, span_of, step_of

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
WEEK_AGO = "offset 7d"


def answer(query: MetricQuery, conditions: Sequence[Condition], errors: float, *, hour_ago: bool) -> MetricAnswer:
    """A service with a share of `errors`, else well, whose metrics begin some hours or (`hour_ago`) minutes ago."""
    expr = query.expr
    only_old = WEEK_AGO in expr and not (hour_ago and "offset 1h" in expr)
    if only_old:
        return MetricAnswer(key=query.key, status=AnswerStatus.OK)
    value = 500.0 if "increase" in expr else 80.0 if "histogram" in expr else errors if "5.." in expr else 1.0
    steps = range(int(span_of(conditions) / step_of(conditions)), -1, -1)
    ats = [NOW - n * step_of(conditions) for n in steps]
    stamped = "timestamp(" in expr
    points = tuple(Point(at=at, value=repr(at.timestamp() - 1 if stamped else value)) for at in ats)
    return MetricAnswer(key=query.key, status=AnswerStatus.OK, points=points)


@pytest.fixture(scope="module")
def book() -> Rulebook:
    root = runbooks_dir()
    paths = RulebookPaths(
        catalog=root / "catalog",
        severity=root / "severity" / "p1.yaml",
        policy=root / "policies" / "default.yaml",
        services=root / "services.yaml",
    )
    return Rulebook(paths, cluster="lab", specs=specs())


def incident(book: Rulebook) -> Incident:
    labels = {"service": "pay", "deployment": "pay-v2", "cluster": "lab", "alertname": "PayDown"}
    alert = Alert(fingerprint="a", status=AlertStatus.FIRING, labels=labels, starts_at=NOW)
    found = book.current().resolve(alert)
    return Incident(
        id="i",
        opened_at=NOW,
        accepted_at=NOW,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key="k",
        service=found.service,
        target=found.target,
        alert=alert,
        bindings=found.bindings,
    )


def verdict(book: Rulebook, errors: float) -> Verdict:
    case = incident(book)
    tree = book.current().tree(case)
    answers = tuple(answer(q, tree.conditions, errors, hour_ago=True) for q in batch_of(tree.conditions))
    facts = Facts(
        pinned_at=NOW,
        step=step_of(tree.conditions),
        labels=dict(case.alert.labels),
        service=case.service,
        tree_digest=tree.digest,
        bindings=case.bindings,
        answers=answers,
        human_score=None,
        truncated=0,
    )
    return classify(facts, tree)


@pytest.mark.parametrize(("errors", "truth"), [(0.0, Truth.FALSE), (0.5, Truth.TRUE)])
def test_without_a_baseline_the_tree_still_says_what_is_true(book: Rulebook, errors: float, truth: Truth) -> None:
    """What compares with a week ago says nothing, and says so; the others decide."""
    seen = verdict(book, errors)
    assert seen.truth is truth
    (down,) = [c for c in seen.conditions if c.name == "main_flow_down"]
    assert (down.truth, "not known" in down.reason) == (Truth.NOT_APPLICABLE, True)


@pytest.mark.parametrize(("hour_ago", "truth"), [(True, Truth.TRUE), (False, Truth.INCONCLUSIVE)])
def test_without_a_baseline_the_volume_is_compared_with_the_hour_before(
    book: Rulebook, hour_ago: bool, truth: Truth
) -> None:
    """Else nothing could be verified for a week; where there is no such hour either, nobody can tell."""
    case = incident(book)
    assert case.target is not None
    plan, _, why = book.current().plan(case, case.target)
    assert plan is not None, why
    rule = plan.tiers[0].steps[0].verify
    assert rule is not None
    answers = tuple(answer(q, rule.conditions, 0.0, hour_ago=hour_ago) for q in batch_of(rule.conditions))
    truths = {c.name: evaluate(c, answers, NOW, step_of(rule.conditions)).truth for c in rule.conditions}
    assert truths.pop("carries_traffic") is truth
    assert set(truths.values()) == {Truth.TRUE}

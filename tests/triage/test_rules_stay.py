"""What was judged once comes out the same, or the version of the rules of judging says that it may not."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from firebreak.documents.policy import TrustedLabel
from firebreak.domain.codec import to_data
from firebreak.domain.condition import (
    Absence,
    AnswerStatus,
    Comparison,
    Condition,
    ConditionKind,
    Dimension,
    MetricAnswer,
    Point,
    ScoreFlow,
    Truth,
    VolumeFloor,
)
from firebreak.domain.verdict import Facts, Verdict
from firebreak.timeline.canonical import canonical
from firebreak.triage.classify import JUDGED_BY, classify
from firebreak.triage.queries import batch_of, newest_sample
from firebreak.triage.tree import SeverityTree, TreeNode
from tests.triage.conftest import PINNED, STEP

DIGESTS = {
    2: "2f41c7c8ac658ffb508ae1e2e3f51152c779c201ec75910fde5bd9365ba04e99",
    3: "aa32eb06635ac0f4a2113aaf12e8ce32b2bf781c97845621b9b682392e51df1b",
    # Of scores alone that are a threshold by hand: `test_score.py` has them, the corpus none.
    4: "aa32eb06635ac0f4a2113aaf12e8ce32b2bf781c97845621b9b682392e51df1b",
    # Of sample times that cannot be: `test_evaluate.py` has them, the corpus none.
    5: "aa32eb06635ac0f4a2113aaf12e8ce32b2bf781c97845621b9b682392e51df1b",
}
"""SHA-256 of all verdicts of the corpus, by version of the rules. Of an earlier version: history, never changed."""

CASES = 1000
SEED = 20261129
STEPS = 8


def _flow(name: str, weight: float, absence: Absence) -> ScoreFlow:
    return ScoreFlow(
        name=name,
        weight=weight,
        success_query=f"ok_{name}",
        volume_ratio_query=f"volume_{name}",
        volume_weight=0.3,
        absence=absence,
    )


def _node(operator: str, depth: int, condition: str = "", at_least: int = 1) -> TreeNode:
    return TreeNode(operator=operator, depth=depth, condition=condition, at_least=at_least)


def _metric(name: str, dimension: Dimension, **change: Any) -> Condition:
    metric = Condition(
        name=name,
        kind=ConditionKind.METRIC,
        dimension=dimension,
        query=name,
        inputs=("m",),
        stale_after=timedelta(seconds=10),
        sample_step=STEP,
    )
    return replace(metric, **change)


def _tree() -> SeverityTree:
    held = timedelta(seconds=4)
    return SeverityTree(
        name="corpus",
        service="pay",
        step=STEP,
        conditions=(
            _metric(
                "errors",
                Dimension.ERRORS,
                threshold=0.5,
                held_for=held,
                volume=VolumeFloor(query="calls", at_least=20),
                absence=Absence.ZERO,
                own=True,
            ),
            _metric("slow", Dimension.LATENCY, threshold=0.5, held_for=held, own=True),
            _metric(
                "down",
                Dimension.BUSINESS,
                threshold=0.3,
                comparison=Comparison.LT,
                absence=Absence.NOT_APPLICABLE,
            ),
            _metric("edge", Dimension.LATENCY, threshold=0.5),
            Condition(
                name="sick",
                kind=ConditionKind.SCORE,
                dimension=Dimension.BUSINESS,
                threshold=60.0,
                comparison=Comparison.LT,
                held_for=timedelta(seconds=2),
                flows=(_flow("pay", 0.6, Absence.INCONCLUSIVE), _flow("order", 0.4, Absence.NOT_APPLICABLE)),
                sample_step=STEP,
            ),
            Condition(
                name="blocked",
                kind=ConditionKind.LABEL,
                dimension=Dimension.BUSINESS,
                label="business_impact",
                label_values=("blocked",),
            ),
        ),
        nodes=(
            _node("any", 0),
            _node("at_least", 1, at_least=2),
            *(_node("condition", 2, name) for name in ("errors", "slow", "down", "edge")),
            _node("all", 1, at_least=2),
            _node("condition", 2, "errors"),
            _node("any", 2),
            _node("condition", 3, "sick"),
            _node("condition", 3, "blocked"),
        ),
        may_act_dimensions=2,
        trusted_labels=(TrustedLabel(label="trusted", values=("yes",)),),
        source_digest="s",
        policy="default",
        policy_digest="p",
        digest="d",
    )


def _value(rng: random.Random, key: str, share: float) -> str | None:
    """Bad enough to be true in that share of the steps, seldom what nobody can judge."""
    odd = rng.random()
    if odd < 0.02:
        return None
    if odd < 0.03:
        return rng.choice(("NaN", "+Inf", "-Inf"))
    if key == "calls":
        return f"{rng.choice((100, 100, 100, 5)):g}"
    bad = rng.random() < share
    return f"{rng.uniform(0.6, 1.0) if bad == (key in ('errors', 'slow', 'edge')) else rng.uniform(0.0, 0.3):.3f}"


def _facts(rng: random.Random, tree: SeverityTree) -> Facts:
    def answer(key: str) -> MetricAnswer:
        if rng.random() < 0.03:
            status = rng.choice([s for s in AnswerStatus if s is not AnswerStatus.OK])
            return MetricAnswer(key=key, status=status, detail="said so")
        age = rng.choice((0, 1, 1, 1, 30)) if rng.random() < 0.2 else 1
        share, points = rng.choice((0.3, 0.9, 1.0)), []
        for n in range(STEPS):
            at = PINNED - (STEPS - 1 - n) * STEP
            value = str(at.timestamp() - age) if key == newest_sample("m") else _value(rng, key, share)
            if value is not None:
                points.append(Point(at=at, value=value))
        return MetricAnswer(key=key, status=AnswerStatus.OK, points=tuple(points))

    labels = {"business_impact": "blocked"} if rng.random() < 0.4 else {}
    labels |= {"trusted": "yes"} if rng.random() < 0.1 else {}
    return Facts(
        pinned_at=PINNED,
        step=STEP,
        labels=labels,
        service="pay",
        tree_digest=tree.digest,
        bindings={},
        answers=tuple(answer(query.key) for query in batch_of(tree.conditions)),
        human_score=rng.choice((30.0, 90.0, 101.0)) if rng.random() < 0.1 else None,
        truncated=3 if rng.random() < 0.05 else 0,
    )


def _verdicts() -> Iterator[Verdict]:
    rng, tree = random.Random(SEED), _tree()
    for _ in range(CASES):
        yield classify(_facts(rng, tree), tree)


def test_the_same_facts_get_the_same_verdict_by_the_same_rules() -> None:
    """If this fails, judging changed: stored verdicts would not come out again. Raise `JUDGED_BY` in
    triage/classify.py, and add the new digest beside those of before."""
    digest = hashlib.sha256(b"\n".join(canonical(to_data(verdict)) for verdict in _verdicts())).hexdigest()
    assert DIGESTS.get(JUDGED_BY) == digest, f"judging changed: version {JUDGED_BY} gives {digest} now"
    assert max(DIGESTS) == JUDGED_BY


def test_the_corpus_has_every_outcome() -> None:
    """Or a change of what it does not hold would go unseen."""
    verdicts = tuple(_verdicts())
    roots = Counter(verdict.truth for verdict in verdicts)
    assert set(roots) == {Truth.TRUE, Truth.PENDING, Truth.FALSE, Truth.INCONCLUSIVE}
    assert min(roots.values()) >= 20, roots
    parts = Counter((result.name, result.truth) for verdict in verdicts for result in verdict.conditions)
    for name in ("errors", "slow", "sick"):
        lacking = [truth for truth in Truth if not parts[name, truth] and truth is not Truth.NOT_APPLICABLE]
        assert not lacking, f"{name} is never {lacking}"
    assert parts["errors", Truth.NOT_APPLICABLE]
    assert {verdict.may_act for verdict in verdicts} == {True, False}
    assert any(verdict.truth is Truth.TRUE and verdict.holds_at for verdict in verdicts)
    reasons = [verdict.act_reason for verdict in verdicts]
    for words in ("the cause is likely another one", "itself could not be judged", "itself holds; it could hold at"):
        assert any(words in reason for reason in reasons), f"no verdict says: {words}"

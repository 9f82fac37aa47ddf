"""A verdict as a person reads it, and the comparison of two."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from firebreak.domain.condition import ConditionResult, Dimension, Truth
from firebreak.domain.verdict import NodeResult, Severity, Verdict
from firebreak.triage.explain import explain, same_verdict

AT = datetime(2026, 11, 21, 8, 36, 20, 250000, tzinfo=UTC)


@pytest.fixture
def verdict() -> Verdict:
    errors = ConditionResult(
        name="gateway_5xx",
        dimension=Dimension.ERRORS,
        truth=Truth.TRUE,
        reason="0.42 ratio >= 0.05 since 08:36:12, held 7 s of 5 s",
        query="sum(a)",
        value="0.42",
        threshold=">= 0.05",
        unit="ratio",
        sample_age=1.25,
        volume=321.0,
        since=AT.replace(second=12),
    )
    label = ConditionResult(
        name="blocked", dimension=Dimension.BUSINESS, truth=Truth.FALSE, reason="no\x1b[31m label", query="label x"
    )
    return Verdict(
        severity=Severity.P1,
        truth=Truth.TRUE,
        may_act=False,
        act_reason="1 of 2 dimensions hold (errors); business could hold at 08:36:25",
        reason="P1: gateway_5xx",
        pinned_at=AT,
        tree="p1",
        tree_digest="0123456789abcdef",
        dimensions=(Dimension.ERRORS,),
        conditions=(errors, label),
        nodes=(
            NodeResult(operator="at_least:1", truth=Truth.TRUE),
            NodeResult(operator="condition", truth=Truth.TRUE, condition="gateway_5xx", depth=1),
            NodeResult(operator="condition", truth=Truth.FALSE, condition="blocked", depth=1),
        ),
        holds_at=AT.replace(second=25),
        health_score=88.5,
        labels={"a": "b"},
    )


def test_the_tree_is_printed_with_all_that_it_was_judged_by(verdict: Verdict) -> None:
    """Golden text: severity, reasons, nodes, and value, threshold, age, volume, since, query of each condition."""
    assert explain(verdict) == (
        "severity P1   tree p1 0123456789ab   at 2026-11-21 08:36:20.250 UTC\n"
        "verdict  true: P1: gateway_5xx\n"
        "may act  no: 1 of 2 dimensions hold (errors); business could hold at 08:36:25\n"
        "health   88.5 of 100 (low is bad)\n"
        "again at 08:36:25 UTC: the earliest time at which more could hold\n"
        "\n"
        "TRUE          at_least 1\n"
        "TRUE            gateway_5xx\n"
        "                  0.42 ratio >= 0.05 since 08:36:12, held 7 s of 5 s\n"
        "                  dimension errors, value 0.42 ratio, threshold >= 0.05 ratio, newest sample 1.2 s old, "
        "321 calls, since 08:36:12 UTC\n"
        "                  sum(a)\n"
        "false           blocked\n"
        "                  no\\x1b[31m label\n"
        "                  dimension business, no value\n"
        "                  label x\n"
    )


def test_the_same_verdict_is_the_same(verdict: Verdict) -> None:
    """No difference, no text."""
    assert same_verdict(verdict, replace(verdict)) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"may_act": True}, "verdict.may_act: stored False, recomputed True"),
        ({"holds_at": None}, "verdict.holds_at: stored '2026-11-21T08:36:25.250000Z', recomputed None"),
        ({"labels": {"a": "b", "c": "d"}}, "verdict.labels.c is only in the recomputed one"),
        ({"health_score": 88}, "verdict.health_score: stored 88.5, recomputed 88"),
        ({"labels": {}}, "verdict.labels.a is only in the stored one"),
        ({"nodes": ()}, "verdict.nodes has 3 items stored, 0 recomputed"),
    ],
)
def test_the_first_difference_is_named(verdict: Verdict, change: dict[str, Any], words: str) -> None:
    """Field and both values: what to look at when a record does not reproduce."""
    assert same_verdict(verdict, replace(verdict, **change)) == words


def test_a_difference_deep_inside_is_named_by_its_path(verdict: Verdict) -> None:
    """Not just that conditions differ, but which field of which."""
    other = replace(verdict.conditions[0], value="0.43")
    told = same_verdict(verdict, replace(verdict, conditions=(other, verdict.conditions[1])))
    assert told == "verdict.conditions[0].value: stored '0.42', recomputed '0.43'"


def test_a_number_of_another_type_is_a_difference(verdict: Verdict) -> None:
    """88 and 88.0 are equal and yet other bytes."""
    one, other = replace(verdict, health_score=88), replace(verdict, health_score=88.0)
    assert same_verdict(one, other) == "verdict.health_score: stored 88, recomputed 88.0"

"""The policy document."""

from __future__ import annotations

from datetime import timedelta

import pytest

from firebreak.documents.policy import load_policy, unused_overrides
from firebreak.domain.errors import PolicyInvalid
from firebreak.locator import runbooks_dir

GOOD = b"""kind: policy
name: lab
durations: {window: 5s}
thresholds: {p99_ms: 300}
baseline: {at: 2026-11-21T08:00:00Z}
trusted_labels: [{label: business_impact, in: [blocked]}]
"""


def test_a_policy_is_read_whole() -> None:
    """Durations as spans, the baseline as PromQL, the digest of the bytes."""
    policy = load_policy(GOOD, "lab.yaml")
    assert policy.durations == {"window": timedelta(seconds=5)}
    assert policy.thresholds == {"p99_ms": 300.0}
    assert policy.baseline == " @ 1795248000"
    assert [(t.label, t.values) for t in policy.trusted_labels] == [("business_impact", ("blocked",))]
    assert len(policy.digest) == 64


@pytest.mark.parametrize(
    ("baseline", "promql"),
    [
        ("{offset: 7d}", " offset 7d"),
        ("{offset: 90s}", " offset 1m30s"),
        ("{at: 2026-11-21T10:00:00.25+02:00}", " @ 1795248000.250"),
    ],
)
def test_a_baseline_is_an_offset_or_a_time(baseline: str, promql: str) -> None:
    """Both forms, as they stand behind a selector."""
    assert load_policy(f"kind: policy\nname: x\nbaseline: {baseline}\n".encode(), "x").baseline == promql


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("baseline: {offset: 7d, at: 2026-11-21T08:00:00Z}", "3:11"),
        ("baseline: {at: 2026-11-21T08:00:00}", "3:16"),
        ("baseline: {offset: 0s}", "3:11"),
        ("durations: {window: $other}", "3:21"),
        ("durations: {window: 0s}", "3:21"),
        ("durations: {2m: 2m}", "3:13"),
        ("thresholds: {a: '3'}", "3:17"),
        ("trusted_labels: [{label: x}]", "3:18"),
        ("trusted_labels: [{label: x, in: []}]", "3:33"),
        ("treshold: {}", "3:1"),
    ],
)
def test_a_mistake_in_a_policy_is_shown_in_its_place(line: str, where: str) -> None:
    """One problem, with line and column."""
    with pytest.raises(PolicyInvalid) as caught:
        load_policy(f"kind: policy\nname: x\n{line}\n".encode(), "p.yaml")
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == where, problem


def test_an_override_that_nothing_uses_is_told() -> None:
    """A slip of the pen in a name would otherwise change nothing, silently."""
    (problem,) = unused_overrides(load_policy(GOOD, "lab.yaml"), durations={"windows"}, thresholds={"p99_ms"})
    assert str(problem) == "lab.yaml:3:13: no severity document and no runbook has a duration 'window'"


def test_the_shipped_policy_is_good() -> None:
    """Same time of the week before, and only the one label of row A1 is trusted."""
    policy = load_policy((runbooks_dir() / "policies" / "default.yaml").read_bytes(), "default.yaml")
    assert policy.baseline == " offset 7d"
    assert [(t.label, t.values) for t in policy.trusted_labels] == [("business_impact", ("blocked",))]

"""A small runbook, the specs of four actions, and what a plan is pinned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from firebreak.documents.policy import Policy, load_policy
from firebreak.domain.action import ActionSpec, ParamProblem
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.plans.runbook import Runbook, load_runbook

RUNBOOK = """\
kind: runbook
name: small
summary: for tests
match:
  severity: P1
  params: [route]
durations: {window: 1m, stale_after: 30s, hold: 10s, within: 60s, poll: 1s, far: 1h}
thresholds: {errors: 0.1}
conditions:
  few_errors:
    dimension: errors
    query: sum(rate(errors_total{service=$service}[$window]))
    op: "<"
    threshold: $errors
    inputs: ['errors_total{service=$service}']
  probed:
    dimension: health
    query: min(probe_success{service=$service})
    op: "=="
    threshold: 1
    inputs: ['probe_success{service=$service}']
hold: $hold
recovery: [few_errors]
tiers:
  - name: restart
    steps:
      - id: restart
        action: restart_workload
        check: action
        verify: {conditions: [few_errors], hold: $hold, within: $within, settle: 5s, poll: $poll}
        undo: none
        undo_reason: nothing to put back
  - name: reroute
    steps:
      - id: shift
        action: shift_traffic
        params: {route: $route, away_from: $workload}
        check: [probed]
        verify: {conditions: [few_errors], hold: $hold, within: $within, poll: $poll}
        undo: action
        restore: {conditions: [probed], hold: $hold, within: $far, poll: $poll}
  - name: page
    steps:
      - id: call
        action: page
"""


def _spec(
    name: str,
    *needed: str,
    mutates: bool = True,
    reversible: bool = True,
    target_kinds: frozenset[ResourceKind] = frozenset(),
) -> ActionSpec:
    def validate(params: Mapping[str, Any]) -> tuple[ParamProblem, ...]:
        missing = [
            ParamProblem(path=(n,), message=f"{name} needs the parameter {n!r}") for n in needed if n not in params
        ]
        extra = [ParamProblem(path=(n,), message=f"{name} has no parameter {n!r}") for n in params if n not in needed]
        bad = [ParamProblem(path=(n,), message="must not be empty") for n, v in params.items() if v == ""]
        return (*missing, *extra, *bad)

    properties = {n: {"type": "string"} for n in needed}
    schema = {"type": "object", "properties": properties, "required": list(needed), "additionalProperties": False}
    return ActionSpec(
        name=name,
        summary=f"does {name}",
        mutates=mutates,
        reversible=reversible,
        irreversible_reason="" if reversible else "it is gone",
        params_schema=schema,
        validate=validate,
        target_kinds=target_kinds,
    )


@pytest.fixture
def specs() -> Mapping[str, ActionSpec]:
    """Four actions, as the hands describe them."""
    return {
        "restart_workload": _spec(
            "restart_workload",
            reversible=False,
            target_kinds=frozenset({ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET}),
        ),
        "shift_traffic": _spec("shift_traffic", "route", "away_from"),
        "set_flag": _spec("set_flag", "config_map", "key", "value"),
        "page": _spec("page", mutates=False, reversible=False),
    }


@pytest.fixture
def text() -> str:
    """A runbook that is right."""
    return RUNBOOK


@pytest.fixture
def edited() -> Callable[..., str]:
    """The runbook with `(old, new)` pairs replaced; each `old` must be there exactly once."""

    def edit(*changes: tuple[str, str]) -> str:
        made = RUNBOOK
        for old, new in changes:
            assert made.count(old) == 1, f"{old!r} is there {made.count(old)} times"
            made = made.replace(old, new)
        return made

    return edit


@pytest.fixture
def runbook() -> Runbook:
    """The same, loaded."""
    return load_runbook(RUNBOOK.encode(), "small.yaml")


@pytest.fixture
def target() -> TargetRef:
    return TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v2")


@pytest.fixture
def policy() -> Policy:
    return load_policy(b"kind: policy\nname: p\nbaseline: {offset: 7d}\n", "p.yaml")

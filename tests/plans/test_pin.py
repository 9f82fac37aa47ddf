"""Pinning: from a runbook to bytes that never change again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.documents.policy import Policy, load_policy
from firebreak.documents.promql import selectors
from firebreak.domain.action import ActionSpec
from firebreak.domain.errors import RunbookInvalid
from firebreak.domain.plan import Plan, UndoRule
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.plans import pin
from firebreak.plans.pin import outline, plan_bytes, plan_from_bytes
from firebreak.plans.runbook import Runbook, load_runbook

Specs = Mapping[str, ActionSpec]
Pinned = Callable[..., Plan]


@pytest.fixture
def pinned(runbook: Runbook, target: TargetRef, policy: Policy, specs: Specs) -> Pinned:
    """The plan with everything given; keyword arguments replace it."""

    def build(**changes: object) -> Plan:
        given: dict[str, object] = {
            "service": "pay",
            "target": target,
            "bindings": {"route": "pay", "flags": "shop-flags"},
            "policy": policy,
            "service_thresholds": {},
            "specs": specs,
        }
        chosen = changes.pop("runbook", runbook)
        return pin.pinned(chosen, **{**given, **changes})[0]  # type: ignore[arg-type]

    return build


def test_every_name_is_filled_in(pinned: Pinned) -> None:
    """No placeholder is left anywhere in the plan; labels reach queries as quoted strings."""
    plan = pinned()
    assert b"$" not in plan_bytes(plan)
    shift = plan.step(1, 0)
    assert shift.params == {"route": "pay", "away_from": "pay-v2"}
    assert plan.recovery[0].query == 'sum(rate(errors_total{service="pay"}[1m]))'
    assert shift.verify is not None
    assert (shift.verify.hold, shift.verify.within) == (timedelta(seconds=10), timedelta(seconds=60))
    assert shift.restore is not None
    assert shift.restore.within == timedelta(hours=1)
    assert [c.name for c in shift.check] == ["probed"]
    assert plan.step(0, 0).check == ()
    assert plan.bindings == {
        "service": "pay",
        "namespace": "shop",
        "workload": "pay-v2",
        "cluster": "lab",
        "route": "pay",
    }


def test_the_service_wins_over_the_policy_and_that_over_the_runbook(pinned: Pinned) -> None:
    """Of a threshold's and a duration's values the nearest one counts."""
    strict = load_policy(b"kind: policy\nname: p\nthresholds: {errors: 0.5}\ndurations: {hold: 20s}\n", "p.yaml")
    assert pinned().recovery[0].threshold == 0.1
    assert pinned(policy=strict).recovery[0].threshold == 0.5
    assert pinned(policy=strict, service_thresholds={"errors": 0.9}).recovery[0].threshold == 0.9
    assert pinned(policy=strict).hold == timedelta(seconds=20)


def test_a_policys_other_names_never_hide_a_binding(pinned: Pinned) -> None:
    """A duration called like a service's parameter stays out of queries and parameters."""
    odd = load_policy(b"kind: policy\nname: p\ndurations: {service: 5s, route: 6s}\n", "p.yaml")
    assert pinned(policy=odd).recovery[0].query == pinned().recovery[0].query


def test_the_resolution_of_the_evidence_is_the_policys(pinned: Pinned) -> None:
    """`step` is a named duration that every query shares, whether the runbook names it or not."""
    fine = load_policy(b"kind: policy\nname: p\ndurations: {step: 1s}\n", "p.yaml")
    assert pinned(policy=fine).recovery[0].sample_step == timedelta(seconds=1)


def test_bytes_and_plan_are_the_same_thing(pinned: Pinned) -> None:
    """A round trip gives an equal plan, and the digest is the SHA-256 of the bytes."""
    plan = pinned()
    data = plan_bytes(plan)
    assert plan_from_bytes(data) == plan
    assert plan.digest == hashlib.sha256(data).hexdigest()
    assert plan_bytes(plan_from_bytes(data)) == data
    assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data


def test_editing_the_file_never_changes_a_pinned_plan(pinned: Pinned, text: str) -> None:
    """What was chosen is what runs: the plan is read from its own bytes, and another file is another digest."""
    plan = pinned()
    kept = plan_bytes(plan)
    edited = load_runbook(text.replace("hold: 10s", "hold: 11s").encode(), "small.yaml")
    assert pinned(runbook=edited).digest != plan.digest
    assert plan_from_bytes(kept) == plan
    assert plan.source_digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b'{"runbook": "x"}', b'{"tiers": 3}'])
def test_bytes_that_are_no_plan_are_refused(data: bytes) -> None:
    """A damaged record ends in a sentence."""
    with pytest.raises(RunbookInvalid, match="no plan"):
        plan_from_bytes(data)


def test_a_missing_binding_is_named(pinned: Pinned) -> None:
    """The engine then calls a person instead of acting on half a plan."""
    with pytest.raises(RunbookInvalid, match=r"step 'shift': \$route has no value for service 'pay'") as caught:
        pinned(bindings={})
    assert caught.value.next_step()


def test_a_filled_parameter_that_the_action_refuses_is_named(pinned: Pinned) -> None:
    """Filled values meet the same validation as written ones."""
    with pytest.raises(RunbookInvalid, match="step 'shift': route: must not be empty"):
        pinned(bindings={"route": ""})


def test_an_action_that_is_gone_is_named(pinned: Pinned, specs: Specs) -> None:
    """An older runbook on a newer engine does not act."""
    with pytest.raises(RunbookInvalid, match="unknown action 'shift_traffic'"):
        pinned(specs={name: spec for name, spec in specs.items() if name != "shift_traffic"})


def test_a_policy_under_which_nothing_can_be_verified_is_refused(pinned: Pinned) -> None:
    """Acting without a chance to verify is worse than calling a person."""
    hasty = load_policy(b"kind: policy\nname: hasty\ndurations: {within: 1s}\n", "p.yaml")
    with pytest.raises(RunbookInvalid, match=r"with the durations of policy p\.yaml"):
        pinned(policy=hasty)


def test_what_the_linter_refuses_never_runs(pinned: Pinned, text: str) -> None:
    """A step that nobody could verify is refused when the plan is made, linted before or not."""
    blind = text.replace("        verify: {conditions: [few_errors], hold: $hold, within: $within, poll: $poll}\n", "")
    with pytest.raises(RunbookInvalid, match=r"r\.yaml:\d+:\d+: step 'shift' writes and has no `verify`") as caught:
        pinned(runbook=load_runbook(blind.encode(), "r.yaml"))
    assert caught.value.problems


def test_a_fixed_target_stays_in_the_alerts_cluster(pinned: Pinned, text: str) -> None:
    """A runbook names an object, never a cluster; a page has no target at all."""
    fixed = text.replace(
        "        check: action\n",
        "        check: action\n        target: {namespace: shop, kind: StatefulSet, name: db}\n",
    )
    plan = pinned(runbook=load_runbook(fixed.encode(), "r.yaml"))
    assert plan.step(0, 0).target == TargetRef(
        cluster="lab", namespace="shop", kind=ResourceKind.STATEFULSET, name="db"
    )
    assert plan.step(1, 0).target == plan.target
    assert plan.step(2, 0).target is None


def test_the_outline_carries_what_the_story_needs(pinned: Pinned, text: str) -> None:
    """Which steps can be undone, which wait for a person, and when a look can first succeed."""
    asks = text.replace("        undo: action\n", "        undo: action\n        approval: on-call\n")
    plan = pinned(runbook=load_runbook(asks.encode(), "r.yaml"))
    drawn = outline(plan)
    assert drawn.digest == plan.digest
    restart, shift, call = (tier.steps[0] for tier in drawn.tiers)
    assert (restart.undoable, restart.needs_approval, restart.first_look) == (False, False, timedelta(seconds=70))
    assert (shift.undoable, shift.needs_approval, shift.first_look) == (True, True, timedelta(seconds=70))
    assert (call.action, call.undoable, call.within) == ("page", False, timedelta(0))
    assert plan.step(2, 0).undo is UndoRule.NONE


@settings(max_examples=60, deadline=None)
@given(value=st.text(min_size=1, max_size=40, alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_hostile_name_stays_one_label_value(value: str) -> None:
    """Whatever a label says (PromQL, quotes, newlines), the query has the same shape and reads just that value."""
    runbook = load_runbook(
        b"""{kind: runbook, name: r, summary: s, match: {severity: P1}, durations: {hold: 1s, stale_after: 30s},
        conditions: {c: {dimension: health, query: 'sum(x{service=$service}) > 0', op: '==', threshold: 1,
        inputs: ['x{service=$service}']}}, hold: $hold, recovery: [c],
        tiers: [{name: page, steps: [{id: call, action: page}]}]}""",
        "r.yaml",
    )
    page = ActionSpec(
        name="page",
        summary="",
        mutates=False,
        reversible=False,
        irreversible_reason="x",
        params_schema={},
        validate=lambda params: (),
    )
    plan, _ = pin.pinned(
        runbook,
        service=value,
        target=TargetRef(cluster="c", namespace="n", kind=ResourceKind.DEPLOYMENT, name="w"),
        bindings={},
        policy=load_policy(b"kind: policy\nname: p\n", "p.yaml"),
        service_thresholds={},
        specs={"page": page},
    )
    (selector,) = selectors(plan.recovery[0].query)
    assert [(m.name, m.op, m.value) for m in selector.matchers] == [("service", "=", value)]
    assert plan_from_bytes(plan_bytes(plan)) == plan

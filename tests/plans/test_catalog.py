"""The runbooks that are shipped, with the actions that are shipped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from activities.actions import specs
from firebreak.documents.policy import Policy
from firebreak.documents.yaml_file import load_yaml
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.verdict import Severity
from firebreak.locator import runbooks_dir
from firebreak.plans.choose import choose
from firebreak.plans.lint import lint_runbook
from firebreak.plans.pin import pinned
from firebreak.plans.runbook import Runbook, load_runbook
from firebreak.plans.schema import runbook_schema, schema_text

CATALOG = sorted((runbooks_dir() / "catalog").glob("*.yaml"))
PAY = {"route": "pay", "flow": "pay"}
ORDER = {
    "route": "order",
    "flow": "order",
    "flags": "shop-flags",
    "flag_key": "recommend.enabled",
    "dependency": "recommend",
}


def shipped() -> list[Runbook]:
    return [load_runbook(path.read_bytes(), path.name) for path in CATALOG]


@pytest.mark.parametrize("path", CATALOG, ids=lambda p: p.stem)
def test_every_shipped_runbook_is_right_and_is_named_like_its_file(path: Path) -> None:
    """It loads, the linter has nothing to say, and it is found by its name."""
    runbook = load_runbook(path.read_bytes(), path.name)
    assert lint_runbook(runbook, specs()) == ()
    assert runbook.name == path.stem


@pytest.mark.parametrize(
    ("service", "bindings", "tiers"),
    [
        ("pay", PAY, ["restart", "reroute", "page"]),
        ("order", ORDER, ["restart", "reroute", "degrade", "page"]),
        ("edge", {"route": "edge"}, ["restart", "page"]),
        ("recommend", {}, ["restart", "page"]),
    ],
)
def test_each_service_gets_the_tiers_that_it_can_have(
    service: str, bindings: Mapping[str, str], tiers: list[str], policy: Policy
) -> None:
    """Two versions behind a route can be rerouted, a flag can be turned off; everything else is restarted or paged."""
    choice = choose(shipped(), service=service, severity=Severity.P1, labels={}, bindings=bindings)
    assert choice.runbook is not None
    plan, _ = pinned(
        choice.runbook,
        service=service,
        target=TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name=f"{service}-v1"),
        bindings=bindings,
        policy=policy,
        service_thresholds={"p99_ms": 1500},
        specs=specs(),
    )
    assert [tier.name for tier in plan.tiers] == tiers
    verified = [step.verify for tier in plan.tiers[:-1] for step in tier.steps]
    for verify in verified:
        assert verify is not None
        assert {c.dimension.value for c in verify.conditions} == {"errors", "latency", "health", "business"}
        assert [c.threshold for c in verify.conditions if c.unit == "ms"] == [1500]
        assert any(" offset 7d" in c.query and c.threshold >= 0.6 for c in verify.conditions)
        assert verify.within > verify.hold + verify.settle > timedelta(0)


def test_restore_looks_at_the_part_that_is_broken(policy: Policy) -> None:
    """After a reroute the version that was left, after a degrade the dependency: both by their own probes."""
    runbook = choose(shipped(), service="order", severity=Severity.P1, labels={}, bindings=ORDER).runbook
    assert runbook is not None
    target = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="order-v2")
    plan, _ = pinned(
        runbook,
        service="order",
        target=target,
        bindings=ORDER,
        policy=policy,
        service_thresholds={},
        specs=specs(),
    )
    assert plan.step(1, 0).params == {"route": "order", "away_from": "order-v2", "min_ready_share": 0.8}
    assert plan.step(2, 0).params == {"config_map": "shop-flags", "key": "recommend.enabled", "value": "false"}
    reroute, degrade = plan.step(1, 0).restore, plan.step(2, 0).restore
    assert reroute is not None
    assert degrade is not None
    assert 'probe_success{service="order"}' in reroute.conditions[0].query
    assert 'deployment="order-v2"' in reroute.conditions[0].query
    assert degrade.conditions[0].query == 'min(probe_success{service="recommend"})'


# --- the schema ---------------------------------------------------------------------------------------------


def refused(change: dict[str, Any]) -> bool:
    """Whether the generated schema refuses the shipped runbook with its second tier's step changed."""
    document: dict[str, Any] = json.loads(json.dumps(load_yaml(CATALOG[0].read_bytes(), "x").data))
    document["tiers"][1]["steps"][0] |= change
    return not jsonschema_rs.validator_for(runbook_schema(specs())).is_valid(document)


def test_a_canary_can_be_left() -> None:
    """Eight pods take over from ten of which two are the bad release: where all ten had to stand ready, none would."""
    steps = [step for runbook in shipped() for tier in runbook.model.tiers for step in tier.steps]
    shares = [step.params["min_ready_share"] for step in steps if step.action == "shift_traffic"]
    assert [math.ceil(10 * share) for share in shares] == [8, 8]


def test_the_committed_schema_is_the_generated_one() -> None:
    """Whoever changes a model or an action runs `firebreak lint --write-schema`."""
    committed = runbooks_dir() / "schema" / "runbook.schema.json"
    assert committed.read_text(encoding="utf-8") == schema_text(specs())


@pytest.mark.parametrize("path", CATALOG, ids=lambda p: p.stem)
def test_every_shipped_runbook_fits_the_schema_and_points_to_it(path: Path) -> None:
    """An editor that reads the first line completes and checks the rest."""
    data = path.read_bytes()
    jsonschema_rs.validator_for(runbook_schema(specs())).validate(load_yaml(data, path.name).data)
    assert data.startswith(b"# yaml-language-server: $schema=../schema/runbook.schema.json\n")


def test_the_schema_knows_each_actions_parameters() -> None:
    """The right keys of one action are the wrong ones of another; a placeholder may stand for any value."""
    assert not refused({})
    assert not refused({"params": {"route": "$route", "away_from": "x", "min_ready_share": "$share"}})
    assert refused({"params": {"route": "x"}})
    assert refused({"params": {"route": "x", "away_from": "y", "key": "z"}})
    assert refused({"params": {"route": "x", "away_from": "y", "min_ready_share": 7}})
    assert refused({"action": "set_flag"})
    assert refused({"action": "reboot"})
    assert refused({"check": None})
    assert refused({"action": "page", "params": {}})
    assert refused({"verify": {"conditions": ["x"], "hold": "soon", "within": "1m", "poll": "1s"}})


def test_every_field_of_a_runbook_is_described() -> None:
    """The description is what an editor shows while one types: in the document itself, in each block, and in each
    action's parameters."""
    schema = runbook_schema(specs())
    blocks = {"": schema, **{name: block for name, block in schema["$defs"].items() if "properties" in block}}
    assert {"StepBlock", "VerifyBlock", "ConditionBlock", "VolumeBlock", "ScoreBlock", "FlowBlock"} <= set(blocks)
    for branch in blocks["StepBlock"]["allOf"]:
        blocks[branch["if"]["properties"]["action"]["const"]] = branch["then"]["properties"]["params"]
    bare = [
        f"{name}.{field}"
        for name, block in blocks.items()
        for field, about in block["properties"].items()
        if not about.get("description")
    ]
    assert bare == []

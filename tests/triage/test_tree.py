"""The severity document, the tree of one incident, and its bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import promql_parser
import pytest
from pydantic import BaseModel

from firebreak.documents.policy import Policy, PolicyModel, load_policy
from firebreak.documents.services import Services, ServicesModel, load_services
from firebreak.domain.condition import Dimension, Truth
from firebreak.domain.errors import PolicyInvalid, RunbookInvalid
from firebreak.domain.verdict import Facts, Severity
from firebreak.locator import runbooks_dir
from firebreak.triage.classify import classify
from firebreak.triage.queries import batch_of, span_of
from firebreak.triage.severity_model import SeverityModel
from firebreak.triage.tree import (
    SeverityDocument,
    load_severity,
    render_tree,
    rendered_tree,
    tree_bytes,
    tree_from_bytes,
)

GOOD = """kind: severity
name: small
params: [route]
durations: {window: 2m, step: 15s, stale_after: 30s, recheck: 15s, quiet: 2m, watch: 15m, doubt: 1m}
thresholds: {limit: 0.05}
conditions:
  errors:
    dimension: errors
    query: sum(rate(a{service=$service,route=$route}[$window]))
    op: ">"
    threshold: $limit
    for: $window
    inputs: ['a{service=$service}']
  blocked: {dimension: business, label: business_impact, in: [blocked]}
  slow: {dimension: latency, query: sum(b), op: ">", threshold: 1, inputs: [b]}
tree:
  at_least: 2
  of:
    - errors
    - any: [blocked, slow]
    - all: [slow, errors]
"""


@pytest.fixture
def shipped() -> SeverityDocument:
    return load_severity((runbooks_dir() / "severity" / "p1.yaml").read_bytes(), "p1.yaml")


@pytest.fixture
def policy() -> Policy:
    return load_policy((runbooks_dir() / "policies" / "default.yaml").read_bytes(), "default.yaml")


@pytest.fixture
def services() -> Services:
    return load_services((runbooks_dir() / "services.yaml").read_bytes(), "services.yaml")


BINDINGS = {"service": "pay", "namespace": "shop", "workload": "pay-v2", "cluster": "lab", "route": "pay"}


def test_a_tree_is_flattened_with_its_depths() -> None:
    """Preorder; `any` needs one, `all` every child."""
    nodes = load_severity(GOOD.encode(), "f").nodes
    assert [(n.operator, n.condition, n.depth, n.at_least) for n in nodes] == [
        ("at_least", "", 0, 2),
        ("condition", "errors", 1, 1),
        ("any", "", 1, 1),
        ("condition", "blocked", 2, 1),
        ("condition", "slow", 2, 1),
        ("all", "", 1, 2),
        ("condition", "slow", 2, 1),
        ("condition", "errors", 2, 1),
    ]


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("any: [blocked, slow]", "any: [blocked, slwo, slow]", "20:22", "unknown condition 'slwo'"),
        ("any: [blocked, slow]", "any: []", "20:12", "at least 1"),
        ("any: [blocked, slow]", "some: [blocked, slow]", "20:7", "unknown key 'some'"),
        ("any: [blocked, slow]", "{any: [blocked, slow], all: [slow]}", "20:7", "exactly one of"),
        ("any: [blocked, slow]", "17", "20:7", "a mapping is expected here"),
        ("any: [blocked, slow]", "slow", "14:3", "'blocked' is not in the tree"),
        ("- all: [slow, errors]", "- errors", "21:7", "'errors' counts once"),
        ("at_least: 2", "at_least: 4", "17:3", "can never be true"),
        ("at_least: 2", "at_least: 0", "17:13", "greater than or equal to 1"),
        ("at_least: 2\n", "", "17:5", "exactly one of"),
        ("params: [route]", "params: []", "9:46", "unknown placeholder $route"),
        ("threshold: $limit", "threshold: $limmit", "11:16", "unknown threshold $limmit"),
        ("for: $window", "for: $windows", "12:10", "unknown duration $windows"),
        ("dimension: latency", "dimension: health", "15:21", "belongs to verifications"),
        ("doubt: 1m", "d: 1m", "4:1", "duration 'doubt' is missing"),
        ("doubt: 1m", "doubt: 0s", "4:98", "longer than nothing"),
        ("doubt: 1m", "doubt: 1m, service: 1m", "4:102", "means something else"),
        ("query: sum(b)", "query: sum(b", "15:37", "not PromQL"),
        ("kind: severity", "kind: runbook", "1:7", "'severity'"),
        ("name: small", "name: small\nname: other", "3:1", "written twice"),
    ],
)
def test_a_mistake_in_a_tree_is_shown_in_its_place(old: str, new: str, where: str, words: str) -> None:
    """Line and column of the very word."""
    assert old in GOOD
    with pytest.raises(RunbookInvalid) as caught:
        load_severity(GOOD.replace(old, new, 1).encode(), "f.yaml")
    told = {f"{p.line}:{p.column}": p.message for p in caught.value.problems}
    assert words in told.get(where, ""), told


@pytest.mark.parametrize(
    ("dimension", "needed", "told"), [("latency", 2, ["15:37"]), ("errors", 2, []), ("latency", 1, [])]
)
def test_one_measurement_is_not_two_dimensions(dimension: str, needed: int, told: list[str]) -> None:
    """However it is laid out: acting needs independent ones, where it needs more than one."""
    query = "'sum(rate(a{service=$service,route=$route}[$window]))  '"
    text = GOOD.replace("dimension: latency, query: sum(b)", f"dimension: {dimension}, query: {query}")
    try:
        load_severity(f"{text}may_act: {{dimensions: {needed}}}\n".encode(), "f.yaml")
        found = []
    except RunbookInvalid as refused:
        found = [f"{p.line}:{p.column}" for p in refused.problems if "would count as two" in p.message]
    assert found == told


def test_policy_overrides_the_document_and_the_service_overrides_both(
    shipped: SeverityDocument, services: Services
) -> None:
    """The nearer word wins; weights of the score too."""
    policy = load_policy(
        b"kind: policy\nname: lab\ndurations: {window: 5s, step: 1s, latency_for: 4s}\n"
        b"thresholds: {p99_ms: 200, gateway_5xx_ratio: 0.2, interface_ratio: 0.3}\n"
        b"baseline: {at: 2026-11-21T08:00:00Z}\n",
        "lab.yaml",
    )
    tree = render_tree(shipped, policy, services.services["pay"], BINDINGS)
    by_name = {c.name: c for c in tree.conditions}
    assert tree.step == timedelta(seconds=1)
    assert by_name["latency_p99"].threshold == 1500
    assert by_name["latency_p99"].held_for == timedelta(seconds=4)
    assert by_name["gateway_5xx"].threshold == 0.2
    assert by_name["interface_errors"].threshold == 0.05
    assert "[5s] @ 1795248000)" in by_name["main_flow_down"].query
    assert [flow.weight for flow in by_name["health_score"].flows] == [0.8, 0.2]
    assert {c.sample_step for c in tree.conditions if c.query} == {timedelta(seconds=1)}


def test_another_documents_names_never_hide_a_binding(services: Services) -> None:
    """A runbook may have a threshold or a duration called as a parameter of the tree, and a policy set it."""
    document = load_severity(GOOD.replace("$route", "$flow").replace("[route]", "[flow]").encode(), "f.yaml")
    policy = load_policy(b"kind: policy\nname: x\nthresholds: {flow: 0.9, service: 1}\n", "x")
    other = load_policy(b"kind: policy\nname: x\ndurations: {flow: 5m}\n", "x")
    plain = load_policy(b"kind: policy\nname: x\n", "x")
    service = replace(services.services["pay"], thresholds={"flow": 1.0, "limit": 0.2})
    asked = [render_tree(document, p, service, BINDINGS | {"flow": "pay"}).conditions for p in (plain, policy, other)]
    assert asked[0][0].query == 'sum(rate(a{service="pay",route="pay"}[2m]))'
    assert asked[1] == asked[0] == asked[2]
    assert asked[0][0].threshold == 0.2


@pytest.mark.parametrize("bindings", [BINDINGS, {}])
def test_every_condition_is_sampled_at_the_step_of_the_tree(
    shipped: SeverityDocument, bindings: dict[str, str]
) -> None:
    """Labels and faults too: else the span would be no whole number of steps and the last one off the pinned time."""
    policy = load_policy(b"kind: policy\nname: x\ndurations: {step: 40s}\n", "x")
    tree = render_tree(shipped, policy, None, bindings)
    assert {c.sample_step for c in tree.conditions} == {tree.step} == {timedelta(seconds=40)}
    assert span_of(tree.conditions) % tree.step == timedelta(0)


def test_an_override_out_of_range_is_refused(shipped: SeverityDocument, services: Services) -> None:
    """A weight below zero would turn the score around."""
    policy = load_policy(b"kind: policy\nname: x\nthresholds: {order_weight: -1}\n", "x")
    with pytest.raises(PolicyInvalid, match="out of range"):
        render_tree(shipped, policy, services.services["edge"], BINDINGS)


def test_a_score_that_weighs_nothing_is_refused(shipped: SeverityDocument) -> None:
    """It would silently say nothing."""
    policy = load_policy(b"kind: policy\nname: x\nthresholds: {order_weight: 0, pay_weight: 0}\n", "x")
    with pytest.raises(PolicyInvalid, match="every flow has a weight of 0"):
        render_tree(shipped, policy, None, BINDINGS)


def test_the_shipped_tree_has_the_figures_of_row_a1(shipped: SeverityDocument, policy: Policy) -> None:
    """3000 ms for 120 s, 5 % for 2 min, 10 %, 30 %, 70 of 100, 20 calls; one pages, two act."""
    tree = render_tree(shipped, policy, None, BINDINGS)
    told = {c.name: (c.dimension, str(c.comparison), c.threshold, c.held_for.total_seconds()) for c in tree.conditions}
    assert told == {
        "latency_p99": (Dimension.LATENCY, ">", 3000, 120),
        "gateway_5xx": (Dimension.ERRORS, ">=", 0.05, 120),
        "interface_errors": (Dimension.ERRORS, ">=", 0.10, 120),
        "main_flow_down": (Dimension.BUSINESS, ">", 0.30, 120),
        "health_score": (Dimension.BUSINESS, "<=", 70, 120),
        "business_blocked": (Dimension.BUSINESS, ">", 0, 0),
    }
    assert all(c.volume and c.volume.at_least == 20 for c in tree.conditions if c.query)
    (score,) = (c for c in tree.conditions if c.flows)
    enough = [f.success_query for f in score.flows] + [f.volume_ratio_query for f in score.flows]
    (down,) = (c.query for c in tree.conditions if c.name == "main_flow_down")
    assert all(query.endswith(" >= 20 > 0)") for query in enough)
    assert down.endswith(" >= 20 > 0))")
    assert tree.may_act_dimensions == 2
    assert {n.operator for n in tree.nodes} == {"any", "condition"}
    assert shipped.durations["window"] == timedelta(minutes=2)
    assert span_of(tree.conditions) == timedelta(seconds=135)


def test_each_main_flow_must_report_by_itself(shipped: SeverityDocument, policy: Policy) -> None:
    """One input over both would be fresh as long as either reports, and a flow whose exporter stopped would count as
    one that fails."""
    tree = render_tree(shipped, policy, None, BINDINGS)
    inputs = {c.name: c.inputs for c in tree.conditions}
    each = tuple(f'main_flow_attempts_total{{flow="{flow}"}}' for flow in ("order", "pay"))
    assert inputs["main_flow_down"] == inputs["health_score"] == each


def test_every_query_of_the_shipped_tree_parses_for_every_service(
    shipped: SeverityDocument, policy: Policy, services: Services
) -> None:
    """Also with hostile bindings and with a fixed baseline."""
    fixed = load_policy(b"kind: policy\nname: x\nbaseline: {at: 2026-11-21T08:00:00Z}\n", "x")
    for service in services.services.values():
        for each in (policy, fixed):
            tree = render_tree(shipped, each, service, {**BINDINGS, "service": 'x"} or vector(1) #\n\\'})
            assert [c.fault for c in tree.conditions if c.fault] == []
            for query in batch_of(tree.conditions):
                promql_parser.parse(query.expr)


def test_a_tree_survives_its_bytes(shipped: SeverityDocument, policy: Policy, services: Services) -> None:
    """Equal after a round trip, digest included; the bytes are canonical."""
    for service in (None, services.services["pay"]):
        tree = render_tree(shipped, policy, service, BINDINGS)
        data = tree_bytes(tree)
        assert tree_from_bytes(data) == tree
        assert tree_bytes(tree_from_bytes(data)) == data
        assert tree.digest == hashlib.sha256(data).hexdigest()
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_digest_tells_what_decided(shipped: SeverityDocument, policy: Policy) -> None:
    """Another binding, another policy: another tree. The files' own hashes are in it (row A5)."""
    tree = render_tree(shipped, policy, None, BINDINGS)
    other = render_tree(shipped, policy, None, BINDINGS | {"service": "order"})
    assert tree.digest != other.digest
    assert (tree.source_digest, tree.policy_digest) == (shipped.digest, policy.digest)
    assert render_tree(shipped, policy, None, dict(reversed(BINDINGS.items()))).digest == tree.digest


def test_a_missing_binding_makes_a_condition_inconclusive_not_an_error(
    shipped: SeverityDocument, policy: Policy
) -> None:
    """An alert that leads to no service still gets its verdict on what can be asked."""
    tree = render_tree(shipped, policy, None, {"cluster": "lab"})
    assert {c.name for c in tree.conditions if c.fault} == {"latency_p99", "interface_errors"}
    assert "$service has no value" in tree.conditions[0].fault
    assert {c.name for c in tree.conditions if c.own} == {c.name for c in tree.conditions if c.fault}
    assert tree_from_bytes(tree_bytes(tree)) == tree


def test_a_tree_with_a_fault_asks_for_nothing_and_judges_nothing(shipped: SeverityDocument, policy: Policy) -> None:
    """Labels and a person's score count as little as metrics, and the verdict can be reached again from its bytes."""
    tree, data = rendered_tree(shipped, policy, None, BINDINGS, fault="the alert is of cluster 'prod'")
    assert batch_of(tree.conditions) == ()
    assert tree.digest != render_tree(shipped, policy, None, BINDINGS).digest
    facts = Facts(
        pinned_at=datetime(2026, 11, 21, tzinfo=UTC),
        step=tree.step,
        labels={"business_impact": "blocked"},
        service="pay",
        tree_digest=tree.digest,
        bindings=BINDINGS,
        answers=(),
        human_score=10.0,
    )
    verdict = classify(facts, tree_from_bytes(data))
    assert (verdict.truth, verdict.severity, verdict.may_act) == (Truth.INCONCLUSIVE, Severity.NONE, False)
    assert {result.reason for result in verdict.conditions} == {"the alert is of cluster 'prod'"}


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"nodes":[1]}'])
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    """A damaged record is an error with a sentence, never a half tree."""
    with pytest.raises(RunbookInvalid, match="no severity tree"):
        tree_from_bytes(data)


@pytest.mark.parametrize("model", [SeverityModel, PolicyModel, ServicesModel])
def test_each_document_has_a_schema_for_editors(model: type[BaseModel]) -> None:
    """Made from the model itself; unknown keys are closed off in it, too."""
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    assert "kind" in schema["required"]
    json.dumps(schema)

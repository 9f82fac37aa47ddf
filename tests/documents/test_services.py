"""The services document."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.documents.services import FromLabel, load_services
from firebreak.domain.errors import RunbookInvalid
from firebreak.domain.message import Route
from firebreak.domain.target import ResourceKind
from firebreak.locator import runbooks_dir

TARGET = "target: {namespace: shop, kind: Deployment, name: {label: deployment}}"


def services(*lines: str, head: str = "kind: services\n") -> bytes:
    return (head + "services:\n  pay:\n" + "".join(f"    {line}\n" for line in lines)).encode()


def test_a_service_is_read_whole() -> None:
    """Match, route, target, numbers in one name space, parameters."""
    text = services(
        "team: payments",
        "chat_channel: C1",
        "pager_key: secret",
        TARGET,
        "thresholds: {p99_ms: 800}",
        "weights: {pay_weight: 0.7}",
        "params: {route: pay}",
    )
    found = load_services(text, "s.yaml")
    pay = found.services["pay"]
    assert pay.match == {"service": "pay"}
    assert pay.thresholds == {"p99_ms": 800.0, "pay_weight": 0.7}
    assert (pay.target.namespace, pay.target.kind, pay.target.name) == (
        "shop",
        ResourceKind.DEPLOYMENT,
        FromLabel(label="deployment"),
    )
    assert found.route("pay") == Route(team="payments", chat_channel="C1", pager_key="secret")
    assert found.route("nobody") == Route()
    assert set(pay.params) == {"route"}


def test_the_pagers_key_is_in_no_text_of_the_value() -> None:
    """A value that is logged by mistake tells no secret."""
    found = load_services(services("pager_key: topsecret", TARGET), "s.yaml")
    assert "topsecret" not in repr(found)


PAIRS = st.dictionaries(st.sampled_from(("service", "team", "region")), st.sampled_from("abc"), max_size=3)


@settings(deadline=None)
@given(
    matches=st.lists(PAIRS.filter(bool), min_size=1, max_size=6, unique_by=lambda m: frozenset(m.items())), labels=PAIRS
)
def test_all_that_match_are_found_in_the_documents_order(matches: list[dict[str, str]], labels: dict[str, str]) -> None:
    """As if each service were asked, whatever pairs they share."""
    blocks = [f"  s{i}:\n    match: {json.dumps(match)}\n    {TARGET}\n" for i, match in enumerate(matches)]
    found = load_services(f"kind: services\nservices:\n{''.join(blocks)}".encode(), "s.yaml").matching(labels)
    assert [service.name for service in found] == [
        f"s{i}" for i, match in enumerate(matches) if match.items() <= labels.items()
    ]


@pytest.mark.parametrize(
    ("lines", "where", "words"),
    [
        (["target: {namespace: kube-system, kind: Deployment, name: x}"], "4:25", "belongs to the system"),
        (["target: {namespace: kube-flannel, kind: Deployment, name: x}"], "4:25", "belongs to the system"),
        (["target: {namespace: 'Shop', kind: Deployment, name: x}"], "4:25", "DNS-1123"),
        (["target: {namespace: shop, kind: Deployment, name: 'pay-*'}"], "4:55", "DNS-1123"),
        (["target: {namespace: shop, kind: Pod, name: x}"], "4:37", "'Deployment'"),
        (["target: {namespace: shop, kind: Deployment}"], "4:13", "either"),
        (["target: {namespace: shop, kind: Deployment, name: x, pod: {label: pod}}"], "4:13", "either"),
        (["target: {namespace: shop, pod: pay-1}"], "4:36", "a mapping is expected here"),
        (["target: {namespace: {labels: x}, pod: {label: pod}}"], "4:25", "{label: LABEL}"),
        ([TARGET, "match: {service: ''}"], "5:22", "every alert that lacks"),
        ([TARGET, "params: {service: x}"], "5:14", "filled in by the engine"),
        ([TARGET, "params: {baseline: x}"], "5:14", "filled in by the engine"),
        ([TARGET, "thresholds: {a: 1}", "weights: {a: 2}"], "6:15", "among the thresholds"),
        ([TARGET, "thresholds: {a: b}"], "5:21", "not a number"),
        ([TARGET, "chanel: x"], "5:5", "unknown key"),
        (["team: x"], "3:3", "'target' is missing"),
    ],
)
def test_a_mistake_in_a_service_is_shown_in_its_place(lines: list[str], where: str, words: str) -> None:
    """One problem, with line and column."""
    with pytest.raises(RunbookInvalid) as caught:
        load_services(services(*lines), "s.yaml")
    (problem,) = caught.value.problems
    assert (f"{problem.line}:{problem.column}", words in problem.message) == (where, True), problem


@pytest.mark.parametrize(
    ("lines", "where"),
    [(["match: {service: pay}"], "6:5"), (["match: {team: x, service: pay}"], ""), ([], "")],
)
def test_two_services_that_match_the_same_alerts_are_refused(lines: list[str], where: str) -> None:
    """None of both would be the nearer one, so that each alert would be a person's. More or other labels tell them
    apart."""
    more = "".join(f"    {line}\n" for line in (*lines, TARGET))
    data = services(TARGET) + b"  other:\n" + more.encode()
    try:
        load_services(data, "s.yaml")
        told = []
    except RunbookInvalid as refused:
        told = [f"{p.line}:{p.column}" for p in refused.problems if "'pay' matches the same alerts" in p.message]
    assert told == ([where] if where else [])


def test_the_shipped_example_is_good() -> None:
    """All four services of the shop, each with route and flags for the runbooks."""
    found = load_services((runbooks_dir() / "services.yaml").read_bytes(), "services.yaml")
    assert set(found.services) == {"edge", "order", "pay", "recommend"}
    assert all({"route", "flags"} <= set(service.params) for service in found.services.values())
    assert found.cluster_label == "cluster"

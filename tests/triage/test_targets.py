"""From labels to a target: refusing rather than guessing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from firebreak.documents.services import Services, load_services
from firebreak.domain.alert import Alert, AlertStatus
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.triage.intake import correlation_key
from firebreak.triage.targets import resolve

TEXT = b"""kind: services
services:
  pay:
    team: payments
    target: {namespace: shop, kind: Deployment, name: {label: deployment}}
    params: {route: pay}
  ledger:
    match: {app: ledger}
    target: {namespace: {label: kube_namespace}, kind: StatefulSet, name: ledger}
  walker:
    target: {namespace: shop, pod: {label: failing_pod}}
  pay-eu:
    match: {service: pay, region: eu}
    target: {namespace: shop-eu, kind: Deployment, name: pay}
  twin-a:
    match: {twin: "yes"}
    target: {namespace: shop, kind: Deployment, name: a}
  twin-b:
    match: {sibling: "yes"}
    target: {namespace: shop, kind: Deployment, name: b}
"""

PAY = {"service": "pay", "deployment": "pay-v2", "cluster": "lab"}


@pytest.fixture
def services() -> Services:
    return load_services(TEXT, "services.yaml")


def test_labels_lead_to_the_target_and_its_bindings(services: Services) -> None:
    """Cluster, namespace, kind, name; route; everything that documents may use."""
    found = resolve(PAY, services, "lab")
    assert found.target == TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v2")
    assert (found.service, services.route(found.service).team, found.refusal, found.pod) == (
        "pay",
        "payments",
        "",
        None,
    )
    assert found.bindings == {
        "service": "pay",
        "cluster": "lab",
        "namespace": "shop",
        "workload": "pay-v2",
        "route": "pay",
    }


def test_an_exporters_own_namespace_and_pod_are_not_the_target(services: Services) -> None:
    """They say where the exporter runs; only labels that the document names are read."""
    labels = PAY | {"namespace": "monitoring", "pod": "kube-state-metrics-0", "name": "x"}
    assert resolve(labels, services, "lab") == resolve(PAY, services, "lab")


def test_a_pod_is_handed_on_to_be_walked_up(services: Services) -> None:
    """The workload is not known yet, so nothing is bound to it."""
    found = resolve({"service": "walker", "failing_pod": "pay-1", "cluster": "lab"}, services, "lab")
    assert found.pod == TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.POD, name="pay-1")
    assert (found.target, "workload" in found.bindings, found.refusal) == (None, False, "")


def test_the_most_specific_service_wins(services: Services) -> None:
    """Two labels beat one."""
    found = resolve(PAY | {"region": "eu"}, services, "lab")
    assert found.service == "pay-eu"
    assert found.target is not None
    assert found.target.namespace == "shop-eu"


@pytest.mark.parametrize(
    ("labels", "service", "words"),
    [
        ({}, "", "no service of services.yaml matches the alert (no label service)"),
        ({"service": "nobody", "cluster": "lab"}, "", "(service='nobody')"),
        ({"service": "\u202e*`", "cluster": "lab"}, "", r"(service='\u202e*`')"),
        ({"twin": "yes", "sibling": "yes", "cluster": "lab"}, "", "equally well: twin-a, twin-b"),
        ({"service": "pay", "deployment": "pay-v2"}, "pay", "no label cluster"),
        (PAY | {"cluster": ""}, "pay", "no label cluster"),
        (PAY | {"cluster": "prod"}, "pay", "of cluster 'prod', this engine acts on lab"),
        ({"service": "pay", "cluster": "lab"}, "pay", "no label deployment"),
        (PAY | {"deployment": ""}, "pay", "no label deployment"),
        (PAY | {"deployment": "*"}, "pay", "DNS-1123"),
        (PAY | {"deployment": "pay-.*"}, "pay", "DNS-1123"),
        (PAY | {"deployment": "../secrets/x"}, "pay", "DNS-1123"),
        (PAY | {"deployment": "Pay"}, "pay", "DNS-1123"),
        (PAY | {"deployment": "a" * 254}, "pay", "DNS-1123"),
        (PAY | {"deployment": "pay-v2\n"}, "pay", "DNS-1123"),
        ({"app": "ledger", "cluster": "lab", "kube_namespace": "kube-system"}, "ledger", "belongs to the system"),
        ({"app": "ledger", "cluster": "lab", "kube_namespace": "a.b"}, "ledger", "namespace (DNS-1123)"),
        ({"app": "ledger", "cluster": "lab", "namespace": "shop"}, "ledger", "no label kube_namespace"),
    ],
)
def test_what_leads_nowhere_is_refused_with_a_sentence(
    services: Services, labels: dict[str, str], service: str, words: str
) -> None:
    """No target, the reason, and still the service, so that the right people are called."""
    found = resolve(labels, services, "lab")
    assert (found.target, found.pod, found.service) == (None, None, service)
    assert words in found.refusal, found.refusal


def test_one_cluster_may_do_without_the_label() -> None:
    """`cluster_label: ""` says so; an alert that names another cluster is refused all the same."""
    services = load_services(TEXT.replace(b"services:", b'cluster_label: ""\nservices:', 1), "s")
    labels = {"service": "pay", "deployment": "pay-v2"}
    assert resolve(labels, services, "lab").target is not None
    assert resolve(labels | {"cluster": "lab"}, services, "lab").target is not None
    assert "of cluster 'prod'" in resolve(labels | {"cluster": "prod"}, services, "lab").refusal


def test_another_label_may_name_the_cluster() -> None:
    """Then only that one counts."""
    services = load_services(TEXT.replace(b"services:", b"cluster_label: k8s\nservices:", 1), "s")
    labels = {"service": "pay", "deployment": "pay-v2", "k8s": "lab", "cluster": "x"}
    assert resolve(labels, services, "lab").target is not None


@pytest.mark.parametrize(("name", "bound"), [("nobody", True), ("x y", False), ("", False)])
def test_an_unknown_service_is_bound_only_under_a_plain_name(services: Services, name: str, bound: bool) -> None:
    """Its metrics may be looked at; nothing can be aimed at it."""
    assert ("service" in resolve({"service": name}, services, "lab").bindings) is bound


def key(labels: dict[str, str], services: Services) -> str:
    alert = Alert(
        fingerprint="f" * 16, status=AlertStatus.FIRING, labels=labels, starts_at=datetime(2026, 11, 21, tzinfo=UTC)
    )
    found = resolve(labels, services, "lab")
    return correlation_key(found.cluster, found.service, alert)


@pytest.mark.parametrize("label", [b"cluster_label: cluster", b'cluster_label: ""', b"cluster_label: k8s"])
def test_an_alert_of_another_cluster_is_of_another_incident(label: bytes) -> None:
    """Whatever the document says of the label; each other cluster is one by itself, and keeps its service's team."""
    services = load_services(TEXT.replace(b"services:", label + b"\nservices:", 1), "s")
    name = services.cluster_label or "cluster"
    alert = {"service": "pay", "deployment": "pay-v2"}
    ours, prod, test = ({**alert, name: said} for said in ("lab", "prod", "test"))
    assert resolve(ours, services, "lab").elsewhere == ""
    assert (key(ours, services), key(prod, services)) == ("lab/pay", "prod/pay")
    assert len({key(said, services) for said in (ours, prod, test)}) == 3
    found = resolve(prod, services, "lab")
    assert found.elsewhere == "the alert is of cluster 'prod', this engine acts on lab"
    assert (found.cluster, found.service, services.route(found.service).team) == ("prod", "pay", "payments")
    assert (found.bindings["cluster"], "workload" in found.bindings) == ("prod", False)


def test_an_alert_without_the_cluster_label_is_of_another_incident(services: Services) -> None:
    """It may be of any cluster."""
    alert = {"service": "pay", "deployment": "pay-v2"}
    found = resolve(alert, services, "lab")
    assert found.elsewhere == "the alert has no label cluster: it may be of another cluster than lab"
    assert (found.cluster, found.service, services.route(found.service).team) == ("", "pay", "payments")
    assert len({key(said, services) for said in (alert, PAY, PAY | {"cluster": "prod"})}) == 3


@pytest.mark.parametrize("cluster", ["lab/", "/lab", "lab/pay", "lab//PayDown", "LAB", "lab "])
def test_no_name_of_another_cluster_leads_to_an_incident_of_ours(services: Services, cluster: str) -> None:
    """A label's value is anybody's text."""
    unknown = {"service": "nobody", "alertname": "PayDown"}
    ours = {key(labels | {"cluster": "lab"}, services) for labels in (PAY, unknown)}
    assert ours.isdisjoint({key(labels | {"cluster": cluster}, services) for labels in (PAY, unknown)})


@pytest.mark.parametrize(("labels", "bound"), [({"cluster": "prod"}, "prod"), ({}, "")])
def test_an_unknown_service_may_be_elsewhere_too(services: Services, labels: dict[str, str], bound: str) -> None:
    """The metrics of our service of that name say nothing about it."""
    found = resolve({"service": "nobody", **labels}, services, "lab")
    assert found.elsewhere
    assert found.refusal == f"{found.elsewhere}; no service of services.yaml matches the alert (service='nobody')"
    assert (found.service, found.bindings) == ("", {"service": "nobody", "cluster": bound})
    assert resolve({"service": "nobody", "cluster": "lab"}, services, "lab").elsewhere == ""

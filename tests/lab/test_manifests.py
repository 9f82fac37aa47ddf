"""The cluster's content as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from firebreak.lab import manifests
from firebreak.lab.shape import SERVICES

OBJECTS = [manifest for _, manifest in manifests.shop()]
RIGHTS = [manifest for _, manifest in manifests.rbac()]


def of_kind(kind: str, objects: list[dict[str, Any]] | None = None) -> Iterator[dict[str, Any]]:
    return (manifest for manifest in (objects or OBJECTS) if manifest["kind"] == kind)


def test_a_roll_out_takes_no_more_pods_away_than_the_budget_allows() -> None:
    """Each Deployment has a budget of its own, over exactly its pods."""
    budgets = {m["metadata"]["name"]: m["spec"] for m in of_kind("PodDisruptionBudget")}
    for deployment in of_kind("Deployment"):
        spec, budget = deployment["spec"], budgets[deployment["metadata"]["name"]]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] <= budget["maxUnavailable"]
        assert budget["selector"] == spec["selector"]
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 1


def test_every_backend_of_a_route_has_a_service_and_a_deployment() -> None:
    """Names are `<service>-<version>` everywhere."""
    services = {m["metadata"]["name"] for m in of_kind("Service")}
    deployments = {m["metadata"]["name"] for m in of_kind("Deployment")}
    backends = {
        backend["name"] for route in of_kind("HTTPRoute") for backend in route["spec"]["rules"][0]["backendRefs"]
    }
    assert backends == services == deployments
    assert backends == {"edge-v1", "order-v1", "order-v2", "pay-v1", "pay-v2", "recommend-v1"}


def test_all_traffic_begins_on_v1() -> None:
    """The lab's baseline."""
    for route in of_kind("HTTPRoute"):
        weights = {b["name"]: b["weight"] for b in route["spec"]["rules"][0]["backendRefs"]}
        assert weights[f"{route['metadata']['name']}-v1"] == 100
        assert sum(weights.values()) == 100


def test_every_object_is_applied_at_its_own_path() -> None:
    """Server-side apply names the object in its path; a wrong one would be refused only at run time."""
    for path, manifest in (*manifests.shop(), *manifests.rbac()):
        meta = manifest["metadata"]
        assert path.rpartition("/")[2] == meta["name"]
        assert (f"/namespaces/{meta.get('namespace')}/" in path) is ("namespace" in meta)


def test_the_engine_may_patch_what_it_heals_by_and_nothing_else() -> None:
    """As narrow as the actions need: no secrets, no deletes, no other ConfigMap."""
    writes: dict[str, list[str]] = {}
    for role in of_kind("Role", RIGHTS):
        if role["metadata"]["name"] != manifests.ENGINE_USER:
            continue
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "patch"}
            assert "secrets" not in rule["resources"]
            if "patch" in rule["verbs"]:
                writes |= {resource: rule.get("resourceNames", []) for resource in rule["resources"]}
    assert writes == {
        "deployments": [],
        "statefulsets": [],
        "daemonsets": [],
        "httproutes": [],
        "configmaps": ["shop-flags"],
    }


def test_beyond_its_namespace_the_engine_may_only_look_at_nodes() -> None:
    """The one cluster-wide right."""
    (role,) = of_kind("ClusterRole", RIGHTS)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]


def test_the_events_of_nodes_may_be_listed_where_they_are_kept() -> None:
    """In the namespace default the engine reads events and nothing else; without that, evidence is always missing."""
    (role,) = (r for r in of_kind("Role", RIGHTS) if r["metadata"]["namespace"] == "default")
    (binding,) = (b for b in of_kind("RoleBinding", RIGHTS) if b["metadata"]["namespace"] == "default")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [s["name"] for s in binding["subjects"]] == [manifests.ENGINE_USER]


def test_pager_keys_and_channels_are_one_a_service() -> None:
    """Two services with one key would hide a wrong routing."""
    assert len({shape.pager_key for shape in SERVICES.values()}) == len(SERVICES)
    assert len({shape.chat_channel for shape in SERVICES.values()}) == len(SERVICES)
    assert all(len(shape.pager_key) == 32 for shape in SERVICES.values())

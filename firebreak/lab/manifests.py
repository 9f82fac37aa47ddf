"""The cluster's content as Kubernetes objects: (path, object) pairs for server-side apply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from firebreak.lab.shape import FLAGS, FLAGS_CONFIG_MAP, GATEWAY, GOOD_TAG, NAMESPACE, REPLICAS, SERVICES, ServiceShape

Manifest = dict[str, Any]

ENGINE_USER = "firebreak-engine"
SHOP_USER = "firebreak-shop"

_NAMESPACED = f"/namespaces/{NAMESPACE}"
_GATEWAY_API = "gateway.networking.k8s.io/v1"


def image(service: str, tag: str) -> str:
    """`pay`, `2.0.4` -> the image's name. Nothing is pulled: the nodes are fake."""
    return f"registry.example/shop/{service}:{tag}"


def deployment_path(name: str) -> str:
    """Where a Deployment of the shop is."""
    return f"/apis/apps/v1{_NAMESPACED}/deployments/{name}"


def route_path(service: str) -> str:
    """Where a service's HTTPRoute is."""
    return f"/apis/{_GATEWAY_API}{_NAMESPACED}/httproutes/{service}"


def flags_path() -> str:
    """Where the flags' ConfigMap is."""
    return f"/api/v1{_NAMESPACED}/configmaps/{FLAGS_CONFIG_MAP}"


def deployment(shape: ServiceShape, version: str, tag: str = GOOD_TAG) -> Manifest:
    """Three replicas; a roll-out takes at most one pod away at a time, which the budget allows."""
    labels = {"app": shape.name, "version": version}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": shape.deployment(version), "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": REPLICAS,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "app",
                            "image": image(shape.name, tag),
                            "ports": [{"name": "http", "containerPort": 8080}],
                            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                        }
                    ],
                },
            },
        },
    }


def route(service: str, weights: dict[str, int]) -> Manifest:
    """The service's HTTPRoute with these weights by version."""
    return {
        "apiVersion": _GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": service, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}],
            "hostnames": [f"{service}.{NAMESPACE}.example"],
            "rules": [
                {
                    "backendRefs": [
                        {"name": SERVICES[service].deployment(version), "port": 80, "weight": weight}
                        for version, weight in weights.items()
                    ]
                }
            ],
        },
    }


def flags() -> Manifest:
    """The ConfigMap with the flags' baseline."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FLAGS_CONFIG_MAP, "namespace": NAMESPACE},
        "data": dict(FLAGS),
    }


def _backend(shape: ServiceShape, version: str) -> Iterator[tuple[str, Manifest]]:
    name, labels = shape.deployment(version), {"app": shape.name, "version": version}
    yield deployment_path(name), deployment(shape, version)
    yield (
        f"/apis/policy/v1{_NAMESPACED}/poddisruptionbudgets/{name}",
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        },
    )
    yield (
        f"/api/v1{_NAMESPACED}/services/{name}",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    )


def shop() -> Iterator[tuple[str, Manifest]]:
    """Everything in the namespace, the namespace first, in an order in which it can be applied."""
    yield (
        f"/api/v1{_NAMESPACED}",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    )
    yield (
        f"/apis/{_GATEWAY_API}/gatewayclasses/firebreak-shop",
        {
            "apiVersion": _GATEWAY_API,
            "kind": "GatewayClass",
            "metadata": {"name": "firebreak-shop"},
            "spec": {"controllerName": "firebreak.dev/shop"},
        },
    )
    yield (
        f"/apis/{_GATEWAY_API}{_NAMESPACED}/gateways/{GATEWAY}",
        {
            "apiVersion": _GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": "firebreak-shop",
                "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
            },
        },
    )
    yield flags_path(), flags()
    for shape in SERVICES.values():
        for version in shape.versions:
            yield from _backend(shape, version)
        yield route_path(shape.name), route(shape.name, dict(shape.baseline_weights))


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


# The README's Role, right by right (a test compares them): what a user grants is what the lab's engine heals with.
_ENGINE_RULES = [
    _rule("", ["pods", "configmaps"], ["get", "list"]),
    _rule("", ["pods/log", "services"], ["get"]),
    _rule("", ["events"], ["list"]),
    _rule("apps", ["replicasets"], ["get", "list"]),
    _rule("apps", ["controllerrevisions"], ["list"]),
    _rule("apps", ["deployments", "statefulsets", "daemonsets"], ["get", "list", "patch"]),
    _rule("policy", ["poddisruptionbudgets"], ["list"]),
    _rule("gateway.networking.k8s.io", ["httproutes"], ["get", "patch"]),
    _rule("discovery.k8s.io", ["endpointslices"], ["list"]),
    {**_rule("", ["configmaps"], ["patch"]), "resourceNames": [FLAGS_CONFIG_MAP]},
]

# Events of nodes are kept in the namespace `default`; without this right they are missing in every evidence.
_NODE_EVENT_RULES = [_rule("", ["events"], ["list"])]

_SHOP_RULES = [
    _rule("", ["pods", "configmaps"], ["get", "list", "watch"]),
    _rule("gateway.networking.k8s.io", ["httproutes"], ["get", "list", "watch"]),
    _rule("gateway.networking.k8s.io", ["httproutes/status"], ["get", "patch"]),
]


def rbac() -> Iterator[tuple[str, Manifest]]:
    """Rights of the engine's and of the shop's own user."""
    api, version = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1"
    for user, rules in ((ENGINE_USER, _ENGINE_RULES), (SHOP_USER, _SHOP_RULES)):
        meta = {"name": user, "namespace": NAMESPACE}
        yield (
            f"{api}{_NAMESPACED}/roles/{user}",
            {"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules},
        )
        yield (f"{api}{_NAMESPACED}/rolebindings/{user}", _binding(version, "RoleBinding", meta, "Role", user))
    meta = {"name": ENGINE_USER, "namespace": "default"}
    yield (
        f"{api}/namespaces/default/roles/{ENGINE_USER}",
        {"apiVersion": version, "kind": "Role", "metadata": meta, "rules": _NODE_EVENT_RULES},
    )
    yield (
        f"{api}/namespaces/default/rolebindings/{ENGINE_USER}",
        _binding(version, "RoleBinding", meta, "Role", ENGINE_USER),
    )
    cluster = {"name": ENGINE_USER}
    yield (
        f"{api}/clusterroles/{ENGINE_USER}",
        {
            "apiVersion": version,
            "kind": "ClusterRole",
            "metadata": cluster,
            "rules": [_rule("", ["nodes"], ["list"])],
        },
    )
    yield (
        f"{api}/clusterrolebindings/{ENGINE_USER}",
        _binding(version, "ClusterRoleBinding", cluster, "ClusterRole", ENGINE_USER),
    )


def _binding(version: str, kind: str, meta: dict[str, str], role_kind: str, user: str) -> Manifest:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }

"""Where an action is aimed: one object of one cluster, known by UID once it has been read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ResourceKind(StrEnum):
    """Kubernetes kinds that the engine reads or writes. The value is `apiVersion/plural`."""

    DEPLOYMENT = "apps/v1/deployments"
    STATEFULSET = "apps/v1/statefulsets"
    DAEMONSET = "apps/v1/daemonsets"
    REPLICASET = "apps/v1/replicasets"
    CONTROLLER_REVISION = "apps/v1/controllerrevisions"
    POD = "v1/pods"
    NODE = "v1/nodes"
    CONFIG_MAP = "v1/configmaps"
    EVENT = "v1/events"
    SERVICE = "v1/services"
    NAMESPACE = "v1/namespaces"
    ENDPOINT_SLICE = "discovery.k8s.io/v1/endpointslices"
    POD_DISRUPTION_BUDGET = "policy/v1/poddisruptionbudgets"
    HTTP_ROUTE = "gateway.networking.k8s.io/v1/httproutes"

    @property
    def api_version(self) -> str:
        return self.value.rpartition("/")[0]

    @property
    def plural(self) -> str:
        return self.value.rpartition("/")[2]

    @property
    def group(self) -> str:
        """`apps`; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """In the words of RBAC: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def kind(self) -> str:
        """CamelCase name as in `kind:` of a manifest."""
        return _KINDS[self]


_KINDS = {
    ResourceKind.DEPLOYMENT: "Deployment",
    ResourceKind.STATEFULSET: "StatefulSet",
    ResourceKind.DAEMONSET: "DaemonSet",
    ResourceKind.REPLICASET: "ReplicaSet",
    ResourceKind.CONTROLLER_REVISION: "ControllerRevision",
    ResourceKind.POD: "Pod",
    ResourceKind.NODE: "Node",
    ResourceKind.CONFIG_MAP: "ConfigMap",
    ResourceKind.EVENT: "Event",
    ResourceKind.SERVICE: "Service",
    ResourceKind.NAMESPACE: "Namespace",
    ResourceKind.ENDPOINT_SLICE: "EndpointSlice",
    ResourceKind.POD_DISRUPTION_BUDGET: "PodDisruptionBudget",
    ResourceKind.HTTP_ROUTE: "HTTPRoute",
}


def resource_kind(kind: str) -> ResourceKind:
    """`Deployment` -> DEPLOYMENT. ValueError for a kind that the engine does not touch."""
    for member, name in _KINDS.items():
        if name == kind:
            return member
    raise ValueError(f"unknown kind {kind!r}; known: {', '.join(sorted(_KINDS.values()))}")


# Never a target, whatever a label or a document says.
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRef:
    """One namespaced object, by name. `cluster` is the name that settings give the cluster."""

    cluster: str
    namespace: str
    kind: ResourceKind
    name: str

    @property
    def text(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.kind.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTarget:
    """A target that was read: `uid` binds the plan to this very object, not to a later one of the same name."""

    ref: TargetRef
    uid: str
    resource_version: str

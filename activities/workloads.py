"""Reading a workload: from a pod up to its owner, its pods, what is wrong with their containers, how far a roll-out is.

Roll-out status follows kubectl's polymorphichelpers/rollout_status.go, for each kind by its own fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from firebreak.domain.action import Progress, ProgressState
from firebreak.domain.errors import PreconditionFailed, TargetChanged
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef, resource_kind

WORKLOAD_KINDS = frozenset({ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET, ResourceKind.DAEMONSET})
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The pod template's annotation by which kubectl, and we, restart a workload."""

_LONGEST_WALK = 5  # pod, ReplicaSet, Deployment are three; owners of owners of owners are a mistake or a trap

# Waiting reasons that no patience cures: the new pod cannot run as it is written.
_HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


async def owner_of(cluster: ClusterPort, pod: TargetRef, *, timeout: timedelta) -> TargetRef:
    """The workload (Deployment, StatefulSet, DaemonSet) that owns `pod`, up the controllers' ownerReferences; each
    owner is known again by its UID. PreconditionFailed with a sentence for a pod that none of them owns, TargetChanged
    when an owner was replaced meanwhile."""
    ref = pod
    obj = await cluster.get(ref, timeout=timeout)
    seen = {obj["metadata"]["uid"]}
    for _ in range(_LONGEST_WALK):
        owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
        if owner is None:
            if ref.kind in WORKLOAD_KINDS:
                return ref
            raise PreconditionFailed(
                f"{pod.text} belongs to no workload: {ref.kind.kind} {ref.name} has no controlling owner",
                advice="Act on it by hand, or name the target in services.yaml.",
            )
        ref = _owner_ref(pod, ref, owner)
        obj = await cluster.get(ref, timeout=timeout)
        uid = obj["metadata"]["uid"]
        if uid != owner.get("uid"):
            raise TargetChanged(f"{ref.text} was replaced: UID {uid}, while {pod.text} belongs to {owner.get('uid')}")
        if uid in seen:
            raise PreconditionFailed(f"the owners of {pod.text} go round in a circle at {ref.text}")
        seen.add(uid)
    raise PreconditionFailed(f"{pod.text} has more than {_LONGEST_WALK} owners above each other")


def _owner_ref(pod: TargetRef, below: TargetRef, owner: Mapping[str, Any]) -> TargetRef:
    try:
        kind = resource_kind(str(owner.get("kind")))
    except ValueError:
        kind = None
    if kind is None or kind.api_version != owner.get("apiVersion"):
        raise PreconditionFailed(
            f"{pod.text} belongs to {owner.get('apiVersion')} {owner.get('kind')} {owner.get('name')}, "
            "which this engine does not act on",
            advice="Act on it by hand with the tools of that kind.",
        )
    return TargetRef(cluster=below.cluster, namespace=below.namespace, kind=kind, name=str(owner["name"]))


def selector_matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches: matchLabels and matchExpressions together; an empty selector matches all, a
    missing one nothing. PreconditionFailed for an operator that is not known."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression_holds(e, labels) for e in selector.get("matchExpressions") or ())


def _expression_holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise PreconditionFailed(f"a label selector uses the unknown operator {other!r}")


async def pods_of(
    cluster: ClusterPort,
    namespace: str,
    selector: Mapping[str, Any],
    *,
    cached: bool = False,
    timeout: timedelta,
) -> tuple[KubeObject, ...]:
    """Pods that `selector` matches; matchLabels are asked of the server, matchExpressions looked at here. `cached` as
    ClusterPort says."""
    labels = selector.get("matchLabels") or None
    listed = await cluster.list(ResourceKind.POD, namespace, labels=labels, cached=cached, timeout=timeout)
    return tuple(p for p in listed if selector_matches(selector, p["metadata"].get("labels") or {}))


def is_ready(pod: KubeObject) -> bool:
    """Ready by its condition, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def container_statuses(pod: KubeObject) -> tuple[Mapping[str, Any], ...]:
    """Statuses of init containers, then containers."""
    status = pod.get("status") or {}
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def hopeless_containers(pods: Iterable[KubeObject]) -> tuple[str, ...]:
    """One sentence per container that cannot start as it is written, or was killed for its memory."""
    found = []
    for pod in pods:
        for status in container_statuses(pod):
            waiting = (status.get("state") or {}).get("waiting") or {}
            ended = [(status.get(s) or {}).get("terminated") or {} for s in ("state", "lastState")]
            where = f"container {status.get('name')} of pod {pod['metadata']['name']}"
            if any(e.get("reason") == "OOMKilled" for e in ended):
                found.append(f"{where}: OOMKilled")
            elif waiting.get("reason") in _HOPELESS:
                text = f"{where}: {waiting['reason']}"
                found.append(f"{text} ({waiting['message'][:200]})" if waiting.get("message") else text)
    return tuple(found)


def replicas_of(obj: KubeObject, kind: ResourceKind) -> int:
    """How many pods are wanted."""
    if kind is ResourceKind.DAEMONSET:
        return int((obj.get("status") or {}).get("desiredNumberScheduled") or 0)
    wanted = obj["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def rollout(obj: KubeObject, kind: ResourceKind) -> Progress:
    """How far the roll-out of the newest template is. FAILED when it is paused or its progress deadline has passed
    (Deployments alone have one); `details` are the counts."""
    status = obj.get("status") or {}
    wanted = replicas_of(obj, kind)
    counts = _counts(status, kind, wanted)
    generation, observed = obj["metadata"].get("generation", 0), status.get("observedGeneration", 0)
    if obj["spec"].get("paused"):
        return Progress(state=ProgressState.FAILED, reason="the roll-out is paused", details=counts)
    if observed < generation:
        reason = f"the controller has seen generation {observed} of {generation}"
        return Progress(state=ProgressState.RUNNING, reason=reason, details=counts)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            reason = f"the roll-out is stuck: {condition.get('message') or 'its progress deadline has passed'}"
            return Progress(state=ProgressState.FAILED, reason=reason, details=counts)
    unfinished = unreplaced(obj, kind) or unavailable(obj, kind)
    if unfinished:
        return Progress(state=ProgressState.RUNNING, reason=unfinished, details=counts)
    return Progress(state=ProgressState.DONE, reason=f"all {wanted} pods are new and available", details=counts)


def unreplaced(obj: KubeObject, kind: ResourceKind) -> str:
    """A sentence while old pods are still being replaced; empty when all pods are of the newest template, be they
    ready or not: wedged pods are no roll-out."""
    status = obj.get("status") or {}
    wanted = replicas_of(obj, kind)
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "its controller has not seen the newest change yet"
    if kind is ResourceKind.DAEMONSET:
        updated = status.get("updatedNumberScheduled") or 0
        return f"{updated} of {wanted} pods are new" if updated < wanted else ""
    updated, total = status.get("updatedReplicas") or 0, status.get("replicas") or 0
    if kind is ResourceKind.STATEFULSET:
        if status.get("updateRevision") != status.get("currentRevision"):
            return f"{updated} of {wanted} pods are of revision {status.get('updateRevision')}"
        return f"{total} of {wanted} pods exist" if total < wanted else ""
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    return f"{total - updated} old pods are still there" if total > updated else ""


def unavailable(obj: KubeObject, kind: ResourceKind) -> str:
    """A sentence while fewer pods are available than are wanted; else empty."""
    status, wanted = obj.get("status") or {}, replicas_of(obj, kind)
    match kind:
        case ResourceKind.DAEMONSET:
            there = status.get("numberAvailable") or 0
        case ResourceKind.STATEFULSET:
            there = min(status.get("readyReplicas") or 0, status.get("availableReplicas") or 0)
        case _:
            there = status.get("availableReplicas") or 0
    return f"{there} of {wanted} pods are available" if there < wanted else ""


def _counts(status: Mapping[str, Any], kind: ResourceKind, wanted: int) -> tuple[str, ...]:
    names = (
        ("updatedNumberScheduled", "numberReady", "numberAvailable")
        if kind is ResourceKind.DAEMONSET
        else ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return (f"wanted: {wanted}", *(f"{name}: {status.get(name) or 0}" for name in names))

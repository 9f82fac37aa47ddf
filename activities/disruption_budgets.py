"""What PodDisruptionBudgets allow a roll-out to take down: the roll-out itself does not ask them.

Percentages are rounded as Kubernetes rounds them: of a budget up (disruption controller), of a Deployment's
maxUnavailable down and of its maxSurge up (deploymentutil.ResolveFenceposts), of a DaemonSet's maxUnavailable up. The
StatefulSet controller's documentation says up and its code down, but at least 1: up is the careful reading.

Pods that are not ready count in the roll-outs of Deployments and DaemonSets. A StatefulSet's goes by ordinals, from the
highest down, and waits for none below the one that it is at (kubernetes/kubernetes#96218).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.workloads import WORKLOAD_KINDS, is_ready, pods_of, replicas_of, selector_matches, unreplaced
from firebreak.domain.errors import PreconditionFailed
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef


def scaled(value: Any, total: int, *, up: bool) -> int:
    """`value` (3 or "25%") of `total`, a percentage rounded up or down. PreconditionFailed for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.endswith("%") and value.isascii() and value[:-1].isdigit():
        share = int(value[:-1]) * total
        return -(-share // 100) if up else share // 100
    raise PreconditionFailed(f"neither a number nor a percentage: {value!r}")


def max_unavailable(obj: KubeObject, kind: ResourceKind) -> int:
    """How many pods a roll-out of this workload may have down at once, by its own strategy."""
    wanted = replicas_of(obj, kind)
    if kind is ResourceKind.DEPLOYMENT:
        rolling = (obj["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        down = scaled(_or(rolling.get("maxUnavailable"), "25%"), wanted, up=False)
        surge = scaled(_or(rolling.get("maxSurge"), "25%"), wanted, up=True)
        return min(wanted, 1 if down == 0 and surge == 0 else down)
    rolling = (obj["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    if kind is ResourceKind.DAEMONSET and scaled(_or(rolling.get("maxSurge"), 0), wanted, up=True) > 0:
        return 0  # the new pod starts beside the old one, which goes once that is ready
    return min(wanted, max(1, scaled(_or(rolling.get("maxUnavailable"), 1), wanted, up=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """Pods that a roll-out may leave down at once: `down` of `wanted`, `already` of them not ready before it."""

    wanted: int
    down: int
    already: int = 0

    @property
    def text(self) -> str:
        if not self.already:
            return f"a roll-out may take down {self.down} of {self.wanted} pods at once"
        more = self.down - self.already
        return (
            f"a roll-out may take down {more} of {self.wanted} pods beside the {self.already} that are not ready "
            "already: a StatefulSet's does not wait for those"
        )


async def toll_of(cluster: ClusterPort, obj: KubeObject, kind: ResourceKind, *, timeout: timedelta) -> Toll:
    """What a roll-out of `obj` may leave down at once, now."""
    wanted, down = replicas_of(obj, kind), max_unavailable(obj, kind)
    if kind is not ResourceKind.STATEFULSET or in_order(obj):
        return Toll(wanted=wanted, down=down)
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    listed = await pods_of(cluster, namespace, obj["spec"]["selector"], timeout=timeout)
    pods = {_ordinal(pod, name): pod for pod in listed}  # others may have its labels, too: a job's that are over
    last = max((number for number, pod in pods.items() if is_ready(pod)), default=-1)
    passed_over = sum(1 for number, pod in pods.items() if 0 <= number < last and not is_ready(pod))
    return Toll(wanted=wanted, down=min(wanted, down + passed_over), already=passed_over)


def in_order(obj: KubeObject) -> bool:
    """Whether a StatefulSet's pods come and go one after another, each once all before it are available."""
    return str(obj["spec"].get("podManagementPolicy")) != "Parallel"


def _ordinal(pod: KubeObject, of: str) -> int:
    """-1 for a pod that is none of the StatefulSet `of`."""
    owner, _, number = str(pod["metadata"]["name"]).rpartition("-")
    return int(number) if owner == of and number.isascii() and number.isdigit() else -1


async def budget_objection(
    cluster: ClusterPort,
    obj: KubeObject,
    toll: Toll,
    budgets: Iterable[KubeObject],
    *,
    timeout: timedelta,
) -> str:
    """Why a roll-out of `obj` would break a budget of its namespace, naming it; empty when none is in the way.

    Judged by what the budget's specification allows, not by `disruptionsAllowed` of the moment: that is 0 when pods
    are wedged, which is when a restart is wanted, and a roll-out counts the wedged pods among its unavailable ones."""
    wanted = toll.wanted
    for budget in budgets:
        if not _covers(budget, obj):
            continue
        spec, expected = budget["spec"], await _expected(cluster, budget, obj, wanted, timeout=timeout)
        others = 0
        if expected > wanted:  # it covers other workloads, too: only their ready pods count for it
            namespace = obj["metadata"]["namespace"]
            covered = await pods_of(cluster, namespace, spec["selector"], timeout=timeout)
            counted = covered if _is_counted(budget) else filter(_stays, covered)
            others = sum(1 for p in counted if is_ready(p) and not _is_ours(p, obj))
            rolling = await _rolling_beside(cluster, obj, budget, timeout=timeout)
            if rolling:
                return f"PodDisruptionBudget {budget['metadata']['name']} covers {rolling}: one after the other"
        needed = _needed(spec, expected)
        if others + wanted - toll.down < needed:
            name = budget["metadata"]["name"]
            return f"{toll.text}, but PodDisruptionBudget {name} wants {needed} of {expected} healthy"
    return ""


async def shared_budgets(
    cluster: ClusterPort, obj: KubeObject, ref: TargetRef, budgets: Iterable[KubeObject], *, timeout: timedelta
) -> tuple[TargetRef, ...]:
    """Those that cover other workloads, too: of two that each alone would be within one, only one may be restarted."""
    wanted = replicas_of(obj, ref.kind)
    names = [
        str(budget["metadata"]["name"])
        for budget in budgets
        if _covers(budget, obj) and await _expected(cluster, budget, obj, wanted, timeout=timeout) > wanted
    ]
    kind = ResourceKind.POD_DISRUPTION_BUDGET
    return tuple(TargetRef(cluster=ref.cluster, namespace=ref.namespace, kind=kind, name=name) for name in names)


def _covers(budget: KubeObject, obj: KubeObject) -> bool:
    labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return selector_matches((budget.get("spec") or {}).get("selector"), labels)


async def _expected(
    cluster: ClusterPort, budget: KubeObject, obj: KubeObject, wanted: int, *, timeout: timedelta
) -> int:
    """Pods that it counts with: at least those of the workload itself."""
    counted = max(wanted, int((budget.get("status") or {}).get("expectedPods") or 0))
    if _is_counted(budget):
        return counted
    covered = await pods_of(cluster, obj["metadata"]["namespace"], budget["spec"]["selector"], timeout=timeout)
    return max(counted, wanted + sum(1 for pod in covered if _stays(pod) and not _is_ours(pod, obj)))


def _is_counted(budget: KubeObject) -> bool:
    """Whether its controller has: it does not for a new budget, nor where a DaemonSet or a Job has some of the pods."""
    status = budget.get("status") or {}
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        return False
    return not any(c.get("reason") == "SyncFailed" for c in status.get("conditions") or ())


def _stays(pod: KubeObject) -> bool:
    """Not for one that is over, or whose Job is to end."""
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not over and not any(owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or ())


async def _rolling_beside(cluster: ClusterPort, obj: KubeObject, budget: KubeObject, *, timeout: timedelta) -> str:
    """A workload other than `obj` that `budget` covers, and which is being rolled out: between two waves all of its
    pods are ready, and the next takes some down beside ours. Empty for none."""
    namespace, own = obj["metadata"]["namespace"], obj["metadata"]["uid"]
    kinds = sorted(WORKLOAD_KINDS)
    for kind, found in zip(
        kinds, await asyncio.gather(*(cluster.list(k, namespace, timeout=timeout) for k in kinds)), strict=True
    ):
        for other in found:
            if other["metadata"]["uid"] == own or not _covers(budget, other):
                continue
            if rolling := _rolling(other, kind):
                return f"{kind.kind} {other['metadata']['name']}, too, which is rolling ({rolling})"
    return ""


def _rolling(obj: KubeObject, kind: ResourceKind) -> str:
    """A sentence while its controller replaces pods by itself; empty for what is paused, left to whoever deletes pods
    (OnDelete), as far as its partition lets it, or a StatefulSet whose pods are all new: one may stay unready."""
    spec = obj["spec"]
    strategy = spec.get("strategy" if kind is ResourceKind.DEPLOYMENT else "updateStrategy") or {}
    if spec.get("paused") or strategy.get("type") == "OnDelete":
        return ""
    kept_back = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    status = obj.get("status") or {}
    seen = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
    # Some of those that a scaling down takes may be new, and one that is missing may be a kept one.
    there = max(int(status.get("replicas") or 0), replicas_of(obj, kind) if kept_back else 0)
    if kind is ResourceKind.STATEFULSET and seen and (status.get("updatedReplicas") or 0) >= there - kept_back:
        return ""
    return unreplaced(obj, kind)


def _needed(spec: Mapping[str, Any], expected: int) -> int:
    """Pods that must stay healthy."""
    if spec.get("maxUnavailable") is not None:
        return max(0, expected - scaled(spec["maxUnavailable"], expected, up=True))
    return scaled(_or(spec.get("minAvailable"), 1), expected, up=True)


def _is_ours(pod: KubeObject, obj: KubeObject) -> bool:
    return selector_matches(obj["spec"]["selector"], pod["metadata"].get("labels") or {})


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value

"""How many pods stand behind a Service, and how many of them are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.workloads import is_ready, pods_of, selector_matches
from firebreak.domain.ports import ClusterPort
from firebreak.domain.target import ResourceKind, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Pods behind one Service: `ready` of `present`; those on their way out count for neither, and the surge of a
    roll-out (pods beyond what the workloads behind it want) does not count as present."""

    service: str
    ready: int
    present: int


async def capacity_of(cluster: ClusterPort, service: TargetRef, *, timeout: timedelta) -> Capacity:
    """From the Service's EndpointSlices (each pod once, however many slices and addresses it has); where there is no
    slice at all, from the pods that its selector matches. TargetNotFound when there is no such Service either."""
    slices = await cluster.list(
        ResourceKind.ENDPOINT_SLICE,
        service.namespace,
        labels={"kubernetes.io/service-name": service.name},
        timeout=timeout,
    )
    if not slices:
        return await _from_pods(cluster, service, timeout)
    endpoints: dict[str, bool] = {}
    for part in slices:
        for endpoint in part.get("endpoints") or ():
            state = endpoint.get("conditions") or {}
            if state.get("terminating"):
                continue
            key = _identity(endpoint)
            # `ready` unset means ready (discovery.k8s.io/v1, EndpointConditions)
            endpoints[key] = endpoints.get(key, True) and state.get("ready") is not False
    present = min(len(endpoints), await _wanted(cluster, service, timeout) or len(endpoints))
    return Capacity(service=service.name, ready=sum(endpoints.values()), present=present)


async def _wanted(cluster: ClusterPort, service: TargetRef, timeout: timedelta) -> int:
    """How many pods the workloads behind the Service want in all; 0 where none of them is known."""
    obj = await cluster.get(service, timeout=timeout)
    selector = (obj.get("spec") or {}).get("selector")
    if not selector:
        return 0
    kinds = (ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET)
    listed = await asyncio.gather(*(cluster.list(kind, service.namespace, timeout=timeout) for kind in kinds))
    specs = [workload.get("spec") or {} for workloads in listed for workload in workloads]
    return sum(
        int(spec.get("replicas", 1))
        for spec in specs
        if selector_matches(
            {"matchLabels": selector}, (spec.get("template") or {}).get("metadata", {}).get("labels", {})
        )
    )


def _identity(endpoint: Mapping[str, Any]) -> str:
    pod = endpoint.get("targetRef") or {}
    return str(pod.get("uid") or pod.get("name") or ",".join(endpoint.get("addresses") or ()))


async def _from_pods(cluster: ClusterPort, service: TargetRef, timeout: timedelta) -> Capacity:
    obj = await cluster.get(service, timeout=timeout)
    selector = (obj.get("spec") or {}).get("selector")
    if not selector:
        return Capacity(service=service.name, ready=0, present=0)
    pods = await pods_of(cluster, service.namespace, {"matchLabels": selector}, timeout=timeout)
    present = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
    return Capacity(service=service.name, ready=sum(map(is_ready, present)), present=len(present))

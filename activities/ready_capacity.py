"""How many pods stand behind a Service, and how many of them are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.workloads import is_ready, pods_of, selector_matches
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef

_SCALED = (ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Pods behind one Service: `ready` and `present`, those on their way out not counted. `present` are as many as the
    workloads behind it want, whether they are there or cannot be (the surge of a roll-out is beyond that), and pods of
    nobody known. `flaw`: why none can be reached however ready they are; empty = they can."""

    service: str
    ready: int
    present: int
    flaw: str = ""


async def capacity_of(
    cluster: ClusterPort, service: TargetRef, *, port: int | None = None, timeout: timedelta
) -> Capacity:
    """Ready ones from the Service's EndpointSlices (each pod once, however many slices and addresses it has); where
    there is no slice at all, from the pods that its selector matches. None is ready at a `port` that the Service does
    not have, or that its pods do not serve. TargetNotFound when there is no such Service either."""
    slices = await cluster.list(
        ResourceKind.ENDPOINT_SLICE,
        service.namespace,
        labels={"kubernetes.io/service-name": service.name},
        timeout=timeout,
    )
    obj = await cluster.get(service, timeout=timeout)
    spec = obj.get("spec") or {}
    ports = spec.get("ports") or ()
    # a route's calls come by TCP, and the same number may be there by UDP, too
    tcp = (p for p in ports if p.get("port") == port and (p.get("protocol") or "TCP") == "TCP")
    asked = next(tcp, None) if ports and port is not None else {}
    flaw = "" if asked is not None else f"Service {service.name} has no port {port}"
    if asked and slices and not any(_serves(part, asked) for part in slices):
        flaw = f"no pod of Service {service.name} serves its port {port}"
    present_ones: set[str] = set()
    endpoints: dict[str, bool] = {}  # of the slices that serve the port: each port may have slices of its own
    for part in slices:
        served = asked is not None and _serves(part, asked)
        for endpoint in part.get("endpoints") or ():
            state = endpoint.get("conditions") or {}
            if state.get("terminating"):
                continue
            key = _identity(endpoint)
            present_ones.add(key)
            if not served:
                continue
            # Unset means ready (discovery.k8s.io/v1, EndpointConditions). Where a Service publishes addresses that are
            # not ready, `ready` is true of them, and `serving` says how they are.
            answers = all(state.get(name) is not False for name in ("ready", "serving"))
            endpoints[key] = endpoints.get(key, True) and answers
    selector = spec.get("selector")
    if not selector:  # somebody keeps its endpoints by hand
        return Capacity(service=service.name, ready=sum(endpoints.values()), present=len(present_ones), flaw=flaw)
    listed, *workloads = await asyncio.gather(
        pods_of(cluster, service.namespace, {"matchLabels": selector}, timeout=timeout),
        *(cluster.list(kind, service.namespace, timeout=timeout) for kind in _SCALED),
    )
    pods = [pod for pod in listed if not _over(pod)]
    present = _meant(pods, (workload for found in workloads for workload in found), selector)
    ready = sum(endpoints.values()) if slices else 0 if asked is None else sum(map(is_ready, pods))
    return Capacity(service=service.name, ready=ready, present=present or len(present_ones), flaw=flaw)


def _serves(part: KubeObject, asked: Mapping[str, Any]) -> bool:
    """Whether the endpoints of a slice serve that port of their Service (no port: any): a slice names those that its
    pods have, none where a named `targetPort` is none of theirs."""
    name = asked.get("name") or ""
    return not asked or any((port.get("name") or "") == name for port in part.get("ports") or ())


def _meant(pods: Iterable[KubeObject], workloads: Iterable[KubeObject], selector: Mapping[str, str]) -> int:
    """How many pods the workloads behind a Service want in all, and how many of `pods` belong to none of them."""
    specs = [workload.get("spec") or {} for workload in workloads]
    behind = [s for s in specs if selector_matches({"matchLabels": selector}, _labels(s.get("template") or {}))]
    strangers = sum(1 for p in pods if not any(selector_matches(s.get("selector"), _labels(p)) for s in behind))
    return strangers + sum(int(spec.get("replicas", 1)) for spec in behind)


def _over(pod: KubeObject) -> bool:
    """On its way out, or ended: an evicted pod is kept for its story."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["metadata"].get("deletionTimestamp")) or phase in ("Succeeded", "Failed")


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def _identity(endpoint: Mapping[str, Any]) -> str:
    pod = endpoint.get("targetRef") or {}
    return str(pod.get("uid") or pod.get("name") or ",".join(endpoint.get("addresses") or ()))

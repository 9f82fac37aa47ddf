"""Keeps the shop's view of the cluster true: pods, routes and flags of its namespace, watched for ever.

While the API server is away the last state stays in use, as kubelets and proxies do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from firebreak.domain.errors import PreconditionFailed, TransientError
from firebreak.lab.faults import Pod
from firebreak.lab.kube import JSON, KubeClient, WatchExpired
from firebreak.lab.model import ClusterView
from firebreak.lab.shape import FLAG_DELAY, FLAGS_CONFIG_MAP, NAMESPACE, SERVICES

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"

_RETRY = 0.5  # seconds
_CONTROLLER = "firebreak.dev/shop"

log = logging.getLogger(__name__)


def ready_pod(manifest: JSON) -> Pod | None:
    """The pod, when it takes traffic: Ready, not on its way out, and of a known service and version."""
    meta = manifest["metadata"]
    labels = meta.get("labels") or {}
    service, version = labels.get("app", ""), labels.get("version", "")
    if service not in SERVICES or version not in SERVICES[service].versions or meta.get("deletionTimestamp"):
        return None
    conditions = manifest.get("status", {}).get("conditions") or []
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        return None
    created = datetime.strptime(meta["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    return Pod(meta["name"], service, version, manifest["spec"]["containers"][0]["image"], created)


def route_weights(manifest: JSON) -> Mapping[str, int]:
    """Weight by version of the route's first rule; a weight that is left out is 1, as the Gateway API says."""
    service = manifest["metadata"]["name"]
    rules = manifest["spec"].get("rules") or [{}]
    weights = {}
    for backend in rules[0].get("backendRefs") or []:
        prefix, _, version = backend["name"].rpartition("-")
        if prefix == service:
            weights[version] = int(backend.get("weight", 1))
    return weights


def accepted_status(manifest: JSON, now: str) -> dict[str, Any] | None:
    """What the route controller has to write into the status: conditions for this generation. None = it is there."""
    generation = manifest["metadata"]["generation"]
    known = {shape.deployment(version) for shape in SERVICES.values() for version in shape.versions}
    names = [b["name"] for rule in manifest["spec"].get("rules") or [] for b in rule.get("backendRefs") or []]
    missing = sorted(set(names) - known)
    for parent in manifest.get("status", {}).get("parents") or []:
        seen = {c["type"]: c.get("observedGeneration") for c in parent.get("conditions") or []}
        if (
            parent.get("controllerName") == _CONTROLLER
            and seen.get("Accepted") == seen.get("ResolvedRefs") == generation
        ):
            return None

    def condition(kind: str, reason: str, message: str, *, good: bool = True) -> dict[str, Any]:
        return {
            "type": kind,
            "status": "True" if good else "False",
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": now,
        }

    resolved = (
        condition("ResolvedRefs", "BackendNotFound", f"no Service named {', '.join(missing)}", good=False)
        if missing
        else condition("ResolvedRefs", "ResolvedRefs", "")
    )
    parents = [
        {
            "parentRef": parent,
            "controllerName": _CONTROLLER,
            "conditions": [condition("Accepted", "Accepted", ""), resolved],
        }
        for parent in manifest["spec"].get("parentRefs") or []
    ]
    return {"status": {"parents": parents}}


class Watcher:
    """`view` is always the newest state. `synced` is set once pods, routes and flags were all listed."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._pods: dict[str, Pod] = {}
        self._weights: dict[str, Mapping[str, int]] = {}
        self._flags: Mapping[str, str] = MappingProxyType({})
        self._listed: set[str] = set()
        self._late: set[asyncio.Task[None]] = set()
        self.synced = asyncio.Event()
        self.view = ClusterView()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(PODS, self._pod_changed, self._pods_listed))
            group.create_task(self._follow(ROUTES, self._route_changed, self._routes_listed))
            flags = f"{CONFIG_MAPS}?fieldSelector=metadata.name%3D{FLAGS_CONFIG_MAP}"
            group.create_task(self._follow(flags, self._flags_changed, self._flags_listed))

    async def _follow(
        self,
        path: str,
        changed: Callable[[str, JSON], Awaitable[None]],
        listed: Callable[[list[JSON]], Awaitable[None]],
    ) -> None:
        revision = ""
        while True:
            try:
                if not revision:
                    answer = await self._client.get(path)
                    await listed(list(answer["items"]))
                    revision = answer["metadata"]["resourceVersion"]
                    self._listed.add(path)
                    self._refresh()
                async for kind, manifest in self._client.watch(path, revision):
                    revision = manifest["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        await changed(kind, manifest)
                        self._refresh()
            except WatchExpired:
                revision = ""
            except TransientError as error:
                log.warning("%s", error)
                revision = ""  # also tries again what a handler could not write
                await asyncio.sleep(_RETRY)

    def _refresh(self) -> None:
        ready: dict[tuple[str, str], list[Pod]] = {}
        for pod in self._pods.values():
            ready.setdefault((pod.service, pod.version), []).append(pod)
        self.view = ClusterView(
            {key: tuple(pods) for key, pods in ready.items()}, dict(self._weights), dict(self._flags)
        )
        if len(self._listed) == 3:
            self.synced.set()

    async def _pods_listed(self, items: list[JSON]) -> None:
        self._pods = {pod.name: pod for pod in map(ready_pod, items) if pod is not None}

    async def _pod_changed(self, kind: str, manifest: JSON) -> None:
        pod = None if kind == "DELETED" else ready_pod(manifest)
        if pod is None:
            self._pods.pop(manifest["metadata"]["name"], None)
        else:
            self._pods[pod.name] = pod

    async def _routes_listed(self, items: list[JSON]) -> None:
        self._weights = {}
        for manifest in items:
            await self._route_changed("ADDED", manifest)

    async def _route_changed(self, kind: str, manifest: JSON) -> None:
        name = manifest["metadata"]["name"]
        if kind == "DELETED":
            self._weights.pop(name, None)
            return
        self._weights[name] = route_weights(manifest)
        status = accepted_status(manifest, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        if status is not None:
            try:
                await self._client.merge(f"{ROUTES}/{name}/status", status)
            except PreconditionFailed as error:  # deleted meanwhile
                log.warning("the status of route %s was not written: %s", name, error)

    async def _flags_listed(self, items: list[JSON]) -> None:
        for task in self._late:  # what they bring is older than the list
            task.cancel()
        self._flags = items[0].get("data") or {} if items else {}

    async def _flags_changed(self, kind: str, manifest: JSON) -> None:
        data = {} if kind == "DELETED" else manifest.get("data") or {}
        task = asyncio.create_task(self._arrive_late(data))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _arrive_late(self, data: Mapping[str, str]) -> None:
        await asyncio.sleep(FLAG_DELAY)
        self._flags = data
        self._refresh()

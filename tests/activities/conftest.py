"""A ClusterPort in memory that counts what is written, and the same world on the real API server."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.action import Progress, ProgressState, StepContext
from firebreak.domain.errors import TargetChanged, TargetNotFound
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.loop import new_loop
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser

STAMP = datetime(2026, 11, 21, 8, 36, 44, 123456, tzinfo=UTC)
NOBODY = "nobody"
Hook = Callable[[], Awaitable[None]]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeCluster:
    """Objects with UID, resourceVersion and generation as the API server keeps them. `writes` counts changes that
    were kept; `before_patch` hooks run once each, between a caller's read and its write; `fail` gives errors by
    operation, `fail_after_commit` those that come after the write was kept (a reply that was lost). What is asked of a
    kind in `hanging` is never answered; `limits` are the time limits of all reads, `cached` the kinds of which a list
    from the API server's cache was taken."""

    def __init__(self) -> None:
        self.name = "lab"
        self.objects: dict[tuple[ResourceKind, str, str], dict[str, Any]] = {}
        self.log_texts: dict[tuple[str, str], str] = {}
        self.writes = 0
        self.dry_runs = 0
        self.bodies: list[Mapping[str, Any]] = []
        self.before_patch: list[Hook] = []
        self.fail: dict[str, list[Exception]] = {}
        self.fail_after_commit: list[Exception] = []
        self.hanging: set[ResourceKind] = set()
        self.limits: list[timedelta] = []
        self.cached: list[ResourceKind] = []
        self._version = 100

    def put(self, kind: ResourceKind, obj: Mapping[str, Any]) -> TargetRef:
        """Create or replace, with a new UID."""
        made = copy.deepcopy(dict(obj))
        meta = made.setdefault("metadata", {})
        meta.setdefault("namespace", "" if kind is ResourceKind.NODE else "shop")
        meta["uid"] = meta.get("uid") or str(uuid.uuid4())
        meta["resourceVersion"] = self._next()
        meta.setdefault("generation", 1)
        made.update(apiVersion=kind.api_version, kind=kind.kind)
        self.objects[kind, meta["namespace"], meta["name"]] = made
        return TargetRef(cluster=self.name, namespace=meta["namespace"], kind=kind, name=meta["name"])

    def change(self, ref: TargetRef, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Somebody else's write."""
        before = self._find(ref)
        after: dict[str, Any] = merged(before, patch)
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] += 1
        if after != before:
            after["metadata"]["resourceVersion"] = self._next()
        self.objects[ref.kind, ref.namespace, ref.name] = after
        return after

    async def get(self, ref: TargetRef, *, timeout: timedelta) -> KubeObject:
        self.limits.append(timeout)
        self._maybe_fail("get")
        await self._maybe_hang(ref.kind)
        return copy.deepcopy(self._find(ref))

    async def list(
        self,
        kind: ResourceKind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        cached: bool = False,
        timeout: timedelta,
    ) -> tuple[KubeObject, ...]:
        self.limits.append(timeout)
        if cached:
            self.cached.append(kind)
        self._maybe_fail("list")
        self._maybe_fail(f"list {kind.plural}")
        await self._maybe_hang(kind)
        return tuple(
            copy.deepcopy(obj)
            for (k, ns, _), obj in self.objects.items()
            if k is kind
            and (not namespace or ns == namespace)
            and all((obj["metadata"].get("labels") or {}).get(n) == v for n, v in (labels or {}).items())
        )

    async def patch(
        self,
        ref: TargetRef,
        body: Mapping[str, Any],
        *,
        dry_run: bool = False,
        timeout: timedelta,
    ) -> KubeObject:
        if self.before_patch and not dry_run:
            await self.before_patch.pop(0)()
        self._maybe_fail("dry run" if dry_run else "patch")
        current = self._find(ref)
        expected = (body.get("metadata") or {}).get("resourceVersion")
        if expected is not None and expected != current["metadata"]["resourceVersion"]:
            raise TargetChanged(f"{ref.text}: 409 Conflict")
        if dry_run:
            self.dry_runs += 1
            would: dict[str, Any] = merged(current, body)
            return would
        self.bodies.append(body)
        changed = self.change(ref, body)
        self.writes += changed["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]
        if self.fail_after_commit:
            raise self.fail_after_commit.pop(0)
        return copy.deepcopy(changed)

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, timeout: timedelta
    ) -> str:
        self._maybe_fail("logs")
        return self.log_texts[pod, container]

    def _find(self, ref: TargetRef) -> dict[str, Any]:
        try:
            return self.objects[ref.kind, ref.namespace, ref.name]
        except KeyError:
            raise TargetNotFound(f"{ref.text} does not exist") from None

    def _maybe_fail(self, what: str) -> None:
        if self.fail.get(what):
            raise self.fail[what].pop(0)

    async def _maybe_hang(self, kind: ResourceKind) -> None:
        if kind in self.hanging:
            await asyncio.Event().wait()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)


def workload_body(
    name: str, replicas: int, kind: ResourceKind = ResourceKind.DEPLOYMENT, **spec: Any
) -> dict[str, Any]:
    """Manifest of a workload with label app=<name>."""
    body: dict[str, Any] = {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": f"registry.example/{name}:1"}],
                },
            },
            **spec,
        },
    }
    if kind is ResourceKind.DAEMONSET:
        del body["spec"]["replicas"]
    if kind is ResourceKind.STATEFULSET:
        body["spec"]["serviceName"] = name
    return body


def complete_status(kind: ResourceKind, replicas: int) -> dict[str, Any]:
    """Status of a workload whose roll-out is over."""
    if kind is ResourceKind.DAEMONSET:
        names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable")
    else:
        names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status: dict[str, Any] = {"observedGeneration": 1, **dict.fromkeys(names, replicas)}
    if kind is ResourceKind.STATEFULSET:
        status |= {"currentRevision": "web-1", "updateRevision": "web-1"}
    return status


class FakeWorld:
    """What a contract test needs of a cluster, in memory."""

    namespace = "shop"

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: ClusterPort = self.fake

    async def create(self, kind: ResourceKind, body: Mapping[str, Any]) -> TargetRef:
        return self.fake.put(kind, body)

    async def workload(
        self, name: str, *, replicas: int = 2, kind: ResourceKind = ResourceKind.DEPLOYMENT, **spec: Any
    ) -> TargetRef:
        """A workload whose pods are all ready."""
        body = workload_body(name, replicas, kind, **spec)
        return self.fake.put(kind, {**body, "status": complete_status(kind, replicas)})

    async def service(self, name: str, *, pods: int = 2) -> None:
        """A Service with that many ready pods."""
        endpoints = [
            {"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}, "targetRef": {"uid": f"{name}-{n}"}}
            for n in range(pods)
        ]
        self.fake.put(ResourceKind.SERVICE, {"metadata": {"name": name}, "spec": {"selector": {"app": name}}})
        meta = {"name": f"{name}-abcde", "labels": {"kubernetes.io/service-name": name}}
        self.fake.put(ResourceKind.ENDPOINT_SLICE, {"metadata": meta, "endpoints": endpoints})

    async def scale(self, name: str, pods: int) -> None:
        """That Service has so many ready pods now."""
        await self.service(name, pods=pods)

    async def edit(self, ref: TargetRef, patch: Mapping[str, Any]) -> None:
        """A write by somebody else."""
        self.fake.change(ref, patch)

    async def replace(self, ref: TargetRef) -> None:
        """Delete it and create it again: the same name, another UID."""
        obj = copy.deepcopy(self.fake.objects[ref.kind, ref.namespace, ref.name])
        del obj["metadata"]["uid"]
        self.fake.put(ref.kind, obj)


class RealWorld:
    """The same on the real API server with its controllers, in a namespace of its own."""

    def __init__(self, plane: ControlPlane, cluster: KubernetesCluster, namespace: str) -> None:
        self.plane = plane
        self.cluster: ClusterPort = cluster
        self.namespace = namespace

    def path(self, kind: ResourceKind, name: str = "") -> str:
        root = f"/{'apis' if '/' in kind.api_version else 'api'}/{kind.api_version}"
        return f"{root}/namespaces/{self.namespace}/{kind.plural}{f'/{name}' if name else ''}"

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> Any:
        content = None if body is None else json.dumps(body).encode()
        answer = await self.plane.request(method, path, body=content, content_type=content_type)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        return json.loads(answer.body)

    async def create(self, kind: ResourceKind, body: Mapping[str, Any]) -> TargetRef:
        made = await self.call("POST", self.path(kind), {"apiVersion": kind.api_version, "kind": kind.kind, **body})
        name = made["metadata"]["name"]
        return TargetRef(cluster=self.cluster.name, namespace=self.namespace, kind=kind, name=name)

    async def workload(
        self, name: str, *, replicas: int = 2, kind: ResourceKind = ResourceKind.DEPLOYMENT, **spec: Any
    ) -> TargetRef:
        ref = await self.create(kind, workload_body(name, replicas, kind, **spec))
        wanted = complete_status(kind, replicas)
        counts = [n for n in wanted if n not in ("currentRevision", "updateRevision")]
        await self.until(ref, lambda obj: all(obj.get("status", {}).get(n) == wanted[n] for n in counts))
        return ref

    async def service(self, name: str, *, pods: int = 2) -> None:
        await self.workload(name, replicas=pods)
        ports = [{"port": 80, "name": "http"}]
        body = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}
        await self.create(ResourceKind.SERVICE, body)
        await self._until_ready(name, pods)

    async def scale(self, name: str, pods: int) -> None:
        path = self.path(ResourceKind.DEPLOYMENT, name)
        await self.call("PATCH", path, {"spec": {"replicas": pods}}, "application/merge-patch+json")
        await self._until_ready(name, pods)

    async def _until_ready(self, name: str, pods: int) -> None:
        async def ready() -> bool:
            slices = await self.cluster.list(
                ResourceKind.ENDPOINT_SLICE,
                self.namespace,
                labels={"kubernetes.io/service-name": name},
                timeout=timedelta(seconds=5),
            )
            found = [e for s in slices for e in s.get("endpoints") or () if e["conditions"].get("ready")]
            return len(found) == pods

        await _eventually(ready)

    async def full(self) -> Callable[[], Awaitable[None]]:
        """No pod can be made from now on: a roll-out with a surge stands still. Ended by a call of what it returns."""
        path = f"/api/v1/namespaces/{self.namespace}/resourcequotas"
        body = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "0"}},
        }
        await self.call("POST", path, body)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }

        async def refused() -> bool:
            url = f"{self.path(ResourceKind.POD)}?dryRun=All"
            answer = await self.plane.request(
                "POST", url, body=json.dumps(pod).encode(), content_type="application/json"
            )
            return answer.status == 403

        async def release() -> None:
            await self.call("DELETE", f"{path}/full")

        await _eventually(refused)  # the API server hears of a new quota a moment later
        return release

    async def until(self, ref: TargetRef, holds: Callable[[KubeObject], bool]) -> None:
        async def look() -> bool:
            return holds(await self.cluster.get(ref, timeout=timedelta(seconds=5)))

        await _eventually(look)

    async def settled(self, progress: Callable[[], Awaitable[Progress]]) -> None:
        """Wait until it is done; a failure is one."""

        async def look() -> bool:
            now = await progress()
            assert now.state is not ProgressState.FAILED, now.reason
            return now.state is ProgressState.DONE

        await _eventually(look)

    async def eventually(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is so."""
        await _eventually(look)

    async def edit(self, ref: TargetRef, patch: Mapping[str, Any]) -> None:
        await self.call("PATCH", self.path(ref.kind, ref.name), patch, "application/merge-patch+json")

    async def replace(self, ref: TargetRef) -> None:
        path = self.path(ref.kind, ref.name)
        old = await self.call("GET", path)
        await self.call("DELETE", f"{path}?propagationPolicy=Background")
        body = {"metadata": {"name": ref.name}, **{k: old[k] for k in ("spec", "data") if k in old}}
        await self.create(ref.kind, body)


async def _eventually(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await look():  # noqa: ASYNC110  # the condition is another process's
            await asyncio.sleep(0.05)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The loop of the workers, where all of it runs."""
    return {"uvloop": new_loop}


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One real control plane for all of these tests."""
    run_dir: Path = tmp_path_factory.mktemp("cluster")

    async def start() -> ControlPlane:
        plane = await start_control_plane(run_dir=run_dir, users=[KubeUser(NOBODY)], die_with_parent=True)
        await plane.apply_crds()
        return plane

    plane = asyncio.run(start())
    yield plane
    asyncio.run(plane.stop())


@pytest.fixture
async def real_world(control_plane: ControlPlane) -> AsyncIterator[RealWorld]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    async with KubernetesCluster("lab", kubeconfig=control_plane.kubeconfig) as cluster:
        world = RealWorld(control_plane, cluster, namespace)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await world.call("POST", "/api/v1/namespaces", body)
        yield world


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.servers)])
def world(request: pytest.FixtureRequest) -> FakeWorld | RealWorld:
    """Each contract test runs in memory and against the real API server."""
    found: FakeWorld | RealWorld = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
def context() -> Callable[..., StepContext]:
    """A step's context aimed at `target`."""

    def make(target: TargetRef, step_key: str = "inc-20261121-083644-1f0a9c3e/0.0") -> StepContext:
        return StepContext(step_key=step_key, default_target=target, stamp=STAMP)

    return make

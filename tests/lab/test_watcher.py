"""How the shop reads the cluster's state, and how it plays the route controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from firebreak.domain.errors import TransientError
from firebreak.lab import watcher as watcher_module
from firebreak.lab.kube import JSON, KubeAccess, KubeClient, WatchExpired
from firebreak.lab.manifests import flags, image, route
from firebreak.lab.watcher import CONFIG_MAPS, PODS, ROUTES, Watcher, accepted_status, ready_pod, route_weights


def pod(name: str = "pay-v1-a", *, ready: str = "True", deleted: bool = False, version: str = "v1") -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": name,
        "labels": {"app": "pay", "version": version},
        "creationTimestamp": "2026-11-21T08:00:00Z",
        "resourceVersion": "7",
    }
    if deleted:
        meta["deletionTimestamp"] = "2026-11-21T09:00:00Z"
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "app", "image": image("pay", "2.0.4")}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def http_route(generation: int = 1, **weights: int) -> dict[str, Any]:
    manifest = route("pay", weights or {"v1": 100, "v2": 0})
    manifest["metadata"] |= {"generation": generation, "resourceVersion": str(generation)}
    return manifest


def test_a_ready_pod_is_known_with_its_age_and_image() -> None:
    """Creation time in Unix seconds, the image as the template says it."""
    known = ready_pod(pod())
    assert known is not None
    assert (known.service, known.version, known.created_at) == ("pay", "v1", 1_795_248_000.0)
    assert known.image.endswith(":2.0.4")


@pytest.mark.parametrize(
    "manifest",
    [pod(ready="False"), pod(deleted=True), pod(version="v9"), {**pod(), "status": {}}],
    ids=["not ready", "terminating", "unknown version", "no status yet"],
)
def test_a_pod_that_takes_no_traffic_is_none(manifest: dict[str, Any]) -> None:
    """Neither the unready nor those on their way out are picked."""
    assert ready_pod(manifest) is None


def test_a_weight_that_is_left_out_is_one() -> None:
    """As the Gateway API says it."""
    manifest = http_route(v1=3, v2=0)
    del manifest["spec"]["rules"][0]["backendRefs"][0]["weight"]
    assert route_weights(manifest) == {"v1": 1, "v2": 0}


def test_the_route_controller_writes_the_generation_that_it_saw() -> None:
    """Accepted and ResolvedRefs with observedGeneration; nothing more is written once they are there."""
    manifest = http_route(generation=4)
    status = accepted_status(manifest, "2026-11-21T08:00:00Z")
    assert status is not None
    conditions = status["status"]["parents"][0]["conditions"]
    assert {c["type"]: (c["status"], c["observedGeneration"]) for c in conditions} == {
        "Accepted": ("True", 4),
        "ResolvedRefs": ("True", 4),
    }
    assert accepted_status(manifest | status, "2026-11-21T08:00:01Z") is None
    stale = manifest | status | {"metadata": manifest["metadata"] | {"generation": 5}}
    assert accepted_status(stale, "2026-11-21T08:00:01Z") is not None


def test_a_backend_that_does_not_exist_is_not_resolved() -> None:
    """The action's read-back must be able to see that."""
    manifest = http_route()
    manifest["spec"]["rules"][0]["backendRefs"][0]["name"] = "pay-v7"
    status = accepted_status(manifest, "2026-11-21T08:00:00Z")
    assert status is not None
    resolved = status["status"]["parents"][0]["conditions"][1]
    assert (resolved["type"], resolved["status"], resolved["reason"]) == ("ResolvedRefs", "False", "BackendNotFound")


@pytest.mark.parametrize("garbage", [b"", b"null\n", b'{"items": []}\n', b'{"type": "ADDED"}\n', b"<html>"], ids=repr)
async def test_no_broken_answer_of_an_api_server_stops_the_watcher(
    garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that starts answers 403 to everybody until it has read its roles, and a watch may be cut: the shop
    lives on, and lists again."""
    monkeypatch.setattr(watcher_module, "_RETRY", 0.01)
    denied, watches = 3, 0
    again = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal denied, watches
        if denied:
            denied -= 1
            return web.json_response({"kind": "Status", "code": 403}, status=403)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        watches += 1
        if watches > 6:  # each of the three has had one
            again.set()
        return web.Response(body=garbage)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        client = KubeClient(KubeAccess(str(server.make_url("/")), "/nowhere", "t"))
        client._session = session
        watcher = Watcher(client)
        task = asyncio.create_task(watcher.run())
        both = asyncio.create_task(asyncio.wait_for(again.wait(), 10))
        await asyncio.wait((task, both), return_when=asyncio.FIRST_COMPLETED)
        assert not task.done()
        await both
        assert watcher.synced.is_set()
        task.cancel()
        await asyncio.wait((task,))


class ScriptedClient(KubeClient):
    """Answers lists from `content`, and watches from `scripts`, one list of events (or an error) a watch."""

    def __init__(self) -> None:
        super().__init__(KubeAccess("https://127.0.0.1:1", "/nowhere", "t"))
        self.content: dict[str, list[JSON]] = {PODS: [], ROUTES: [], CONFIG_MAPS: []}
        self.events: dict[str, asyncio.Queue[tuple[str, JSON] | Exception]] = {
            path: asyncio.Queue() for path in self.content
        }
        self.lists: list[str] = []
        self.patches: list[tuple[str, JSON]] = []

    async def get(self, path: str) -> JSON:
        key = path.partition("?")[0]
        self.lists.append(key)
        return {"metadata": {"resourceVersion": "1"}, "items": self.content[key]}

    async def watch(self, path: str, revision: str) -> AsyncIterator[tuple[str, JSON]]:
        while True:
            event = await self.events[path.partition("?")[0]].get()
            if isinstance(event, Exception):
                raise event
            yield event

    async def merge(self, path: str, patch: JSON) -> JSON:
        self.patches.append((path, patch))
        return {}


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
async def watching(client: ScriptedClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watcher]:
    monkeypatch.setattr(watcher_module, "FLAG_DELAY", 0.05)
    monkeypatch.setattr(watcher_module, "_RETRY", 0.01)
    client.content = {PODS: [pod()], ROUTES: [http_route()], CONFIG_MAPS: [flags()]}
    watcher = Watcher(client)
    task = asyncio.create_task(watcher.run())
    await asyncio.wait_for(watcher.synced.wait(), 5)
    yield watcher
    task.cancel()
    await asyncio.wait((task,))


async def becomes(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


async def test_a_pod_comes_and_goes_with_its_events(client: ScriptedClient, watching: Watcher) -> None:
    """MODIFIED to not ready takes a pod away as DELETED does."""
    assert len(watching.view.ready["pay", "v1"]) == 1
    client.events[PODS].put_nowait(("ADDED", pod("pay-v1-b")))
    await becomes(lambda: len(watching.view.ready["pay", "v1"]) == 2)
    client.events[PODS].put_nowait(("MODIFIED", pod("pay-v1-b", ready="False")))
    await becomes(lambda: len(watching.view.ready["pay", "v1"]) == 1)
    client.events[PODS].put_nowait(("DELETED", pod()))
    await becomes(lambda: ("pay", "v1") not in watching.view.ready)


@pytest.mark.parametrize("error", [WatchExpired(), TransientError("broken")], ids=["410", "broken"])
async def test_after_a_lost_watch_everything_is_listed_again(
    client: ScriptedClient, watching: Watcher, error: Exception
) -> None:
    """What happened meanwhile is seen in the new list."""
    client.content[PODS] = [pod("pay-v1-x"), pod("pay-v1-y")]
    client.events[PODS].put_nowait(error)
    await becomes(lambda: {p.name for p in watching.view.ready["pay", "v1"]} == {"pay-v1-x", "pay-v1-y"})
    assert client.lists.count(PODS) == 2


async def test_weights_apply_at_once_and_are_acknowledged(client: ScriptedClient, watching: Watcher) -> None:
    """The route controller's answer names the new generation."""
    client.events[ROUTES].put_nowait(("MODIFIED", http_route(generation=2, v1=0, v2=100)))
    await becomes(lambda: watching.view.weights["pay"] == {"v1": 0, "v2": 100})
    await becomes(lambda: len(client.patches) == 2)
    path, patch = client.patches[-1]
    assert path.endswith("/httproutes/pay/status")
    assert patch["status"]["parents"][0]["conditions"][0]["observedGeneration"] == 2


async def test_flags_arrive_with_a_delay(client: ScriptedClient, watching: Watcher) -> None:
    """As a kubelet brings a ConfigMap to a pod: not with the event."""
    changed = flags() | {"data": {"recommend.enabled": "false"}}
    changed["metadata"] = {**changed["metadata"], "resourceVersion": "2"}
    client.events[CONFIG_MAPS].put_nowait(("MODIFIED", changed))
    await becomes(client.events[CONFIG_MAPS].empty)
    assert watching.view.flags["recommend.enabled"] == "true"
    await becomes(lambda: watching.view.flags["recommend.enabled"] == "false")


async def test_a_flag_that_is_late_does_not_undo_a_newer_one(client: ScriptedClient, watching: Watcher) -> None:
    """Off as an event, the watch breaks, on again, listed anew: on is what the cluster says, and it stays."""
    changed = flags() | {"data": {"recommend.enabled": "false"}}
    changed["metadata"] = {**changed["metadata"], "resourceVersion": "2"}
    newer = flags() | {"data": {"recommend.enabled": "true", "recommend.again": "true"}}
    client.content[CONFIG_MAPS] = [newer]
    client.events[CONFIG_MAPS].put_nowait(("MODIFIED", changed))
    client.events[CONFIG_MAPS].put_nowait(TransientError("broken"))
    await becomes(lambda: "recommend.again" in watching.view.flags)
    # A further change goes the same way as the late one, behind it: once it is there, the late one would be, too.
    seen = watching.view.flags
    last = newer | {"data": newer["data"] | {"recommend.last": "true"}}
    last["metadata"] = {**last["metadata"], "resourceVersion": "4"}
    client.events[CONFIG_MAPS].put_nowait(("MODIFIED", last))
    async with asyncio.timeout(5):
        while "recommend.last" not in watching.view.flags:
            assert watching.view.flags == seen
            await asyncio.sleep(0.001)

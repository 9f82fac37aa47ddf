"""ClusterPort over the real API server; refusals of our own making where it cannot be brought to them."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import lightkube.core.exceptions as lightkube_errors
import pytest

from firebreak.connectors import kubernetes
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.kubernetes_start import Starting
from firebreak.domain.errors import (
    FirebreakError,
    PermanentError,
    PermissionDenied,
    PreconditionFailed,
    SettingsInvalid,
    TargetChanged,
    TargetNotFound,
    TransientError,
)
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.lab.control import until
from firebreak.servers.kubernetes import ControlPlane

LIMIT = timedelta(seconds=10)


def ref(name: str, *, namespace: str = "default", kind: ResourceKind = ResourceKind.CONFIG_MAP) -> TargetRef:
    return TargetRef(cluster="lab", namespace=namespace, kind=kind, name=name)


def flags(name: str, **data: str) -> dict[str, Any]:
    labels = {"suite": "connectors", "app": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster("lab", kubeconfig=control_plane.kubeconfig) as found:
        yield found


@pytest.fixture
async def config_map(control_plane: ControlPlane) -> str:
    """A fresh ConfigMap with `recommend.enabled: "true"`; its name."""
    name = f"flags-{uuid.uuid4().hex[:8]}"
    path = f"/api/v1/namespaces/default/configmaps/{name}"
    await control_plane.apply(path, json.dumps(flags(name, **{"recommend.enabled": "true"})).encode())
    return name


@pytest.mark.servers
async def test_an_object_comes_as_the_server_wrote_it(cluster: KubernetesCluster, config_map: str) -> None:
    """Plain data with kind, UID and resourceVersion."""
    found = await cluster.get(ref(config_map), timeout=LIMIT)
    assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")
    assert found["data"] == {"recommend.enabled": "true"}
    assert found["metadata"]["uid"]
    assert found["metadata"]["resourceVersion"]


@pytest.mark.servers
async def test_cluster_wide_kinds_need_no_namespace(cluster: KubernetesCluster) -> None:
    """Nodes and namespaces live outside of namespaces."""
    namespace = await cluster.get(ref("default", namespace="", kind=ResourceKind.NAMESPACE), timeout=LIMIT)
    assert namespace["kind"] == "Namespace"
    assert len(await cluster.list(ResourceKind.NODE, "", timeout=LIMIT)) == 1


@pytest.mark.servers
async def test_a_patch_changes_one_field_and_names_its_manager(cluster: KubernetesCluster, config_map: str) -> None:
    """The rest stays; `managedFields` says who it was; the answer is the object as it is now."""
    before = await cluster.get(ref(config_map), timeout=LIMIT)
    body = {"data": {"other": "1"}}
    after = await cluster.patch(ref(config_map), body, timeout=LIMIT)
    assert after["data"] == {"recommend.enabled": "true", "other": "1"}
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    managers = {entry["manager"] for entry in after["metadata"]["managedFields"]}
    assert "firebreak" in managers


@pytest.mark.servers
async def test_a_dry_run_changes_nothing(cluster: KubernetesCluster, config_map: str) -> None:
    """The answer shows the change; the object stays at its version."""
    before = await cluster.get(ref(config_map), timeout=LIMIT)
    body = {"data": {"recommend.enabled": "false"}}
    shown = await cluster.patch(ref(config_map), body, dry_run=True, timeout=LIMIT)
    assert shown["data"]["recommend.enabled"] == "false"
    assert await cluster.get(ref(config_map), timeout=LIMIT) == before


@pytest.mark.servers
async def test_a_stale_version_is_a_changed_target(cluster: KubernetesCluster, config_map: str) -> None:
    """409: somebody was there in between."""
    version = (await cluster.get(ref(config_map), timeout=LIMIT))["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "data": {"a": "1"}}
    await cluster.patch(ref(config_map), body, timeout=LIMIT)
    with pytest.raises(TargetChanged, match=config_map):
        await cluster.patch(ref(config_map), body, timeout=LIMIT)


@pytest.mark.servers
@pytest.mark.parametrize(
    "body",
    [
        {"data": {"a": 1}},
        {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}},
        {"data": {"no such/key": "1"}},
    ],
)
async def test_a_patch_that_can_never_be_taken_is_refused_for_good(
    cluster: KubernetesCluster, config_map: str, body: dict[str, Any]
) -> None:
    """400 and 422 (and another UID): a retry cannot help."""
    before = await cluster.get(ref(config_map), timeout=LIMIT)
    with pytest.raises((PreconditionFailed, TargetChanged)):
        await cluster.patch(ref(config_map), body, timeout=LIMIT)
    assert await cluster.get(ref(config_map), timeout=LIMIT) == before


@pytest.mark.servers
@pytest.mark.parametrize(
    "where", [ref("no-such"), ref("x", namespace="no-such"), ref("x", kind=ResourceKind.HTTP_ROUTE)]
)
async def test_what_is_not_there_is_not_found(cluster: KubernetesCluster, where: TargetRef) -> None:
    """A missing object, a missing namespace, an API that this cluster does not serve."""
    with pytest.raises(TargetNotFound, match="in namespace"):
        await cluster.get(where, timeout=LIMIT)
    with pytest.raises(TargetNotFound):
        await cluster.patch(where, {"data": {}}, timeout=LIMIT)


@pytest.mark.servers
async def test_a_refusal_by_rbac_names_verb_resource_and_namespace(control_plane: ControlPlane) -> None:
    """What to grant stands in the error."""
    async with KubernetesCluster("lab", kubeconfig=control_plane.kubeconfigs["nobody"]) as cluster:
        with pytest.raises(PermissionDenied) as caught:
            await cluster.patch(ref("pay", namespace="shop", kind=ResourceKind.DEPLOYMENT), {}, timeout=LIMIT)
        assert "patch deployments.apps pay in namespace shop" in str(caught.value)
        assert "patch on deployments.apps in namespace shop" in caught.value.next_step()
        with pytest.raises(PermissionDenied, match="list pods in namespace shop"):
            await cluster.list(ResourceKind.POD, "shop", timeout=LIMIT)


@pytest.mark.servers
async def test_an_unknown_token_is_a_matter_of_permission(control_plane: ControlPlane, tmp_path: Path) -> None:
    """401, and the token is not in the text."""
    config = json.loads(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong-token-123"}
    (tmp_path / "config").write_text(json.dumps(config))
    async with KubernetesCluster("lab", kubeconfig=tmp_path / "config") as cluster:
        with pytest.raises(PermissionDenied) as caught:
            await cluster.get(ref("x"), timeout=LIMIT)
    assert "wrong-token-123" not in str(caught.value) + caught.value.next_step() + repr(cluster)


@pytest.mark.servers
async def test_a_list_is_whole_and_its_items_know_their_kind(
    control_plane: ControlPlane, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are read; labels choose; items look as a GET would give them."""
    monkeypatch.setattr(kubernetes, "PAGE", 2)
    names = {f"many-{uuid.uuid4().hex[:8]}" for _ in range(5)}
    for name in names:
        await control_plane.apply(f"/api/v1/namespaces/default/configmaps/{name}", json.dumps(flags(name)).encode())
    found = await cluster.list(ResourceKind.CONFIG_MAP, "default", labels={"suite": "connectors"}, timeout=LIMIT)
    assert names <= {item["metadata"]["name"] for item in found}
    assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "ConfigMap")}
    one = sorted(names)[0]
    found = await cluster.list(ResourceKind.CONFIG_MAP, "default", labels={"app": one}, timeout=LIMIT)
    assert found == (await cluster.get(ref(one), timeout=LIMIT),)

    async def cached() -> bool:
        kept = await cluster.list(
            ResourceKind.CONFIG_MAP, "default", labels={"suite": "connectors"}, cached=True, timeout=LIMIT
        )
        return names <= {item["metadata"]["name"] for item in kept}

    await until(cached, LIMIT, "the cache to have them, too")
    everywhere = await cluster.list(ResourceKind.CONFIG_MAP, "", timeout=LIMIT)
    assert {"kube-system", "default"} <= {item["metadata"]["namespace"] for item in everywhere}
    assert await cluster.list(ResourceKind.CONFIG_MAP, "no-such", timeout=LIMIT) == ()


@pytest.mark.servers
@pytest.mark.parametrize("cached", [False, True])
async def test_a_list_that_is_too_long_is_refused_and_not_cut(
    cached: bool, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut list would look like health."""
    monkeypatch.setattr(kubernetes, "PAGE", 1)
    monkeypatch.setattr(kubernetes, "MAX_OBJECTS", 2)
    with pytest.raises(PreconditionFailed, match="more than 2"):
        await cluster.list(ResourceKind.NAMESPACE, "", cached=cached, timeout=LIMIT)


@pytest.mark.servers
async def test_logs_of_a_missing_pod_are_not_found(cluster: KubernetesCluster) -> None:
    """Evidence that cannot be had is written down as missing by the caller."""
    with pytest.raises(TargetNotFound, match="pods/log no-such in namespace default"):
        await cluster.logs("default", "no-such", "app", previous=True, tail_lines=10, timeout=LIMIT)


@pytest.mark.servers
@pytest.mark.faults
async def test_an_api_server_that_hangs_does_not_hold_us(
    control_plane: ControlPlane, cluster: KubernetesCluster, halt: Any
) -> None:
    """SIGSTOP, on a kept connection and on a new one: each call ends at its own limit, and all works again later."""
    name = f"hang-{uuid.uuid4().hex[:8]}"
    await control_plane.apply(f"/api/v1/namespaces/default/configmaps/{name}", json.dumps(flags(name)).encode())
    await cluster.get(ref(name), timeout=LIMIT)
    server, loop = control_plane.processes["kube-apiserver"], asyncio.get_running_loop()
    short = timedelta(milliseconds=300)
    await halt(server)
    try:
        async with KubernetesCluster("lab", kubeconfig=control_plane.kubeconfig) as fresh:
            for each in (cluster, fresh):
                patch = {"data": {"a": "1"}}
                for call in (
                    partial(each.get, ref(name)),
                    partial(each.patch, ref(name), patch, dry_run=True),
                    partial(each.list, ResourceKind.POD, "default"),
                ):
                    began = loop.time()
                    with pytest.raises(TransientError, match=r"did not answer|cannot be reached"):
                        await call(timeout=short)
                    assert loop.time() - began < 2
    finally:
        server.signal(signal.SIGCONT)
    assert (await cluster.get(ref(name), timeout=timedelta(seconds=30)))["metadata"]["name"] == name


# --- without a server -------------------------------------------------------------------------------------------


KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/prefix"}}],
    "users": [{"name": "u", "user": {"token": "token-123"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(json.dumps(KUBECONFIG))
    return path


Handler = Callable[[httpx2.Request], httpx2.Response]


def played(kubeconfig: Path, handler: Handler) -> KubernetesCluster:
    return KubernetesCluster("lab", kubeconfig=kubeconfig, transport=httpx2.MockTransport(handler))


def status(code: int, **more: Any) -> httpx2.Response:
    return httpx2.Response(code, json={"kind": "Status", "code": code, "message": "why", **more})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (302, PermanentError),
        (400, PreconditionFailed),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, TargetNotFound),
        (405, PreconditionFailed),
        (406, PreconditionFailed),
        (408, TransientError),
        (409, TargetChanged),
        (410, TransientError),
        (413, PreconditionFailed),
        (415, PreconditionFailed),
        (418, PreconditionFailed),
        (422, PreconditionFailed),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
        (504, TransientError),
    ],
)
async def test_each_status_is_the_error_the_port_promises(
    kubeconfig: Path, code: int, error: type[FirebreakError]
) -> None:
    """One request each: neither reads nor writes are repeated here."""
    asked: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/readyz"):
            return httpx2.Response(200, text="ok")
        asked.append(request)
        return status(code)

    async with played(kubeconfig, handler) as cluster:
        with pytest.raises(error) as caught:
            await cluster.patch(ref("x"), {}, timeout=LIMIT)
    assert type(caught.value) is error
    assert "why" in str(caught.value)
    assert caught.value.next_step()
    assert len(asked) == 1


@pytest.mark.parametrize("ready", [403, 500, None], ids=["403", "500", "silent"])
async def test_a_server_that_is_starting_denies_nothing_for_good(kubeconfig: Path, ready: int | None) -> None:
    """Until it has read its roles it answers 403 to everybody, /readyz included (1.34: seen for 2 s): asked again."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/prefix/readyz"):
            return status(403)
        if ready is None:
            raise httpx2.ConnectError("gone again")
        return status(ready)

    async with played(kubeconfig, handler) as cluster:
        with pytest.raises(TransientError, match="why") as caught:
            await cluster.patch(ref("x"), {}, timeout=LIMIT)
    assert "Grant" in caught.value.next_step()


async def test_a_server_that_has_just_let_us_in_is_not_starting(kubeconfig: Path) -> None:
    """What it denies then is a right that is missing, also where nobody may ask whether it is ready."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        found = {"metadata": {"name": "x", "uid": "u", "resourceVersion": "1"}}
        return httpx2.Response(200, json=found) if request.url.path.endswith("/x") else status(403)

    async with played(kubeconfig, handler) as cluster:
        await cluster.get(ref("x"), timeout=LIMIT)
        with pytest.raises(PermissionDenied):
            await cluster.patch(ref("y"), {}, timeout=LIMIT)


@pytest.mark.parametrize(
    ("readiness", "later", "starting"),
    [(403, 9.9, True), (401, 9.9, True), (403, 10.0, False), (500, 60.0, True), (None, 60.0, True), (200, 0.0, False)],
)
async def test_what_denies_its_readiness_too_is_starting_for_ten_seconds_at_most(
    readiness: int | None, later: float, starting: bool
) -> None:
    """Some clusters never let anybody ask: a right that is missing there is told all the same."""
    now = [100.0]
    judge = Starting(lambda: now[-1])

    async def ready() -> int | None:
        return readiness

    first = await judge.explains_denial(ready)
    for seconds in (later / 2, later):
        now.append(100.0 + seconds)
        last = await judge.explains_denial(ready)
    assert last is starting
    assert first is (readiness != 200)
    now.append(1000.0)
    assert await judge.explains_denial(ready) is (readiness != 200), "a start long after the last one"


async def test_who_does_not_know_whether_it_is_ready_denies_all_the_same(kubeconfig: Path) -> None:
    """A proxy in front that lets only the API through."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        return status(404 if request.url.path.endswith("/readyz") else 403)

    async with played(kubeconfig, handler) as cluster:
        with pytest.raises(PermissionDenied):
            await cluster.get(ref("x"), timeout=LIMIT)


@pytest.mark.parametrize(
    ("response", "wait"),
    [
        (status(429, details={"retryAfterSeconds": 7}), 7),
        (httpx2.Response(429, headers={"retry-after": "3"}, text="slow"), 3),
        (status(503, details={"retryAfterSeconds": 100_000}), 3600),
        (status(429, details={"retryAfterSeconds": "soon"}), None),
        (status(429, details=None), None),
    ],
)
async def test_a_busy_server_says_how_long_to_wait(
    kubeconfig: Path, response: httpx2.Response, wait: int | None
) -> None:
    """From the Status or the header, at most an hour."""
    async with played(kubeconfig, lambda _: response) as cluster:
        with pytest.raises(TransientError) as caught:
            await cluster.get(ref("x"), timeout=LIMIT)
    assert caught.value.retry_after == (timedelta(seconds=wait) if wait else None)


def vendor_errors() -> list[type[Exception]]:
    """Every exception class that lightkube and httpx2 show."""
    modules = (httpx2, lightkube_errors)
    found = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Exception)}
    assert len(found) >= 30, "the enumeration itself broke"
    # Raised only by what is not used here: waiting for a watch, loading classes by name, lists as iterators.
    unused = {"ObjectDeleted", "ConditionError", "LoadResourceError", "NotReadyError"}
    return sorted((c for c in found if c.__name__ not in unused), key=lambda c: c.__name__)


@pytest.mark.parametrize("cls", vendor_errors(), ids=lambda cls: cls.__name__)
async def test_no_error_of_lightkube_or_httpx2_leaves_the_connector(kubeconfig: Path, cls: type[Exception]) -> None:
    """A new exception class of theirs fails here until it is translated."""

    def handler(_: httpx2.Request) -> httpx2.Response:
        error = cls.__new__(cls)
        Exception.__init__(error, "token-123")
        raise error

    async with played(kubeconfig, handler) as cluster:
        with pytest.raises(FirebreakError) as caught:
            await cluster.get(ref("x"), timeout=LIMIT)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "the vendor's error holds the request with its token"


@pytest.mark.parametrize("content", [b"", b"ok", b"[1]", b"\xff", b"<html>"])
async def test_an_answer_that_is_no_object_is_not_believed(kubeconfig: Path, content: bytes) -> None:
    """A proxy's page with status 200."""
    async with played(kubeconfig, lambda _: httpx2.Response(200, content=content)) as cluster:
        with pytest.raises(TransientError):
            await cluster.get(ref("x"), timeout=LIMIT)


META = {"name": "x", "uid": "u", "resourceVersion": "7"}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"error": "log in first"},
        {"metadata": None},
        {"metadata": {**META, "name": "y"}},
        {"metadata": {"name": "x", "uid": "u"}},
        {"metadata": {"name": "x", "resourceVersion": "7"}},
    ],
)
async def test_an_answer_that_is_not_the_object_asked_for_is_not_believed(
    kubeconfig: Path, answer: Mapping[str, Any]
) -> None:
    """A proxy's JSON with status 200, or another object: after a write its outcome is unknown."""
    async with played(kubeconfig, lambda _: httpx2.Response(200, json=answer)) as cluster:
        with pytest.raises(TransientError, match="not that object"):
            await cluster.get(ref("x"), timeout=LIMIT)
        with pytest.raises(TransientError, match="not that object"):
            await cluster.patch(ref("x"), {}, timeout=LIMIT)


@pytest.mark.parametrize(
    "answer", [{}, {"error": "log in first"}, {"items": "x"}, {"items": {}}, {"items": ["x"]}, {"items": [{}]}]
)
async def test_an_answer_that_is_no_list_is_no_empty_one(kubeconfig: Path, answer: Mapping[str, Any]) -> None:
    """Else a proxy's JSON with status 200 would say that no budget binds a restart."""
    async with played(kubeconfig, lambda _: httpx2.Response(200, json=answer)) as cluster:
        with pytest.raises(TransientError, match="no list"):
            await cluster.list(ResourceKind.POD_DISRUPTION_BUDGET, "shop", timeout=LIMIT)


@pytest.mark.parametrize("items", [[], None])
async def test_an_empty_list_says_so(kubeconfig: Path, items: list[Any] | None) -> None:
    """`null` is how Go writes a slice that was never filled."""
    async with played(kubeconfig, lambda _: httpx2.Response(200, json={"items": items})) as cluster:
        assert await cluster.list(ResourceKind.POD, "shop", timeout=LIMIT) == ()


HOSTILE = ["../../secrets/x", "a/b", "A", "a?dryRun=All", "a%2Fb", ".", "..", "x" * 254, "é", "a b", "a\n"]


def nothing_is_sent(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"was sent: {request.url}")


@pytest.mark.parametrize("name", ["", *HOSTILE])
async def test_a_hostile_name_never_becomes_another_path(kubeconfig: Path, name: str) -> None:
    """Names come from labels: what no object can be called is refused before anything is sent."""
    async with played(kubeconfig, nothing_is_sent) as cluster:
        for call in (
            partial(cluster.get, ref(name)),
            partial(cluster.get, ref("x", namespace=name)),
            partial(cluster.patch, ref(name), {}),
            partial(cluster.logs, "shop", name, "app", previous=False, tail_lines=1),
        ):
            with pytest.raises(PreconditionFailed):
                await call(timeout=LIMIT)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_namespace_is_not_listed(kubeconfig: Path, name: str) -> None:
    """Empty means every namespace; anything else must be a name."""
    async with played(kubeconfig, nothing_is_sent) as cluster:
        with pytest.raises(PreconditionFailed):
            await cluster.list(ResourceKind.POD, name, timeout=LIMIT)


@pytest.mark.parametrize(
    ("key", "value"), [("app", "a,b=c"), ("app", "!x"), ("app", "x" * 64), ("app", "x\n"), ("a,b", "x"), ("", "x")]
)
async def test_a_hostile_label_never_becomes_another_selector(kubeconfig: Path, key: str, value: str) -> None:
    """A comma would add a condition of its own."""
    async with played(kubeconfig, nothing_is_sent) as cluster:
        with pytest.raises(PreconditionFailed):
            await cluster.list(ResourceKind.POD, "shop", labels={key: value}, timeout=LIMIT)


async def test_an_answer_that_drips_in_cannot_stretch_the_limit(kubeconfig: Path) -> None:
    """A byte now and then resets the client's own read time-out, not ours."""

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" "
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    async with played(kubeconfig, lambda _: httpx2.Response(200, content=drip())) as cluster:
        began = loop.time()
        with pytest.raises(TransientError, match="did not answer within"):
            await cluster.get(ref("x"), timeout=timedelta(milliseconds=100))
    assert loop.time() - began < 2


async def test_another_clusters_target_is_refused(kubeconfig: Path) -> None:
    """The same names exist in every cluster."""
    other = TargetRef(cluster="prod", namespace="shop", kind=ResourceKind.POD, name="x")
    async with played(kubeconfig, lambda _: status(500)) as cluster:
        with pytest.raises(PreconditionFailed, match="prod"):
            await cluster.patch(other, {}, timeout=LIMIT)


async def test_the_wire_is_what_the_api_wants(kubeconfig: Path) -> None:
    """Path below the server's prefix, patch type, manager, dry run and log options."""
    asked: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        if "log" in request.url.path:
            return httpx2.Response(200, text="l1\nl2")
        if request.url.path.endswith("/pods"):
            return httpx2.Response(200, json={"items": []})
        return httpx2.Response(200, json={"metadata": {**META, "name": "pay"}})

    async with played(kubeconfig, handler) as cluster:
        await cluster.patch(
            ref("pay", namespace="shop", kind=ResourceKind.DEPLOYMENT),
            {"a": 1},
            dry_run=True,
            timeout=LIMIT,
        )
        text = await cluster.logs("shop", "pay-1", "app", previous=True, tail_lines=50, timeout=LIMIT)
        await cluster.list(ResourceKind.POD, "shop", timeout=LIMIT)
        await cluster.list(ResourceKind.POD, "shop", cached=True, timeout=LIMIT)
    patch, log, newest, cached = asked
    assert dict(newest.url.params) == {"limit": str(kubernetes.PAGE)}  # no version: the newest
    assert dict(cached.url.params) == {"resourceVersion": "0"}
    assert patch.url.path == "/prefix/apis/apps/v1/namespaces/shop/deployments/pay"
    assert dict(patch.url.params) == {"fieldManager": "firebreak", "dryRun": "All"}
    assert patch.headers["content-type"] == "application/merge-patch+json"
    assert patch.headers["authorization"] == "Bearer token-123"
    assert patch.content == b'{"a":1}'
    assert log.url.path == "/prefix/api/v1/namespaces/shop/pods/pay-1/log"
    assert log.url.params["previous"] == "true"
    assert log.url.params["tailLines"] == "50"
    assert text == "l1\nl2"


async def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    """Bound tokens last an hour and are replaced in their file; the call that met the old one succeeds."""
    (tmp_path / "token").write_text("old")
    config = json.loads(json.dumps(KUBECONFIG))
    config["users"][0]["user"] = {"tokenFile": str(tmp_path / "token")}
    (tmp_path / "config").write_text(json.dumps(config))

    def handler(request: httpx2.Request) -> httpx2.Response:
        return (
            httpx2.Response(200, json={"metadata": META})
            if request.headers["authorization"] == "Bearer new"
            else status(401)
        )

    async with played(tmp_path / "config", handler) as cluster:
        with pytest.raises(PermissionDenied):
            await cluster.get(ref("x"), timeout=LIMIT)
        (tmp_path / "token").write_text("new")
        await cluster.get(ref("x"), timeout=LIMIT)


def broken(**parts: Any) -> str:
    return json.dumps(KUBECONFIG | parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "{",
        "[]",
        broken(**{"current-context": "other"}),
        broken(**{"current-context": None}),
        broken(clusters=[]),
        broken(users=[]),
        broken(clusters=[{"name": "c", "cluster": {"server": "http://[bad"}}]),
        broken(clusters=[{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "none.pem"}}]),
        broken(clusters=[{"name": "c", "cluster": {"server": "https://x", "certificate-authority-data": "bm8="}}]),
        broken(
            users=[{"name": "u", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}}}]
        ),
        broken(users=[{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    """SettingsInvalid with the file's name, and no secret."""
    (tmp_path / "config").write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        KubernetesCluster("lab", kubeconfig=tmp_path / "config")
    assert "token-123" not in str(caught.value)
    assert caught.value.next_step()


def test_a_missing_kubeconfig_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explicit one, and the usual one when none is given."""
    with pytest.raises(SettingsInvalid, match="gone"):
        KubernetesCluster("lab", kubeconfig=tmp_path / "gone")
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path / 'first'}:{tmp_path / 'second'}")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsInvalid, match="first"):
        KubernetesCluster("lab")
    monkeypatch.setenv("KUBECONFIG", "~no-such-account/config")
    with pytest.raises(SettingsInvalid, match="no home directory ~no-such-account"):
        KubernetesCluster("lab")

"""A mutating webhook at the real API server: what it would make of a write is met in the check."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from aiohttp import web

from activities.actions import build
from firebreak.domain.action import CheckOutcome, CheckResult, StepContext
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock
from firebreak.servers.process import free_port

if TYPE_CHECKING:
    from tests.activities.conftest import RealWorld

pytestmark = pytest.mark.servers
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
MakeContext = Callable[[TargetRef], StepContext]
Edits = list[dict[str, Any]]


def _another_image(_: dict[str, Any]) -> Edits:
    return [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example/other:2"}]


def _no_marks(obj: dict[str, Any]) -> Edits:
    marks = (key for key in obj["metadata"].get("annotations") or {} if key.startswith("firebreak.dev/"))
    return [{"op": "remove", "path": f"/metadata/annotations/{key.replace('/', '~1')}"} for key in marks]


@asynccontextmanager
async def _webhook(
    world: RealWorld, kind: ResourceKind, edit: Callable[[dict[str, Any]], Edits]
) -> AsyncIterator[None]:
    """The API server asks it about every update of that kind in the world's namespace."""

    async def review(request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        edits = base64.b64encode(json.dumps(edit(asked["object"])).encode()).decode()
        answer = {"uid": asked["uid"], "allowed": True, "patchType": "JSONPatch", "patch": edits}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        said = web.json_response(body)
        said.force_close()
        return said

    authority, port, name = trustme.CA(), free_port(), f"hook-{world.namespace}"
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    app = web.Application()
    app.router.add_post("/", review)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    trusted = base64.b64encode(authority.cert_pem.bytes()).decode()
    rule = {
        "operations": ["UPDATE"],
        "apiGroups": [kind.api_version.rpartition("/")[0]],
        "apiVersions": ["v1"],
        "resources": [kind.plural],
    }
    hook = {
        "name": "edit.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": trusted},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
    }
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        await world.call("POST", HOOKS, {"metadata": {"name": name}, "webhooks": [hook]})
        yield
        await world.call("DELETE", f"{HOOKS}/{name}")
    finally:
        await runner.cleanup()


async def _checked(world: RealWorld, action: str, ref: TargetRef, context: MakeContext, **params: str) -> CheckResult:
    """The check, once the API server has heard of the webhook."""
    hands = build(world.cluster, clock=SystemClock())[action]

    async def heard() -> bool:
        return (await hands.check(params, context(ref))).outcome is CheckOutcome.REFUSED

    await world.eventually(heard)
    return await hands.check(params, context(ref))


async def test_a_restart_that_would_change_the_release_is_refused(real_world: RealWorld, context: MakeContext) -> None:
    """A policy of the cluster puts another image into every workload that is written: that is no restart."""
    ref = await real_world.workload("pay")
    async with _webhook(real_world, ResourceKind.DEPLOYMENT, _another_image):
        check = await _checked(real_world, "restart_workload", ref, context)
    assert 'spec.template.spec.containers[0].image: "registry.example/other:2" instead of' in check.reason


async def test_a_mark_that_would_be_taken_off_is_refused(real_world: RealWorld, context: MakeContext) -> None:
    """A repeat would not be recognised."""
    ref = await real_world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "flags"}, "data": {"on": "true"}})
    async with _webhook(real_world, ResourceKind.CONFIG_MAP, _no_marks):
        check = await _checked(real_world, "set_flag", ref, context, config_map="flags", key="on", value="false")
    assert "would not keep this step's mark" in check.reason

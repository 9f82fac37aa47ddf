"""Break, heal and look at a running lab, from any process that can read its directory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import aiohttp

from firebreak.domain.errors import ContractError, TransientError
from firebreak.lab import manifests
from firebreak.lab.faults import Fault, fault_named
from firebreak.lab.kube import JSON, KubeClient
from firebreak.lab.shape import FLAGS, SERVICES
from firebreak.lab.state import LabState

_SECONDS = 10.0
_POLL = 0.1
_ROLL_OUT = timedelta(seconds=60)
_SEEN = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the lab: its address, and what is wrong with it (empty = healthy)."""

    name: str
    url: str
    problem: str = ""


async def fetch(method: str, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON data (or text) of one call on this machine. TransientError when nobody answers."""
    limits = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limits) as session,
            session.request(method, url, json=body) as response,
        ):
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        told = f"{url} does not answer: {_words(error)}"
        raise TransientError(told, advice="Look with `firebreak lab status`.") from None


def _words(error: Exception) -> str:
    """In place of aiohttp's own, which show its insides."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = getattr(cause, "errno", None)
    return os.strerror(number) if isinstance(number, int) else str(cause) or type(cause).__name__


async def shop_state(state: LabState) -> dict[str, Any]:
    """What the shop knows: fault, since, ready pods, weights, flags."""
    _, body = await fetch("GET", f"{state.shop_url}/healthz")
    return dict(body)


async def break_shop(state: LabState, name: str) -> Fault:
    """Put images, weights and flags back as at the start, then begin a fault; returns when it is on.

    ContractError for an unknown one, or while another is on.
    """
    fault = fault_named(name)
    on = (await shop_state(state))["fault"]
    if on:
        raise ContractError(f"the shop is broken already: {on}", advice="Heal it first: `firebreak lab heal`.")
    rollout = fault.rollout
    async with KubeClient(state.admin) as client:
        # An engine's late restore may have moved them: every fault begins from the same state.
        await _apply_baseline(client, state)
        if rollout is None:
            await _set_fault(state, fault.name)
            return fault
        shape = SERVICES[rollout.service]
        await client.apply(
            manifests.deployment_path(rollout.deployment), manifests.deployment(shape, rollout.version, rollout.tag)
        )
        await rolled_out(client, [rollout.deployment])
        await _set_fault(state, fault.name)
        weights = {version: 100 if version == rollout.version else 0 for version in shape.versions}
        await client.apply(manifests.route_path(shape.name), manifests.route(shape.name, weights))
        await _shop_sees(state, {shape.name: weights})
    return fault


async def heal(state: LabState) -> None:
    """End the fault, and put images, weights and flags back as they were at the start; returns when all is rolled out.

    The fault ends first: taking back what was done against it, while it is on, would bring its symptoms back.
    """
    await mend(state)
    async with KubeClient(state.admin) as client:
        await _apply_baseline(client, state)


async def mend(state: LabState) -> None:
    """End the fault and touch nothing else: whoever rerouted or degraded may take it back by himself."""
    await _set_fault(state, "")


async def _apply_baseline(client: KubeClient, state: LabState) -> None:
    names, baseline = [], {}
    for shape in SERVICES.values():
        for version in shape.versions:
            names.append(shape.deployment(version))
            await client.apply(manifests.deployment_path(names[-1]), manifests.deployment(shape, version))
        baseline[shape.name] = dict(shape.baseline_weights)
        await client.apply(manifests.route_path(shape.name), manifests.route(shape.name, baseline[shape.name]))
    await client.apply(manifests.flags_path(), manifests.flags())
    await rolled_out(client, names)
    await _shop_sees(state, baseline, FLAGS)


async def _shop_sees(
    state: LabState, weights: Mapping[str, Mapping[str, int]], flags: Mapping[str, str] | None = None
) -> None:
    async def seen() -> bool:
        shop = await shop_state(state)
        return (flags is None or shop["flags"] == dict(flags)) and all(
            shop["weights"].get(service) == dict(wanted) for service, wanted in weights.items()
        )

    await until(seen, _SEEN, "the shop's notice of routes and flags")


async def rolled_out(client: KubeClient, names: list[str], limit: timedelta = _ROLL_OUT) -> None:
    """Wait until these Deployments run what they say, all pods ready. TransientError after `limit`."""

    async def finished() -> bool:
        return all([_finished(await client.get(manifests.deployment_path(name))) for name in names])

    await until(finished, limit, f"the roll-out of {', '.join(names)}")


async def until(check: Callable[[], Awaitable[bool]], limit: timedelta, what: str) -> None:
    """Poll `check` until it is true; a TransientError in it counts as not yet. TransientError after `limit`."""
    end = time.monotonic() + limit.total_seconds()
    last = ""
    while True:
        try:
            if await check():
                return
            last = ""
        except TransientError as error:
            last = f": {error}"
        if time.monotonic() > end:
            raise TransientError(
                f"{what} was not done within {limit.total_seconds():.0f} s{last}",
                advice="Read the logs in the lab's `run` directory.",
            )
        await asyncio.sleep(_POLL)


async def prometheus_query(prometheus_url: str, expr: str) -> list[dict[str, Any]]:
    """An instant query's vector: items with `metric` and `value`. TransientError when Prometheus does not answer it."""
    status, body = await fetch("GET", f"{prometheus_url}/api/v1/query?query={quote(expr)}")
    if status != 200:
        raise TransientError(f"Prometheus answered {status} to {expr}: {body}")
    return list(body["data"]["result"])


async def firing_alerts(state: LabState) -> list[dict[str, str]]:
    """Labels of the alerts that fire in Prometheus now. TransientError when it does not tell: till it is ready."""
    status, body = await fetch("GET", f"{state.prometheus_url}/api/v1/alerts")
    if status != 200:
        raise TransientError(
            f"Prometheus answered {status} instead of its alerts: {body}", advice="Look with `firebreak lab status`."
        )
    return [alert["labels"] for alert in body["data"]["alerts"] if alert["state"] == "firing"]


async def parts(state: LabState) -> list[Part]:
    """Every part with its address and health."""
    return list(
        await asyncio.gather(
            _api_server(state),
            _part("shop", state.shop_url, "/healthz"),
            _part("prometheus", state.prometheus_url, "/-/ready"),
            _part("alertmanager", state.alertmanager_url, "/-/ready"),
            _part("slack", state.slack_url, "/healthz"),
            _part("pagerduty", state.pagerduty_url, "/healthz"),
        )
    )


async def _part(name: str, url: str, path: str) -> Part:
    try:
        status, _ = await fetch("GET", url + path)
    except TransientError as error:
        return Part(name, url, str(error))
    return Part(name, url, "" if status == 200 else f"answers {status}")


async def _api_server(state: LabState) -> Part:
    try:
        async with KubeClient(state.admin) as client:
            nodes = await client.get("/api/v1/nodes")
    except (TransientError, OSError) as error:
        return Part("kubernetes", state.admin.url, str(error))
    ready = sum(
        c["type"] == "Ready" and c["status"] == "True" for node in nodes["items"] for c in node["status"]["conditions"]
    )
    return Part("kubernetes", state.admin.url, "" if ready == len(nodes["items"]) else f"{ready} nodes are ready")


async def _set_fault(state: LabState, name: str) -> None:
    status, body = await fetch("POST", f"{state.shop_url}/control", {"fault": name})
    if status != 200:
        raise ContractError(f"the shop refused fault {name!r}: {body}")


def _finished(deployment: JSON) -> bool:
    wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"]["generation"])
    return seen and all(status.get(f, 0) == wanted for f in ("replicas", "updatedReplicas", "availableReplicas"))

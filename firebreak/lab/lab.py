"""Start a whole lab in this process; `firebreak.lab.background` does it in one of its own that outlives the command.

Whatever an earlier lab in the same directory left running is ended first.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aiohttp import web

from firebreak.domain.errors import ContractError, TransientError
from firebreak.lab import manifests
from firebreak.lab.control import fetch, prometheus_query, rolled_out, until
from firebreak.lab.documents import policy_text, services_text
from firebreak.lab.former_engine import check_stopped, set_aside
from firebreak.lab.kube import KubeAccess, KubeClient
from firebreak.lab.lock import sole_owner
from firebreak.lab.monitoring import RULES_FILE, alertmanager_config, prometheus_config, rules_text
from firebreak.lab.pagerduty import PagerDuty
from firebreak.lab.receiver import Receiver
from firebreak.lab.shape import CLUSTER, FALLBACK_CHANNEL, FALLBACK_PAGER_KEY, FLOW_RATE, READY_DELAY, SERVICES
from firebreak.lab.shop import ShopConfig
from firebreak.lab.slack import Slack
from firebreak.lab.state import LabState, claim_directory
from firebreak.servers.alertmanager import start_alertmanager
from firebreak.servers.catalogue import spec_of
from firebreak.servers.find import require
from firebreak.servers.kubernetes import ControlPlane, start_control_plane
from firebreak.servers.kubernetes_files import KubeUser
from firebreak.servers.process import Launch, ManagedProcess, free_port
from firebreak.servers.prometheus import start_prometheus
from firebreak.servers.registry import reap_leftovers

SERVERS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "kwok-stages",
    "gateway-api-crds",
    "prometheus",
    "alertmanager",
)
"""What must be installed, by its name in the catalogue."""

_STEADY_SECONDS = 8.0
"""How long the shop must have run well before the baseline is taken: longer than any window that looks back from it."""

START = timedelta(seconds=120)
"""How long any one part may take to come up."""


@dataclass(slots=True)
class Lab:
    """A running lab. Break, heal and look at it with `firebreak.lab.control` and its `state`.

    `slack` and `pagerduty` are the stand-ins themselves, `control_plane` the handles of the cluster's servers: for
    tests that ask or disturb them directly. `ours` asks whether `state.lab_dir` is still the directory that it was
    started in: neither removed nor made anew.
    """

    state: LabState
    slack: Slack
    pagerduty: PagerDuty
    control_plane: ControlPlane
    _stack: AsyncExitStack
    ours: Callable[[], bool] = bool  # nobody's, until the directory's lock is tied to it

    async def stop(self) -> None:
        """Stop everything, clients before servers. In a directory that is not `ours` any more nothing is touched."""
        if self.ours():
            (self.state.lab_dir / "lab.json").unlink(missing_ok=True)
        await self._stack.aclose()


async def start_lab(lab_dir: Path, *, gateway_port: int | None = None, die_with_parent: bool = False) -> Lab:
    """Start all parts; returns when the shop has run well for a while and the baseline is taken.

    `gateway_port` is where Alertmanager will find the engine (any free one by default); `die_with_parent` is for tests.
    An earlier lab's leftovers in `lab_dir` are ended, its folder `run` (cluster, Prometheus, logs) is emptied, and what
    an engine kept about it is moved aside. Raises ContractError while such an engine runs, ServerUnavailable or
    TransientError with the reason; nothing is left running then.
    """
    lab_dir = claim_directory(lab_dir)
    run_dir = lab_dir / "run"
    async with AsyncExitStack() as stack:
        ours = stack.enter_context(sole_owner(lab_dir))
        check_stopped(lab_dir)
        await reap_leftovers(run_dir)
        shutil.rmtree(run_dir)
        run_dir.mkdir()
        (lab_dir / "lab.json").unlink(missing_ok=True)
        lab = await _start(lab_dir, run_dir, gateway_port or free_port(), die_with_parent, stack)
        lab.ours, lab._stack = ours, stack.pop_all()
        return lab


async def _start(lab_dir: Path, run_dir: Path, gateway_port: int, die_with_parent: bool, stack: AsyncExitStack) -> Lab:
    token, slack_token = secrets.token_urlsafe(24), f"xoxb-lab-{secrets.token_hex(12)}"
    channels = {shape.chat_channel: f"incidents-{shape.name}" for shape in SERVICES.values()}
    slack = Slack(lab_dir / "slack.jsonl", slack_token, channels | {FALLBACK_CHANNEL: "incidents"})
    keys = {shape.pager_key: shape.name for shape in SERVICES.values()}
    pagerduty = PagerDuty(lab_dir / "pagerduty.jsonl", keys | {FALLBACK_PAGER_KEY: "fallback"})
    slack_url = await _serve(slack, stack)
    pagerduty_url = await _serve(pagerduty, stack)

    plane = await start_control_plane(
        run_dir=run_dir,
        users=[KubeUser(manifests.ENGINE_USER), KubeUser(manifests.SHOP_USER)],
        stages=_slow_stages(run_dir / "stages"),
        die_with_parent=die_with_parent,
    )
    stack.push_async_callback(plane.stop)
    admin = KubeAccess(plane.url, str(plane.ca_file), plane.tokens["firebreak-admin"])
    await plane.apply_crds()
    async with KubeClient(admin) as client:
        for path, manifest in (*manifests.shop(), *manifests.rbac()):
            await client.apply(path, manifest)
        names = [shape.deployment(version) for shape in SERVICES.values() for version in shape.versions]
        await rolled_out(client, names, START)

    shop_access = KubeAccess(plane.url, str(plane.ca_file), plane.tokens[manifests.SHOP_USER])
    config = ShopConfig(ports={name: free_port() for name in names}, control_port=free_port(), access=shop_access)
    shop_url = await _start_shop(config, run_dir, die_with_parent, stack)

    alertmanager_port = free_port()
    prometheus = await start_prometheus(
        config=prometheus_config(shop_port=config.control_port, alertmanager_port=alertmanager_port),
        files={RULES_FILE: rules_text()},
        port=free_port(),
        run_dir=run_dir,
        die_with_parent=die_with_parent,
    )
    stack.push_async_callback(prometheus.stop)
    alertmanager = await start_alertmanager(
        config=alertmanager_config(gateway_port=gateway_port, token=token),
        port=alertmanager_port,
        run_dir=run_dir,
        die_with_parent=die_with_parent,
    )
    stack.push_async_callback(alertmanager.stop)

    baseline_at = await _steady(prometheus.url)
    (lab_dir / "policy.yaml").write_text(policy_text(baseline_at))
    (lab_dir / "services.yaml").write_text(services_text())
    state = LabState(
        lab_dir=lab_dir,
        pid=os.getpid(),
        admin=admin,
        audit_log=str(plane.audit_log),
        shop_url=shop_url,
        prometheus_url=prometheus.url,
        alertmanager_url=alertmanager.url,
        slack_url=slack_url,
        pagerduty_url=pagerduty_url,
        gateway_url=f"http://127.0.0.1:{gateway_port}",
        former_engine=str(set_aside(lab_dir) or ""),
        engine={
            "FIREBREAK_MODE": "act",
            "FIREBREAK_DATA_DIR": str(lab_dir / "engine"),
            "FIREBREAK_CLUSTER": CLUSTER,
            "FIREBREAK_KUBECONFIG": str(plane.kubeconfigs[manifests.ENGINE_USER]),
            "FIREBREAK_PROMETHEUS_URL": prometheus.url,
            "FIREBREAK_SLACK_URL": f"{slack_url}/api/",
            "FIREBREAK_SLACK_TOKEN": slack_token,
            "FIREBREAK_PAGERDUTY_URL": pagerduty_url,
            "FIREBREAK_FALLBACK_PAGER_KEY": FALLBACK_PAGER_KEY,
            "FIREBREAK_GATEWAY_PORT": str(gateway_port),
            "FIREBREAK_WEBHOOK_TOKEN": token,
            "FIREBREAK_POLICY": str(lab_dir / "policy.yaml"),
            "FIREBREAK_SERVICES": str(lab_dir / "services.yaml"),
        },
    )
    state.save()
    return Lab(state, slack, pagerduty, plane, stack)


async def _serve(receiver: Receiver, stack: AsyncExitStack) -> str:
    runner = web.AppRunner(receiver.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{port}"


async def _start_shop(config: ShopConfig, run_dir: Path, die_with_parent: bool, stack: AsyncExitStack) -> str:
    path = run_dir / "shop.json"
    config.save(path)
    command = (sys.executable, "-P", "-m", "firebreak.lab.shop", str(path))
    process = await ManagedProcess.start(
        Launch(
            "shop",
            command,
            environment={"PROMETHEUS_DISABLE_CREATED_SERIES": "True"},  # they would double the scrape
            die_with_parent=die_with_parent,
        ),
        run_dir,
    )
    stack.push_async_callback(process.stop)
    url = f"http://127.0.0.1:{config.control_port}"

    async def healthy() -> bool:
        try:
            status, _ = await fetch("GET", f"{url}/healthz")
        except TransientError:
            return False
        return status == 200

    await process.ready(healthy, limit=START)
    return url


async def _steady(prometheus_url: str) -> float:
    """Wait till both flows have gone well at their full rate for a while; returns the Unix time of that moment."""
    seconds = int(_STEADY_SECONDS)
    flows = "sum by (flow) (rate(main_flow_success_total[3s]))"
    expr = f"min(min_over_time(({flows})[{seconds}s:1s])) >= {0.9 * FLOW_RATE}"
    expr += f" and on () sum(count_over_time(up[{seconds}s])) >= {seconds - 1}"
    found = 0.0

    async def well() -> bool:
        nonlocal found
        result = await prometheus_query(prometheus_url, expr)
        if result:
            found = float(result[0]["value"][0])
        return bool(result)

    await until(well, START, "a steady run of the shop")
    return found


def _slow_stages(folder: Path) -> Path | None:
    """kwok's stages, but a pod takes a second to become ready, as containers do. None where a setting names others."""
    if os.environ.get(spec_of("kwok-stages").setting):
        return None
    folder.mkdir()
    for stage in require("kwok-stages").glob("*.yaml"):
        text = stage.read_text()
        if stage.name == "pod-ready.yaml":
            delay = f"  delay:\n    durationMilliseconds: {READY_DELAY * 1000:.0f}\n"
            if "\n  next:\n" not in text:
                raise ContractError("kwok's pod-ready stage has another form than expected")
            text = text.replace("\n  next:\n", f"\n{delay}  next:\n")
        (folder / stage.name).write_text(text)
    return folder

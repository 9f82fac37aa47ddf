"""A Kubernetes control plane without kubelets: etcd, API server, controllers, scheduler, and kwok's fake nodes.

Deployments, ReplicaSets, PodDisruptionBudgets, endpoints and evictions behave as on any cluster; pods run no
containers. The API server's audit log is the oracle outside the engine: one line for each write, with the objects.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from firebreak.domain.errors import ContractError
from firebreak.servers import local_http
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.find import require
from firebreak.servers.kubernetes_files import ADMIN, ClusterFiles, KubeUser, write_files
from firebreak.servers.process import Launch, ManagedProcess, absolute, free_port, stop_all
from firebreak.servers.registry import GRACE

_READY = timedelta(seconds=60)
_FIELD_MANAGER = "firebreak-lab"

# With the clients' default limits 60 roll-outs of two pods took 44 s, with these 2.5 s.
_UNLIMITED = ("--kube-api-qps=1000", "--kube-api-burst=2000")


@dataclass(frozen=True, slots=True)
class KubePorts:
    """TCP ports on 127.0.0.1."""

    api: int
    etcd: int
    etcd_peer: int

    @classmethod
    def free(cls) -> KubePorts:
        """Three ports that nobody uses now."""
        return cls(free_port(), free_port(), free_port())


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane.

    `url` is https; `ca_file` the PEM file that its self-made certificate is checked with; `kubeconfig` the admin's;
    `kubeconfigs` and `tokens` have every user by name; `audit_log` holds one JSON event (audit.k8s.io/v1) a line,
    written at about the time of the answer; `processes` are the handles by server name, for tests that stop
    (SIGSTOP) or kill one.
    """

    url: str
    ca_file: Path
    kubeconfig: Path
    kubeconfigs: Mapping[str, Path]
    tokens: Mapping[str, str]
    audit_log: Path
    processes: Mapping[str, ManagedProcess]

    async def stop(self, grace: timedelta = GRACE) -> None:
        """Stop all of it, clients first and the API server before etcd; objects stay in the run directory."""
        order = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
        await stop_all([self.processes[name] for name in order if name in self.processes], grace)

    async def restart_api_server(self, *, kill: bool = False) -> None:
        """End the API server and start it again on the same port; returns when it is ready.

        Without `kill` (SIGKILL) it is asked first, but with watches open it may take longer to leave than it is given.
        """
        server = self.processes["kube-apiserver"]
        if kill:
            server.kill()
            await server.exited(GRACE)
        else:
            await server.stop(timedelta(seconds=5))
        server.start_again()
        await self.ready()

    async def ready(self) -> None:
        """Wait until the API server answers /readyz. Raises ServerUnavailable with the tail of its log."""

        async def answers() -> bool:
            # The certificate file appears while the server starts.
            return self.ca_file.exists() and (await self.request("GET", "/readyz", seconds=2.0)).status == 200

        await self.processes["kube-apiserver"].ready(answers, limit=_READY)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        seconds: float = 10.0,
        user: str = ADMIN,
    ) -> local_http.Answer:
        """One call as `user` (the admin by default); any status is an answer. Raises OSError when there is none."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        return await local_http.call(method, self.url + path, body=body, headers=headers, tls=tls, seconds=seconds)

    async def apply(self, path: str, document: bytes) -> None:
        """Server-side apply of one object, YAML or JSON, at its own path; repeating it changes nothing.

        Raises ContractError with the API server's answer when it refuses.
        """
        query = f"?fieldManager={_FIELD_MANAGER}&force=true"
        answer = await self.request("PATCH", path + query, body=document, content_type="application/apply-patch+yaml")
        if answer.status not in (200, 201):
            raise ContractError(f"the API server refused {path}: {answer.body.decode(errors='replace')[:2000]}")

    async def apply_crds(self) -> None:
        """Install the Gateway API's definitions (one a file, named `<group>_<plural>.yaml`), wait until they are
        served."""
        folder = await asyncio.to_thread(require, "gateway-api-crds")
        paths = []
        for file in sorted(folder.glob("*.yaml")):
            group, _, plural = file.stem.partition("_")
            paths.append(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}")
            await self.apply(paths[-1], file.read_bytes())

        async def established() -> bool:
            for path in paths:
                answer = await self.request("GET", path)
                conditions = json.loads(answer.body).get("status", {}).get("conditions") or []
                if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                    return False
            return True

        await self.processes["kube-apiserver"].ready(established, limit=_READY)

    async def nodes_ready(self, count: int) -> None:
        """Wait until at least `count` nodes are Ready and take pods. Raises ServerUnavailable with kwok's log."""

        async def ready() -> bool:
            answer = await self.request("GET", "/api/v1/nodes")
            nodes = json.loads(answer.body).get("items", [])
            return sum(_takes_pods(node) for node in nodes) >= count

        await self.processes["kwok"].ready(ready, limit=_READY)


def _takes_pods(node: Mapping[str, object]) -> bool:
    spec, status = node.get("spec"), node.get("status")
    if not isinstance(spec, dict) or not isinstance(status, dict):
        return False
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    return ready and not spec.get("taints") and not spec.get("unschedulable")


def _node(name: str) -> bytes:
    room = {"cpu": "32", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"},
            },
            "status": {"capacity": room, "allocatable": room},
        }
    ).encode()


def _etcd(root: Path, ports: KubePorts) -> tuple[str, ...]:
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return (
        f"--data-dir={root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        "--unsafe-no-fsync",  # for labs and tests: power loss may cost objects
    )


def _api_server(files: ClusterFiles, ports: KubePorts) -> tuple[str, ...]:
    return (
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--secure-port={ports.api}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={files.ca_file.parent}",
        f"--service-account-key-file={files.signing_key}",
        f"--service-account-signing-key-file={files.signing_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={files.tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",  # no tokens are mounted where no container runs
        "--endpoint-reconciler-type=none",  # one server on loopback; else it takes seconds to leave
        f"--audit-policy-file={files.policy}",
        f"--audit-log-path={files.audit_log}",
        "--audit-log-maxsize=1024",  # MB: a rotated oracle is read only half
        "-v=1",
    )


def _controller_manager(files: ClusterFiles) -> tuple[str, ...]:
    return (
        f"--kubeconfig={files.kubeconfigs['system:kube-controller-manager']}",
        f"--service-account-private-key-file={files.signing_key}",
        "--leader-elect=false",
        "--secure-port=0",  # its metrics port is fixed: two labs on one machine would collide
        "--controllers=*,-nodeipam,-cloud-node-lifecycle",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--node-monitor-grace-period=40s",  # shorter makes the fake nodes flap
        *_UNLIMITED,
    )


def _scheduler(files: ClusterFiles) -> tuple[str, ...]:
    config = files.kubeconfigs["system:kube-scheduler"]
    return (f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0", *_UNLIMITED)


def _kwok(files: ClusterFiles, stages: Path) -> tuple[str, ...]:
    flags = [flag for stage in sorted(stages.glob("*.yaml")) for flag in ("--config", str(stage))]
    if not flags:
        raise ServerUnavailable(f"kwok has no stages: {stages} holds no YAML file")
    return (
        f"--kubeconfig={files.kubeconfigs['system:kwok']}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        *flags,
    )


async def start_control_plane(
    *,
    run_dir: Path,
    nodes: int = 2,
    users: Sequence[KubeUser] = (),
    stages: Path | None = None,
    die_with_parent: bool = False,
) -> ControlPlane:
    """Start etcd, API server, controller manager, scheduler and kwok, and create `nodes` fake nodes.

    Returns when the nodes take pods. Objects of an earlier start in `run_dir` are there again. `stages` is a folder
    with other kwok stages (*.yaml) than the usual ones, which make pods ready at once. Raises ServerUnavailable with
    the tail of the server's log.
    """
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
    binaries = {name: await asyncio.to_thread(require, name) for name in names}
    stage_folder = await asyncio.to_thread(require, "kwok-stages") if stages is None else stages
    ports = KubePorts.free()
    url = f"https://127.0.0.1:{ports.api}"
    files = write_files(absolute(run_dir) / "kubernetes", url, users)
    processes: dict[str, ManagedProcess] = {}
    plane = ControlPlane(
        url=url,
        ca_file=files.ca_file,
        kubeconfig=files.kubeconfigs[ADMIN],
        kubeconfigs=MappingProxyType(dict(files.kubeconfigs)),
        tokens=MappingProxyType(dict(files.token_of)),
        audit_log=files.audit_log,
        processes=processes,
    )

    async def start(name: str, flags: Sequence[str]) -> ManagedProcess:
        launch = Launch(name, (str(binaries[name]), *flags), die_with_parent=die_with_parent)
        processes[name] = await ManagedProcess.start(launch, run_dir)
        return processes[name]

    try:
        etcd = await start("etcd", _etcd(files.root, ports))
        health = f"http://127.0.0.1:{ports.etcd}/health"
        await etcd.ready(lambda: local_http.is_ok(health), limit=_READY)
        await start("kube-apiserver", _api_server(files, ports))
        await plane.ready()
        await start("kube-controller-manager", _controller_manager(files))
        await start("kube-scheduler", _scheduler(files))
        await start("kwok", _kwok(files, stage_folder))
        for number in range(nodes):
            await plane.apply(f"/api/v1/nodes/node-{number}", _node(f"node-{number}"))
        await plane.nodes_ready(nodes)
    except BaseException:
        await plane.stop()
        raise
    return plane

"""Every real server that Firebreak starts: version, Go module, build flags, pinned release.

A release is listed only with a SHA-256 that at least two independent public package recipes agree on; without one
nothing is downloaded. Versions and flags: docs of the servers, measured in this project (docs/performance.md).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from firebreak.servers.errors import ServerUnavailable

STRIP = "-s -w"  # no symbol table: a third smaller, and nobody debugs these binaries
_COMMON = "github.com/prometheus/common/version.Version"


@dataclass(frozen=True, slots=True)
class Release:
    """One archive published by the vendor: `url`, its SHA-256 in hex, and the `member` to take out of it."""

    url: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server (or, with `package` None, one set of data files) and how it is had.

    `tool` is the folder below tools/ whose go.sum pins it. `files` are glob patterns inside `module`, copied out
    flat for data sets. `version_pattern` must match what `version_args` prints, or the binary is not accepted.
    """

    name: str
    version: str
    tool: str
    module: str
    package: str | None = None
    ldflags: str = STRIP
    tags: tuple[str, ...] = ()
    version_args: tuple[str, ...] = ("--version",)
    version_pattern: str = ""
    files: tuple[str, ...] = ()
    releases: Mapping[str, Release] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def setting(self) -> str:
        """The environment variable that names this server's path explicitly."""
        return "FIREBREAK_SERVER_" + self.name.upper().replace("-", "_")

    @property
    def is_data(self) -> bool:
        """True for a set of files that is copied out of a module rather than built."""
        return self.package is None


def platform_key() -> str:
    """This machine as Go names it, e.g. `linux-amd64`; the key into `ServerSpec.releases`."""
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}-{arch}"


def _kubernetes(component: str) -> ServerSpec:
    return ServerSpec(
        name=component,
        version="1.34.2",
        tool="kubernetes",
        module="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{component}",
        # Without it the server calls itself v0.0.0-master and clients trip over that.
        ldflags=f"{STRIP} -X k8s.io/component-base/version.gitVersion=v1.34.2",
        version_pattern=r"^Kubernetes v1\.34\.2$",
    )


_SPECS = (
    ServerSpec(
        name="temporal",
        version="1.5.1",
        tool="temporal",
        module="github.com/temporalio/cli",
        package="github.com/temporalio/cli/cmd/temporal",
        ldflags=f"{STRIP} -X github.com/temporalio/cli/temporalcli.Version=1.5.1",
        version_pattern=r"^temporal version 1\.5\.1 \(Server 1\.29\.1\b",
        releases=MappingProxyType(
            {
                "linux-amd64": Release(
                    url="https://github.com/temporalio/cli/releases/download/v1.5.1/"
                    "temporal_cli_1.5.1_linux_amd64.tar.gz",
                    sha256="ddc95e08b0b076efd4ea9733a3f488eb7d2be875f8834e616cd2a37358b4852d",
                    member="temporal",
                )
            }
        ),
    ),
    ServerSpec(
        name="etcd",
        version="3.6.5",
        tool="etcd",
        module="go.etcd.io/etcd/server/v3",
        package="go.etcd.io/etcd/server/v3",
        version_pattern=r"^etcd Version: 3\.6\.5$",
        releases=MappingProxyType(
            {
                "linux-amd64": Release(
                    url="https://github.com/etcd-io/etcd/releases/download/v3.6.5/etcd-v3.6.5-linux-amd64.tar.gz",
                    sha256="66bad39ed920f6fc15fd74adcb8bfd38ba9a6412f8c7852d09eb11670e88cac3",
                    member="etcd-v3.6.5-linux-amd64/etcd",
                ),
                "linux-arm64": Release(
                    url="https://github.com/etcd-io/etcd/releases/download/v3.6.5/etcd-v3.6.5-linux-arm64.tar.gz",
                    sha256="7010161787077b07de29b15b76825ceacbbcedcb77fe2e6832f509be102cab6b",
                    member="etcd-v3.6.5-linux-arm64/etcd",
                ),
            }
        ),
    ),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    ServerSpec(
        name="kwok",
        version="0.8.0",
        tool="kwok",
        module="sigs.k8s.io/kwok",
        package="sigs.k8s.io/kwok/cmd/kwok",
        version_pattern=r"\bv?0\.8\.0\b",
    ),
    ServerSpec(
        name="kwok-stages",
        version="0.8.0",
        tool="kwok",
        module="sigs.k8s.io/kwok",
        files=(
            "kustomize/stage/node/fast/node-*.yaml",
            "kustomize/stage/node/heartbeat-with-lease/node-*.yaml",
            "kustomize/stage/pod/fast/pod-*.yaml",
        ),
    ),
    ServerSpec(
        name="prometheus",
        version="3.15.0",
        tool="prometheus",
        module="github.com/prometheus/prometheus",
        package="github.com/prometheus/prometheus/cmd/prometheus",
        # As a dependency the module cannot know its own release number.
        ldflags=f"{STRIP} -X {_COMMON}=3.15.0",
        tags=("remove_all_sd",),
        version_pattern=r"^prometheus, version 3\.15\.0\b",
        releases=MappingProxyType(
            {
                "linux-amd64": Release(
                    url="https://github.com/prometheus/prometheus/releases/download/v3.15.0/"
                    "prometheus-3.15.0.linux-amd64.tar.gz",
                    sha256="2a542df32eac02ee17b9d844fb2aa1de00dafa5476579ba8a3ba862e9d572ea0",
                    member="prometheus-3.15.0.linux-amd64/prometheus",
                )
            }
        ),
    ),
    ServerSpec(
        name="alertmanager",
        version="0.31.1",
        tool="alertmanager",
        module="github.com/prometheus/alertmanager",
        package="github.com/prometheus/alertmanager/cmd/alertmanager",
        ldflags=f"{STRIP} -X {_COMMON}=0.31.1",
        version_pattern=r"^alertmanager, version 0\.31\.1\b",
    ),
    ServerSpec(
        name="gateway-api-crds",
        version="1.4.0",
        tool="gateway_api",
        module="sigs.k8s.io/gateway-api",
        files=(
            "config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml",
            "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
            "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        ),
    ),
)

CATALOGUE: Mapping[str, ServerSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""All servers by name, in the order in which they are installed."""


def spec_of(name: str) -> ServerSpec:
    """The catalogue entry called `name`. Raises ServerUnavailable naming the known ones."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ServerUnavailable(
            f"there is no server called {name!r}", advice="Known servers: " + ", ".join(CATALOGUE) + "."
        ) from None

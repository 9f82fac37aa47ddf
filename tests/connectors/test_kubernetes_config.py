"""What a kubeconfig says is done, as kubectl does it, or refused: never left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.errors import PermanentError, SettingsInvalid
from firebreak.domain.target import ResourceKind

LIMIT = timedelta(seconds=10)
PLUGIN = '#!/bin/sh\necho \'{"status": {"token": "of-the-plugin"}}\'\n'
SERVER = "https://127.0.0.1:6443"


def written(folder: Path, user: Mapping[str, Any], cluster: Mapping[str, Any] | None = None) -> Path:
    """A kubeconfig with that user, beside another one."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **(cluster or {})}}],
        "users": [{"name": "other", "user": {"token": "x", "as": "somebody"}}, {"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "config").write_text(json.dumps(config))
    return folder / "config"


def exec_user(command: str) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": command}}


async def signed_with(kubeconfig: Path) -> str:
    """The credential that a call carries."""
    seen: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(200, json={"items": []})

    async with KubernetesCluster("lab", kubeconfig=kubeconfig, transport=httpx2.MockTransport(handler)) as cluster:
        await cluster.list(ResourceKind.POD, "shop", timeout=LIMIT)
    return seen[0]


@pytest.mark.parametrize(
    ("user", "cluster", "key"),
    [
        ({"token": "t-123", "as": "system:serviceaccount:shop:nobody"}, {}, "as"),
        ({"token": "t-123", "as": "nobody", "as-groups": ["g"]}, {}, "as, as-groups"),
        ({"token": "t-123"}, {"proxy-url": "http://127.0.0.1:3128"}, "proxy-url"),
        ({"token": "t-123"}, {"tls-server-name": "kubernetes.default"}, "tls-server-name"),
    ],
)
def test_what_would_be_left_out_is_refused(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, str], key: str
) -> None:
    """An impersonated account has fewer rights, and the engine acted with all of its own."""
    with pytest.raises(SettingsInvalid, match=f"asks for {key}, which") as caught:
        KubernetesCluster("lab", kubeconfig=written(tmp_path, user, cluster))
    assert "t-123" not in str(caught.value)


async def test_paths_are_read_from_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token file and plugin, also when the kubeconfig itself is named from the current folder."""
    (tmp_path / "kube" / "bin").mkdir(parents=True)
    (tmp_path / "kube" / "token").write_text("of-the-file\n")
    plugin = tmp_path / "kube" / "bin" / "plugin"
    plugin.write_text(PLUGIN)
    plugin.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert await signed_with(written(Path("kube"), {"tokenFile": "token"})) == "Bearer of-the-file"
    assert await signed_with(written(Path("kube"), exec_user("./bin/plugin"))) == "Bearer of-the-plugin"
    monkeypatch.setenv("PATH", str(plugin.parent), prepend=":")
    assert await signed_with(written(Path("kube"), exec_user("plugin"))) == "Bearer of-the-plugin"


@pytest.mark.parametrize(
    ("user", "name"),
    [(exec_user("no-such-plugin"), "no-such-plugin"), (exec_user("/etc"), "/etc"), ({"tokenFile": "."}, "")],
)
async def test_a_credential_that_is_not_there_is_no_broken_connection(
    tmp_path: Path, user: dict[str, Any], name: str
) -> None:
    """It does not pass by itself, and the advice is about the kubeconfig."""
    with pytest.raises(PermanentError, match="as it is configured") as caught:
        await signed_with(written(tmp_path, user))
    assert "plugin" in caught.value.next_step()
    why = ("No such file", "Permission denied", "Is a directory")
    assert any(f"{name or tmp_path}: {said}" in str(caught.value) for said in why)


def test_a_certificate_without_its_key_is_refused_at_the_start(tmp_path: Path) -> None:
    """With a sentence."""
    (tmp_path / "c.pem").write_text("")
    with pytest.raises(SettingsInvalid, match="certificates or credentials"):
        KubernetesCluster("lab", kubeconfig=written(tmp_path, {"client-certificate": "c.pem"}))

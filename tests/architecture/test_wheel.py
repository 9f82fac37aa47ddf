"""The wheel: built, installed into an environment that holds nothing else, and run far from any checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from firebreak.servers.cache import cache_dir
from firebreak.servers.process import Launch, ManagedProcess
from firebreak.servers.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DECOY = "raise AssertionError('a file of the current folder was imported')\n"
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: t}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
current-context: nowhere
"""


def ran(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend itself, without a network."""
    target = tmp_path_factory.mktemp("wheel")
    ran(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and the locked packages of its users, checked by hash."""
    place = tmp_path_factory.mktemp("clean")
    uv, python = BIN / "uv", place / "env" / "bin" / "python"
    locked = ran(uv, "export", "--frozen", "--no-dev", "--no-emit-project", "--quiet")
    (place / "locked.txt").write_text(locked)
    ran(uv, "venv", "--quiet", "--python", sys.executable, place / "env")
    install = (uv, "pip", "install", "--quiet", "--python", python)
    ran(*install, "--require-hashes", "-r", place / "locked.txt")
    ran(*install, "--no-deps", wheel)
    ran(uv, "pip", "check", "--quiet", "--python", python)
    return python.parent


@pytest.fixture(params=["empty", "decoys"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the command is typed: an empty folder, and one with files that have the names of our rooms."""
    place: Path = tmp_path / request.param
    place.mkdir()
    if request.param == "decoys":
        for name in ("worker", "firebreak", "workflows", "activities"):
            (place / f"{name}.py").write_text(DECOY)
        (place / "runbooks").mkdir()
    return place


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's, with a cluster and a Prometheus that do not answer."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    return {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "FIREBREAK_CACHE_DIR": str(cache_dir()),
        "FIREBREAK_KUBECONFIG": str(kubeconfig),
        "FIREBREAK_PROMETHEUS_URL": "http://127.0.0.1:9",
    }


def test_data_travels_inside(wheel: Path) -> None:
    """Every runbook, pin, template and migration of the checkout is in the wheel, byte for byte, and no test is."""
    rooms = {
        "runbooks": "firebreak/_data/",
        "tools": "firebreak/_data/",
        "firebreak": "",
        "workflows": "",
        "activities": "",
    }
    expected = {
        f"{prefix}{path.relative_to(ROOT)}": path
        for room, prefix in rooms.items()
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {p.suffix for p in expected.values()} >= {".py", ".yaml", ".json", ".j2", ".mod", ".sum"}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert inside == set(expected)
        for name, path in expected.items():
            assert archive.read(name) == path.read_bytes(), name


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    """Apache-2.0 asks that a copy goes with the work."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (licence,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        assert email.message_from_bytes(archive.read(metadata))["License-Expression"] == "Apache-2.0"
        assert b"Apache License\n" in archive.read(licence)


@pytest.mark.servers
def test_the_installed_command_needs_no_checkout(installed: Path, folder: Path, environment: dict[str, str]) -> None:
    """Help, the shipped documents, the pins of the servers."""
    firebreak = installed / "firebreak"
    assert "Usage: firebreak" in ran(firebreak, "--help", cwd=folder, environment=environment)
    assert ", 0 problems" in ran(firebreak, "lint", cwd=folder, environment=environment)
    listed = ran(firebreak, "servers", "list", cwd=folder, environment=environment)
    assert str(cache_dir()) in listed  # the carried pins have the keys of the checkout's
    where = ran(installed / "python", "-P", "-c", "import firebreak; print(firebreak.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(installed.parent)


@pytest.mark.servers
async def test_the_installed_engine_starts_and_stops(
    installed: Path, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """`firebreak up` with its own Temporal server, gateway and workers; SIGTERM ends it and leaves nothing."""
    command = (str(installed / "firebreak"), "up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    process = await ManagedProcess.start(Launch("up", command, environment, die_with_parent=True), folder)

    async def says_so() -> bool:
        return "Firebreak runs. Mode observe" in process.tail(100)

    try:
        await process.ready(says_so, limit=timedelta(seconds=90))
    finally:
        await process.stop(timedelta(seconds=60))
    assert process.exit_code == 0, process.tail(100)
    assert process.tail(1) == "stopped"
    assert Registry(tmp_path / "data" / "run").entries() == ()

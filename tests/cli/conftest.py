"""The command line as a person types it, in a process of its own and in an empty environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from firebreak.servers.cache import cache_dir
from firebreak.servers.process import Launch, ManagedProcess

ROOT = Path(__file__).resolve().parents[2]
TRACEBACK = "Traceback (most recent call last)"
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: t}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
current-context: nowhere
"""


# One second of doubt in place of a minute: the rules are the shipped ones.
POLICY = """
kind: policy
name: hasty
durations: {doubt: 1s, recheck: 1s}
thresholds: {}
baseline: {offset: 7d}
trusted_labels: []
"""


class Typed(Protocol):
    """`typed("servers", "path", "nope", FIREBREAK_MODE="act")`: run to its end."""

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]: ...


class Started(Protocol):
    """`async with started("up", "-m", "firebreak", "up", says="Firebreak runs") as process`: a command that goes on.
    At the end it gets SIGTERM, and must end with 0."""

    def __call__(
        self, name: str, *command: str, says: str, **environment: str
    ) -> AbstractAsyncContextManager[ManagedProcess]: ...


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory, which commands run in."""
    made = tmp_path / "place"
    made.mkdir()
    return made


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of this machine's settings; a cluster and a Prometheus that do not answer."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    return {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "FIREBREAK_CACHE_DIR": str(cache_dir()),
        "FIREBREAK_KUBECONFIG": str(kubeconfig),
        "FIREBREAK_POLICY": str(policy),
        "FIREBREAK_PROMETHEUS_URL": "http://127.0.0.1:9",
    }


@pytest.fixture
def typed(place: Path, environment: dict[str, str]) -> Typed:
    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "firebreak", *words],
            cwd=place,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert TRACEBACK not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def started(tmp_path: Path, environment: dict[str, str]) -> Started:
    @asynccontextmanager
    async def start(name: str, *command: str, says: str, **more: str) -> AsyncIterator[ManagedProcess]:
        launch = Launch(name, (sys.executable, *command), environment | more, die_with_parent=True)
        process = await ManagedProcess.start(launch, tmp_path / name)

        async def told() -> bool:
            return says in process.tail(100)

        try:
            await process.ready(told, limit=timedelta(seconds=90))
            yield process
        finally:
            await process.stop(timedelta(seconds=60))
        assert process.exit_code == 0, process.tail(100)
        assert TRACEBACK not in process.tail(1000)

    return start


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]

"""`firebreak up` and its halves, as processes of their own, without a cluster or a Prometheus that answers."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from firebreak.processes import beat_file, ready_file
from firebreak.servers.registry import Registry

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
ALERT = {
    "version": "4",
    "status": "firing",
    "receiver": "firebreak",
    "groupKey": "{}",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "PayErrors",
                "severity": "critical",
                "service": "pay",
                "cluster": "default",
                "deployment": "pay-v1",
            },
            "annotations": {},
            "startsAt": "2026-11-21T08:36:44.123Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "2f2b4c1f3a9e5d70",
        }
    ],
}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 # another process' store: nothing tells of it
            await asyncio.sleep(0.1)


async def post(data: Path, token: str = "", *, role: str = "gateway") -> int:
    """One alert to the gateway of `data` in this role; its answer's status. Without `token` the one that it made."""
    port = ready_file(data, role).read_text().split()[1]
    token = token or (data / "webhook-token").read_text().strip()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(
            f"http://127.0.0.1:{port}/v1/alerts/alertmanager", json=ALERT, headers={"Authorization": f"Bearer {token}"}
        )
    return answer.status_code


FROM_A_FOLDER = """
import os, sys
os.chdir(sys.argv[1])
del os.environ["FIREBREAK_KUBECONFIG"]
os.environ.update(FIREBREAK_SECRETS_DIR="secrets", KUBECONFIG="kube.yaml")
os.execv(sys.executable, [sys.executable, "-P", "-m", "firebreak", *sys.argv[2:]])
"""


def kinds(typed: Any, data: Path) -> list[str]:
    """Kinds of the entries of the newest incident, in order; none while there is no incident."""
    ran = typed("timeline", "last", "--json", "--data-dir", str(data))
    return [json.loads(line)["kind"] for line in ran.stdout.splitlines()]


async def test_up_runs_without_a_cluster_and_calls_a_person(started: Any, typed: Any, tmp_path: Path) -> None:
    """Doubt pages: evidence that cannot be had ends with a person, and SIGTERM with nothing left running."""
    data = tmp_path / "data"
    async with started("up", "-P", "-m", "firebreak", "up", "--port", "0", "--data-dir", str(data), says="runs.") as up:
        assert "nothing is written to the cluster" in up.tail(100)
        assert await post(data) == 200
        await until(lambda: "person.called" in kinds(typed, data))
    assert "stopped" in up.tail(10)
    assert Registry(data / "run").entries() == ()
    assert "intent.recorded" not in kinds(typed, data)


async def test_relative_paths_of_the_environment_hold_for_gateway_and_workers(
    started: Any, place: Path, tmp_path: Path
) -> None:
    """Secrets and kubeconfig are named from the folder that the command runs in; its children run in another one."""
    (place / "secrets").mkdir()
    (place / "secrets" / "firebreak_webhook_token").write_text("from-a-file\n")
    shutil.copy(tmp_path / "kubeconfig", place / "kube.yaml")
    words = ("-c", FROM_A_FOLDER, str(place), "up", "--port", "0", "--data-dir", "data")
    async with started("up", *words, says="runs."):
        assert await post(place / "data", "from-a-file") == 200


async def test_a_second_engine_on_the_same_directory_is_refused(
    started: Any, environment: dict[str, str], place: Path, tmp_path: Path
) -> None:
    """A sentence and exit code 2, for `up` and for `worker.py`; the first one goes on."""
    data = tmp_path / "data"
    settings = environment | {"FIREBREAK_DATA_DIR": str(data), "FIREBREAK_GATEWAY_PORT": "0"}
    async with started("up", "-P", "-m", "firebreak", "up", "--port", "0", "--data-dir", str(data), says="runs.") as up:
        for words in (["-P", "-m", "firebreak", "up"], [str(ROOT / "worker.py")]):
            command = [sys.executable, *words]
            ran = await asyncio.to_thread(
                subprocess.run, command, cwd=place, env=settings, capture_output=True, text=True, timeout=60
            )
            assert ran.returncode == 2, words
            assert f"another engine uses the data directory {data}" in ran.stderr
            assert "Traceback" not in ran.stderr
        assert up.alive
        assert await post(data) == 200


async def test_ctrl_c_stops_as_sigterm_does(started: Any, tmp_path: Path) -> None:
    """The same clean end."""
    data = tmp_path / "data"
    async with started("up", "-P", "-m", "firebreak", "up", "--port", "0", "--data-dir", str(data), says="runs.") as up:
        up.signal(signal.SIGINT)
        assert await up.exited(timedelta(seconds=60))
    assert Registry(data / "run").entries() == ()


async def test_worker_and_gateway_run_apart(started: Any, typed: Any, tmp_path: Path) -> None:
    """`python worker.py` handles what `firebreak gateway` accepted on the same directory, before the worker was there
    and after. It beats by a name of its own: that of an engine which hung beside it would look alive."""
    data = tmp_path / "data"
    gateway = ("-P", "-m", "firebreak", "gateway", "--port", "0", "--data-dir", str(data))
    async with started("gateway", *gateway, says="The gateway runs"):
        assert await post(data, role="gateway-alone") == 200
        worker = str(ROOT / "worker.py")
        async with started("worker", worker, says="worker runs", FIREBREAK_DATA_DIR=str(data)) as process:
            await until(lambda: "person.called" in kinds(typed, data))
            assert await post(data, role="gateway-alone") == 200
            ran = await asyncio.to_thread(typed, "up", "--data-dir", str(data))
            assert ran.returncode == 2
        assert process.exit_code == 0
        assert await post(data, role="gateway-alone") == 200
    assert Registry(data / "run").entries() == ()
    assert not beat_file(data, "gateway").exists()


async def test_a_temporal_server_that_does_not_answer_is_told(typed: Any, tmp_path: Path) -> None:
    """With an address in the settings no server of our own is started; nothing stays behind."""
    data = tmp_path / "data"
    words = ("up", "--port", "0", "--data-dir", str(data))
    ran = await asyncio.to_thread(typed, *words, FIREBREAK_TEMPORAL_ADDRESS="127.0.0.1:9")
    assert ran.returncode == 2
    assert "Look whether Temporal answers" in ran.stderr
    assert not (data / "temporal.sqlite").exists()
    assert Registry(data / "run").entries() == ()


WITHOUT_OUTPUT = """
import os, sys
reader, writer = os.pipe()
os.close(reader)
if sys.argv[1] == "closed":
    os.close(1)
else:
    os.dup2(writer if sys.argv[1] == "gone" else os.open("/dev/full", os.O_WRONLY), 1)
os.close(writer)
os.execv(sys.executable, [sys.executable, "-P", "-m", "firebreak", *sys.argv[2:]])
"""


@pytest.mark.parametrize("output", ["full", "gone"])
async def test_output_that_cannot_be_written_stops_no_engine(started: Any, tmp_path: Path, output: str) -> None:
    """A full disk under its log, or a reader that has ended: it takes alerts, and ends well when it is told to."""
    data = tmp_path / "data"
    words = ("gateway", "--port", "0", "--data-dir", str(data))
    async with started("gateway", "-c", WITHOUT_OUTPUT, output, *words, says="output.lost"):
        assert await post(data, role="gateway-alone") == 200


async def test_an_engine_that_is_started_with_a_closed_output_ends_well(started: Any, tmp_path: Path) -> None:
    """As some supervisors do: libuv aborted the whole process when the loop, which had that number, was closed."""
    data = tmp_path / "data"
    words = ("up", "--port", "0", "--data-dir", str(data))
    async with started("up", "-c", WITHOUT_OUTPUT, "closed", *words, says="nobody_to_page"):
        await until((data / "run" / "up.beat").exists)

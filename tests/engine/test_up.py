"""The whole engine as processes: started, killed, started again, stopped; nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import pwd
import signal
import socket
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import notices
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.ids import incident_workflow_id, label_fingerprint
from firebreak.domain.incident import Mode
from firebreak.engine.children import DOWN
from firebreak.engine.up import _launch, child_environment
from firebreak.processes import ready_file
from firebreak.servers.process import Launch, ManagedProcess, free_port
from firebreak.servers.registry import Registry, start_time
from firebreak.settings import Settings, load_settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore
from workflows.converter import DATA_CONVERTER
from workflows.incident import IncidentWorkflow
from workflows.messages import IncidentInput

Eventually = Callable[..., Awaitable[None]]
PATIENCE = 60.0  # seconds for a start on a busy machine

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
ALERT = {
    "version": "4",
    "status": "firing",
    "receiver": "r",
    "groupKey": "g",
    "truncatedAlerts": 0,
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "PayDown",
                "severity": "critical",
                "service": "pay",
                "cluster": "lab",
                "deployment": "pay-v1",
            },
            "annotations": {},
            "startsAt": "2026-11-21T09:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": "0123456789abcdef",
        }
    ],
}


@dataclass
class Engine:
    """`firebreak up` as a child. The world it would act on is not there; its pages go to a closed port."""

    folder: Path
    eventually: Eventually
    process: ManagedProcess | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def up(self) -> ManagedProcess:
        assert self.process is not None
        return self.process

    def launch(self, name: str = "up", **changed: str) -> Launch:
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FIREBREAK_") or k == "FIREBREAK_CACHE_DIR"}
        environment = {
            **clean,
            "FIREBREAK_CLUSTER": "lab",
            "FIREBREAK_KUBECONFIG": str(kubeconfig),
            "FIREBREAK_PROMETHEUS_URL": "http://127.0.0.1:1",
            "FIREBREAK_PAGERDUTY_URL": "http://127.0.0.1:1",
            "FIREBREAK_WEBHOOK_TOKEN": "token",
            **changed,
        }
        command = (sys.executable, "-m", "firebreak", "up", "--data-dir", str(self.data), "--port", "0")
        return Launch(name, command, environment, die_with_parent=True)

    async def start(self, **changed: str) -> None:
        self.process = await ManagedProcess.start(self.launch(**changed), self.folder)
        said = len(self.up.tail(10_000))

        async def runs() -> bool:
            return "Firebreak runs." in self.up.tail(10_000)[said:] or "Firebreak runs." in self._since_start()

        self._mark = self.up.log_path.stat().st_size
        await self.up.ready(runs, limit=timedelta(seconds=PATIENCE))

    def _since_start(self) -> str:
        return self.up.log_path.read_bytes()[self._mark :].decode(errors="replace")

    def pid(self, role: str) -> int:
        """Pid of the child that says it is ready; 0 while none does."""
        try:
            return int(ready_file(self.data, role).read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return 0

    @property
    def port(self) -> int:
        return int(ready_file(self.data, "gateway").read_text().split()[1])

    def alive(self) -> list[str]:
        """Names of the children that live."""
        return [entry.name for entry in Registry(self.data / "run").entries() if entry.lives()]

    async def post(self, port: int) -> int:
        """HTTP status of one alert sent; 0 when nobody answers."""
        headers = {"Authorization": "Bearer token"}
        try:
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/v1/alerts/alertmanager"
                async with session.post(url, json=ALERT, headers=headers) as answer:
                    return answer.status
        except aiohttp.ClientError:
            return 0

    def incidents(self) -> list[str]:
        with closing(sqlite3.connect(f"file:{self.data / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            return [row[0] for row in raw.execute("SELECT id FROM incidents")]

    def verdicts(self) -> int:
        with closing(sqlite3.connect(f"file:{self.data / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
            query = "SELECT count(*) FROM entries WHERE kind = 'verdict.reached'"
            return int(raw.execute(query).fetchone()[0])


@pytest.fixture
async def engine(tmp_path: Path, eventually: Eventually) -> AsyncIterator[Engine]:
    made = Engine(tmp_path, eventually)
    yield made
    if made.process is not None:
        await made.process.stop()
        assert made.alive() == []


def is_stopped(pid: int) -> bool:
    """SIGSTOP takes a moment to reach all threads."""
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


async def ended(process: ManagedProcess, seconds: float) -> int | None:
    await process.exited(timedelta(seconds=seconds))
    return process.exit_code


@pytest.mark.servers
async def test_sigterm_stops_everything_within_seconds(engine: Engine) -> None:
    """Exit code 0, no process left, the directory free, and a second engine refused as long as it ran."""
    await engine.start()
    assert sorted(engine.alive()) == ["gateway", "other", "p1", "temporal"]
    second = await ManagedProcess.start(engine.launch("second"), engine.folder)
    assert await ended(second, PATIENCE) not in (0, None)
    assert "another engine uses the data directory" in second.tail()
    assert "--data-dir" in second.tail()
    pids = [entry.pid for entry in Registry(engine.data / "run").entries()]
    engine.up.signal(signal.SIGTERM)
    assert await ended(engine.up, 15) == 0
    assert engine.up.tail(1) == "stopped"
    assert engine.alive() == []
    assert [pid for pid in pids if start_time(pid) is not None] == []


@pytest.mark.servers
async def test_a_temporal_of_your_own_is_used_in_your_namespace(engine: Engine, temporal_address: str) -> None:
    """An alert gets its verdict there, and nowhere else: no server, and no database, of the engine's own."""
    default = await Client.connect(temporal_address)
    namespace = f"shop-{uuid.uuid4().hex[:8]}"
    wish = RegisterNamespaceRequest(namespace=namespace)
    wish.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await default.workflow_service.register_namespace(wish)
    there = await Client.connect(temporal_address, namespace=namespace)

    async def known() -> bool:
        """To all parts of the server: they learn of it one after the other."""
        try:
            await there.start_workflow("Probe", id="probe", task_queue="nobody-listens")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    await engine.eventually(known, PATIENCE)
    await engine.start(FIREBREAK_TEMPORAL_ADDRESS=temporal_address, FIREBREAK_TEMPORAL_NAMESPACE=namespace)
    assert await engine.post(engine.port) == 200

    async def judged() -> bool:
        return engine.verdicts() > 0

    await engine.eventually(judged, PATIENCE)
    (incident_id,) = engine.incidents()
    story = incident_workflow_id(incident_id)
    assert (await there.get_workflow_handle(story).describe()).workflow_type == "Incident"
    with pytest.raises(RPCError, match="not found"):
        await default.get_workflow_handle(story).describe()
    assert sorted(engine.alive()) == ["gateway", "other", "p1"]
    assert not list(engine.data.glob("temporal*"))


@pytest.mark.servers
async def test_an_engine_leaves_another_ones_incident_alone_and_says_so(engine: Engine, temporal_address: str) -> None:
    """Both use one task queue: nothing is recorded for the incident, and a person is told which setting to change."""
    prefix = f"shared-{uuid.uuid4().hex[:8]}"
    await engine.start(FIREBREAK_TEMPORAL_ADDRESS=temporal_address, FIREBREAK_TASK_QUEUE_PREFIX=prefix)
    client = await Client.connect(temporal_address, data_converter=DATA_CONVERTER)
    strange = f"inc-20261121-083644-{uuid.uuid4().hex[:8]}"
    story = await client.start_workflow(
        IncidentWorkflow.run, IncidentInput(incident_id=strange), id=strange, task_queue=f"{prefix}-p1"
    )

    def records() -> set[str]:
        with closing(sqlite3.connect(f"file:{engine.data / TIMELINE_FILE}?mode=ro", uri=True)) as raw:
            return {row[0] for row in raw.execute("SELECT incident_id FROM entries")}

    async def told() -> bool:
        return any(name.startswith("queue-") for name in records())

    await engine.eventually(told, PATIENCE)
    assert strange not in records()
    await story.terminate()


@pytest.mark.servers
@pytest.mark.faults
async def test_killed_children_are_started_again(engine: Engine) -> None:
    """kill -9 of a worker, of the gateway and of Temporal: each is there again, the gateway on its port, and an alert
    that is taken then ends up with a verdict."""
    await engine.start()
    port = engine.port
    for role in ("p1", "gateway"):
        before = engine.pid(role)
        os.kill(before, signal.SIGKILL)

        async def again(role: str = role, before: int = before) -> bool:
            return engine.pid(role) not in (0, before)

        await engine.eventually(again, PATIENCE)
    assert engine.port == port, "whoever sends alerts knows only this port"
    (temporal,) = [entry for entry in Registry(engine.data / "run").entries() if entry.name == "temporal"]
    os.kill(temporal.pid, signal.SIGKILL)

    async def taken() -> bool:
        return await engine.post(port) == 200

    await engine.eventually(taken, PATIENCE)

    async def judged() -> bool:
        return engine.verdicts() > 0

    await engine.eventually(judged, PATIENCE)
    assert sorted(engine.alive()) == ["gateway", "other", "p1", "temporal"]


@pytest.mark.servers
@pytest.mark.faults
async def test_a_child_that_keeps_ending_is_started_ever_more_slowly(engine: Engine) -> None:
    """At once the first time, then after a second, then after two: no busy loop of starts."""
    await engine.start()
    for _ in range(3):
        before = engine.pid("other")
        os.kill(before, signal.SIGKILL)

        async def again(before: int = before) -> bool:
            return engine.pid("other") not in (0, before)

        await engine.eventually(again, PATIENCE)
    waits = [json.loads(line)["again_in"] for line in engine.up.tail(500).splitlines() if "engine.child_ended" in line]
    assert waits == [0.0, 1.0, 2.0]


@pytest.mark.servers
@pytest.mark.faults
async def test_a_child_that_hangs_is_ended_and_started_again(engine: Engine) -> None:
    """It lives, but does nothing: within half a minute another one takes up what waits."""
    await engine.start()
    before = {role: engine.pid(role) for role in ("p1", "gateway")}
    os.kill(before["p1"], signal.SIGSTOP)

    async def stopped() -> bool:
        return is_stopped(before["p1"])

    await engine.eventually(stopped, PATIENCE)
    assert await engine.post(engine.port) == 200
    os.kill(before["gateway"], signal.SIGSTOP)
    assert engine.incidents() == []

    async def again() -> bool:
        return all(engine.pid(role) not in (0, pid) for role, pid in before.items())

    await engine.eventually(again, PATIENCE)

    async def opened() -> bool:
        return len(engine.incidents()) == 1

    await engine.eventually(opened, PATIENCE)
    assert await engine.post(engine.port) == 200
    assert [start_time(pid) for pid in before.values()] == [None, None]
    hung = [json.loads(line)["name"] for line in engine.up.tail(500).splitlines() if "engine.child_hangs" in line]
    assert sorted(hung) == ["gateway", "p1"]


@pytest.mark.servers
@pytest.mark.faults
@pytest.mark.timeout(240)  # a minute passes before the call, and starts take theirs on a busy machine
async def test_a_gateway_that_cannot_be_started_again_calls_a_person(engine: Engine, pager: Any) -> None:
    """Another program has its port: no alert could tell of that."""
    await engine.start(FIREBREAK_PAGERDUTY_URL=pager.url, FIREBREAK_FALLBACK_PAGER_KEY="k" * 32)
    port, dead = engine.port, engine.pid("gateway")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(dead, signal.SIGKILL)

        async def free() -> bool:
            with contextlib.suppress(OSError):
                taken.bind(("127.0.0.1", port))
                return True
            return False

        await engine.eventually(free, PATIENCE)
        taken.listen()

        async def called() -> bool:
            return bool(pager.got)

        await engine.eventually(called, DOWN + PATIENCE)
    (page,) = pager.got
    assert page["dedup_key"].startswith("down-")
    assert "its process gateway does not come back: no alert is taken in" in page["payload"]["summary"]


@pytest.mark.servers
@pytest.mark.faults
@pytest.mark.parametrize("name", [INBOX_FILE, TIMELINE_FILE])
async def test_no_process_is_started_on_a_file_that_was_replaced_under_the_engine(
    engine: Engine, pager: Any, name: str
) -> None:
    """A gateway that ended would take alerts into it that no dispatcher sees. A person is called instead, also out of a
    record that nothing had been written into, until the engine has been started again."""
    settings = {"FIREBREAK_PAGERDUTY_URL": pager.url, "FIREBREAK_FALLBACK_PAGER_KEY": "k" * 32}
    await engine.start(**settings)
    file, former = engine.data / name, engine.folder / "former"
    os.rename(file, former)
    os.kill(engine.pid("gateway"), signal.SIGKILL)

    async def told(action: str) -> bool:
        return action in [event["event_action"] for event in pager.got]

    await engine.eventually(functools.partial(told, "trigger"), PATIENCE)  # in less time others are started again
    assert [event["dedup_key"].split("-")[0] for event in pager.got] == ["replaced"]
    assert "gateway" not in engine.alive()
    assert not file.exists()
    await engine.up.stop()
    os.rename(former, file)
    await engine.start(**settings)
    assert await engine.post(engine.port) == 200
    await engine.eventually(functools.partial(told, "resolve"), PATIENCE)


@pytest.mark.servers
@pytest.mark.faults
async def test_what_was_taken_before_a_kill_of_it_all_is_handled_by_the_next_start(engine: Engine) -> None:
    """kill -9 of `up` right after the 200: no child outlives it, and the next start opens the incident."""
    await engine.start()
    for role in ("p1", "other"):  # nobody can take it up before the kill
        os.kill(engine.pid(role), signal.SIGSTOP)
    assert await engine.post(engine.port) == 200
    engine.up.signal(signal.SIGKILL)
    await ended(engine.up, 15)

    async def gone() -> bool:
        return engine.alive() == []

    await engine.eventually(gone)
    assert engine.incidents() == []
    await engine.start()

    async def opened() -> bool:
        return len(engine.incidents()) == 1

    await engine.eventually(opened, PATIENCE)


@pytest.mark.servers
async def test_what_an_earlier_run_left_is_ended_first(engine: Engine) -> None:
    """A process in the registry that outlived its engine is ended, and that is said."""
    left = await ManagedProcess.start(Launch("temporal", ("/bin/sleep", "600")), engine.data / "run")
    try:
        await engine.start()
        assert not left.alive
        assert "ended 1 processes that an earlier run had left" in engine.up.tail(500)
    finally:
        left.kill()


@pytest.mark.servers
async def test_who_is_due_to_be_called_is_called_also_when_it_cannot_start(engine: Engine, pager: Any) -> None:
    """Temporal's database is damaged: each start ends with an error, and the page that waits goes out all the same;
    so does one about an alert that was taken and that no worker will take up."""
    now = datetime.now(UTC)
    engine.data.mkdir()
    entry, page = notices.fault("engine-1", "workflow", "look at it", now)
    async with await TimelineStore.open(engine.data / TIMELINE_FILE) as store:
        await store.append([entry], messages=[page])
    labels = {"alertname": "PayDown", "severity": "critical", "service": "pay"}
    alert = Alert(fingerprint=label_fingerprint(labels), status=AlertStatus.FIRING, labels=labels, starts_at=now)
    async with await InboxStore.open(engine.data / INBOX_FILE) as inbox:
        long_ago = now - timedelta(minutes=2)
        await inbox.accept([(alert, IntakeClass.P1_CANDIDATE)], source="t", truncated=0, accepted_at=long_ago)
    (engine.data / "temporal.sqlite").write_bytes(os.urandom(8192))
    settings = {"FIREBREAK_PAGERDUTY_URL": pager.url, "FIREBREAK_FALLBACK_PAGER_KEY": "k" * 32}
    process = await ManagedProcess.start(engine.launch(**settings), engine.folder)
    assert await process.exited(timedelta(seconds=PATIENCE))
    assert process.exit_code not in (0, None)
    assert sorted(event["event_action"] for event in pager.got) == ["trigger", "trigger"]
    assert sorted(event["dedup_key"].split("-")[0] for event in pager.got) == ["engine", "intake"]


async def test_who_is_due_to_be_called_is_called_also_when_the_inbox_is_damaged(engine: Engine, pager: Any) -> None:
    """The start ends with a sentence; all that waits in a good record goes out first, and a page that says why."""
    engine.data.mkdir()
    entry, page = notices.fault("engine-1", "workflow", "look at it", datetime.now(UTC))
    async with await TimelineStore.open(engine.data / TIMELINE_FILE) as store:
        # One after the other, as all calls of one record: they outlast the page about the inbox.
        await store.append([entry], messages=[replace(page, key=f"pager/{number}") for number in range(5)])
    (engine.data / INBOX_FILE).write_bytes(os.urandom(8192))
    settings = {
        "FIREBREAK_PAGERDUTY_URL": pager.url,
        "FIREBREAK_FALLBACK_PAGER_KEY": "k" * 32,
        "FIREBREAK_TEMPORAL_ADDRESS": "127.0.0.1:1",  # it comes to no such thing
    }
    process = await ManagedProcess.start(engine.launch(**settings), engine.folder)
    assert await process.exited(timedelta(seconds=PATIENCE))
    assert process.exit_code == 2
    assert "firebreak: inbox.sqlite: the file is not a Firebreak store" in process.tail()
    assert sorted(event["dedup_key"].split("-")[0] for event in pager.got) == [*5 * ["engine"], "inbox"]


async def test_a_part_that_does_not_start_stops_the_start(engine: Engine) -> None:
    """The workers cannot read the kubeconfig: an error that shows their log, exit code not 0, nothing left."""
    launch = engine.launch(FIREBREAK_KUBECONFIG=str(engine.folder / "missing"))
    engine.process = await ManagedProcess.start(launch, engine.folder)
    assert await ended(engine.up, PATIENCE) not in (0, None)
    assert "kubeconfig" in engine.up.tail(100).lower()
    assert engine.alive() == []


@pytest.mark.servers
async def test_sigterm_is_heard_while_the_parts_start(engine: Engine) -> None:
    """Temporal takes the connection and says nothing, so the workers are not ready: it stops all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        launch = engine.launch(FIREBREAK_TEMPORAL_ADDRESS=f"127.0.0.1:{silent.getsockname()[1]}")
        engine.process = await ManagedProcess.start(launch, engine.folder)

        async def begun() -> bool:
            return sorted(engine.alive()) == ["gateway", "other", "p1"]

        await engine.eventually(begun, PATIENCE)
        engine.up.signal(signal.SIGTERM)
        assert await ended(engine.up, 15) == 0
    assert "Firebreak runs." not in engine.up.tail(100)
    assert engine.alive() == []


# --- without processes -----------------------------------------------------------------------------------------


def test_children_hear_what_was_not_said_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of the command line reach the children; paths are absolute, since they run in another folder."""
    for name in [n for n in os.environ if n.startswith("FIREBREAK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    given = load_settings(data_dir=Path("here"), mode="act", gateway_port=4242)
    for name, value in child_environment(given).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    heard = load_settings()
    assert heard.data_dir == tmp_path / "here"
    assert (heard.mode, heard.gateway_port) == (Mode.ACT, 4242)
    assert heard.catalog is None


def test_children_hear_each_setting_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting in small letters counts, and beside the one that is passed on it would be two."""
    monkeypatch.setenv("firebreak_mode", "observe")
    monkeypatch.setenv("firebreak_data_dir", str(tmp_path))
    environment = _launch("p1", load_settings(), "127.0.0.1:7233").environment
    assert {n: v for n, v in environment.items() if n.upper() in ("FIREBREAK_MODE", "FIREBREAK_DATA_DIR")} == {
        "FIREBREAK_MODE": "observe",
        "FIREBREAK_DATA_DIR": str(tmp_path),
    }


def test_children_find_the_secrets_that_lie_in_the_accounts_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HOME is not set, as under a supervisor."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("FIREBREAK_SECRETS_DIR", "~/secrets")
    assert child_environment(Settings())["FIREBREAK_SECRETS_DIR"] == f"{home}/secrets"
    monkeypatch.delenv("FIREBREAK_SECRETS_DIR")
    assert "FIREBREAK_SECRETS_DIR" not in child_environment(Settings())


def test_children_have_the_accounts_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HOME is not set: the usual kubeconfig was looked for in the run directory."""
    monkeypatch.delenv("HOME", raising=False)
    assert child_environment(Settings())["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


def test_no_secret_is_passed_on_the_way_to_children() -> None:
    """They get secrets as this process did: by environment or secrets directory, never copied."""
    settings = Settings(
        webhook_token=SecretStr("s3cret"), slack_token=SecretStr("s3cret"), fallback_pager_key=SecretStr("s3cret")
    )
    assert "s3cret" not in str(dict(child_environment(settings)))


# --- the worker process alone ----------------------------------------------------------------------------------


async def role(*args: str, **environment: str) -> tuple[int | None, str]:
    """Exit code and words of `python -m firebreak.engine.role`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FIREBREAK_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "firebreak.engine.role",
        *args,
        env={**clean, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
    return child.returncode, said.decode()


async def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Wrong class, no address, a wrong setting, nobody at the address: exit code 1 and a sentence, no trace."""
    code, said = await role("p7")
    assert (code, said.strip()) == (1, "usage: python -m firebreak.engine.role p1|other")
    code, said = await role("p1", FIREBREAK_DATA_DIR=str(tmp_path))
    assert code == 1
    assert "FIREBREAK_TEMPORAL_ADDRESS" in said
    code, said = await role("p1", FIREBREAK_MODE="dangerous")
    assert code == 1
    assert "FIREBREAK_MODE" in said
    nobody = f"127.0.0.1:{free_port()}"
    code, said = await role("p1", FIREBREAK_DATA_DIR=str(tmp_path), FIREBREAK_TEMPORAL_ADDRESS=nobody)
    assert code == 1
    assert "Temporal" in said
    assert "Traceback" not in said

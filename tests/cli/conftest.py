"""The command line as a person types it, in a process of its own and in an empty environment."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from firebreak.cli.main import main
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.condition import Condition, ConditionKind, Dimension
from firebreak.domain.ids import incident_id
from firebreak.domain.incident import Incident, IncidentOutcome, IncidentPhase
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import Facts
from firebreak.servers.cache import cache_dir
from firebreak.servers.process import Launch, ManagedProcess
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from firebreak.triage.classify import JUDGED_BY, classify
from firebreak.triage.tree import SeverityTree, TreeNode, tree_bytes, tree_from_bytes

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


# --- a record made here, for the verbs that read it ---

START = datetime(2026, 11, 21, 8, 36, 44, 120_000, tzinfo=UTC)
HOSTILE = "Pay\x1b[31m[red]<!channel>\nErrors"

Run = Callable[..., "Ran"]


class Ran:
    """Exit code and what was printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def tree() -> SeverityTree:
    made = SeverityTree(
        name="p1",
        service="pay",
        step=timedelta(seconds=1),
        conditions=(
            Condition(
                name="business_blocked",
                kind=ConditionKind.LABEL,
                dimension=Dimension.BUSINESS,
                label="business_impact",
                label_values=("blocked",),
            ),
        ),
        nodes=(
            TreeNode(operator="any", depth=0),
            TreeNode(operator="condition", depth=1, condition="business_blocked"),
        ),
        may_act_dimensions=2,
        trusted_labels=(),
        source_digest="a" * 64,
        policy="default",
        policy_digest="b" * 64,
    )
    return tree_from_bytes(tree_bytes(made))


def incident(number: int, *, alertname: str = "PayErrors") -> Incident:
    accepted = START + timedelta(seconds=10 * number)
    alert = Alert(
        fingerprint=f"{number:016x}",
        status=AlertStatus.FIRING,
        labels={"alertname": alertname, "service": "pay", "business_impact": "blocked"},
        starts_at=accepted,
    )
    return Incident(
        id=incident_id(f"pay{number}", alert.key, accepted),
        opened_at=accepted,
        accepted_at=accepted,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key=f"pay{number}",
        service="pay",
        target=TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v1"),
        alert=alert,
    )


async def write(path: Path, incidents: list[Incident], *, lie: bool = False) -> None:
    """Open each, classify it, call a person for the first, close the others. `lie`: the stored verdict is another."""
    async with await TimelineStore.open(path) as store:
        for number, one in enumerate(incidents):
            at = one.opened_at

            def draft(
                key: str, kind: EntryKind, body: dict[str, Any], *, one: Incident = one, at: datetime = at
            ) -> EntryDraft:
                return EntryDraft(incident_id=one.id, key=key, kind=kind, at=at, body=body, duration_ms=1.5)

            await store.open_or_join(
                one,
                opened=draft("opened", EntryKind.INCIDENT_OPENED, to_data(one)),
                joined=draft("joined", EntryKind.ALERT_JOINED, {"alert": to_data(one.alert), "firing": 1}),
                messages=(),
            )
            known = tree()
            facts = Facts(
                pinned_at=at,
                step=known.step,
                labels=one.alert.labels,
                service=one.service,
                tree_digest=known.digest,
                bindings={},
                answers=(),
                judged_by=JUDGED_BY,
            )
            verdict = to_data(classify(facts, known)) | ({"severity": "none"} if lie else {})
            await store.append(
                [
                    draft("verdict/0", EntryKind.VERDICT_REACHED, {"verdict": verdict, "round": 0}),
                    draft("facts/0", EntryKind.FACTS_GATHERED, {"facts": to_data(facts), "round": 0}),
                    draft("person/high", EntryKind.PERSON_CALLED, {"reason": "one dimension is not enough"}),
                ],
                documents=[tree_bytes(known)],
                phase=(one.id, IncidentPhase.WAITING_FOR_PERSON),
            )
            if number > 0:
                ending = draft("close", EntryKind.INCIDENT_CLOSED, {"outcome": "recovered", "reason": "healthy again"})
                await store.close_incident(ending, IncidentOutcome.RECOVERED, messages=())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def three(data_dir: Path) -> list[Incident]:
    """Three incidents, the oldest still open; the newest has a hostile name."""
    made = [incident(0), incident(1), incident(2, alertname=HOSTILE)]
    asyncio.run(write(data_dir / TIMELINE_FILE, made))
    return made


@pytest.fixture
def elsewhere(data_dir: Path) -> Incident:
    """One of another cluster, which a person has."""
    why = "the alert is of cluster 'prod', this engine acts on lab"
    made = replace(incident(0), target=None, refusal=why, elsewhere=why, bindings={"cluster": "prod"})
    asyncio.run(write(data_dir / TIMELINE_FILE, [made]))
    return made


@pytest.fixture
def run(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("show", "last")` as the command line does it."""

    def ran(*words: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["firebreak", *words, "--data-dir", str(data_dir)])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        out, err = capfd.readouterr()
        return Ran(int(str(code or 0)), out, err)

    return ran

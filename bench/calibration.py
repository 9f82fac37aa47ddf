"""What this machine gives at the moment: printed with every section, so that its figures can be read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from bench.documents import flags_name, namespace_of
from bench.field import Field
from bench.figures import Spread, quantile, table
from bench.noop_workflow import NoopWorkflow
from firebreak.connectors.prometheus import Prometheus
from firebreak.documents.policy import load_policy
from firebreak.documents.services import load_services
from firebreak.domain.condition import AnswerStatus, Condition
from firebreak.engine.temporal import workflow_runner
from firebreak.lab.kube import KubeClient
from firebreak.lab.shape import CLUSTER
from firebreak.locator import runbooks_dir
from firebreak.triage.queries import batch_of, span_of, step_of
from firebreak.triage.tree import load_severity, render_tree

_KIB = 1024
_SECONDS = 0.3
_TIMES = 40


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """p50 in ms of a bare merge PATCH, one batch of the tree's queries, and an eager workflow that does nothing, until
    Temporal has started it and until it has ended. One call at a time, on a machine that does nothing else."""

    patch: float
    batch: float
    noop_start: float
    noop: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """fsync and SHA-256 of 1 KiB per second; the servers called one call after the other, and (`paced`) as seldom as
    alerts come: then nothing is in the processor's caches any more."""

    fsync_rate: float
    sha256_rate: float
    servers: ServerTimes
    load: float
    paced: ServerTimes | None = None


async def calibrate(field: Field, *, pause: float = 0.0) -> Calibration:
    """About two seconds. With `pause` (seconds between two calls) `paced`, too."""
    load = os.getloadavg()[0]
    return Calibration(
        fsync_rate=await asyncio.to_thread(_fsync_rate, field.root),
        sha256_rate=_sha256_rate(),
        servers=await _server_times(field, 0.0),
        load=load,
        paced=await _server_times(field, pause) if pause else None,
    )


async def _server_times(field: Field, pause: float) -> ServerTimes:
    noop_start, noop = await _noop_ms(field, pause)
    return ServerTimes(await _patch_ms(field, pause), await _batch_ms(field, pause), noop_start, noop)


async def _turns(pause: float) -> AsyncIterator[int]:
    for number in range(_TIMES):
        await asyncio.sleep(pause)
        yield number


def told(rounds: list[Calibration]) -> str:
    """A table over the rounds."""
    lines = [
        ("fsync of 1 KiB, per second", [c.fsync_rate for c in rounds], 0),
        ("SHA-256 of 1 KiB, per second", [c.sha256_rate for c in rounds], 0),
        *_served("p50 ms", [c.servers for c in rounds]),
        *_served("p50 ms, at the alerts' pace", [c.paced for c in rounds if c.paced is not None]),
        ("load average (1 min) at the start of the round", [c.load for c in rounds], 1),
    ]
    rows = [[name, Spread.of(values).told(digits)] for name, values, digits in lines if values]
    return table(["calibration", "median (quartiles; extremes)"], rows)


def _served(unit: str, rounds: list[ServerTimes]) -> list[tuple[str, list[float], int]]:
    return [
        (f"bare PATCH at the API server, {unit}", [t.patch for t in rounds], 2),
        (f"one batch of the tree's queries, {unit}", [t.batch for t in rounds], 2),
        (f"eager start of a workflow that does nothing, {unit}", [t.noop_start for t in rounds], 2),
        (f"that workflow from start to result, {unit}", [t.noop for t in rounds], 2),
    ]


def _fsync_rate(folder: Path) -> float:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            os.pwrite(file.fileno(), b"x" * _KIB, count * _KIB)
            os.fsync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)


def _sha256_rate() -> float:
    block, count, began = b"x" * _KIB, 0, time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        for _ in range(1000):
            hashlib.sha256(block).digest()
        count += 1000
    return count / (time.perf_counter() - began)


async def _patch_ms(field: Field, pause: float) -> float:
    """To the last service's ConfigMap, a label that nobody reads."""
    number = field.services - 1
    path = f"/api/v1/namespaces/{namespace_of(number)}/configmaps/{flags_name(number)}"
    times = []
    async with KubeClient(field.admin) as client:
        async for i in _turns(pause):
            began = time.perf_counter()
            await client.merge(path, {"metadata": {"annotations": {"bench": str(i)}}})
            times.append(1000 * (time.perf_counter() - began))
    return quantile(times, 0.5)


async def _noop_ms(field: Field, pause: float) -> tuple[float, float]:
    """One after the other on the tuned server, by a worker that has nothing else to do."""
    client = await Client.connect(field.temporal)
    queue = f"calibration-{uuid.uuid4().hex[:8]}"
    starts, ends = [], []
    async with Worker(
        client, task_queue=queue, workflows=[NoopWorkflow], workflow_runner=workflow_runner(), max_cached_workflows=10
    ):
        async for number in _turns(pause):
            began = time.perf_counter()
            handle = await client.start_workflow(
                NoopWorkflow.run, id=f"{queue}-{number}", task_queue=queue, request_eager_start=True
            )
            starts.append(1000 * (time.perf_counter() - began))
            await handle.result()
            ends.append(1000 * (time.perf_counter() - began))
    return quantile(starts, 0.5), quantile(ends, 0.5)


def tree_conditions(field: Field) -> tuple[Condition, ...]:
    """The production tree as the engine renders it for service 0."""
    services = load_services(Path(field.engine["FIREBREAK_SERVICES"]).read_bytes(), "services.yaml")
    service = services.services["svc-0"]
    tree = render_tree(
        load_severity((runbooks_dir() / "severity" / "p1.yaml").read_bytes(), "p1.yaml"),
        load_policy(Path(field.engine["FIREBREAK_POLICY"]).read_bytes(), "policy.yaml"),
        service,
        {
            **service.params,
            "service": "svc-0",
            "namespace": namespace_of(0),
            "workload": "svc-0",
            "cluster": CLUSTER,
        },
    )
    return tree.conditions


async def _batch_ms(field: Field, pause: float) -> float:
    conditions = tree_conditions(field)
    times = []
    async with Prometheus(field.prometheus_url) as prometheus:
        async for _ in _turns(pause):
            now = datetime.now(UTC)
            began = time.perf_counter()
            answers = await prometheus.range_batch(
                batch_of(conditions),
                start=now - span_of(conditions),
                end=now,
                step=step_of(conditions),
                timeout=timedelta(seconds=5),
            )
            times.append(1000 * (time.perf_counter() - began))
            if any(answer.status is not AnswerStatus.OK for answer in answers):
                raise RuntimeError(f"a query of the tree was not answered: {answers}")
    return quantile(times, 0.5)

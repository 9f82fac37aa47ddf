"""Where the time between an alert and its PATCH goes: a stopwatch on each stage of the P1 worker, no goal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from bench.alert_to_plan import PER_SECOND
from bench.documents import service_name
from bench.field import ENGINE_USER, Field, child_environment, cpu_seconds
from bench.figures import quantile, table
from bench.load import open_loop
from bench.watch import RecordWatch, first_writes, incidents_since, outcomes
from firebreak.lab.control import until
from firebreak.servers.process import Launch, ManagedProcess, free_port


async def measure(field: Field, *, alerts: int, profile: str = "") -> str:
    """One gateway and one P1 worker with stopwatches; the incidents of a first, small run are left out."""
    port, data_dir, run_dir = free_port(), field.root / "staged", field.run_dir / "staged"
    for folder in (data_dir, run_dir):
        folder.mkdir()
    stages = field.root / "stages.json"
    environment = child_environment(
        {
            **field.engine,
            "FIREBREAK_DATA_DIR": str(data_dir),
            "FIREBREAK_GATEWAY_PORT": str(port),
            "FIREBREAK_EVIDENCE_CAPTURE": "false",
            "STAGES_FILE": str(stages),
            "STAGES_PROFILE": profile,
        }
    )
    processes: list[ManagedProcess] = []
    timeline = data_dir / "timeline.sqlite"
    url = f"http://127.0.0.1:{port}/v1/alerts/alertmanager"
    try:
        for name, module in (("gateway", ("firebreak.gateway",)), ("p1", ("bench.staged", "p1"))):
            launch = Launch(name, (sys.executable, "-P", "-m", *module), environment, die_with_parent=True)
            processes.append(await ManagedProcess.start(launch, run_dir))
            marker = data_dir / "run" / f"{name}.ready"

            async def ready(marker: Path = marker) -> bool:
                return await asyncio.to_thread(marker.exists)

            await processes[-1].ready(ready, limit=timedelta(seconds=30))
        for numbers in (range(alerts, field.services), range(alerts)):
            since, every = time.time(), {**field.processes, **{p.name: p for p in processes}}
            before = cpu_seconds(every)
            with RecordWatch(timeline, "plan") as watch:
                meant = await open_loop(url, field.token, numbers, per_second=PER_SECOND)

                async def closed(since: float = since, count: int = len(numbers)) -> bool:
                    incidents = incidents_since(timeline, since)
                    states = await asyncio.to_thread(outcomes, timeline, list(incidents.values()))
                    return len(incidents) == count and "open" not in states.values()

                await until(closed, timedelta(seconds=60), "the end of all incidents")
        used = {name: seconds - before[name] for name, seconds in cpu_seconds(every).items()}
        took = time.time() - since
        incidents = incidents_since(timeline, since)
        writes = first_writes(field.plane.audit_log, ENGINE_USER, since)
        names = [service_name(n) for n in range(alerts)]
        plans = [1000 * (watch.seen[incidents[n]] - meant[n]) for n in names]
        patches = [1000 * (writes[f"{n}-flags"] - meant[n]) for n in names]
    finally:
        for process in reversed(processes):
            await process.stop(timedelta(seconds=15))
    times: dict[str, list[float]] = json.loads(stages.read_text())
    rows = [
        [stage, str(len(ms)), f"{quantile(ms, 0.5):.2f}", f"{quantile(ms, 0.9):.2f}", f"{sum(ms) / field.services:.2f}"]
        for stage, ms in sorted(times.items(), key=lambda item: -sum(item[1]))
    ]
    head = (
        f"{alerts} alerts at {PER_SECOND:g}/s, stopwatches on: plan p50 {quantile(plans, 0.5):.1f} ms, "
        f"first PATCH p50 {quantile(patches, 0.5):.1f} ms, p99 {quantile(patches, 0.99):.1f} ms. "
        f"Load average {os.getloadavg()[0]:.1f}."
    )
    cpu = [
        [name, f"{1000 * seconds / alerts:.1f}", f"{100 * seconds / took:.0f}"]
        for name, seconds in sorted(used.items(), key=lambda item: -item[1])
    ]
    cpu.append(["all", f"{1000 * sum(used.values()) / alerts:.1f}", f"{100 * sum(used.values()) / took:.0f}"])
    head += "\n\n" + table(["process", "CPU ms per incident", "% of a core"], cpu)
    return f"{head}\n\n{table(['stage (they nest)', 'calls', 'p50 ms', 'p90 ms', 'ms per incident'], rows)}"

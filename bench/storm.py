"""Incidents healed per second when many distinct services break at once; beside what the Temporal server allows."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from dataclasses import field as value_of
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client

from bench.calibration import Calibration, calibrate, told
from bench.engine import Engine, alone, halted, running
from bench.field import Field, cpu_seconds
from bench.figures import Spread, ratios, table
from bench.floors import FloorSpec, measured
from bench.histories import costs
from bench.load import storm
from bench.watch import entry_time, incidents_since, outcomes, plan_of
from firebreak.lab.control import until
from firebreak.plans.pin import outline

_LIMIT = timedelta(seconds=180)
_GOAL = 0.7
_SAMPLE = 20
_LOOK = 1.0
OFF, ON = "engine, capture off", "engine, capture on"
NOOP, WAITS = "(b) eager no-op", "(c) empty bodies, same waits"


@dataclass(slots=True)
class StormFigures:
    """Seconds of each round by line; `waits` = seconds that an incident must wait by its plan; `cpu` = processor
    seconds per incident, by process."""

    count: int
    seconds: dict[str, list[float]] = value_of(default_factory=dict)
    healed: dict[str, list[int]] = value_of(default_factory=dict)
    ends: dict[str, Counter[str]] = value_of(default_factory=dict)
    waits: float = 0.0
    shape: str = ""
    cpu: dict[str, float] = value_of(default_factory=dict)
    calibration: list[Calibration] = value_of(default_factory=list)


async def measure(field: Field, *, rounds: int, count: int) -> StormFigures:
    """So many of the field's services break at once, `rounds` times; lines take turns. The field's last service is the
    calibration's."""
    if count >= field.services:
        raise ValueError("the calibration needs a service of its own")
    found = StormFigures(count=count)
    numbers = range(count)
    client = await Client.connect(field.temporal)
    async with AsyncExitStack() as stack:
        engines = {
            OFF: await stack.enter_async_context(
                running(field, f"storm-{count}-off", extra={"FIREBREAK_EVIDENCE_CAPTURE": "false"})
            ),
            ON: await stack.enter_async_context(running(field, f"storm-{count}-on")),
        }
        for engine in engines.values():  # imports, connections
            await _one_storm(field, engine, numbers[:10])
        for _ in range(rounds):
            with halted(engines.values()):
                found.calibration.append(await calibrate(field))
            for name, engine in engines.items():
                async with alone(engine, engines.values()):
                    before = cpu_seconds(field.processes)
                    seconds, ends, incidents = await _one_storm(field, engine, numbers)
                    used = cpu_seconds(field.processes)
                found.seconds.setdefault(name, []).append(seconds)
                found.healed.setdefault(name, []).append(ends["healed"])
                found.ends.setdefault(name, Counter()).update(ends)
                if name == OFF:
                    found.cpu = {n: (used[n] - before[n]) / found.count for n in used}
                    spec = await _same_waits(field, client, engine, incidents)
            found.waits = spec.waits
            found.shape = (
                f"{spec.looks} look(s), the first {spec.first_look:.1f} s after the effect, verified after "
                f"{spec.verified_after:.1f} s; {spec.holds}, the first {spec.hold:.1f} s later, until the hold ended "
                f"after {spec.held_after:.1f} s"
            )
            for name, kind in ((WAITS, "waits"), (NOOP, "noop")):
                with halted(engines.values()):
                    found.seconds.setdefault(name, []).append(await measured(field, replace(spec, kind=kind)))
    return found


async def _one_storm(field: Field, engine: Engine, numbers: Sequence[int]) -> tuple[float, Counter[str], list[str]]:
    """Seconds from the first alert to the last close, how the incidents ended, their ids."""
    await field.held(numbers)
    timeline, since = engine.data_dir / "timeline.sqlite", time.time()
    began = await storm(engine.url, field.token, numbers)

    async def closed() -> bool:
        await asyncio.sleep(_LOOK)  # the ends are read from the record: looking often would cost what is measured
        opened = incidents_since(timeline, since)
        states = await asyncio.to_thread(outcomes, timeline, list(opened.values()))
        return len(opened) == len(numbers) and "open" not in states.values()

    await until(closed, _LIMIT, f"the end of the storm of {engine.name}")
    incidents = list(incidents_since(timeline, since).values())
    at = entry_time(timeline, "incident.closed")
    await field.break_again(numbers)
    ends = Counter(outcomes(timeline, incidents).values())
    return max(at.get(i, began) for i in incidents) - began, ends, incidents


async def _same_waits(field: Field, client: Client, engine: Engine, incidents: list[str]) -> FloorSpec:
    """The empty story's looks and times, from a sample of real incidents."""
    timeline: Path = engine.data_dir / "timeline.sqlite"
    effect, verified, held = (entry_time(timeline, kind) for kind in ("effect.recorded", "step.verified", "hold.ended"))
    sample = [i for i in incidents if i in held][:: max(1, len(incidents) // _SAMPLE)]
    found = await costs(client, sample)
    plan = outline(await asyncio.to_thread(plan_of, timeline, sample[0]))
    return FloorSpec(
        address=field.temporal,
        kind="waits",
        count=len(incidents),
        looks=round(statistics.median(c.local["step.verify"] for c in found)),
        holds=round(statistics.median(c.local["step.hold"] for c in found)),
        first_look=plan.tiers[0].steps[0].first_look.total_seconds(),
        verified_after=statistics.median(verified[i] - effect[i] for i in sample),
        hold=plan.hold.total_seconds(),
        held_after=statistics.median(held[i] - verified[i] for i in sample),
    )


def report(found: StormFigures, *, rounds: int) -> str:
    counts = {name: found.healed.get(name, [found.count] * rounds) for name in found.seconds}

    def rates(name: str, waits: float = 0.0) -> list[float]:
        return [n / max(0.001, s - waits) for n, s in zip(counts[name], found.seconds[name], strict=True)]

    rows = []
    for name in (OFF, ON, WAITS, NOOP):
        waits = 0.0 if name == NOOP else found.waits
        net_ratio = Spread.of(ratios(rates(name, waits), rates(WAITS, found.waits))).told(2)
        rows.append(
            [
                name,
                Spread.of(found.seconds[name]).told(),
                Spread.of(rates(name)).told(),
                Spread.of(rates(name, waits)).told(),
                Spread.of(ratios(rates(name), rates(WAITS))).told(2),
                "" if name == NOOP else net_ratio,
            ]
        )
    best, with_capture = (Spread.of(ratios(rates(name), rates(WAITS))).median for name in (OFF, ON))
    ends = "; ".join(f"{name}: {dict(how)}" for name, how in found.ends.items())
    cpu = ", ".join(f"{n} {1000 * s:.0f}" for n, s in sorted(found.cpu.items(), key=lambda i: -i[1])[:6])
    head = [
        "line",
        "s, first alert to last close",
        "healed/s",
        "healed/s, waits taken off",
        "ratio to (c)",
        "the same, waits taken off",
    ]
    return "\n\n".join(
        [
            f"{rounds} rounds, {found.count} distinct services at once. Ends: {ends}. Waits of one incident: "
            f"{found.shape}; (c) has the same.",
            table(head, rows),
            f"- ratio to (c): capture off {best:.2f}, capture on {with_capture:.2f} "
            f"(goal {_GOAL}: {'reached' if min(best, with_capture) >= _GOAL else 'missed'})\n"
            f"- processor time of the shared servers, ms per incident, capture off: {cpu}",
            told(found.calibration),
        ]
    )

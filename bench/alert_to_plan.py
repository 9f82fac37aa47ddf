"""Alert -> durable plan, alert -> first PATCH, at 10 alerts/s; beside the textbook on an untuned server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from dataclasses import field as value_of
from datetime import timedelta

from bench.calibration import Calibration, calibrate, told
from bench.engine import Engine, alone, halted, running
from bench.field import ENGINE_USER, Field
from bench.figures import Spread, quantile, ratios, table
from bench.load import open_loop
from bench.watch import RecordWatch, first_writes, incidents_since, outcomes
from firebreak.lab.control import until
from firebreak.servers.process import free_port
from firebreak.servers.temporal import start_temporal_untuned

PER_SECOND = 10.0
OFF, ON, TEXTBOOK = "capture off", "capture on", "(a) textbook"
_REFERENCE_NOOP = 5.2
"""Milliseconds of a workflow that does nothing, start to result, on the machine that the goals were set on."""
_GOAL_P50, _GOAL_P99, _GOAL_RATIO = 15.0, 50.0, 0.1


@dataclass(slots=True)
class Line:
    """One line's latencies in ms, a list for each round; `lost` = alerts whose plan or write never came."""

    plan: list[list[float]] = value_of(default_factory=list)
    patch: list[list[float]] = value_of(default_factory=list)
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Latencies:
    lines: Mapping[str, Line]
    calibration: list[Calibration]


async def measure(field: Field, *, rounds: int, alerts: int) -> Latencies:
    """`alerts` per line and round, each about another service; lines take turns."""
    if 3 * alerts > field.services:
        raise ValueError("each line needs services of its own")
    lines = {name: Line() for name in (OFF, ON, TEXTBOOK)}
    calibration = []
    async with AsyncExitStack() as stack:
        untuned = await start_temporal_untuned(
            db_file=field.root / "untuned.sqlite",
            port=free_port(),
            run_dir=field.run_dir / "untuned",
            die_with_parent=True,
        )
        stack.push_async_callback(untuned.stop)
        engines = {
            OFF: await stack.enter_async_context(
                running(field, "capture-off", extra={"FIREBREAK_EVIDENCE_CAPTURE": "false"})
            ),
            ON: await stack.enter_async_context(running(field, "capture-on")),
            TEXTBOOK: await stack.enter_async_context(
                running(
                    field,
                    "textbook",
                    module=("bench.textbook",),
                    extra={"FIREBREAK_EVIDENCE_CAPTURE": "false", "FIREBREAK_TEMPORAL_ADDRESS": untuned.address},
                )
            ),
        }
        sets = {name: range(i * alerts, (i + 1) * alerts) for i, name in enumerate(engines)}
        for number in range(-1, rounds):  # round -1 warms up: imports, connections, caches
            if number >= 0:
                with halted(engines.values()):
                    calibration.append(await calibrate(field, pause=1 / PER_SECOND))
            for name, engine in engines.items():
                numbers = sets[name] if number >= 0 else sets[name][: max(5, alerts // 5)]
                async with alone(engine, engines.values()):
                    plan, patch, lost = await one_run(field, engine, numbers)
                if number >= 0:
                    lines[name].plan.append(plan)
                    lines[name].patch.append(patch)
                    lines[name].lost += lost
    return Latencies(lines, calibration)


async def one_run(field: Field, engine: Engine, numbers: Sequence[int]) -> tuple[list[float], list[float], int]:
    """Send, wait until all incidents have closed, and break the services again. (plan ms, patch ms, lost)."""
    await field.held(numbers)
    timeline, since = engine.data_dir / "timeline.sqlite", time.time()
    with RecordWatch(timeline, "plan") as watch:
        meant = await open_loop(engine.url, field.token, numbers, per_second=PER_SECOND)

        async def closed() -> bool:
            incidents = incidents_since(timeline, since)
            states = await asyncio.to_thread(outcomes, timeline, list(incidents.values()))
            return len(incidents) == len(meant) and "open" not in states.values()

        await until(closed, timedelta(seconds=60), f"the end of all incidents of {engine.name}")
    incidents = incidents_since(timeline, since)
    ended = Counter(outcomes(timeline, list(incidents.values())).values())
    if set(ended) != {"healed"}:
        raise RuntimeError(f"{engine.name}: not all incidents were healed: {dict(ended)}")
    writes = await asyncio.to_thread(first_writes, field.plane.audit_log, ENGINE_USER, since)
    plans = [
        1000 * (watch.seen[incidents[service]] - at)
        for service, at in meant.items()
        if incidents[service] in watch.seen
    ]
    patches = [
        1000 * (writes[f"{service}-flags"] - at) for service, at in meant.items() if f"{service}-flags" in writes
    ]
    await field.break_again(numbers)
    return plans, patches, 2 * len(meant) - len(plans) - len(patches)


def report(found: Latencies, *, rounds: int, alerts: int) -> str:
    rows, goals = [], []
    for what, of in (("durable plan", "plan"), ("first PATCH", "patch")):
        by_round: dict[str, list[list[float]]] = {name: getattr(line, of) for name, line in found.lines.items()}
        medians = {name: [quantile(one, 0.5) for one in times] for name, times in by_round.items()}
        for name, times in by_round.items():
            every = [t for one in times for t in one]
            p50, p99 = quantile(every, 0.5), quantile(every, 0.99)
            ratio = Spread.of(ratios(medians[name], medians[TEXTBOOK]))
            spreads = [Spread.of(medians[name]), Spread.of([quantile(one, 0.99) for one in times])]
            texts = [f"{value:.1f}" for value in (p50, p99, max(every))] + [spread.told() for spread in spreads]
            rows.append([f"alert -> {what}", name, *texts, ratio.told(3)])
            if name == OFF:
                goals.append(
                    f"alert -> {what}, capture off: p50 {p50:.1f} ms (goal 15: {_met(p50 <= _GOAL_P50)}), "
                    f"p99 {p99:.1f} ms (goal 50: {_met(p99 <= _GOAL_P99)}), "
                    f"{ratio.median:.3f} of the textbook (goal 0.1: {_met(ratio.median <= _GOAL_RATIO)})"
                )
                goals.append(_in_noops(what, times, found.calibration))
    head = ["", "line", "p50 ms", "p99 ms", "max ms", "p50 by round", "p99 by round", "p50 / textbook"]
    lost = ", ".join(f"{name} {line.lost}" for name, line in found.lines.items())
    return "\n\n".join(
        [
            f"{rounds} rounds, {alerts} alerts per line and round at {PER_SECOND:g}/s, each about another service. "
            f"Never came: {lost}.",
            table(head, rows),
            "\n".join(f"- {goal}" for goal in goals),
            told(found.calibration),
        ]
    )


def _in_noops(what: str, times: Sequence[Sequence[float]], calibration: Sequence[Calibration]) -> str:
    """The same figures in units of what a workflow that does nothing took in the same round: they compare machines."""
    noops = [c.servers.noop for c in calibration]
    p50 = Spread.of(ratios([quantile(one, 0.5) for one in times], noops))
    p99 = Spread.of(ratios([quantile(one, 0.99) for one in times], noops))
    goal50, goal99 = _GOAL_P50 / _REFERENCE_NOOP, _GOAL_P99 / _REFERENCE_NOOP
    return (
        f"alert -> {what}, in workflows that do nothing (start to result, of the same round): "
        f"p50 {p50.told()}, p99 {p99.told()}; the goals are {goal50:.1f} and {goal99:.1f} of those, "
        f"as one took {_REFERENCE_NOOP} ms where they were set: "
        f"{_met(p50.median <= goal50)}, {_met(p99.median <= goal99)}"
    )


def _met(yes: bool) -> str:
    return "reached" if yes else "missed"

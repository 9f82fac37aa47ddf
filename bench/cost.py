"""Temporal events, bytes and billable actions of one healed incident, and of one duplicate alert."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
from temporalio.client import Client

from bench.documents import webhook
from bench.engine import running
from bench.field import Field
from bench.figures import table
from bench.histories import Cost, costs
from bench.load import open_loop
from bench.watch import incidents_since, outcomes, reading
from firebreak.lab.control import until

_DUPLICATES = 100
_GOAL_EVENTS = 25


@dataclass(frozen=True, slots=True)
class CostFigures:
    """`healed`: one for each incident. Differences of `_DUPLICATES` re-deliveries: workflows, events, actions."""

    healed: list[Cost]
    new_workflows: int
    new_events: int
    new_actions: int
    dispositions: Counter[str]


async def measure(field: Field) -> CostFigures:
    client = await Client.connect(field.temporal)
    numbers = range(field.services - 1)
    async with running(field, "cost") as engine:
        timeline, since = engine.data_dir / "timeline.sqlite", time.time()
        await open_loop(engine.url, field.token, numbers, per_second=5.0)

        async def closed(count: int = len(numbers)) -> bool:
            states = outcomes(timeline, list(incidents_since(timeline, since).values()))
            return len(states) == count and "open" not in states.values()

        await until(closed, timedelta(seconds=60), "the end of all incidents")
        healed = await costs(client, list(incidents_since(timeline, since).values()))

        # One more incident: its alert comes again half of the times while it is open, half after it has closed.
        body = webhook(field.services - 1)
        await _send(engine.url, field.token, body, 1)

        async def opened() -> bool:
            return len(incidents_since(timeline, since)) == len(numbers) + 1

        await until(opened, timedelta(seconds=10), "one more incident")
        incident = incidents_since(timeline, since)[f"svc-{field.services - 1}"]
        await _send(engine.url, field.token, body, _DUPLICATES // 2)
        await until(lambda: closed(len(numbers) + 1), timedelta(seconds=60), "its end")
        (with_duplicates,) = await costs(client, [incident])
        await _send(engine.url, field.token, body, _DUPLICATES - _DUPLICATES // 2)
        await until(lambda: asyncio.to_thread(_settled, engine.data_dir), timedelta(seconds=20), "all dispositions")
        (after,) = await costs(client, [incident])
        workflows = [w async for w in client.list_workflows('WorkflowType = "Incident"')]
        usual = statistics.median(c.events for c in healed)
        usual_actions = statistics.median(c.actions for c in healed)
        with reading(engine.data_dir / "inbox.sqlite") as inbox:
            kinds = Counter(d for (d,) in inbox.execute("SELECT disposition FROM deliveries"))
    looks = sum(with_duplicates.local.values()) - statistics.median(sum(c.local.values()) for c in healed)
    extra = 0 if looks else int(with_duplicates.events - usual)
    return CostFigures(
        healed,
        new_workflows=len({w.id for w in workflows}) - len(numbers) - 1,
        new_events=after.events - with_duplicates.events + max(0, extra),
        new_actions=after.actions
        - with_duplicates.actions
        + max(0, int(with_duplicates.actions - usual_actions) if not looks else 0),
        dispositions=kinds,
    )


def _settled(data_dir: object) -> bool:
    from pathlib import Path

    with reading(Path(str(data_dir)) / "inbox.sqlite") as inbox:
        (waiting,) = inbox.execute("SELECT count(*) FROM deliveries WHERE disposition IS NULL").fetchone()
    return bool(waiting == 0)


async def _send(url: str, token: str, body: bytes, times: int) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(times):
            async with session.post(url, data=body) as response:
                response.raise_for_status()


def report(found: CostFigures) -> str:
    def told(values: list[int]) -> list[str]:
        return [f"{statistics.median(values):g}", str(min(values)), str(max(values))]

    rows = [
        ["events", *told([c.events for c in found.healed])],
        ["history bytes", *told([c.size for c in found.healed])],
        ["billable actions", *told([c.actions for c in found.healed])],
        ["workflow tasks", *told([c.tasks for c in found.healed])],
        ["timers", *told([c.timers for c in found.healed])],
        ["local activities", *told([sum(c.local.values()) for c in found.healed])],
    ]
    worst = max(c.events for c in found.healed)
    return "\n\n".join(
        [
            f"{len(found.healed)} incidents healed by `set_flag`, without a page. Billable actions are counted as "
            "Temporal Cloud does: the start, each timer, each regular activity and signal, and one for all local "
            "activities of one workflow task.",
            table(["one healed incident", "median", "least", "most"], rows),
            f"- events: {worst} at most (goal {_GOAL_EVENTS}: {'reached' if worst <= _GOAL_EVENTS else 'missed'})\n"
            f"- {_DUPLICATES} deliveries of one alert, half of them while its incident was open: "
            f"{found.new_workflows} further workflows, {found.new_events} further events, {found.new_actions} further "
            f"actions (goal 0); dispositions of all deliveries: {dict(found.dispositions)}",
        ]
    )

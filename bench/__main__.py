"""`python -m bench [--only NAME] [--quick] [--write]`: prints the figures; `--write` puts them into the document."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import alert_to_plan, cost, recovery, stages, storm
from bench.field import CHECKOUT, field
from bench.figures import replaced

DOCUMENT = CHECKOUT / "docs" / "performance.md"


async def _alert_to_plan(root: Path, quick: bool) -> str:
    rounds, alerts = (2, 30) if quick else (5, 100)
    async with field(root, 3 * alerts) as made:
        found = await alert_to_plan.measure(made, rounds=rounds, alerts=alerts)
    return alert_to_plan.report(found, rounds=rounds, alerts=alerts)


async def _storm(root: Path, quick: bool) -> str:
    rounds, sizes = (1, (60,)) if quick else (3, (300, 60))
    async with field(root, max(sizes) + 1) as made:
        found = [await storm.measure(made, rounds=rounds, count=count) for count in sizes]
    return "\n\n".join(storm.report(one, rounds=rounds) for one in found)


async def _cost(root: Path, quick: bool) -> str:
    at_once = ("system.visibilityPersistenceMaxWriteQPS=9000",)  # a workflow too many must be in the list when we look
    async with field(root, 11 if quick else 41, temporal_config=at_once) as made:
        return cost.report(await cost.measure(made))


async def _recovery(root: Path, quick: bool) -> str:
    return recovery.report(await recovery.measure(root, runs=2 if quick else 10))


async def _stages(root: Path, quick: bool) -> str:
    alerts = 30 if quick else 100
    async with field(root, alerts + 15) as made:
        return await stages.measure(made, alerts=alerts, profile=os.environ.get("STAGES_PROFILE", ""))


SECTIONS: dict[str, Callable[[Path, bool], Coroutine[Any, Any, str]]] = {
    "alert-to-plan": _alert_to_plan,
    "storm": _storm,
    "cost": _cost,
    "recovery": _recovery,
    "stages": _stages,
}


BLOCKS = ("alert-to-plan", "storm", "cost", "recovery")
"""Sections that have a block in the document; the stages are for whoever works on them."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs, not to quote")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {DOCUMENT.relative_to(CHECKOUT)}")
    parser.add_argument("--keep", type=Path, help="keep all servers' files and logs below this directory")
    given = parser.parse_args()
    for name, section in SECTIONS.items():
        if given.only != name and (given.only or name not in BLOCKS):
            continue
        print(f"== {name} ==", flush=True)
        with tempfile.TemporaryDirectory(prefix="firebreak-bench-", ignore_cleanup_errors=True) as scratch:
            text = asyncio.run(section((given.keep or Path(scratch)).absolute() / name, given.quick))
        text = f"{_machine()}\n\n{text}"
        print(text, "\n", flush=True)
        if given.write and name in BLOCKS:
            DOCUMENT.write_text(replaced(DOCUMENT.read_text(), name, text))


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores ({model}), Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()

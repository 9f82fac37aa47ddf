"""Fault -> verified recovery of the lab's `wedged-pods`, beside the time that no engine could save."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figures import Spread, table
from firebreak.cli.game_day import EngineProcess, GameDay
from firebreak.lab import manifests
from firebreak.lab.control import until
from firebreak.lab.faults import fault_named
from firebreak.lab.kube import KubeClient
from firebreak.lab.lab import start_lab
from firebreak.lab.state import LabState

_GOAL = 1.5
_FAULT = "wedged-pods"
_DEPLOYMENT = "pay-v1"


@dataclass(frozen=True, slots=True)
class RecoveryFigures:
    """Seconds. `seen`: fault to the first alert's incident; `roll_outs`: plain restarts without an engine."""

    healed: list[float]
    problems: list[str]
    roll_outs: list[float]
    scrape: float
    evaluation: float
    held_for: float
    window: float
    hold: float
    load: list[float]


async def measure(root: Path, *, runs: int) -> RecoveryFigures:
    """The lab's own policy: scrape and evaluation each second, `for` 5 s, window 3 s, hold 3 s."""
    lab = await start_lab(root / "lab", die_with_parent=True)
    try:
        healed: list[float] = []
        problems: list[str] = []
        roll_outs: list[float] = []
        load: list[float] = []
        engine = await EngineProcess.start(lab.state)
        try:
            day = GameDay(state=lab.state, data_dir=engine.data_dir)
            for _ in range(runs):
                load.append(os.getloadavg()[0])
                roll_outs.append(await _plain_restart(lab.state))
                ending = await day.play(fault_named(_FAULT))
                problems += ending.problems
                if ending.healed_after is None:
                    problems.append(f"{ending.incident_id} was not verified")
                else:
                    healed.append(ending.healed_after)
        finally:
            await engine.stop()
    finally:
        await lab.stop()
    return RecoveryFigures(healed, problems, roll_outs, 1.0, 1.0, 5.0, 3.0, 3.0, load)


async def _plain_restart(state: LabState) -> float:
    """A roll-out as `kubectl rollout restart` begins it, until all pods are new and ready; seconds."""
    path = manifests.deployment_path(_DEPLOYMENT)
    stamp = datetime.now(UTC).isoformat()
    patch = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": stamp}}}}}
    async with KubeClient(state.admin) as client:
        began = time.monotonic()
        await client.merge(path, patch)

        async def done() -> bool:
            found = await client.get(path)
            wanted, status = found["spec"]["replicas"], found.get("status", {})
            seen = int(status.get("observedGeneration", 0)) >= int(found["metadata"]["generation"])
            return seen and all(
                status.get(f, 0) == wanted for f in ("replicas", "updatedReplicas", "availableReplicas")
            )

        await until(done, timedelta(seconds=60), "a plain restart")
        return time.monotonic() - began


def report(found: RecoveryFigures) -> str:
    roll_out = Spread.of(found.roll_outs)
    terms = [
        ("scrape", found.scrape, "the lab's interval"),
        ("evaluation", found.evaluation, "the lab's interval"),
        ("the tree's `for`", found.held_for, "nothing may be done before the conditions have held so long"),
        ("roll-out with readiness", roll_out.median, f"plain restarts in this run: {roll_out.told()} s"),
        ("window", found.window, "until no fault is left in what a rate looks at"),
        ("hold", found.hold, "verified means healthy for so long"),
    ]
    floor = sum(seconds for _, seconds, _ in terms)
    bare = floor - found.held_for
    healed = Spread.of(found.healed)
    rows = [[name, f"{seconds:.1f}", why] for name, seconds, why in terms]
    rows.append(["floor", f"{floor:.1f}", f"without the `for` time: {bare:.1f}"])
    runs = ", ".join(f"{seconds:.1f}" for seconds in found.healed)
    verdict = "reached" if healed.median <= _GOAL * floor else "missed"
    strict = "reached" if healed.median <= _GOAL * bare else "missed"
    return "\n\n".join(
        [
            f"{len(found.healed)} runs of `{_FAULT}`. Problems: {'; '.join(found.problems) or 'none'}. "
            f"Load average before each run: {', '.join(f'{one:.1f}' for one in found.load)}.",
            table(["term", "s", ""], rows),
            f"- fault -> verified recovery: median {healed.median:.1f} s, maximum {healed.most:.1f} s ({runs})\n"
            f"- {healed.median / floor:.2f} of the floor (goal {_GOAL}: {verdict}); maximum {healed.most / floor:.2f}\n"
            f"- {healed.median / bare:.2f} of the floor without the `for` time (goal {_GOAL}: {strict})",
        ]
    )

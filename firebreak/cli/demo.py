"""`firebreak demo`: a whole game day on real servers, without a cluster."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firebreak.domain.incident import IncidentOutcome

if TYPE_CHECKING:
    from firebreak.cli.game_day import Ending
    from firebreak.lab.faults import Fault


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    fault: Annotated[str | None, typer.Option(help="Only this fault class; default: each in turn.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where the post-mortems go; default: ./firebreak-demo.")] = None,
) -> None:
    """Start lab and engine, break the shop, watch it heal, stop everything. Exit 1 when an incident ends otherwise."""
    from firebreak.cli.game_day import faults_to_play

    faults = faults_to_play(fault)
    target = (keep or Path("firebreak-demo")).absolute()
    good = asyncio.run(_play(faults, target))
    raise typer.Exit(0 if good else 1)


async def _play(faults: tuple[Fault, ...], target: Path) -> bool:
    from rich.console import Console
    from rich.markup import escape

    from firebreak.cli.game_day import EngineProcess, GameDay
    from firebreak.cli.live import LiveStory
    from firebreak.lab.lab import start_lab
    from firebreak.servers.find import install
    from firebreak.servers.progress import reporter_for

    console = Console(highlight=False)
    await asyncio.to_thread(install, (), report=reporter_for())
    endings = []
    with tempfile.TemporaryDirectory(prefix="firebreak-demo-") as scratch:
        console.print(
            "starting the lab: Kubernetes control plane, Prometheus, Alertmanager, the shop ...", soft_wrap=True
        )
        lab = await start_lab(Path(scratch) / "lab", die_with_parent=True)
        try:
            console.print(f"  Slack   {lab.state.slack_url}\n  pager   {lab.state.pagerduty_url}")
            console.print("starting the engine: firebreak up, mode act ...")
            engine = await EngineProcess.start(lab.state)
            try:
                for one in faults:
                    console.rule(f"[bold]{one.name}")
                    console.print(f"[dim]{escape(one.summary)}[/]")
                    story = LiveStory(console)
                    day = GameDay(
                        state=lab.state,
                        data_dir=engine.data_dir,
                        say=story.say,
                        wait=lambda what: console.print(f"[dim]{what} ...[/]"),
                    )
                    ending = await day.play(one)
                    endings.append(ending)
                    story.end(ending)
            finally:
                await engine.stop()
                await asyncio.to_thread(_keep, engine.data_dir / "postmortems", target)
        finally:
            await lab.stop()
    console.rule("[bold]the day")
    for ending in endings:
        mark = "[green]as expected[/]" if not ending.problems else f"[red]{escape('; '.join(ending.problems))}[/]"
        console.print(f"{ending.fault.name:16} {_told(ending):52} {mark}", soft_wrap=True)
        console.print(f"{'':16} [dim]{escape(str(target / ending.postmortem.name))}[/]", soft_wrap=True)
    return len(endings) == len(faults) and not any(ending.problems for ending in endings)


def _told(ending: Ending) -> str:
    if ending.outcome is IncidentOutcome.HEALED:
        return f"healed by {ending.tier}, verified {ending.healed_after or 0:.1f} s after the fault"
    if ending.paged:
        return f"a person was paged; {ending.outcome.value} after the fault was mended"
    return f"{ending.outcome.value.replace('_', ' ')}, {ending.writes} writes"


def _keep(postmortems: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(postmortems.glob("*")):
        shutil.copy2(path, target / path.name)

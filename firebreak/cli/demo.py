"""`firebreak demo`: a whole game day on real servers, without a cluster."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firebreak.domain.errors import ContractError
from firebreak.domain.incident import IncidentOutcome

if TYPE_CHECKING:
    from rich.console import Console

    from firebreak.cli.game_day import Ending
    from firebreak.lab.faults import Fault


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    fault: Annotated[str | None, typer.Option(help="Only this fault class; default: each in turn.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where the post-mortems go; default: ./firebreak-demo.")] = None,
) -> None:
    """Start lab and engine, break the shop, watch it heal, stop everything. Exit 1 when an incident ends otherwise, 2
    when the day breaks off."""
    from firebreak.cli.game_day import faults_to_play

    faults = faults_to_play(fault)
    target = (keep or Path("firebreak-demo")).absolute()
    with _keeping(target), tempfile.TemporaryFile(dir=target):  # else it shows after the day, and the day is lost
        pass
    good = asyncio.run(_play(faults, target))
    raise typer.Exit(0 if good else 1)


async def _play(faults: tuple[Fault, ...], target: Path) -> bool:
    from rich.console import Console

    from firebreak.servers.find import install
    from firebreak.servers.progress import reporter_for

    console = Console(highlight=False)
    await asyncio.to_thread(install, (), report=reporter_for())
    endings: list[Ending] = []
    try:
        await _day(console, faults, target, endings)
    finally:  # a day that breaks off tells what is known, too
        _table(console, faults, target, endings)
    return not any(ending.problems for ending in endings)


async def _day(console: Console, faults: tuple[Fault, ...], target: Path, endings: list[Ending]) -> None:
    """Start everything, play one fault after the other, stop everything; each ending is added when it is there."""
    from rich.markup import escape

    from firebreak.cli.game_day import EngineProcess, GameDay
    from firebreak.cli.live import LiveStory
    from firebreak.lab.lab import start_lab

    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="firebreak-demo-"))
        console.print(
            "starting the lab: Kubernetes control plane, Prometheus, Alertmanager, the shop ...", soft_wrap=True
        )
        lab = await start_lab(Path(scratch) / "lab", die_with_parent=True)
        stack.push_async_callback(lab.stop)
        console.print(f"  Slack   {lab.state.slack_url}\n  pager   {lab.state.pagerduty_url}")
        console.print("starting the engine: firebreak up, mode act ...")
        engine = await EngineProcess.start(lab.state)
        stack.push_async_callback(asyncio.to_thread, _keep, engine.data_dir / "postmortems", target)
        stack.push_async_callback(engine.stop)
        for one in faults:
            console.rule(f"[bold]{one.name}")
            console.print(f"[dim]{escape(one.summary)}[/]")
            story = LiveStory(console)
            day = GameDay(
                state=lab.state,
                data_dir=engine.data_dir,
                say=story.say,
                say_phase=story.say_phase,
                wait=lambda what: console.print(f"[dim]{what} ...[/]"),
            )
            endings.append(await day.play(one))
            story.end(endings[-1])


def _table(console: Console, faults: tuple[Fault, ...], target: Path, endings: list[Ending]) -> None:
    from rich.markup import escape

    console.rule("[bold]the day")
    for ending in endings:
        mark = "[green]as expected[/]" if not ending.problems else f"[red]{escape('; '.join(ending.problems))}[/]"
        console.print(f"{ending.fault.name:16} {_told(ending):52} {mark}", soft_wrap=True)
        console.print(f"{'':16} [dim]{escape(str(target / ending.postmortem.name))}[/]", soft_wrap=True)
    for number, fault in enumerate(faults[len(endings) :]):
        console.print(f"{fault.name:16} [red]{'not played to its end' if number == 0 else 'not played'}[/]")


def _told(ending: Ending) -> str:
    if ending.outcome is IncidentOutcome.HEALED:
        return f"healed by {ending.tier}, verified {ending.healed_after or 0:.1f} s after the fault"
    if ending.paged:
        return f"a person was paged; {ending.outcome.value} after the fault was mended"
    return f"{ending.outcome.value.replace('_', ' ')}, {ending.writes} writes"


def _keep(postmortems: Path, target: Path) -> None:
    with _keeping(target):
        for path in sorted(postmortems.glob("*")):
            shutil.copy2(path, target / path.name)


@contextmanager
def _keeping(target: Path) -> Iterator[None]:
    """Makes the directory. ContractError when that, or what is done meanwhile, cannot be."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ContractError(
            f"the post-mortems cannot be kept in {target}: {error.strerror or type(error).__name__}",
            advice="Name a directory that you may write: firebreak demo --keep DIR.",
        ) from None

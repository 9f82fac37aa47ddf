"""`firebreak lab`: a small cluster with a shop that breaks on command."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from firebreak.lab.state import LabState

app = typer.Typer(no_args_is_help=True, help="The lab: a shop on a small cluster, to break and to watch.")

LabDir = Annotated[Path, typer.Option(help="Everything of one lab: data, logs, engine.env.")]
_DEFAULT = Path(".firebreak-lab")


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@app.command()
def up(
    lab_dir: LabDir = _DEFAULT,
    foreground: Annotated[bool, typer.Option(help="Stay here and stop with Ctrl-C.")] = False,
    gateway_port: Annotated[int, typer.Option(help="TCP port of the engine's gateway; 0 = any free one.")] = 0,
) -> None:
    """Start a lab and print an engine's settings for it. It goes on in the background till `firebreak lab down`."""
    from firebreak.lab.background import up as start
    from firebreak.lab.lab import SERVERS
    from firebreak.servers.find import install
    from firebreak.servers.progress import reporter_for

    install(SERVERS, report=reporter_for())
    if foreground:
        _run(_foreground(lab_dir, gateway_port or None))
        return
    typer.echo("starting the lab ...")
    state = _run(start(lab_dir, gateway_port=gateway_port or None))
    _announce(state)


async def _foreground(lab_dir: Path, gateway_port: int | None) -> None:
    from firebreak.lab.background import register_owner
    from firebreak.lab.owner import own

    def announce(lab: Any) -> None:
        _announce(lab.state)

    register_owner(lab_dir)
    await own(lab_dir, gateway_port, announce=announce)


def _announce(state: LabState) -> None:
    from firebreak.lab.state import env_lines

    typer.echo("The lab is up. Settings of an engine for it:")
    for line in env_lines(state.engine):
        typer.echo(f"  {line}")
    env_file = state.lab_dir / "engine.env"
    typer.echo(f"  (the same in {env_file}: `set -a; . {shlex.quote(str(env_file))}; firebreak up`)")
    if not _temporal_at_hand():
        typer.echo(
            "  (the engine needs Temporal, which is not here yet: first run `firebreak servers install temporal`)"
        )
    if state.former_engine:
        typer.echo("This is a new cluster. What an engine kept about the former one was moved, and can still be read:")
        typer.echo(f"  firebreak incidents --data-dir {shlex.quote(state.former_engine)}")
    typer.echo(f"chat   {state.slack_url}/")
    typer.echo(f"pager  {state.pagerduty_url}/")


def _temporal_at_hand() -> bool:
    from firebreak.domain.errors import SettingsInvalid
    from firebreak.servers.catalogue import spec_of
    from firebreak.servers.find import find

    if os.environ.get("FIREBREAK_TEMPORAL_ADDRESS"):
        return True
    try:
        return find(spec_of("temporal")) is not None
    except SettingsInvalid:  # `firebreak up` says what is wrong with it
        return True


@app.command()
def down(lab_dir: LabDir = _DEFAULT) -> None:
    """Stop the lab, also what a killed one left running."""
    from firebreak.lab.background import down as stop

    ended = _run(stop(lab_dir))
    typer.echo(f"stopped ({ended} processes)" if ended else "nothing was running")


@app.command()
def status(lab_dir: LabDir = _DEFAULT) -> None:
    """Each part, its address and health; the fault that is on. Exits 1 when a part is not healthy."""
    from firebreak.domain.errors import TransientError
    from firebreak.lab import control
    from firebreak.lab.state import load_state

    state = load_state(lab_dir)

    async def look() -> tuple[list[control.Part], dict[str, Any], list[dict[str, str]]]:
        found = await control.parts(state)
        try:
            return found, await control.shop_state(state), await control.firing_alerts(state)
        except TransientError:  # said by the part's own line
            return found, {}, []

    found, shop, alerts = _run(look())
    for part in found:
        typer.echo(f"{part.name:13} {part.url:32} {part.problem or 'healthy'}")
    typer.echo(f"{'engine':13} {state.gateway_url:32} (where Alertmanager will find it)")
    if shop:
        typer.echo(f"fault         {shop['fault'] or 'none'}")
        typer.echo(f"traffic       {_pairs({name: _pairs(w) for name, w in shop['weights'].items()}, '   ')}")
        typer.echo(f"flags         {_pairs(shop['flags'])}")
        firing = sorted({f"{a['alertname']}({a.get('deployment', '')})" for a in alerts})
        typer.echo(f"alerts        {', '.join(firing) or 'none'}")
    if any(part.problem for part in found):
        again = f"`firebreak lab down --lab-dir {shlex.quote(str(lab_dir))}`, then `up`"
        typer.echo(f"not all of it is healthy: read the logs in {lab_dir / 'run'}, or start it anew: {again}", err=True)
        raise typer.Exit(1)


def _pairs(values: dict[str, Any], between: str = " ") -> str:
    return between.join(f"{name}={value}" for name, value in values.items())


@app.command("break")
def break_(
    fault: Annotated[str, typer.Argument(help="wedged-pods, bad-release, dead-dependency, unfixable or blip.")],
    lab_dir: LabDir = _DEFAULT,
) -> None:
    """Break the shop with one fault class."""
    from firebreak.lab import control
    from firebreak.lab.state import load_state

    begun = _run(control.break_shop(load_state(lab_dir), fault))
    trips = ", ".join(sorted(begun.trips))
    typer.echo(f"{begun.name}: {begun.summary}")
    typer.echo(f"trips {trips} of {begun.service}; heals by {begun.heals_by}; must end {begun.outcome}")


@app.command()
def heal(
    lab_dir: LabDir = _DEFAULT,
    fault_only: Annotated[bool, typer.Option(help="Leave weights and flags to the engine's restore.")] = False,
) -> None:
    """End the fault and put images, weights and flags back as they were."""
    from firebreak.lab import control
    from firebreak.lab.state import load_state

    if fault_only:
        _run(control.mend(load_state(lab_dir)))
        typer.echo("the fault is over; images, weights and flags stay as they are")
        return
    _run(control.heal(load_state(lab_dir)))
    typer.echo("healed: no fault, images, weights and flags as at the start")

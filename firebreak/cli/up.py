"""`firebreak up`: the whole engine on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    data_dir: Annotated[Path | None, typer.Option(help="All state of this engine; one engine per directory.")] = None,
    mode: Annotated[str | None, typer.Option(help="observe (default): nothing is written to the cluster. act.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port of the gateway; 0 = any free one.")] = None,
) -> None:
    """Start Temporal (or use yours: FIREBREAK_TEMPORAL_ADDRESS), gateway, workers and outbox; Ctrl-C stops all."""
    from firebreak.engine.child import uncollected
    from firebreak.logs import configure_logs, say
    from firebreak.settings import load_settings

    settings = load_settings(data_dir=data_dir, mode=mode, gateway_port=port)  # what is wrong is said at once
    configure_logs(settings.log_level)
    with uncollected():
        from firebreak.engine.loop import run
        from firebreak.engine.up import Running, run_engine

    def announce(running: Running) -> None:
        if running.reaped:
            say(f"ended {running.reaped} processes that an earlier run had left")
        says = "nothing is written to the cluster" if settings.mode.value == "observe" else "steps ARE carried out"
        say(f"Firebreak runs. Mode {settings.mode.value}: {says}.")
        say(
            f"  webhook   {settings.webhook_url(running.gateway_port)}"
            f"   (bearer token: {settings.data_dir / 'webhook-token'} or FIREBREAK_WEBHOOK_TOKEN)"
        )
        say(f"  data      {settings.data_dir.absolute()}")
        say(f"  Temporal  {running.temporal_address}")
        say("  look      firebreak incidents | show ID | timeline ID | explain ID | postmortem ID")

    run(run_engine(settings, gateway=True, announce=announce))
    say("stopped")

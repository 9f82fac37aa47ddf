"""`firebreak gateway`: the half that accepts alerts, on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(gateway)


def gateway(
    data_dir: Annotated[Path | None, typer.Option(help="The engine's data directory.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 = any free one.")] = None,
) -> None:
    """Accept alerts and keep them on disk; `firebreak worker` (same data directory) handles them."""
    import asyncio

    from firebreak.engine.child import uncollected
    from firebreak.logs import configure_logs, say
    from firebreak.settings import load_settings

    settings = load_settings(data_dir=data_dir, gateway_port=port)  # what is wrong is said at once
    configure_logs(settings.log_level)
    with uncollected():
        from firebreak.gateway.__main__ import run

    def announce(port: int) -> None:
        say(f"The gateway runs: {settings.webhook_url(port)}")
        say(f"  bearer token  {settings.data_dir / 'webhook-token'} or FIREBREAK_WEBHOOK_TOKEN")
        say(f"  data          {settings.data_dir.absolute()}")

    asyncio.run(run(settings, announce, alone=True))
    say("stopped")

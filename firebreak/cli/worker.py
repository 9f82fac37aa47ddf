"""`firebreak worker`: the half that handles alerts, on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(worker)


def worker(
    data_dir: Annotated[Path | None, typer.Option(help="The engine's data directory.")] = None,
    mode: Annotated[str | None, typer.Option(help="observe (default): nothing is written to the cluster. act.")] = None,
) -> None:
    """Handle what `firebreak gateway` accepts on the same data directory: Temporal (embedded, or yours), workers and
    outbox; Ctrl-C stops all."""
    from firebreak.engine.child import uncollected
    from firebreak.logs import say
    from firebreak.settings import load_settings

    settings = load_settings(data_dir=data_dir, mode=mode)  # what is wrong is said at once
    with uncollected():
        from firebreak.engine.worker import serve

    serve(settings)
    say("stopped")

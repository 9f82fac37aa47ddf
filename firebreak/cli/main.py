"""`firebreak`: gathers the verbs. What a verb needs it imports itself, so that --help is quick."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from firebreak.cli import (
    close,
    demo,
    explain,
    gateway,
    incidents,
    lab,
    lint,
    postmortem,
    score,
    servers,
    show,
    timeline,
    up,
    worker,
)
from firebreak.domain.errors import FirebreakError

app = typer.Typer(
    name="firebreak",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for verb in (up, demo, gateway, worker, incidents, show, timeline, explain, postmortem, close, score, lint):
    verb.register(app)
app.add_typer(servers.app, name="servers")
app.add_typer(lab.app, name="lab")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"firebreak {importlib.metadata.version('firebreak')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Incident runbook and auto-remediation engine. It observes by default; FIREBREAK_MODE=act lets it act."""


def main() -> None:
    """Entry point: an error of ours is a sentence and what to do next, never a traceback."""
    try:
        app()
    except FirebreakError as error:
        sys.stderr.write(f"firebreak: {error}\n{error.next_step()}\n")
        raise SystemExit(2) from None

"""`firebreak`: gathers the verbs. What a verb needs it imports itself, so that --help is quick."""

from __future__ import annotations

import errno
import importlib.metadata
import io
import sys
from typing import Annotated

import typer

from firebreak.cli import (
    check,
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
from firebreak.streams import drop_output, open_streams

app = typer.Typer(
    name="firebreak",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for verb in (up, check, demo, gateway, worker, incidents, show, timeline, explain, postmortem, close, score, lint):
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


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Entry point: an error of ours, or a full disk, is a sentence and what to do next, never a traceback."""
    open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a foreign name must not end what a Latin-1 terminal is shown
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # else the interpreter's own end meets what cannot be written
    except FirebreakError as error:
        raise _ended(str(error), error.next_step()) from None
    except OSError as error:
        if error.errno not in (*_NO_ROOM, errno.EPIPE):
            raise
        drop_output()
        if error.errno == errno.EPIPE:  # whoever read it has seen enough
            raise SystemExit(1) from None
        advice = "Free disk space, where the output goes or in the data directory, and try again."
        raise _ended(f"nothing more can be written: {error.strerror}", advice) from None


def _ended(what: str, next_step: str) -> SystemExit:
    sys.stderr.write(f"firebreak: {what}\n{next_step}\n")
    return SystemExit(2)

"""`firebreak check`: whether everything outside that an incident would lean on is there, and lets the engine in."""

from __future__ import annotations

import signal
from typing import Annotated, NoReturn

import typer


def register(app: typer.Typer) -> None:
    app.command()(check)


def check(
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="A namespace with targets, for services whose namespace alerts name; may be repeated."),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="For which mode: observe needs no right to write. act.")] = None,
) -> None:
    """Try documents, Temporal, Kubernetes, Prometheus, Slack and PagerDuty once, with the engine's settings. Nothing is
    written and nobody called. Exit code 1 when an incident would meet a problem."""
    from firebreak.documents.names import refuse_namespace
    from firebreak.domain.errors import ContractError
    from firebreak.engine.child import uncollected
    from firebreak.settings import load_settings

    settings = load_settings(mode=mode)
    for name in namespace or ():
        if why := refuse_namespace(name):
            raise ContractError(f"--namespace: {why}", advice="Name a namespace that has targets of alerts in it.")
    with uncollected():
        from firebreak.engine.findings import State
        from firebreak.engine.loop import run
        from firebreak.engine.outside import try_all

    signal.signal(signal.SIGTERM, _ended)
    findings = run(try_all(settings, tuple(namespace or ())))
    told = ""
    for one in findings:
        lines = one.text.split("\n")
        print(f"{one.system if one.system != told else '':<11} {one.state:<8} {lines[0]}")
        told = one.system
        for line in (*lines[1:], *filter(None, (one.advice,))):
            print(f"{'':<20} {line}")
    problems = sum(1 for one in findings if one.state is State.PROBLEM)
    print(f"mode {settings.mode.value}: {problems or 'no'} problem{'' if problems == 1 else 's'}")
    if problems:
        raise typer.Exit(1)


def _ended(number: int, _: object) -> NoReturn:
    """As by Ctrl-C: an exec plugin under way ends, too."""
    raise SystemExit(128 + number)

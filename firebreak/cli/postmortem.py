"""`firebreak postmortem`: one incident, told from its record."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from firebreak.cli.reading import DataDir, IncidentText, find_incident, opened_store, record_of
from firebreak.domain.errors import ContractError
from firebreak.domain.timeline import TimelineEntry


class Format(StrEnum):
    MD = "md"
    JSON = "json"


def register(app: typer.Typer) -> None:
    app.command()(postmortem)


def postmortem(
    incident: IncidentText,
    form: Annotated[Format, typer.Option("--format", help="md for people, json for programs.")] = Format.MD,
    output: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write the post-mortem of an incident, also of one that is still open. The same record gives the same bytes."""
    import asyncio

    async def read() -> tuple[TimelineEntry, ...]:
        async with opened_store(data_dir) as store:
            return await record_of(store, await find_incident(store, incident))

    made = render(asyncio.run(read()), form)
    if output is None:
        typer.echo(made, nl=False)
        return
    try:
        output.write_bytes(made)
    except OSError as error:
        raise ContractError(
            f"cannot write {output}: {error.strerror}", advice="Give --output a path that can be written."
        ) from None
    typer.echo(str(output))


def render(entries: tuple[TimelineEntry, ...], form: Format) -> bytes:
    from firebreak.postmortem.json_export import json_bytes
    from firebreak.postmortem.markdown import markdown
    from firebreak.postmortem.report import build
    from firebreak.timeline.phases import phases_of

    report = build(entries, phases=phases_of(entries))
    return markdown(report).encode() if form is Format.MD else json_bytes(report)

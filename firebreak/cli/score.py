"""`firebreak score`: a person's own health score for an incident (row A2: a person may set or correct it)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firebreak.cli.person import person, words


def register(app: typer.Typer) -> None:
    app.command()(score)


def score(
    incident: Annotated[str, typer.Argument(help="Incident id, a unique part of it, or `last`.")],
    health: Annotated[
        float, typer.Argument(min=0, max=100, help="Business health 0-100, low is bad; P1 at 70 or less.")
    ],
    reason: Annotated[str, typer.Option(help="What it is based on; goes into the record.")],
    by: Annotated[str | None, typer.Option(help="Who says so; default: your user name.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The engine's data directory.")] = None,
) -> None:
    """Set or correct the health score; the next look at the evidence uses it in place of the computed one."""
    import asyncio

    from firebreak.cli.reading import find_open
    from firebreak.domain import ids
    from firebreak.domain.timeline import EntryDraft, EntryKind
    from firebreak.engine.clock import SystemClock
    from firebreak.settings import load_settings
    from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore

    if not reason.strip():
        raise typer.BadParameter("say why: --reason must not be empty")
    settings = load_settings(data_dir=data_dir)
    who = person(by)

    async def put() -> str:
        incident_id = await find_open(data_dir, incident)
        async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE) as store:
            number = 1
            while True:
                wish = EntryDraft(
                    incident_id=incident_id,
                    key=ids.score_key(number),
                    kind=EntryKind.SCORE_SET,
                    at=SystemClock().now(),
                    actor=f"person:{who}",
                    body={"score": health, "reason": words(reason), "by": who},
                )
                if not (await store.append([wish]))[0].found:
                    return incident_id
                number += 1

    typer.echo(f"{asyncio.run(put())}: health score {health:g} of 100 set by {who}")

"""`firebreak close`: end an incident by hand, or a page that nothing else ends: about a fault of the engine itself, or
one that came after its incident's end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firebreak.cli.person import person, words


def register(app: typer.Typer) -> None:
    app.command()(close)


def close(
    incident: Annotated[str, typer.Argument(help="Incident id, a unique part of it, or `last`.")],
    reason: Annotated[str, typer.Option(help="Why it is over; goes into the record.")],
    by: Annotated[str | None, typer.Option(help="Who closes it; default: your user name.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The engine's data directory.")] = None,
) -> None:
    """Ask the engine to end an incident, a page that came after its end, or a page about the engine itself (by its
    whole id). The wish is on disk at once, and is carried out when the engine runs."""
    import asyncio

    from activities import notices
    from firebreak.cli.reading import engine_record, find_to_close, opened_store, page_to_end
    from firebreak.domain import ids
    from firebreak.domain.message import MessageDraft
    from firebreak.domain.timeline import EntryDraft, EntryKind
    from firebreak.engine.clock import SystemClock
    from firebreak.settings import load_settings
    from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore

    settings = load_settings(data_dir=data_dir)
    if not reason.strip():
        raise typer.BadParameter("say why: --reason must not be empty")
    who = person(by)

    async def ask() -> tuple[str, str, int]:
        async with opened_store(data_dir) as store:
            own = await engine_record(store, incident)
            if own:
                incident_id, page = own[0].incident_id, page_to_end(own)
            else:
                incident_id, page = await find_to_close(store, incident)
        now = SystemClock().now()
        ends: tuple[MessageDraft, ...] = ()
        # Of a fault of the engine, and after an incident's end, there is no workflow that ends the page.
        if own:
            ends = (notices.fault_handled(incident_id, page, now),)
        elif page:
            ends = notices.handled(incident_id, page, now)
        async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE) as store:
            wish = EntryDraft(
                incident_id=incident_id,
                key=ids.close_key(page),
                kind=EntryKind.CLOSE_REQUESTED,
                at=now,
                actor=f"person:{who}",
                body={"reason": words(reason), "by": who},
            )
            (asked,) = await store.append([wish], messages=ends, cancel=((incident_id, page),) if page else ())
            before = f"close was requested before, by {asked.entry.body['by']}" if asked.found else "close requested"
            kept = sum(1 for one in await store.open_restores(unreadable=[]) if one.incident_id == incident_id)
            return incident_id, before, kept

    closed, asked, kept = asyncio.run(ask())
    typer.echo(f"{closed}: {asked}; a running engine ends it within a minute")
    if kept:
        told = "a step of it stays" if kept == 1 else f"{kept} steps of it stay"
        typer.echo(
            f"{told} in force, to be taken back once the broken part is healthy (and no other incident of the service "
            f"open): firebreak show {closed}"
        )

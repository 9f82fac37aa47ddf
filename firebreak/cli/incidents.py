"""`firebreak incidents`: the newest incidents, one a line."""

from __future__ import annotations

from typing import Annotated

import typer

from firebreak.cli.reading import DataDir, newest_turn, opened_store
from firebreak.domain.errors import ChainBroken
from firebreak.domain.incident import IncidentRow, UnreadableRow
from firebreak.domain.timeline import EntryKind, TimelineEntry

_FAULTS = 5  # of the engine itself, the newest


def register(app: typer.Typer) -> None:
    app.command()(incidents)


def incidents(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    data_dir: DataDir = None,
) -> None:
    """List incidents, newest first: where each stands or how it ended. Faults of the engine itself are told beside, and
    what of the list cannot be read."""
    import asyncio
    import contextlib

    async def read() -> tuple[tuple[IncidentRow | UnreadableRow, ...], list[str]]:
        async with opened_store(data_dir) as store:
            rows = await store.listed(limit=limit)
            try:
                faults = await store.engine_faults(limit=_FAULTS)
            except ChainBroken as error:
                return rows, [f"about the engine itself: {error}", error.next_step()]
            turns: dict[str, TimelineEntry | None] = {}
            for record in {one.incident_id for one in faults}:
                with contextlib.suppress(ChainBroken):  # then nobody can tell that it is over
                    turns[record] = newest_turn(await store.entries(record))
            return rows, [_fault_line(one, turns.get(one.incident_id)) for one in faults]

    found, beside = asyncio.run(read())
    rows = [row for row in found if isinstance(row, IncidentRow)]
    beside += [_unreadable_line(row) for row in found if isinstance(row, UnreadableRow)]
    if as_json:
        from firebreak.domain.codec import to_data
        from firebreak.timeline.canonical import canonical

        for row in rows:
            typer.echo(canonical(to_data(row)))
    elif rows:
        _print_table(rows)
    elif not found:
        typer.echo("no incidents yet")
    for line in beside:
        typer.echo(line, err=True)  # so that a program may still read the list


def _fault_line(fault: TimelineEntry, turn: TimelineEntry | None) -> str:
    """`turn`: the newest of its record, which says whether it is over."""
    from firebreak.postmortem import reading, wording

    what = wording.clean(reading.text(fault.body, "error"), 100)
    over = "" if turn is None or turn.kind is EntryKind.ENGINE_FAULT else f", over since {turn.at:%Y-%m-%d %H:%M:%S}"
    at = f"{fault.at:%Y-%m-%d %H:%M:%S} UTC{over}"
    return f"about the engine itself, {at}: {what} (firebreak show {fault.incident_id})"


def _unreadable_line(row: UnreadableRow) -> str:
    from firebreak.postmortem import wording

    name = wording.clean(row.id, 40)
    return f"{name}: where it stands cannot be read: {wording.clean(row.fault, 100)} (firebreak timeline {name})"


def _print_table(rows: list[IncidentRow]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from firebreak.postmortem import wording

    table = Table("incident", "service", "alert", "opened (UTC)", "state", "firing", "took", box=None, pad_edge=False)
    for row in rows:
        took = "" if row.closed_at is None else wording.span((row.closed_at - row.opened_at).total_seconds() * 1000)
        state = row.phase.value if row.closed_at is None else row.outcome.value
        cells = (
            row.id,
            wording.clean(row.service, 30),
            wording.clean(row.alertname, 40),
            f"{row.opened_at:%Y-%m-%d %H:%M:%S}",
            state.replace("_", " "),
            str(row.alerts_firing),
            took,
        )
        table.add_row(*(Text(cell) for cell in cells))  # Text: labels are no console markup
    # Piped output is for programs: never fold a line there.
    Console(width=None if sys.stdout.isatty() else 400).print(table)

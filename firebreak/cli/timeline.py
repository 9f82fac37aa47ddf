"""`firebreak timeline`: every entry of one incident."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from firebreak.cli.reading import DataDir, IncidentText, engine_record, find_incident, opened_store, record_of
from firebreak.domain.timeline import TimelineEntry


def register(app: typer.Typer) -> None:
    app.command()(timeline)


def timeline(
    *,
    incident: IncidentText,
    as_json: Annotated[bool, typer.Option("--json", help="One canonical JSON object (RFC 8785) a line.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute the hash chain of the whole store first; fail if it is broken.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Print the record of an incident in order."""
    import asyncio

    async def read() -> tuple[tuple[TimelineEntry, ...], str]:
        async with opened_store(data_dir) as store:
            good = ""
            if verify:  # first: of a record that was changed, it says more than what cannot be read
                report = await store.verify()
                good = f"chain is good: {report.entries} entries, the last digest is {report.head}"
            found = await engine_record(store, incident)
            return found or await record_of(store, await find_incident(store, incident)), good

    entries, verified = asyncio.run(read())
    if verified:
        typer.echo(verified, err=True)  # beside the record, so that a program may still read that
    for line in json_lines(entries) if as_json else text_lines(entries):
        typer.echo(line)


def json_lines(entries: tuple[TimelineEntry, ...]) -> list[bytes]:
    """Each entry with its digest. Without `digest`, and after the line `firebreak/entry/1`, the bytes of a line are
    what its digest is the SHA-256 of."""
    from firebreak.domain.codec import to_data
    from firebreak.timeline.canonical import canonical

    def line(entry: TimelineEntry) -> bytes:
        data: dict[str, Any] = to_data(entry)
        return canonical(data)

    return [line(entry) for entry in entries]


def text_lines(entries: tuple[TimelineEntry, ...]) -> list[str]:
    """`08:36:44.126     6 ms  incident.opened    Incident opened by ...`; the day where it changes."""
    from firebreak.postmortem import wording
    from firebreak.postmortem.telling import tell

    lines, day = [], ""
    for entry in entries:
        if (today := f"{entry.at:%Y-%m-%d}") != day:
            day = today
            lines.append(f"{day} (UTC)")
        took = "" if entry.duration_ms is None else wording.span(entry.duration_ms)
        who = "" if entry.actor == "engine" else f" ({wording.clean(entry.actor, 40)})"
        stamp = f"{entry.at:%H:%M:%S}.{entry.at.microsecond // 1000:03d}"
        lines.append(f"{stamp} {took:>9}  {entry.kind.value:<18} {tell(entry)}{who}")
    return lines

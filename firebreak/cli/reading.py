"""What the reading verbs share: the store of a data directory, opened read-only, and finding an incident by what a
person types. They work while the engine runs and while it is stopped."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firebreak.domain.errors import ChainBroken, ContractError
from firebreak.domain.ids import is_incident_id
from firebreak.domain.incident import IncidentRow, UnreadableRow
from firebreak.domain.timeline import EntryKind, TimelineEntry

if TYPE_CHECKING:
    from firebreak.storage.sqlite_store import TimelineStore

_OWN = (EntryKind.ENGINE_FAULT, EntryKind.CLOCK_SET_BACK)
_NEAR = 2_000  # of the newest incidents, one may be what a person meant; comparing takes some 50 us each

DataDir = Annotated[Path | None, typer.Option(help="The engine's data directory; default: FIREBREAK_DATA_DIR.")]
IncidentText = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="Incident id, a unique part of it, or `last` for the newest.")
]


@asynccontextmanager
async def opened_store(data_dir: Path | None) -> AsyncIterator[TimelineStore]:
    """The timeline of the data directory (or that of the settings), read-only. LedgerError when there is none."""
    from firebreak.settings import load_settings
    from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore

    settings = load_settings(data_dir=data_dir)
    async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE, read_only=True) as store:
        yield store


async def engine_record(store: TimelineStore, text: str) -> tuple[TimelineEntry, ...]:
    """A record of the engine itself by its whole id, which is no incident: of a fault (`engine-...`, `parked-...`), as
    pages name it, or of a step of the clock (`clock-...`). Empty when `text` is none of those."""
    wanted = text.strip().lower()
    if not wanted or is_incident_id(wanted):
        return ()
    entries = await store.entries(wanted)
    return entries if any(entry.kind in _OWN for entry in entries) else ()


async def record_of(store: TimelineStore, incident_id: str) -> tuple[TimelineEntry, ...]:
    """The entries of an incident that the store knows. ChainBroken when there are none, or one cannot be read."""
    entries = await store.entries(incident_id)
    if not entries:
        raise ChainBroken(f"the record of {incident_id} is gone: the store knows the incident, and has no entry of it")
    return entries


async def find_row(store: TimelineStore, text: str) -> IncidentRow:
    """The incident that `text` names: its id, a part of it that no other one has, or `last`.
    ContractError with the nearest ids when it names none or several, ChainBroken when its row cannot be read."""
    row = await _find(store, text)
    if isinstance(row, UnreadableRow):
        raise ChainBroken(
            f"where {row.id} stands cannot be read: {row.fault}",
            advice=f"Its record may be whole: read it with firebreak timeline {row.id}, check it with --verify.",
        )
    return row


async def _find(store: TimelineStore, text: str) -> IncidentRow | UnreadableRow:
    wanted = text.strip().lower()
    if await engine_record(store, wanted):
        raise ContractError(
            f"{wanted} is about the engine itself, and no incident",
            advice=f"Read it: firebreak show {wanted}, or firebreak timeline {wanted}",
        )
    known = await store.ids()
    if not known:
        raise ContractError(
            "there is no incident in this store yet",
            advice="Check --data-dir (or FIREBREAK_DATA_DIR): it names the directory that the engine writes.",
        )
    found = known[:1] if wanted == "last" else _named(wanted, known)
    if len(found) > 1:
        told = f"{text!r} is not one incident but {len(found)}: {', '.join(found[:5])}"
        raise ContractError(told, advice="Type more of the id.")
    if not found:
        raise ContractError(f"no incident {text!r}", advice=_nearest(wanted, known[:_NEAR]))
    (row,) = await store.listed(limit=1, incident_id=found[0])
    return row


def _named(wanted: str, known: Sequence[str]) -> Sequence[str]:
    """Ids that `wanted` may mean: the whole of one, else all that it is a part of."""
    if not wanted:
        return ()
    return (wanted,) if wanted in known else [one for one in known if wanted in one]


async def find_incident(store: TimelineStore, text: str) -> str:
    """As `find_row`, the id alone, also of a row that cannot be read. A full id that the store knows is not searched
    for."""
    wanted = text.strip().lower()
    if is_incident_id(wanted) and await store.knows(wanted):
        return wanted
    return (await _find(store, text)).id


async def find_open(data_dir: Path | None, text: str) -> str:
    """The id of an incident that a person may still change. Looked up read-only: a mistyped directory must not get a
    store of its own. ContractError when it is over."""
    async with opened_store(data_dir) as store:
        row = await find_row(store, text)
    if row.closed_at is not None:
        raise _over(row)
    return row.id


async def find_to_close(store: TimelineStore, text: str) -> tuple[str, str]:
    """What a person may end: the id of an incident that is open and an empty text, or of one that is over and the key
    of the call that is open all the same (a restore that was not taken back, an alert that joined at the last moment):
    no workflow ends that. ContractError when all of it is over."""
    from firebreak.postmortem.people import open_call

    row = await find_row(store, text)
    if row.closed_at is None:
        return row.id, ""
    entries = await store.entries(row.id)
    page = open_call(entries)
    if not page or _was_ended(entries, page):
        raise _over(row)
    return row.id, page


def page_to_end(own: tuple[TimelineEntry, ...]) -> str:
    """Of a record of the engine itself: the key of its open page's message, the newest one's where it came back.
    ContractError when there is none: it is over, or called nobody."""
    from activities.notices import page_key
    from firebreak.postmortem import reading, wording

    name, turn = own[0].incident_id, newest_turn(own)
    read = f"Read it: firebreak show {name}"
    fault = next((entry for entry in reversed(own) if entry.kind is EntryKind.ENGINE_FAULT), None)
    if turn is None or fault is None:
        raise ContractError(f"{name} is a note and called nobody: there is nothing to end", advice=read)
    page = page_key(fault.key)
    if turn.kind is EntryKind.RECOVERY_SEEN or _was_ended(own, page):
        by = f"closed by {reading.text(turn.body, 'by')}, " if turn.kind is EntryKind.CLOSE_REQUESTED else ""
        why = wording.clean(f"{by}{reading.text(turn.body, 'reason')}", 200)
        raise ContractError(f"{name} is over already: {why}", advice=read)
    return page


def newest_turn(own: tuple[TimelineEntry, ...]) -> TimelineEntry | None:
    """Of a record of the engine itself: its newest fault, or what ended that since. None = it called nobody."""
    turns = (EntryKind.ENGINE_FAULT, EntryKind.RECOVERY_SEEN, EntryKind.CLOSE_REQUESTED)
    return next((entry for entry in reversed(own) if entry.kind in turns), None)


def _was_ended(entries: tuple[TimelineEntry, ...], page: str) -> bool:
    """Whether a person asked to end the call of that message, and no pager shows it any more, or ever did."""
    from activities.notices import fault_handled
    from firebreak.domain import ids
    from firebreak.engine.told import needless

    asked = next((entry for entry in entries if entry.key == ids.close_key(page)), None)
    return asked is not None and needless(fault_handled(asked.incident_id, page, asked.at), entries)


def _over(row: IncidentRow) -> ContractError:
    return ContractError(
        f"{row.id} is over already: {row.outcome.value.replace('_', ' ')}",
        advice=f"Read how it ended: firebreak postmortem {row.id}",
    )


def _nearest(wanted: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or known[:3]
    return f"Nearest: {', '.join(near)}. `firebreak incidents` lists them."

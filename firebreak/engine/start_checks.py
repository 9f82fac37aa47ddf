"""What must hold before anything starts. A start that is refused calls a person when somebody may be waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from activities.rulebook import Rulebook
from firebreak.domain.errors import ChainBroken, FirebreakError, SettingsInvalid
from firebreak.domain.incident import Mode
from firebreak.domain.message import NoticeText, PagerAction
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import build_pager, build_rulebook
from firebreak.servers.errors import RegistryDamaged
from firebreak.servers.registry import Entry, Registry, reap_leftovers
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore
from firebreak.storage.verify import verify_store

log = structlog.get_logger()

RECORD, RECORD_STOPS = "record", "Firebreak does not start: its record cannot be used"
"""Part and title of the page when the timeline stops the start."""

_WAITING = "Until it runs nothing is handled, and nobody else is called: look at Alertmanager for what fires."
_NO_END = "This page does not end by itself: resolve it at the pager once the engine runs."
_NAMED = 5  # open incidents whose names a page carries


def check_pager(settings: Settings) -> None:
    """SettingsInvalid in mode act when there is a service, or an unknown one, for which nobody could be paged."""
    if settings.fallback_pager_key.get_secret_value():
        return
    problem = "FIREBREAK_FALLBACK_PAGER_KEY is not set: for a service without a pager_key nobody can be paged"
    if settings.mode is Mode.ACT:
        raise SettingsInvalid(problem, advice="Set it; acting without a way to call a person is refused.")
    log.warning("engine.nobody_to_page", problem=problem)


@asynccontextmanager
async def or_paged(settings: Settings, part: str, title: str) -> AsyncIterator[None]:
    """What goes wrong in it stops the start, and pages the fallback key first: nobody knows what waits behind it. Under
    one key a day for each `part`: a supervisor that starts the engine again and again makes one page."""
    try:
        yield
    except (FirebreakError, OSError) as error:
        step = error.next_step() if isinstance(error, FirebreakError) else "Look at the disk of the data directory."
        await _page(settings, f"{part}-{SystemClock().now():%Y%m%d}", title, str(error), step, _WAITING, _NO_END)
        raise


async def end_leftovers(settings: Settings, run_dir: Path) -> tuple[Entry, ...]:
    """What an earlier run left alive, ended now. A damaged list of it stops no start: who holds the directory's lock is
    its only engine, and the kernel has ended the children of the one before with their parent."""
    async with or_paged(settings, "leftovers", "Firebreak does not start: what an earlier run left cannot be ended"):
        try:
            return await reap_leftovers(run_dir)
        except RegistryDamaged as error:
            kept = Registry(run_dir).put_aside()
            log.error("engine.leftovers_unknown", error=str(error), kept=str(kept))
            return ()


async def check_record(settings: Settings) -> None:
    """The whole stored chain. LedgerError (ChainBroken where it was changed) stops the start and pages the fallback
    key. There is none before the first start, nor after one that ended before its schema was on disk."""
    path = settings.data_dir / TIMELINE_FILE
    async with or_paged(settings, RECORD, RECORD_STOPS):
        if await asyncio.to_thread(TimelineStore.database(path).is_new):
            return
        report = await asyncio.to_thread(verify_store, path)
        if not report.ok:
            broken = report.first_broken_seq
            raise ChainBroken(f"the record in {path} does not hold from entry {broken}: {report.reason}")


async def check_documents(settings: Settings) -> Rulebook:
    """The documents, loaded. What keeps them from being used stops the start; it pages the fallback key when alerts,
    incidents or messages wait for this engine: without documents nobody knows whom each of them would call."""
    try:
        return await asyncio.to_thread(build_rulebook, settings)
    except FirebreakError as error:
        waiting = await _what_waits(settings)
        if waiting:
            title = "Firebreak does not start: its documents cannot be used"
            told = (f"Waiting for it: {waiting}.", str(error), error.next_step(), _NO_END)
            await _page(settings, f"documents-{SystemClock().now():%Y%m%d}", title, *told)
        raise


async def _what_waits(settings: Settings) -> str:
    """Empty when nobody is kept waiting by an engine that does not start."""
    found = []
    try:
        if (path := settings.data_dir / INBOX_FILE).exists():
            async with await InboxStore.open(path) as inbox:
                if alerts := await inbox.backlog():
                    found.append(f"{alerts} accepted alerts")
        if (path := settings.data_dir / TIMELINE_FILE).exists():
            async with await TimelineStore.open(path) as store:
                names = [incident.id for incident in await store.open_incidents()]
                if names:
                    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                    found.append(f"open incidents {', '.join(names[:_NAMED])}{more}")
                if await store.next_due() is not None:
                    found.append("messages that were not sent yet")
    except FirebreakError as error:  # doubt calls a person
        found.append(f"unknown, since the record cannot be read ({error})")
    return "; ".join(found)


async def _page(settings: Settings, incident_id: str, title: str, *lines: str) -> None:
    key = settings.fallback_pager_key.get_secret_value()
    if not key:
        return
    try:
        async with build_pager(settings) as pager:
            text = NoticeText(title=title, lines=lines)
            await pager.send(key, PagerAction.TRIGGER_HIGH, incident_id=incident_id, text=text, details={})
    except FirebreakError as unpaged:  # the reason of the stop is still the other one
        log.error("engine.nobody_paged", error=str(unpaged))

"""One message to the people it is for: its text, its route, and the pager key that takes it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from activities.notices import FELL_BACK
from firebreak.domain.codec import format_time
from firebreak.domain.errors import FirebreakError, LedgerError, PermanentError, TransientError
from firebreak.domain.message import HIGH, Channel, Message, MessageDraft, NoticeText, PagerAction, Route
from firebreak.domain.ports import ChatPort, Clock, LedgerPort, OutboxPort, PagerPort, RoutesPort
from firebreak.domain.timeline import TimelineEntry
from firebreak.engine.pacing import Destination
from firebreak.engine.records import Record, Records
from firebreak.engine.told import (
    ENDS,
    FALLBACK,
    SERVICE,
    long_over,
    mark,
    marks,
    needless,
    service_of,
    thread_of,
    triggered,
    unsure,
)
from firebreak.postmortem.json_export import json_bytes
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build
from firebreak.processes import OWNER_ONLY
from firebreak.timeline.canonical import canonical
from firebreak.timeline.phases import phases_of

log = structlog.get_logger()

FILE_PACE = timedelta(milliseconds=400)
"""Between two post-mortems: each is work for a core, some milliseconds, while others are still being healed."""

LONGEST_LEISURE = timedelta(seconds=60)
"""A post-mortem that has waited so long waits no more. `firebreak postmortem` needs no file: it reads the record."""

KNOWN = 100_000
"""Incidents whose service is remembered."""


_OTHER_KEY = (
    "the call went out with another pager key than the documents name now, and stays open there: "
    "resolve it at the pager by hand"
)
_UNREAD = (
    "the record cannot be read, so nobody knows which keys took the call: see at the pager whether it is open, "
    "and resolve it there by hand"
)

UNREAD_TRIES = 2
"""Tries, 3 s in all, before a call goes out without its record: what cannot be read may be so for a moment only."""


class LongOver(PermanentError):
    """A call about an incident that ended long ago. It is not sent."""

    advice = "Nothing to do: the post-mortem tells of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxParts:
    """What the sender works with. `chat` None = no chat is configured: written down as failed. `chat_pace`: between two
    messages into one of its channels. `file_pace`: between two post-mortems. `elapsed`: seconds of a clock that nobody
    sets. `fallback_key`: pager key for a call for a
    person that the service's own key does not take; empty = none."""

    outbox: OutboxPort
    ledger: LedgerPort
    chat: ChatPort | None
    pager: PagerPort
    routes: RoutesPort
    clock: Clock
    postmortems: Path
    elapsed: Callable[[], float] = time.monotonic
    fallback_key: str = field(default="", repr=False)
    chat_pace: timedelta = timedelta(0)
    file_pace: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """`receipt` of who took it, `body` for its entry; `refused` = why one of two pager keys did not take it."""

    receipt: str
    body: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


class Sending:
    """Sends one message, once. Nothing is written down here."""

    def __init__(self, parts: OutboxParts) -> None:
        self._parts = parts
        self._records = Records(parts.ledger)
        self._services: dict[str, str] = {}  # of the last incidents

    async def destination(self, message: Message) -> Destination:
        """Whom it would go to first. LedgerError when the store does not answer."""
        channel = message.draft.channel
        if channel is Channel.CHAT and self._parts.chat is None:
            return Destination(channel, "")
        if channel is Channel.POSTMORTEM:
            waited = self._parts.clock.now() - message.draft.due_at
            return Destination(channel, "files" if waited < LONGEST_LEISURE else "")
        incident_id = message.draft.incident_id
        service = self._services.get(incident_id)
        if service is None:
            service = self._remember(incident_id, service_of((await self._records.of(incident_id)).entries))
        route = self._parts.routes.route(service)
        return Destination(channel, route.chat_channel if channel is Channel.CHAT else route.pager_key)

    def _remember(self, incident_id: str, service: str) -> str:
        self._services[incident_id] = service
        if len(self._services) > KNOWN:
            del self._services[next(iter(self._services))]
        return service

    async def send(self, message: Message) -> Sent | None:
        """None = nobody needs it any more. Raises what the port raises; PermanentError where nothing is configured for
        the message."""
        draft = message.draft
        try:
            record = await self._records.of(draft.incident_id)
            entries = record.entries
            service = self._remember(draft.incident_id, service_of(entries))
            if needless(draft, entries):
                return None
            over = long_over(draft, entries, self._parts.clock.now())
        except LedgerError as error:
            if draft.pager not in HIGH or message.attempts < UNREAD_TRIES:
                raise
            log.error("outbox.unread_record", incident=draft.incident_id, key=draft.key, error=str(error))
            return await self._page_unread(message, error)
        if over:
            raise LongOver(f"not sent: the incident has been over since {format_time(over)}")
        if draft.channel is Channel.POSTMORTEM:
            return Sent(receipt=await asyncio.to_thread(self._write_postmortem, record))
        route = self._parts.routes.route(service)
        if draft.channel is Channel.PAGER:
            return await self._page(message, route, record)
        if self._parts.chat is None:
            raise PermanentError(
                "no chat is configured", advice="Set FIREBREAK_SLACK_TOKEN to follow incidents in Slack."
            )
        if not route.chat_channel:
            raise PermanentError("the service has no chat channel", advice="Name one in services.yaml: chat_channel.")
        text = render_notice(draft.notice, record.case(), body=draft.body)
        dedup, head = f"{draft.incident_id}/{draft.key}", thread_of(entries)
        return Sent(receipt=await self._parts.chat.post(route.chat_channel, text, thread=head, dedup=dedup))

    async def _page_unread(self, message: Message, error: LedgerError) -> Sent:
        """A call goes out though its incident's record cannot be read, by the fallback key where not even its service
        is known; so does what ends one, since a later call may stand behind that. LedgerError when that has no key."""
        draft = message.draft
        service = self._services.get(draft.incident_id) or await self._service_alone(draft.incident_id)
        route = self._parts.routes.route(service)
        if draft.pager is PagerAction.TRIGGER_HIGH:
            return await self._page(message, route, Record(()), unread=error)
        if not route.pager_key and not self._parts.fallback_key:
            raise error
        sent = await self._page(message, route, Record(()), unread=error)
        return replace(sent, refused=f"{sent.refused} {_UNREAD}".strip())

    async def _service_alone(self, incident_id: str) -> str:
        """Out of the first entry, which may be whole where another is not. Empty when it is not, either."""
        try:
            opened = await self._parts.ledger.find(incident_id, "opened")
            return "" if opened is None else service_of((opened,))
        except LedgerError:
            return ""

    async def _page(self, message: Message, route: Route, record: Record, *, unread: LedgerError | None = None) -> Sent:
        """A trigger goes to the first key that takes it (the next one only after a refusal for good), a resolve to
        every key that took the trigger, or may have. `unread`: why there is nothing in `record`."""
        draft = message.draft
        keys = self._keys(draft, route, record.entries)
        if not keys:
            raise PermanentError(
                "nobody can be paged: neither the service nor FIREBREAK_FALLBACK_PAGER_KEY names a routing key",
                advice="Set FIREBREAK_FALLBACK_PAGER_KEY.",
            )
        text, resolves = self._page_text(message, record, unread), draft.pager in ENDS
        took: dict[str, str] = {}
        errors: list[FirebreakError] = []
        for name, key in keys.items():
            details = {"incident": draft.incident_id, "notice": draft.notice.value}
            if errors and not resolves:
                details["routing"] = FELL_BACK
            try:
                took[name] = await self._parts.pager.send(
                    key, draft.pager, incident_id=draft.incident_id, text=text, details=details
                )
            except FirebreakError as error:
                errors.append(_without(error, keys.values()))
                if not resolves and not isinstance(error, PermanentError):
                    break  # it may have been taken: the same key again later
            else:
                if not resolves:
                    break
        if not took or not all(isinstance(error, PermanentError) for error in errors):
            raise _joined(errors)
        body: dict[str, Any] = {"routing": ", ".join(took), "marks": {name: mark(keys[name]) for name in took}}
        if errors and not resolves:
            body["reason"] = FELL_BACK
        refused = " ".join(f"{error} {error.next_step()}" for error in errors)
        if resolves and marks(record.entries, draft.pager) - {mark(key) for key in keys.values()}:
            refused = f"{refused} {_OTHER_KEY}".strip()
        return Sent(receipt=next(iter(took.values())), body=body, refused=refused)

    def _keys(self, draft: MessageDraft, route: Route, entries: Sequence[TimelineEntry]) -> Mapping[str, str]:
        """Routing keys by whose they are, in the order in which they are tried; empty ones left out."""
        fallback = self._parts.fallback_key
        known = {SERVICE: "" if route.pager_key == fallback else route.pager_key, FALLBACK: fallback}
        known = {name: key for name, key in known.items() if key}
        if draft.pager is PagerAction.TRIGGER_HIGH:
            return known
        if draft.pager is PagerAction.RESOLVE_HIGH and (not entries or unsure(entries, draft.pager)):
            return known  # where nothing is open, a resolve changes nothing
        names = triggered(entries, draft.pager) if draft.pager in ENDS else set()
        return {name: key for name, key in known.items() if name in names} or dict(list(known.items())[:1])

    def _page_text(self, message: Message, record: Record, unread: LedgerError | None) -> NoticeText:
        """A page whose text cannot be made goes out all the same, in plain words."""
        draft = message.draft
        if unread is not None:
            return _plain(draft, f"Its record cannot be read: {unread}. {unread.next_step()}")
        try:
            return render_notice(draft.notice, record.case(), body=draft.body)
        except Exception as error:  # noqa: BLE001 # a call for a person is worth more than its wording
            log.error("outbox.text_fault", key=draft.key, error=repr(error))
            look = f"Its text could not be made ({type(error).__name__}): see `firebreak timeline {draft.incident_id}`."
            return _plain(draft, look)

    def _write_postmortem(self, record: Record) -> str:
        self._parts.postmortems.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        report = build(record.entries, phases=phases_of(record.entries), case=record.case())
        path = self._parts.postmortems / f"{report.incident_id}.md"
        files = ((path.with_suffix(".json"), json_bytes(report, encode=canonical)), (path, markdown(report).encode()))
        for target, content in files:
            fresh = target.with_name(target.name + ".new")
            fresh.write_bytes(content)
            os.replace(fresh, target)
        return os.fsencode(path).decode(errors="replace")  # a folder may have any bytes for a name, the record not


def _plain(draft: MessageDraft, look: str) -> NoticeText:
    why = str(draft.body.get("reason", "")) or draft.notice.value.replace("_", " ")
    return NoticeText(title=f"{draft.incident_id} needs a person", lines=(why, look))


def _without(error: FirebreakError, keys: Collection[str]) -> FirebreakError:
    """The error without any routing key in its text, whatever the pager quotes."""
    said, advice = str(error), error.next_step()
    for key in keys:
        said, advice = said.replace(key, "(routing key)"), advice.replace(key, "(routing key)")
    return error if (said, advice) == (str(error), error.next_step()) else _like(error, said, advice)


def _joined(errors: Sequence[FirebreakError]) -> FirebreakError:
    """One error for all keys; one that may pass goes before a refusal."""
    if len(errors) == 1:
        return errors[0]
    first = next((error for error in errors if not isinstance(error, PermanentError)), errors[-1])
    return _like(first, "; with the fallback key: ".join(str(error) for error in errors), first.next_step())


def _like(error: FirebreakError, said: str, advice: str) -> FirebreakError:
    if isinstance(error, TransientError):
        return TransientError(said, retry_after=error.retry_after, advice=advice)
    return PermanentError(said, advice=advice)

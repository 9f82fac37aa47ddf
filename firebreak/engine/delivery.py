"""One message to the people it is for: its text, its route, and the pager key that takes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from firebreak.domain.codec import format_time
from firebreak.domain.errors import FirebreakError, PermanentError, TransientError
from firebreak.domain.message import Channel, Message, MessageDraft, NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.ports import ChatPort, Clock, LedgerPort, OutboxPort, PagerPort, RoutesPort
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.engine.pacing import Destination
from firebreak.engine.records import Record, Records
from firebreak.postmortem.json_export import json_bytes
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build
from firebreak.timeline.canonical import canonical
from firebreak.timeline.phases import phases_of

log = structlog.get_logger()

_ENDS = {
    PagerAction.RESOLVE_LOW: PagerAction.TRIGGER_LOW,
    PagerAction.RESOLVE_HIGH: PagerAction.TRIGGER_HIGH,
}
"""Which trigger a resolve ends."""

FILE_PACE = timedelta(milliseconds=400)
"""Between two post-mortems: each is work for a core, some milliseconds, while others are still being healed."""

LONGEST_LEISURE = timedelta(seconds=60)
"""A post-mortem that has waited so long waits no more. `firebreak postmortem` needs no file: it reads the record."""

KNOWN = 100_000
"""Incidents whose service is remembered."""

_HEADS = ("chat/classified", "chat/person/high")
"""Messages that may have begun the incident's thread."""

_SERVICE, _FALLBACK = "service", "fallback"  # whose routing key; stored in delivered entries, never the key itself
_FELL_BACK = "sent with FIREBREAK_FALLBACK_PAGER_KEY: the service's own pager_key was refused"

STALE = timedelta(hours=1)
"""How long an incident may be over before a call about it, which could not go out, is not sent any more."""


class LongOver(PermanentError):
    """A call about an incident that ended long ago. It is not sent."""

    advice = "Nothing to do: the post-mortem tells of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxParts:
    """What the sender works with. `chat` None = no chat is configured: written down as failed. `chat_pace`: between two
    messages into one of its channels. `file_pace`: between two post-mortems. `fallback_key`: pager key for a call for a
    person that the service's own key does not take; empty = none."""

    outbox: OutboxPort
    ledger: LedgerPort
    chat: ChatPort | None
    pager: PagerPort
    routes: RoutesPort
    clock: Clock
    postmortems: Path
    fallback_key: str = field(default="", repr=False)
    chat_pace: timedelta = timedelta(0)
    file_pace: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """`receipt` of the delivery, `body` for its entry; `refused` = why one of two pager keys did not take it."""

    receipt: str
    body: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


class Delivery:
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
            service = self._services[incident_id] = service_of((await self._records.of(incident_id)).entries)
            if len(self._services) > KNOWN:
                del self._services[next(iter(self._services))]
        route = self._parts.routes.route(service)
        return Destination(channel, route.chat_channel if channel is Channel.CHAT else route.pager_key)

    async def send(self, message: Message) -> Sent | None:
        """None = nobody needs it any more. Raises what the port raises; PermanentError where nothing is configured for
        the message."""
        draft = message.draft
        record = await self._records.of(draft.incident_id)
        entries = record.entries
        if _needless(draft, entries):
            return None
        if over := _long_over(draft, entries, self._parts.clock.now()):
            raise LongOver(f"not sent: the incident has been over since {format_time(over)}")
        if draft.channel is Channel.POSTMORTEM:
            return Sent(receipt=await asyncio.to_thread(self._write_postmortem, record))
        route = self._parts.routes.route(service_of(entries))
        if draft.channel is Channel.PAGER:
            return await self._page(message, route, record)
        if self._parts.chat is None:
            raise PermanentError(
                "no chat is configured", advice="Set FIREBREAK_SLACK_TOKEN to follow incidents in Slack."
            )
        if not route.chat_channel:
            raise PermanentError("the service has no chat channel", advice="Name one in services.yaml: chat_channel.")
        text = render_notice(draft.notice, record.case(), body=draft.body)
        dedup, head = f"{draft.incident_id}/{draft.key}", _thread(entries)
        return Sent(receipt=await self._parts.chat.post(route.chat_channel, text, thread=head, dedup=dedup))

    async def _page(self, message: Message, route: Route, record: Record) -> Sent:
        """A trigger goes to the first key that takes it (the next one only after a refusal for good), a resolve to
        every key that took the trigger."""
        draft = message.draft
        keys = self._keys(draft, route, record.entries)
        if not keys:
            raise PermanentError(
                "nobody can be paged: neither the service nor FIREBREAK_FALLBACK_PAGER_KEY names a routing key",
                advice="Set FIREBREAK_FALLBACK_PAGER_KEY.",
            )
        text, resolves = self._page_text(message, record), draft.pager in _ENDS
        took: dict[str, str] = {}
        errors: list[FirebreakError] = []
        for name, key in keys.items():
            details = {"incident": draft.incident_id, "notice": draft.notice.value}
            if errors and not resolves:
                details["routing"] = _FELL_BACK
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
        body = {"routing": ", ".join(took)}
        if errors and not resolves:
            body["reason"] = _FELL_BACK
        refused = " ".join(f"{error} {error.next_step()}" for error in errors)
        return Sent(receipt=next(iter(took.values())), body=body, refused=refused)

    def _keys(self, draft: MessageDraft, route: Route, entries: Sequence[TimelineEntry]) -> Mapping[str, str]:
        """Routing keys by whose they are, in the order in which they are tried; empty ones left out."""
        fallback = self._parts.fallback_key
        known = {_SERVICE: "" if route.pager_key == fallback else route.pager_key, _FALLBACK: fallback}
        known = {name: key for name, key in known.items() if key}
        if draft.pager is PagerAction.TRIGGER_HIGH:
            return known
        names = _triggered(entries, draft.pager) if draft.pager in _ENDS else set()
        return {name: key for name, key in known.items() if name in names} or dict(list(known.items())[:1])

    def _page_text(self, message: Message, record: Record) -> NoticeText:
        """A page whose text cannot be made goes out all the same, in plain words."""
        draft = message.draft
        try:
            return render_notice(draft.notice, record.case(), body=draft.body)
        except Exception as error:  # noqa: BLE001 # a call for a person is worth more than its wording
            log.error("outbox.text_fault", key=draft.key, error=repr(error))
            why = str(draft.body.get("reason", "")) or draft.notice.value.replace("_", " ")
            look = f"Its text could not be made ({type(error).__name__}): see `firebreak timeline {draft.incident_id}`."
            return NoticeText(title=f"{draft.incident_id} needs a person", lines=(why, look))

    def _write_postmortem(self, record: Record) -> str:
        self._parts.postmortems.mkdir(parents=True, exist_ok=True)
        report = build(record.entries, phases=phases_of(record.entries), case=record.case())
        path = self._parts.postmortems / f"{report.incident_id}.md"
        files = ((path.with_suffix(".json"), json_bytes(report, encode=canonical)), (path, markdown(report).encode()))
        for target, content in files:
            fresh = target.with_name(target.name + ".new")
            fresh.write_bytes(content)
            os.replace(fresh, target)
        return str(path)


def _delivered(entries: Sequence[TimelineEntry]) -> Iterator[Mapping[str, Any]]:
    """What the sender wrote of each message that went out, in the order in which they did. That is written in one
    transaction with the message's own state, so nothing else need be asked."""
    return (entry.body for entry in entries if entry.kind is EntryKind.MESSAGE_DELIVERED)


def _perhaps_delivered(entries: Sequence[TimelineEntry]) -> Iterator[Mapping[str, Any]]:
    """As `_delivered`, and the triggers whose answer was lost."""
    for entry in entries:
        lost = entry.kind is EntryKind.MESSAGE_FAILED and entry.body.get("may_have_arrived")
        if entry.kind is EntryKind.MESSAGE_DELIVERED or (lost and entry.body.get("pager") in _ENDS.values()):
            yield entry.body


def _needless(draft: MessageDraft, entries: Sequence[TimelineEntry]) -> bool:
    """A resolve goes out only for what was triggered, or may have been, and is not resolved yet; a last line only into
    a thread."""
    if draft.channel is Channel.CHAT and draft.notice is NoticeKind.CLOSED:
        return not _thread(entries)
    if draft.pager not in _ENDS:
        return False
    pair = (draft.pager, _ENDS[draft.pager])
    told = [body["pager"] for body in _perhaps_delivered(entries) if body.get("pager") in pair]
    return not told or told[-1] == draft.pager


def _long_over(draft: MessageDraft, entries: Sequence[TimelineEntry], now: datetime) -> datetime | None:
    """When the incident closed that a call was about, where that is STALE: the call could not go out before (no key,
    a pager that was away), and would get somebody up for nothing. A restore's call is due later than the close."""
    if draft.pager not in _ENDS.values():
        return None
    closed = next((e.at for e in entries if e.kind is EntryKind.INCIDENT_CLOSED), None)
    return closed if closed is not None and draft.due_at < closed < now - STALE else None


def _thread(entries: Sequence[TimelineEntry]) -> str:
    """Receipt of the incident's head, or empty."""
    receipts = {body.get("key"): str(body.get("receipt", "")) for body in _delivered(entries)}
    return next((receipts[key] for key in _HEADS if receipts.get(key)), "")


def _triggered(entries: Sequence[TimelineEntry], resolve: PagerAction) -> set[str]:
    """Whose keys took a trigger since the last resolve, as the delivered entries say: known also after a restart."""
    names: set[str] = set()
    for body in _delivered(entries):
        if body.get("pager") == resolve.value:
            names.clear()
        elif body.get("pager") == _ENDS[resolve].value:
            names.update(str(body.get("routing", _SERVICE)).split(", "))
    return names


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


def service_of(entries: Sequence[TimelineEntry]) -> str:
    """The service of an incident, as its first entry says it; empty for what never became an incident."""
    for entry in entries:
        if entry.kind is EntryKind.INCIDENT_OPENED:
            return str(entry.body.get("service", ""))
    return ""

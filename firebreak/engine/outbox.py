"""Sending what the outbox holds: one loop in one process, apart from workers and Temporal, so that a dead worker cannot
keep a page from going out. A failed delivery is written down and tried again; it never stops a healing."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from firebreak.domain.errors import FirebreakError, PermanentError, TransientError
from firebreak.domain.message import Channel, Message, NoticeKind, NoticeText, PagerAction, Route
from firebreak.domain.ports import ChatPort, Clock, LedgerPort, OutboxPort, PagerPort, RoutesPort
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.postmortem.json_export import json_bytes
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build
from firebreak.timeline.phases import phases_of

log = structlog.get_logger()

LOOK = 0.2  # seconds between two looks at the outbox
BATCH = 50
FIRST_RETRY = timedelta(seconds=1)
LONGEST_RETRY = timedelta(minutes=2)
GIVE_UP_LOW = 20  # attempts for what is only information; a high-urgency page is tried for ever

_ENDS = {
    PagerAction.RESOLVE_LOW: PagerAction.TRIGGER_LOW,
    PagerAction.RESOLVE_HIGH: PagerAction.TRIGGER_HIGH,
}
"""Which trigger a resolve ends."""

_HEADS = ("chat/classified", "chat/person/high")
"""Messages that may have begun the incident's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxParts:
    """What the loop works with. `chat` None = no chat is configured: written down as failed."""

    outbox: OutboxPort
    ledger: LedgerPort
    chat: ChatPort | None
    pager: PagerPort
    routes: RoutesPort
    clock: Clock
    postmortems: Path


class OutboxSender:
    """`run` until cancelled; `drain` once (tests)."""

    def __init__(self, parts: OutboxParts) -> None:
        self._parts = parts

    async def run(self) -> None:
        while True:
            try:
                sent = await self.drain()
            except FirebreakError as error:
                log.warning("outbox.store_away", error=str(error))
                sent = 0
            except Exception as error:  # noqa: BLE001 # whatever it is: without this loop nobody is ever called again
                log.error("outbox.fault", error=repr(error))
                sent = 0
            if not sent:
                await asyncio.sleep(LOOK)

    async def drain(self) -> int:
        """Send what is due, messages of different incidents at once. Returns how many were handled."""
        due = await self._parts.outbox.due(self._parts.clock.now(), limit=BATCH)
        await asyncio.gather(*(self._deliver(message) for message in due))
        return len(due)

    async def _deliver(self, message: Message) -> None:
        if await self._needless(message):
            await self._parts.outbox.failed(message, next_try_at=None, entry=None)
            return
        try:
            receipt = await self._send(message)
        except FirebreakError as error:
            await self._failed(message, error)
            return
        except Exception as error:  # noqa: BLE001 # one message that breaks us (or a full disk) must not silence the rest
            log.error("outbox.message_fault", key=message.draft.key, error=repr(error))
            await self._failed(message, TransientError(f"a fault of the engine: {type(error).__name__}"))
            return
        await self._parts.outbox.delivered(
            message, receipt, entry=self._entry(message, EntryKind.MESSAGE_DELIVERED, receipt=receipt)
        )

    async def _send(self, message: Message) -> str:
        draft = message.draft
        entries = await self._parts.ledger.entries(draft.incident_id)
        if draft.channel is Channel.POSTMORTEM:
            return await asyncio.to_thread(self._write_postmortem, draft.incident_id, entries)
        route = self._parts.routes.route(service_of(entries))
        if draft.channel is Channel.PAGER:
            return await self._page(message, route, entries)
        if self._parts.chat is None:
            raise PermanentError(
                "no chat is configured", advice="Set FIREBREAK_SLACK_TOKEN to follow incidents in Slack."
            )
        if not route.chat_channel:
            raise PermanentError("the service has no chat channel", advice="Name one in services.yaml: chat_channel.")
        head = await self._thread(draft.incident_id)
        text = render_notice(draft.notice, entries, body=draft.body)
        return await self._parts.chat.post(
            route.chat_channel, text, thread=head, dedup=f"{draft.incident_id}/{draft.key}"
        )

    async def _page(self, message: Message, route: Route, entries: tuple[TimelineEntry, ...]) -> str:
        draft = message.draft
        if not route.pager_key:
            raise PermanentError(
                "nobody can be paged: neither the service nor FIREBREAK_FALLBACK_PAGER_KEY names a routing key",
                advice="Set FIREBREAK_FALLBACK_PAGER_KEY.",
            )
        return await self._parts.pager.send(
            route.pager_key,
            draft.pager,
            incident_id=draft.incident_id,
            text=self._page_text(message, entries),
            details={"incident": draft.incident_id, "notice": draft.notice.value},
        )

    def _page_text(self, message: Message, entries: tuple[TimelineEntry, ...]) -> NoticeText:
        """A page whose text cannot be made goes out all the same, in plain words."""
        draft = message.draft
        try:
            return render_notice(draft.notice, entries, body=draft.body)
        except Exception as error:  # noqa: BLE001 # a call for a person is worth more than its wording
            log.error("outbox.text_fault", key=draft.key, error=repr(error))
            why = str(draft.body.get("reason", "")) or draft.notice.value.replace("_", " ")
            look = f"Its text could not be made ({type(error).__name__}): see `firebreak timeline {draft.incident_id}`."
            return NoticeText(title=f"{draft.incident_id} needs a person", lines=(why, look))

    async def _needless(self, message: Message) -> bool:
        """A resolve goes out only for what was triggered and is not resolved yet; a last line only into a thread."""
        draft = message.draft
        if draft.channel is Channel.CHAT and draft.notice is NoticeKind.CLOSED:
            return not await self._thread(draft.incident_id)
        if draft.pager not in _ENDS:
            return False
        pair = (draft.pager, _ENDS[draft.pager])
        told = [action for action in await self._parts.outbox.paged(draft.incident_id) if action in pair]
        return not told or told[-1] is draft.pager

    async def _thread(self, incident_id: str) -> str:
        for key in _HEADS:
            head = await self._parts.outbox.receipt(incident_id, key)
            if head:
                return head
        return ""

    def _write_postmortem(self, incident_id: str, entries: tuple[TimelineEntry, ...]) -> str:
        self._parts.postmortems.mkdir(parents=True, exist_ok=True)
        report = build(entries, phases=phases_of(entries))
        path = self._parts.postmortems / f"{incident_id}.md"
        files = ((path.with_suffix(".json"), json_bytes(report)), (path, markdown(report).encode()))
        for target, content in files:
            fresh = target.with_name(target.name + ".new")
            fresh.write_bytes(content)
            os.replace(fresh, target)
        return str(path)

    async def _failed(self, message: Message, error: FirebreakError) -> None:
        attempts = message.attempts + 1
        high = message.draft.pager is PagerAction.TRIGGER_HIGH
        gone = not high and (isinstance(error, PermanentError) or attempts >= GIVE_UP_LOW)
        next_try = None if gone else self._parts.clock.now() + _backoff(attempts, error)
        log.warning("outbox.failed", incident=message.draft.incident_id, key=message.draft.key, error=str(error))
        entry = None
        if attempts == 1 or gone or attempts % 10 == 0:  # the first failure, the end, and a sign of life between
            entry = self._entry(
                message,
                EntryKind.MESSAGE_FAILED,
                suffix=f"/failed/{attempts}",
                error=f"{error} {error.next_step()}",
                attempts=attempts,
                given_up=gone,
            )
        await self._parts.outbox.failed(message, next_try_at=next_try, entry=entry)

    def _entry(self, message: Message, kind: EntryKind, suffix: str = "", **body: object) -> EntryDraft:
        draft = message.draft
        return EntryDraft(
            incident_id=draft.incident_id,
            key=f"message/{draft.key}{suffix}",
            kind=kind,
            at=self._parts.clock.now(),
            body={
                "channel": draft.channel.value,
                "notice": draft.notice.value,
                "key": draft.key,
                "pager": draft.pager.value,
                **body,
            },
        )


def _backoff(attempts: int, error: FirebreakError) -> timedelta:
    asked = error.retry_after if isinstance(error, TransientError) else None
    return asked or min(FIRST_RETRY * 2 ** min(attempts - 1, 10), LONGEST_RETRY)


def service_of(entries: tuple[TimelineEntry, ...]) -> str:
    """The service of an incident, as its first entry says it; empty for what never became an incident."""
    for entry in entries:
        if entry.kind is EntryKind.INCIDENT_OPENED:
            return str(entry.body.get("service", ""))
    return ""

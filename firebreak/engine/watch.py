"""Watching that accepted alerts are taken up: the net under dispatchers, workers and Temporal.

An incident has its own deadline from the moment it is opened. Before that, an alert is only a row of the inbox; when
no dispatcher takes it within the time limit, a person is paged from here.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from activities import notices
from firebreak.domain.alert import AcceptedAlert
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError, LedgerError
from firebreak.domain.message import NoticeKind, NoticeText, PagerAction
from firebreak.domain.ports import Clock, InboxPort, LedgerPort, PagerPort
from firebreak.domain.timeline import EntryDraft, EntryKind

log = structlog.get_logger()

LOOK = 2.0  # seconds between two looks
LIMIT = timedelta(seconds=60)


class IntakeWatch:
    """`run` until cancelled. One page for as long as the same alert waits, ended when it has been taken up.

    When the ledger cannot be written (which may be why it waits) the page goes out directly, by `pager` and the
    fallback key, and is written down as soon as that can be."""

    def __init__(
        self,
        inbox: InboxPort,
        ledger: LedgerPort,
        clock: Clock,
        *,
        limit: timedelta = LIMIT,
        pager: PagerPort | None = None,
        pager_key: str = "",
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._clock = clock
        self._limit = limit
        self._pager = pager
        self._pager_key = pager_key
        self._paged = ""
        self._unwritten: EntryDraft | None = None  # of a page that went out directly

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except FirebreakError as error:
                log.error("intake_watch.failed", error=str(error), next_step=error.next_step())
            except Exception as error:  # noqa: BLE001 # the net must not end by the fault that it is there for
                log.error("intake_watch.fault", error=repr(error))
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Page when the oldest alert has waited for too long; resolve that page when it has not any more."""
        oldest = await self._inbox.oldest()
        now = self._clock.now()
        late = oldest is not None and now - oldest.accepted_at >= self._limit
        if late and oldest is not None and not self._paged:
            await self._page(f"intake-{oldest.receipt}", oldest)
            self._paged = f"intake-{oldest.receipt}"  # only now: what could not be written is tried at the next look
            self._unwritten = None
        elif not late and self._paged:
            done = EntryDraft(
                incident_id=self._paged,
                key="taken-up",
                kind=EntryKind.RECOVERY_SEEN,
                at=now,
                body={"reason": "the waiting alerts have been taken up"},
            )
            end = notices.pager(self._paged, NoticeKind.HEALED, "pager/closed-high", PagerAction.RESOLVE_HIGH, now)
            await self._ledger.append([done], messages=[end])
            self._paged = ""
        elif not late and self._unwritten is not None and self._pager is not None:
            await self._ledger.append([self._unwritten])
            resolved = NoticeText(title="the waiting alerts have been taken up", lines=())
            await self._pager.send(
                self._pager_key,
                PagerAction.RESOLVE_HIGH,
                incident_id=self._unwritten.incident_id,
                text=resolved,
                details={},
            )
            self._unwritten = None

    async def _page(self, incident_id: str, oldest: AcceptedAlert) -> None:
        now = self._clock.now()
        waiting = await self._inbox.backlog()
        reason = (
            f"{waiting} accepted alerts wait, the oldest since {oldest.accepted_at:%H:%M:%S} UTC: no worker takes them "
            "up. Look at the engine's workers and at Temporal; handle the alerts by hand meanwhile."
        )
        entry = EntryDraft(
            incident_id=incident_id,
            key="waiting",
            kind=EntryKind.ENGINE_FAULT,
            at=now,
            body={
                "where": "intake",
                "error": reason,
                "next_step": "Start the workers.",
                "alert": to_data(oldest.alert),
            },
        )
        page = notices.pager(
            incident_id, NoticeKind.PERSON_NEEDED, "pager/waiting", PagerAction.TRIGGER_HIGH, now, reason=reason
        )
        try:
            await self._ledger.append([entry], messages=[page])
        except LedgerError as error:
            await self._page_directly(entry, reason, error)
            raise

    async def _page_directly(self, entry: EntryDraft, reason: str, error: LedgerError) -> None:
        if self._pager is None or not self._pager_key or self._unwritten is not None:
            return
        text = NoticeText(
            title="Firebreak needs a person: alerts wait, and its record cannot be written",
            lines=(reason, str(error), error.next_step()),
        )
        await self._pager.send(
            self._pager_key, PagerAction.TRIGGER_HIGH, incident_id=entry.incident_id, text=text, details={}
        )
        self._unwritten = entry

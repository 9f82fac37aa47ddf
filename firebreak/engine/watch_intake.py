"""Watching that accepted alerts are taken up: the net under the dispatchers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from firebreak.domain import ids
from firebreak.domain.alert import AcceptedAlert, IntakeClass, UnreadableDelivery
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError
from firebreak.domain.ports import Clock, InboxPort
from firebreak.engine.damage import KEPT
from firebreak.engine.standing_page import StandingPage
from firebreak.engine.unread import Unread
from firebreak.engine.waited import IntakeWait, Standstill
from firebreak.postmortem.notice_next import INTAKE


class WaitingAlerts:
    """One page for as long as the same alert waits, ended when it has been taken up; and one for as long as the inbox
    cannot be read, when nobody knows what waits."""

    def __init__(
        self,
        inbox: InboxPort,
        clock: Clock,
        elapsed: Callable[[], float],
        *,
        limit: timedelta,
        waiting: StandingPage,
        unread: Unread,
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._elapsed = elapsed
        self._limit = limit
        self._waiting = waiting
        self._unread = unread
        self._wait = IntakeWait(limit)
        self._wait_behind = IntakeWait(limit)  # of the oldest alert that no open page stands for
        self._behind = Standstill()

    async def look(self) -> None:
        now, elapsed = self._clock.now(), self._elapsed()
        self._wait.looked(now, elapsed)
        self._wait_behind.looked(now, elapsed)
        for page in (self._waiting, self._unread):
            await page.catch_up()
        try:
            oldest = await self._inbox.oldest()
        except Exception as error:
            await self._unread.failed(error)
            raise
        try:
            await self._look_at_oldest(oldest)
        finally:
            await self._unread.read_well()

    async def _look_at_oldest(self, oldest: AcceptedAlert | UnreadableDelivery | None) -> None:
        late = oldest is not None and self._wait.of(oldest.receipt, oldest.accepted_at) >= self._limit
        waits = "" if oldest is None else _record_of(oldest)
        if late and oldest is not None and not self._waiting.stands:
            self._behind.paged(_class_of(oldest))
            await self._page(oldest)
        elif late:
            await self._look_behind()
        elif waits not in self._waiting.records:  # else it waits on, and a clock that was set back makes it look young
            await self._waiting.end("the waiting alerts have been taken up")
            self._behind.over()

    async def _look_behind(self) -> None:
        """One alert that nobody can take up hides no standstill of all others."""
        recent = self._behind.looked(await self._inbox.newest())
        self._behind.taken_up(await self._inbox.taken_up(after=recent))
        while (behind := await self._inbox.oldest(after=self._behind.known)) is not None:
            if self._wait_behind.of(behind.receipt, behind.accepted_at) < self._limit:
                return
            intake_class = _class_of(behind)
            if self._behind.is_news(intake_class):
                await self._page(behind, others=True)
                self._behind.paged(intake_class)
                self._behind.stands_for_all()
            else:
                self._behind.stands_for(behind.receipt)

    async def _page(self, oldest: AcceptedAlert | UnreadableDelivery, *, others: bool = False) -> None:
        """`others`: beside those that somebody was paged about."""
        try:
            waiting = f"{await self._inbox.backlog()} accepted alerts wait"
        except FirebreakError:  # the page waits for no count
            waiting = "accepted alerts wait"
        since = f"{oldest.accepted_at:%H:%M:%S} UTC" if oldest.accepted_at else "nobody can read when"
        if isinstance(oldest, AcceptedAlert):
            told = {"alert": to_data(oldest.alert)}
        else:
            told = {"stored": oldest.stored[:KEPT]}
        whose = "the oldest of which nobody was told" if others else "the oldest"
        reason = (
            f"{waiting}, {whose} since {since}: no worker takes them up. Look at the engine's workers and at Temporal; "
            "handle the alerts by hand till then: an engine in mode act may write once it takes them up."
        )
        await self._waiting.begin(
            _record_of(oldest),
            reason,
            title="Firebreak needs a person: alerts wait, and its record cannot be written",
            where=INTAKE,
            next_step="Start the workers.",
            **told,
        )


def _class_of(delivery: AcceptedAlert | UnreadableDelivery) -> IntakeClass | None:
    """None: nobody can read which."""
    return delivery.intake_class if isinstance(delivery, AcceptedAlert) else None


def _record_of(oldest: AcceptedAlert | UnreadableDelivery) -> str:
    """Of the page for as long as it is the oldest that waits."""
    return ids.delivery_record("intake", oldest.receipt, oldest.accepted_at)

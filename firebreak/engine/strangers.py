"""Work for an incident that is not in this engine's record is left to the engine that has it.

Two engines that share a namespace of Temporal and a FIREBREAK_TASK_QUEUE_PREFIX get each other's tasks. What one of
them did for an incident of the other would call other people, write to another cluster, and stand in another record: so
it does nothing, Temporal asks again till the right one is asked, and a person is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities import notices
from activities.failures import application_error
from firebreak.domain import ids
from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.domain.ports import Clock, LedgerPort

log = structlog.get_logger()

CALL = "person.call"
LAST_TRY = 8
"""Of a call for a person, some 90 s after the first: nobody else has made it, so the incident is of a record that was
lost, and somebody is better than nobody."""

_ADVICE = "Give each engine a FIREBREAK_TASK_QUEUE_PREFIX, or a namespace, of its own."


class NoStrangers(Interceptor):
    """Of one worker. `knows`: whether an incident is in this engine's record, open or closed. `queue`: as people are
    told it."""

    def __init__(
        self, knows: Callable[[str], Awaitable[bool]], *, ledger: LedgerPort, clock: Clock, queue: str
    ) -> None:
        self._knows = knows
        self._ledger = ledger
        self._clock = clock
        self._queue = queue
        self._told = ""  # record of the page that stands

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)

    async def check(self, incident_id: str) -> None:
        """Raises TransientError for an incident of somebody else. A record that cannot be read says nothing: then each
        hand meets that itself, and a call goes out without it."""
        try:
            known = await self._knows(incident_id)
        except FirebreakError:
            return
        if known:
            return
        task = activity.info()
        log.error("worker.stranger", incident=incident_id, activity=task.activity_type, attempt=task.attempt)
        await self._tell(incident_id)
        if task.activity_type != CALL or task.attempt < LAST_TRY:
            raise TransientError(f"{incident_id} is not in the record of the engine that was asked", advice=_ADVICE)

    async def _tell(self, incident_id: str) -> None:
        """Once a day: it goes on until somebody changes the settings."""
        now = self._clock.now()
        record = ids.shared_queue_record(now)
        if record == self._told:
            return
        reason = (
            f"Temporal gave this engine work for {incident_id}, which is not in its record, and which it leaves alone: "
            f"another engine uses the task queue {self._queue} of the same namespace, too, so that both are late "
            f"(or this record was lost, and the incident's workflow is left over in Temporal: terminate it). {_ADVICE} "
            "Change it while no incident is open"
        )
        entry, page = notices.fault(record, "task queue", reason, now)
        try:
            await self._ledger.append([entry], messages=[page])
            self._told = record
        except FirebreakError as error:  # told with the next one
            log.error("worker.stranger_untold", incident=incident_id, error=str(error))


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, strangers: NoStrangers) -> None:
        super().__init__(next)
        self._strangers = strangers

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        given = input.args[0] if input.args else None
        try:
            await self._strangers.check(str(getattr(given, "incident_id", "")))
        except TransientError as error:
            raise application_error(error) from None
        return await super().execute_activity(input)

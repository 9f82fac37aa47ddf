"""What is kept with a call for a person before which no step was near: pods, events, and what changed in the last hour.

Issue item 10: a page says what changed before. The call waits for it for a moment, and goes out without it then.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from activities.casebook import Casebook
from activities.kept_evidence import keep, kept_entry
from activities.shared_lists import SharedLists
from activities.workloads import owner_of
from firebreak.domain.ports import Clock, ClusterPort
from firebreak.domain.timeline import EntryDraft
from firebreak.timeline.canonical import canonical

BUDGET = timedelta(milliseconds=400)
"""The call is a local activity of less than a second, and the person is what matters."""

log = structlog.get_logger()


class CallEvidence:
    """Called with an incident's id. Its entry; None when it has been kept, there is no target, or it cannot be had."""

    def __init__(
        self, *, casebook: Casebook, cluster: ClusterPort, clock: Clock, lists: SharedLists, capture: bool = True
    ) -> None:
        self._casebook = casebook
        self._cluster = cluster
        self._lists = lists
        self._clock = clock
        self._capture = capture

    async def __call__(self, incident_id: str) -> EntryDraft | None:
        try:
            async with asyncio.timeout(1.5 * BUDGET.total_seconds()):
                draft = await self._kept(incident_id)
            if draft is not None:
                canonical(draft.body)  # what cannot be written down must not keep the call from being
        except Exception as error:  # noqa: BLE001 # whatever others' objects hold: a call is worth more than its evidence
            log.warning("evidence.not_kept_for_a_call", incident=incident_id, error=repr(error))
            return None
        return draft

    async def _kept(self, incident_id: str) -> EntryDraft | None:
        if not self._capture or await self._casebook.found(incident_id, "evidence") is not None:
            return None
        pinned = await self._casebook.found(incident_id, "plan")
        if pinned is not None:  # the runbook says what is kept, and it was not: nothing, or not in time
            return None
        incident = await self._casebook.incident(incident_id)
        target = incident.target
        if target is None and incident.pod is not None:
            target = await owner_of(self._cluster, incident.pod, timeout=BUDGET)
        if target is None:
            return None
        kept = await keep(self._cluster, target, budget=BUDGET, clock=self._clock, lists=self._lists)
        return kept_entry(incident_id, kept, self._clock.now(), kept.took.total_seconds() * 1000)

"""Keeping what a restart would destroy, before the first write. It is listed from the moment at which the verdict acts
(ADR 0010)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity

from activities.casebook import Casebook
from activities.failures import translated
from activities.foresight import Foresight
from activities.kept_evidence import keep, kept_entry
from activities.messages import KeepInput
from activities.shared_lists import SharedLists
from activities.turns import in_turn
from firebreak.domain.evidence import KeptEvidence
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock, ClusterPort


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLimits:
    """How long it may take (issue item 6: 2 s; less in a local activity). `capture`: keep anything at all."""

    swift: timedelta = timedelta(milliseconds=800)
    patient: timedelta = timedelta(seconds=2)
    capture: bool = True


class KeepHands:
    """`evidence.keep`."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        cluster: ClusterPort,
        lists: SharedLists,
        clock: Clock,
        limits: KeepLimits,
        foresight: Foresight,
    ) -> None:
        self._casebook = casebook
        self._cluster = cluster
        self._lists = lists
        self._clock = clock
        self._limits = limits
        self._foresight = foresight

    def keeps(self, plan: Plan) -> bool:
        """Whether anything is kept for it."""
        return self._limits.capture and bool(plan.evidence)

    def begin(self, incident_id: str, plan: Plan) -> None:
        """The verdict acts: begin to list what will be kept."""
        if self.keeps(plan):
            read = self._read
            self._foresight.begin(_key(incident_id, plan.digest), lambda: read(plan, self._limits.swift), kind="keep")

    @activity.defn(name="evidence.keep")
    @translated
    @in_turn
    async def keep(self, given: KeepInput) -> None:
        """Once; what could not be had is kept as missing."""
        plan = await self._casebook.plan(given.plan_digest)
        if not self.keeps(plan) or await self._casebook.found(given.incident_id, "evidence") is not None:
            return
        started = time.monotonic()
        begun: KeptEvidence | None = await self._foresight.take(_key(given.incident_id, plan.digest))
        budget = self._limits.swift if activity.info().is_local else self._limits.patient
        kept = begun or await self._read(plan, budget)
        took = max((time.monotonic() - started) * 1000, kept.took.total_seconds() * 1000)
        await self._casebook.ledger.append([kept_entry(given.incident_id, kept, self._clock.now(), took)])

    async def _read(self, plan: Plan, budget: timedelta) -> KeptEvidence:
        return await keep(
            self._cluster,
            plan.target,
            budget=budget,
            clock=self._clock,
            lists=self._lists,
            sections=plan.evidence,
        )


def _key(incident_id: str, plan_digest: str) -> str:
    return f"keep/{incident_id}/{plan_digest}"

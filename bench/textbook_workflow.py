"""The textbook's workflow: one regular activity for each step, default options, default sandbox."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.evidence import EvidenceHands
    from activities.messages import CloseInput, GatherInput, StepInput, VerifyInput, VerifyResult
    from activities.people import PeopleHands
    from activities.steps import StepHands
    from firebreak.domain.incident import IncidentOutcome
    from firebreak.domain.plan import PlanOutline

_LIMIT = timedelta(seconds=10)


@workflow.defn(name="TextbookIncident")
class TextbookWorkflow:
    """gather, act, verify, hold, close: the engine's own hands, called as every tutorial calls activities."""

    @workflow.run
    async def run(self, incident_id: str) -> str:
        seen = await workflow.execute_activity_method(
            EvidenceHands.gather, GatherInput(incident_id=incident_id, round=0), start_to_close_timeout=_LIMIT
        )
        if seen.plan is None:
            return f"no plan: {seen.reason}"
        plan: PlanOutline = seen.plan
        step = StepInput(incident_id=incident_id, plan_digest=plan.digest, tier=0, step=0)
        await workflow.execute_activity_method(StepHands.act, step, start_to_close_timeout=_LIMIT)
        await asyncio.sleep(plan.tiers[0].steps[0].first_look.total_seconds())
        look = 0
        while (again_at := await self._look("step.verify", plan, incident_id, look)) is not None:
            await self._until(again_at)
            look += 1
        await asyncio.sleep(plan.hold.total_seconds())
        look = 0
        while (again_at := await self._look("step.hold", plan, incident_id, look)) is not None:
            await self._until(again_at)
            look += 1
        ending = CloseInput(incident_id=incident_id, outcome=IncidentOutcome.HEALED, reason="textbook")
        await workflow.execute_activity_method(PeopleHands.close, ending, start_to_close_timeout=_LIMIT)
        return "healed"

    async def _look(self, name: str, plan: PlanOutline, incident_id: str, look: int) -> datetime | None:
        given = VerifyInput(incident_id=incident_id, plan_digest=plan.digest, tier=0, step=0, round=look)
        seen: VerifyResult = await workflow.execute_activity(
            name, given, result_type=VerifyResult, start_to_close_timeout=_LIMIT
        )
        return None if seen.record is not None else seen.again_at

    async def _until(self, at: datetime) -> None:
        left = (at - workflow.now()).total_seconds()
        if left > 0:
            await asyncio.sleep(left)

"""Taking a step back that had worked: by evidence of the broken part itself, however long that takes."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import RestoreInput
    from activities.restores import RestoreHands
    from workflows.messages import RestoreEnd, RestoreWatch
    from workflows.options import RECORD, swiftly

SOONEST = timedelta(seconds=1)
"""Least time between two looks: the workers, which say when to look again, may be behind Temporal's clock for longer
than they want to wait."""


@workflow.defn(name="Restore")
class RestoreWorkflow:
    """Outlives its incident. Its time limit pages a person and flips nothing."""

    @workflow.run
    async def run(self, watch: RestoreWatch) -> RestoreEnd:
        given = RestoreInput(
            incident_id=watch.incident_id,
            plan_digest=watch.plan_digest,
            tier=watch.tier,
            step=watch.step,
            opened_at=watch.opened_at,
            since=watch.since,
        )
        while True:
            seen = await swiftly(RestoreHands.check, given, retry=RECORD)
            if seen.ended:
                return RestoreEnd(outcome=seen.outcome)
            given = dataclasses.replace(given, since=seen.since)
            if seen.again_at is not None:
                await workflow.sleep(max(seen.again_at - workflow.now(), SOONEST))
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(dataclasses.replace(watch, since=given.since))

"""The workflow that does nothing: what a start and an end cost."""

from __future__ import annotations

from temporalio import workflow


@workflow.defn(name="Noop")
class NoopWorkflow:
    """Starts and ends."""

    @workflow.run
    async def run(self) -> None:
        return None

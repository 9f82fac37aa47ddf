"""Call a person.

The last tier of every runbook: what the engine cannot heal, a person must look at. It touches no cluster; the page goes
out from the outbox, also while Temporal is away.
"""

from __future__ import annotations

from typing import Any

from activities.actions.base import Action, Stopped
from activities.actions.proposal import ActionParams, Proposal
from firebreak.domain.action import CheckOutcome, CheckResult, Effect, EffectOutcome, Intent, StepContext

_REASON = "a person is called"


class Page(Action):
    name = "page"
    mutates = False
    reversible = False
    irreversible_reason = "a person who was called cannot be un-called; the page resolves when the incident closes"

    class Params(ActionParams):
        """Who is called is the service's matter (services.yaml), not the runbook's."""

    async def propose(self, params: Any, context: StepContext) -> Proposal | CheckResult:
        return CheckResult(outcome=CheckOutcome.READY, reason=_REASON)

    async def apply(self, intent: Intent, *, least: bool = False, stopped: Stopped | None = None) -> Effect:
        """Nothing is written to the cluster: the caller records the effect, and the outbox sends it."""
        return Effect(outcome=EffectOutcome.APPLIED, reason=_REASON, step_key=intent.step_key, target=intent.target)

    async def read_back(self, intent: Intent) -> Effect:
        """The same: whether it was delivered is the outbox's record."""
        return await self.apply(intent)

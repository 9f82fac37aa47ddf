"""What is seen before a step: the runbook's conditions and the action's own check. Reads only.

The first step's are begun ahead, while the verdict is reached and written (ADR 0010).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from activities.actions.base import Action
from activities.actions.proposal import Proposal
from activities.alert_labels import asked_for, said_now
from activities.casebook import Casebook
from activities.foresight import Foresight
from activities.looking import Looking
from activities.messages import StepInput
from firebreak.domain import ids
from firebreak.domain.action import CheckOutcome, CheckResult, StepContext
from firebreak.domain.condition import Condition, ConditionKind, ConditionResult, Truth
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen before a step: conditions that do not hold (a sentence), and the action's check at `stamp`."""

    unmet: str
    check: CheckResult
    stamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposed:
    """What was read ahead of a check; its stamp goes into the intent, as a restart writes it."""

    context: StepContext
    proposal: Proposal | CheckResult


class StepChecks:
    """A `gathering.FirstStep`, and what `step.act` asks before it decides."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        looking: Looking,
        actions: Mapping[str, Action],
        clock: Clock,
        foresight: Foresight,
    ) -> None:
        self._casebook = casebook
        self._looking = looking
        self._actions = actions
        self._clock = clock
        self._foresight = foresight

    def read(self, incident_id: str, plan: Plan) -> None:
        """Begin to read the first step's object."""
        first, step = _first(incident_id, plan), plan.step(0, 0)
        action = self._actions[step.action]

        async def read() -> _Proposed:
            context = self._context(first, plan)
            return _Proposed(context=context, proposal=await action.look_ahead(step.params, context))

        if action.mutates and not step.approval:
            self._foresight.begin(_object_key(first), read, kind="object")

    def check(self, incident_id: str, plan: Plan, judged: tuple[ConditionResult, ...] | None) -> None:
        """Begin the first step's check."""
        first, step = _first(incident_id, plan), plan.step(0, 0)
        if self._actions[step.action].mutates and not step.approval:
            limit = self._looking.limits.query
            self._foresight.begin(_look_key(first), lambda: self._look(first, plan, limit, judged), kind="check")

    def forget(self, incident_id: str, plan: Plan) -> None:
        """Let go of what was read for it."""
        self._foresight.drop(_object_key(_first(incident_id, plan)))

    async def seen(self, given: StepInput, plan: Plan) -> Seen:
        """What was seen ahead, or is seen now. Raises what the ports raise."""
        ahead_of_time: Seen | None = await self._foresight.take(_look_key(given))
        return ahead_of_time or await self._look(given, plan, self._looking.limit())

    async def _look(
        self,
        given: StepInput,
        plan: Plan,
        limit: timedelta,
        judged: tuple[ConditionResult, ...] | None = None,
    ) -> Seen:
        """The runbook's conditions (unless `judged` just now), then the action's own check. Reads only."""
        step = plan.step(given.tier, given.step)
        results = await self._judge(given.incident_id, step.check, limit) if judged is None else judged
        unmet = "; ".join(f"{r.name}: {r.reason}" for r in results if r.truth is not Truth.TRUE)
        now = self._clock.now()
        if unmet:
            nothing = CheckResult(outcome=CheckOutcome.REFUSED, reason=unmet)
            return Seen(unmet=unmet, check=nothing, stamp=now)
        begun: _Proposed | None = await self._foresight.take(_object_key(given))
        context = self._context(given, plan) if begun is None else begun.context
        proposal = None if begun is None else begun.proposal
        check = await self._actions[step.action].check(step.params, context, proposed=proposal)
        return Seen(unmet="", check=check, stamp=context.stamp)

    async def _judge(
        self, incident_id: str, check: tuple[Condition, ...], limit: timedelta
    ) -> tuple[ConditionResult, ...]:
        """What alerts and people say is read from the store only where a condition asks for it."""
        asked = asked_for(check)
        labels = await said_now(self._casebook, incident_id, asked) if asked else None
        scored = any(condition.kind is ConditionKind.SCORE for condition in check)
        score = await self._casebook.person_score(incident_id) if scored else None
        return await self._looking.at_once(check, limit, labels=labels, human_score=score)

    def _context(self, given: StepInput, plan: Plan) -> StepContext:
        return StepContext(
            step_key=ids.step_key(given.incident_id, given.tier, given.step),
            default_target=plan.step(given.tier, given.step).target or plan.target,
            stamp=self._clock.now(),
        )


def _first(incident_id: str, plan: Plan) -> StepInput:
    return StepInput(incident_id=incident_id, plan_digest=plan.digest, tier=0, step=0)


def _object_key(given: StepInput) -> str:
    return f"object/{given.incident_id}/{given.plan_digest}/{given.tier}.{given.step}"


def _look_key(given: StepInput) -> str:
    """Of this very plan: what was seen for another one must never be written under this one."""
    return f"step/{given.incident_id}/{given.plan_digest}/{given.tier}.{given.step}"

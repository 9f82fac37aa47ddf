"""What one look at an incident reads, before anything is decided: one batch at one pinned time, target and plan."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from activities.alert_labels import asked_for, said, speaking
from activities.casebook import Casebook
from activities.looking import not_late
from activities.rulebook import Rulebook, Rules
from activities.workloads import owner_of
from firebreak.domain.condition import AnswerStatus, Condition, ConditionResult, MetricAnswer
from firebreak.domain.errors import ContractError, FirebreakError
from firebreak.domain.incident import Incident
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock, ClusterPort, MetricsPort
from firebreak.domain.target import TargetRef
from firebreak.domain.verdict import Facts
from firebreak.triage.classify import JUDGED_BY
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import batch_of, span_of, step_of
from firebreak.triage.tree import SeverityTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`plan` is made for the case that the verdict may act; None with the reason in `plan_reason`. `step_check`: how
    the conditions of its first step came out in the same batch; None = they were not asked. `firing`: alerts of the
    incident that still fire, read right before `facts.truncated`."""

    rules: Rules
    refusal: str
    tree: SeverityTree
    tree_data: bytes
    facts: Facts
    firing: int
    plan: Plan | None
    plan_data: bytes
    plan_reason: str
    step_check: tuple[ConditionResult, ...] | None


class FirstStep(Protocol):
    """Whoever makes the first step ready while the verdict is still being reached or written. Reads only."""

    def read(self, incident_id: str, plan: Plan) -> None:
        """A plan has been made, for the case that the verdict may act: begin to read the step's object."""

    def check(self, incident_id: str, plan: Plan, judged: tuple[ConditionResult, ...] | None) -> None:
        """The verdict acts: begin the step's check. `judged` = its conditions, where the look has answered them."""

    def forget(self, incident_id: str, plan: Plan) -> None:
        """The verdict does not act."""


class Gathering:
    """Reads what a verdict needs. Raises TransientError when a swift look did not get its answers in time; every other
    fault of the back end is in the answers."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        metrics: MetricsPort,
        cluster: ClusterPort,
        rulebook: Rulebook,
        clock: Clock,
        swift: timedelta,
    ) -> None:
        """`swift`: limits up to this one are of a local activity."""
        self._casebook = casebook
        self._metrics = metrics
        self._cluster = cluster
        self._rulebook = rulebook
        self._clock = clock
        self._swift = swift

    async def look(self, incident: Incident, limit: timedelta, first_step: FirstStep) -> Look:
        """Everything for one verdict. What the plan's first step would ask goes into the same batch."""
        rules = self._rulebook.current()
        tree, tree_data = rules.tree_document(incident)
        refusal, pod = incident.refusal, incident.pod if incident.target is None else None
        plan, data, reason = (None, b"", "") if pod is not None else planned(rules, incident, incident.target)
        check = _first_check(plan, tree)
        asked = asyncio.ensure_future(self._ask(tree, check, limit))
        try:
            if pod is not None:  # its owner is looked for while Prometheus answers
                target, refusal = await self._owner(pod)
                plan, data, reason = planned(rules, incident, target)
            if plan is not None:
                first_step.read(incident.id, plan)
            pinned, answers = await asked
        finally:
            asked.cancel()
        of_tree = answers[: len(batch_of(tree.conditions))]
        if limit <= self._swift:
            not_late(of_tree)
        firing = await self._casebook.incidents.firing_alerts(incident.id)
        facts = await self._facts_from(incident, tree, pinned, of_tree, firing)
        return Look(
            rules=rules,
            refusal=refusal,
            tree=tree,
            tree_data=tree_data,
            facts=facts,
            firing=len(firing),
            plan=plan,
            plan_data=data,
            plan_reason=reason,
            step_check=await self._judged(check, answers, incident, facts, firing),
        )

    async def facts(self, incident: Incident, tree: SeverityTree, limit: timedelta) -> Facts:
        """The evidence alone."""
        pinned, answers = await self._ask(tree, (), limit)
        if limit <= self._swift:
            not_late(answers)
        firing = await self._casebook.incidents.firing_alerts(incident.id)
        return await self._facts_from(incident, tree, pinned, answers, firing)

    async def _ask(
        self, tree: SeverityTree, check: tuple[Condition, ...], limit: timedelta
    ) -> tuple[datetime, tuple[MetricAnswer, ...]]:
        """The pinned time and all answers, the tree's first."""
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        conditions = (*tree.conditions, *check)
        answers = await self._metrics.range_batch(
            batch_of(conditions),
            start=pinned - span_of(conditions),
            end=pinned,
            step=step_of(tree.conditions),
            timeout=limit,
        )
        return pinned, answers

    async def _facts_from(
        self,
        incident: Incident,
        tree: SeverityTree,
        pinned: datetime,
        answers: tuple[MetricAnswer, ...],
        firing: frozenset[str],
    ) -> Facts:
        """`firing` was read before: see `speaking`."""
        truncated = await self._casebook.incidents.truncated(incident.id)
        asked = asked_for(tree.conditions, tree.trusted_labels)
        return Facts(
            pinned_at=pinned,
            step=step_of(tree.conditions),
            labels=await said(self._casebook, incident, asked, speaking(incident, firing, truncated)),
            service=incident.service,
            tree_digest=tree.digest,
            bindings=incident.bindings,
            answers=answers,
            human_score=await self._casebook.person_score(incident.id),
            truncated=truncated,
            judged_by=JUDGED_BY,
        )

    async def _judged(
        self,
        check: tuple[Condition, ...],
        answers: tuple[MetricAnswer, ...],
        incident: Incident,
        facts: Facts,
        firing: frozenset[str],
    ) -> tuple[ConditionResult, ...] | None:
        """By the answers and the person's score that the verdict is reached by, and the labels that the check asks for.
        None where not all was answered: the step asks again."""
        if not check or any(answer.status is AnswerStatus.UNAVAILABLE for answer in answers):
            return None
        labels = None
        if asked := asked_for(check):
            labels = await said(self._casebook, incident, asked, speaking(incident, firing, facts.truncated))
        return tuple(
            evaluate(c, answers, facts.pinned_at, facts.step, labels=labels, human_score=facts.human_score)
            for c in check
        )

    async def _owner(self, pod: TargetRef) -> tuple[TargetRef | None, str]:
        try:
            return await owner_of(self._cluster, pod, timeout=self._swift), ""
        except FirebreakError as error:
            return None, str(error)


def planned(rules: Rules, incident: Incident, target: TargetRef | None) -> tuple[Plan | None, bytes, str]:
    """The plan with its bytes and why this runbook; no plan, and why none."""
    if target is None:
        return None, b"", "there is no target"
    try:
        return rules.plan(incident, target)
    except ContractError as error:  # a document that does not fit this service: no plan, so a person is called
        return None, b"", f"{error} {error.next_step()}"


def _first_check(plan: Plan | None, tree: SeverityTree) -> tuple[Condition, ...]:
    """The conditions of the plan's first step, where the tree's batch can answer them: it asks in the same steps."""
    check = () if plan is None else plan.step(0, 0).check
    return check if check and step_of(check) == step_of(tree.conditions) else ()

"""What one look at an incident reads, before anything is decided: one batch at one pinned time, target and plan."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from activities.casebook import Casebook
from activities.looking import not_late
from activities.rulebook import Rulebook, Rules
from activities.workloads import owner_of
from firebreak.domain.alert import Alert
from firebreak.domain.codec import from_data
from firebreak.domain.condition import AnswerStatus, Condition, ConditionResult, MetricAnswer
from firebreak.domain.errors import ContractError, FirebreakError
from firebreak.domain.incident import Incident
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock, ClusterPort, MetricsPort
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import EntryKind
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


class NothingAhead:
    """A FirstStep that reads nothing before its turn."""

    def read(self, incident_id: str, plan: Plan) -> None:
        """Nothing."""

    def check(self, incident_id: str, plan: Plan, judged: tuple[ConditionResult, ...] | None) -> None:
        """Nothing."""

    def forget(self, incident_id: str, plan: Plan) -> None:
        """Nothing."""


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
        return Look(
            rules=rules,
            refusal=refusal,
            tree=tree,
            tree_data=tree_data,
            facts=await self._facts_from(incident, tree, pinned, of_tree, firing),
            firing=len(firing),
            plan=plan,
            plan_data=data,
            plan_reason=reason,
            step_check=_judged(check, answers, pinned, step_of(tree.conditions)),
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
        """`firing` was read before what was left out, which never falls: a last alert that resolves is not seen without
        what its body left out."""
        truncated = await self._casebook.incidents.truncated(incident.id)
        if truncated > 0:  # nobody knows that none of those that were left out says what the opener said
            firing |= {incident.alert.key}
        return Facts(
            pinned_at=pinned,
            step=step_of(tree.conditions),
            labels=await self._labels(incident, tree, firing),
            service=incident.service,
            tree_digest=tree.digest,
            bindings=incident.bindings,
            answers=answers,
            human_score=await self._casebook.person_score(incident.id),
            truncated=truncated,
            judged_by=JUDGED_BY,
        )

    async def _owner(self, pod: TargetRef) -> tuple[TargetRef | None, str]:
        try:
            return await owner_of(self._cluster, pod, timeout=self._swift), ""
        except FirebreakError as error:
            return None, str(error)

    async def _labels(self, incident: Incident, tree: SeverityTree, firing: frozenset[str]) -> Mapping[str, str]:
        """The opener's labels; but for a label that the tree or the policy asks for, what any alert says that still
        fires: the opener's where it does, and that of those that joined. What has resolved says nothing any more."""
        labels, opener = dict(incident.alert.labels), incident.alert.key
        if firing == {opener}:
            return labels
        asked: dict[str, tuple[str, ...]] = {}
        for label, values in (
            *((c.label, c.label_values) for c in tree.conditions if c.label),
            *((t.label, t.values) for t in tree.trusted_labels),
        ):
            asked[label] = (*asked.get(label, ()), *values)  # one label may be asked for several times
        if opener not in firing:
            labels = {name: value for name, value in labels.items() if name not in asked}
        for entry in await self._casebook.ledger.entries(incident.id) if firing - {opener} else ():
            if entry.kind is EntryKind.ALERT_JOINED and (told := from_data(Alert, entry.body["alert"])).key in firing:
                said = told.labels
                labels |= {name: said[name] for name, values in asked.items() if said.get(name) in values}
        return labels


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


def _judged(
    check: tuple[Condition, ...], answers: tuple[MetricAnswer, ...], pinned: datetime, step: timedelta
) -> tuple[ConditionResult, ...] | None:
    if not check or any(answer.status is AnswerStatus.UNAVAILABLE for answer in answers):
        return None
    return tuple(evaluate(c, answers, pinned, step) for c in check)

"""Looking: all queries at one pinned time, the verdict on them, and what must be kept before anything is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity

from activities import notices
from activities.casebook import Casebook
from activities.failures import translated
from activities.foresight import Foresight
from activities.kept_evidence import keep
from activities.looking import not_late
from activities.messages import GatherInput, GatherResult, KeepInput, RecoveryInput, RecoveryResult
from activities.rulebook import Rulebook, Rules
from activities.workloads import owner_of
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Truth
from firebreak.domain.errors import ContractError, FirebreakError
from firebreak.domain.incident import Incident, IncidentPhase, Mode
from firebreak.domain.message import MessageDraft
from firebreak.domain.plan import Plan, Step
from firebreak.domain.ports import Clock, ClusterPort, MetricsPort
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import Facts, LookAhead, NextLook, Severity, Verdict
from firebreak.plans.pin import outline
from firebreak.triage.classify import classify
from firebreak.triage.disposition import look_ahead
from firebreak.triage.queries import batch_of, span_of, step_of
from firebreak.triage.tree import SeverityTree, tree_bytes

_LONGEST_RECHECK = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLimits:
    """`query`: time limit of one batch. `keep`: of keeping what a restart destroys (issue item 6: 2 s; less, since it
    is a local activity). `page_deadline`: after classification. `capture`: keep evidence at all."""

    query: timedelta = timedelta(milliseconds=800)
    patient_query: timedelta = timedelta(seconds=8)
    keep: timedelta = timedelta(milliseconds=800)
    patient_keep: timedelta = timedelta(seconds=2)
    page_deadline: timedelta = timedelta(seconds=60)
    mode: Mode = Mode.OBSERVE
    capture: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one look at an incident read, before anything is decided: the plan is ready for the case that it may act."""

    rules: Rules
    target: TargetRef | None
    refusal: str
    tree: SeverityTree
    facts: Facts
    plan: Plan | None
    plan_data: bytes
    plan_reason: str


class EvidenceHands:
    """`evidence.gather`, `evidence.keep`, `evidence.watch_recovery`."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        metrics: MetricsPort,
        cluster: ClusterPort,
        rulebook: Rulebook,
        clock: Clock,
        limits: EvidenceLimits,
        foresight: Foresight | None = None,
        plan_made: Callable[[str, Plan], None] = lambda _incident, _plan: None,
    ) -> None:
        """`plan_made` hears of a plan before it is written: the first step may be looked at meanwhile."""
        self._casebook = casebook
        self._foresight = foresight or Foresight()
        self._plan_made = plan_made
        self._metrics = metrics
        self._cluster = cluster
        self._rulebook = rulebook
        self._clock = clock
        self._limits = limits

    @activity.defn(name="evidence.gather")
    @translated
    async def gather(self, given: GatherInput) -> GatherResult:
        """Facts, verdict and (where it may act) the pinned plan, in one transaction; a repeat finds them."""
        verdict_key = f"verdict/{given.round}"
        stored = await self._casebook.found(given.incident_id, verdict_key)
        if stored is not None:
            return from_data(GatherResult, stored.body["result"])
        if await self._casebook.found(given.incident_id, "close") is not None:  # by hand, before it was ever looked at
            return GatherResult(next=NextLook.NOTHING, reason="the incident has been closed")
        started = time.monotonic()
        incident = await self._casebook.incident(given.incident_id)
        ahead_of_time = await self._foresight.take(_first_look(incident.id)) if given.round == 0 else None
        look: _Look = ahead_of_time or await self._look(incident, self._query_limit())
        verdict = classify(look.facts, look.tree)
        ahead = look_ahead(
            verdict,
            alerts_firing=await self._casebook.incidents.firing(given.incident_id),
            opened_at=incident.opened_at,
            quiet_since=given.quiet_since,
            doubtful_since=given.doubtful_since,
            times=look.rules.look_times,
            target_refusal=look.refusal,
            truncated=incident.truncated,
        )
        plan: Plan | None = None
        if ahead.next is NextLook.ACT:
            plan, ahead = self._choice(look, verdict, ahead)
        if plan is not None:
            self._casebook.remember_plan(plan)
            self._plan_made(given.incident_id, plan)
        result = GatherResult(
            next=ahead.next,
            reason=ahead.reason,
            again_at=ahead.again_at,
            quiet_since=ahead.quiet_since,
            doubtful_since=ahead.doubtful_since,
            plan=None if plan is None else outline(plan),
        )
        took = (time.monotonic() - started) * 1000
        drafts = [
            self._entry(given, verdict_key, EntryKind.VERDICT_REACHED, took, verdict=verdict, result=result),
            self._entry(given, f"facts/{given.round}", EntryKind.FACTS_GATHERED, took, facts=look.facts),
        ]
        documents = [tree_bytes(look.tree)]
        if plan is not None:
            drafts.append(self._plan_entry(given.incident_id, plan, ahead.reason))
            documents.append(look.plan_data)
        now = self._clock.now()
        messages: tuple[MessageDraft, ...] = ()
        if verdict.severity is Severity.P1:
            messages = notices.classified(given.incident_id, now, self._limits.page_deadline, self._limits.mode)
        if ahead.next in (NextLook.AGAIN, NextLook.CALL_PERSON):
            due = max(ahead.again_at or now, now)
            messages += (notices.unclassified(given.incident_id, given.round + 1, due, notices.UNCLASSIFIED_AFTER),)
        phase = IncidentPhase.PENDING if ahead.next is NextLook.AGAIN else IncidentPhase.CLASSIFIED
        written = await self._casebook.ledger.append(
            drafts,
            messages=messages,
            cancel=((given.incident_id, notices.unclassified_key(given.round)),),
            documents=documents,
            phase=(given.incident_id, phase),
        )
        return from_data(GatherResult, written[0].entry.body["result"]) if written[0].found else result

    @activity.defn(name="evidence.keep")
    @translated
    async def keep(self, given: KeepInput) -> None:
        """What a restart would destroy, before the first write; what could not be had is kept as missing."""
        if not self._limits.capture or await self._casebook.found(given.incident_id, "evidence") is not None:
            return
        plan = await self._casebook.plan(given.plan_digest)
        if not plan.evidence:
            return
        started = time.monotonic()
        local = activity.info().is_local
        budget = self._limits.keep if local else self._limits.patient_keep
        kept = await keep(self._cluster, plan.target, budget=budget, clock=self._clock, sections=plan.evidence)
        draft = EntryDraft(
            incident_id=given.incident_id,
            key="evidence",
            kind=EntryKind.EVIDENCE_KEPT,
            at=self._clock.now(),
            body=to_data(kept),
            target=plan.target.text,
            duration_ms=(time.monotonic() - started) * 1000,
        )
        await self._casebook.ledger.append([draft])

    @activity.defn(name="evidence.watch_recovery")
    @translated
    async def watch_recovery(self, given: RecoveryInput) -> RecoveryResult:
        """While a person has it: healthy evidence that stays so (or a resolved alert with healthy evidence) ends it."""
        incident = await self._casebook.incident(given.incident_id)
        rules = self._rulebook.current()
        tree = rules.tree(incident)
        verdict = classify(await self._facts(incident, tree, self._query_limit()), tree)
        now = verdict.pinned_at
        wait = min(rules.look_times.recheck * (1 + given.round // 20), _LONGEST_RECHECK)
        stored = await self._casebook.found(given.incident_id, "recovery")
        if stored is not None:
            return RecoveryResult(recovered=True, reason=str(stored.body["reason"]), again_at=now)
        if verdict.truth not in (Truth.FALSE, Truth.NOT_APPLICABLE):
            return RecoveryResult(recovered=False, reason=verdict.reason, again_at=now + wait)
        since = given.quiet_since or now
        firing = await self._casebook.incidents.firing(given.incident_id)
        if now - since < rules.look_times.quiet and (firing > 0 or given.quiet_since is None):
            return RecoveryResult(
                recovered=False, reason="healthy; must stay so", again_at=now + wait, quiet_since=since
            )
        reason = f"the evidence is healthy since {since:%H:%M:%S} UTC; {firing} alerts still fire"
        draft = EntryDraft(
            incident_id=given.incident_id,
            key="recovery",
            kind=EntryKind.RECOVERY_SEEN,
            at=self._clock.now(),
            body={"reason": reason, "conditions": [to_data(c) for c in verdict.conditions]},
        )
        await self._casebook.ledger.append([draft])
        return RecoveryResult(recovered=True, reason=reason, again_at=now, quiet_since=since)

    async def _target(self, incident: Incident) -> tuple[TargetRef | None, str]:
        if incident.target is not None or incident.pod is None:
            return incident.target, incident.refusal
        try:
            return await owner_of(self._cluster, incident.pod, timeout=self._limits.query), ""
        except FirebreakError as error:
            return None, str(error)

    def foresee(self, incident: Incident) -> None:
        """Begin the first look of an incident that is just being opened (the dispatcher calls this)."""
        self._foresight.begin(_first_look(incident.id), lambda: self._look(incident, self._limits.query))

    def _query_limit(self) -> timedelta:
        return self._limits.query if activity.info().is_local else self._limits.patient_query

    async def _look(self, incident: Incident, limit: timedelta) -> _Look:
        """Everything that is read for one verdict; the plan is made ready while Prometheus answers."""
        rules = self._rulebook.current()
        tree = rules.tree(incident)
        asked = asyncio.ensure_future(self._facts(incident, tree, limit))
        try:
            target, refusal = await self._target(incident)
            await asyncio.sleep(0)  # the question goes out before the plan takes the processor
            plan, data, reason = _planned(rules, incident, target)
            facts = await asked
        finally:
            asked.cancel()
        return _Look(
            rules=rules,
            target=target,
            refusal=refusal,
            tree=tree,
            facts=facts,
            plan=plan,
            plan_data=data,
            plan_reason=reason,
        )

    async def _facts(self, incident: Incident, tree: SeverityTree, limit: timedelta) -> Facts:
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        answers = await self._metrics.range_batch(
            batch_of(tree.conditions),
            start=pinned - span_of(tree.conditions),
            end=pinned,
            step=step_of(tree.conditions),
            timeout=limit,
        )
        if limit <= self._limits.query:
            not_late(answers)
        return Facts(
            pinned_at=pinned,
            step=step_of(tree.conditions),
            labels=await self._labels(incident, tree),
            service=incident.service,
            tree_digest=tree.digest,
            bindings=incident.bindings,
            answers=answers,
            human_score=await self._casebook.person_score(incident.id),
            truncated=incident.truncated,
        )

    async def _labels(self, incident: Incident, tree: SeverityTree) -> Mapping[str, str]:
        """The opener's labels, and what any alert that joined says for a label that the tree or the policy asks for."""
        labels = dict(incident.alert.labels)
        if await self._casebook.incidents.firing(incident.id) <= 1:
            return labels
        asked = {c.label: c.label_values for c in tree.conditions if c.label}
        asked |= {t.label: (*asked.get(t.label, ()), *t.values) for t in tree.trusted_labels}
        for entry in await self._casebook.ledger.entries(incident.id):
            if entry.kind is EntryKind.ALERT_JOINED:
                said = entry.body.get("alert", {}).get("labels", {})
                labels |= {name: said[name] for name, values in asked.items() if said.get(name) in values}
        return labels

    @staticmethod
    def _choice(look: _Look, verdict: Verdict, ahead: LookAhead) -> tuple[Plan | None, LookAhead]:
        if look.plan is None:
            return None, LookAhead(
                next=NextLook.CALL_PERSON, reason=f"{verdict.reason}; no runbook: {look.plan_reason}"
            )
        return look.plan, LookAhead(next=NextLook.ACT, reason=f"{ahead.reason}; {look.plan_reason}")

    def _entry(self, given: GatherInput, key: str, kind: EntryKind, took: float, **body: object) -> EntryDraft:
        data = {name: to_data(value) for name, value in body.items()}
        return EntryDraft(
            incident_id=given.incident_id,
            key=key,
            kind=kind,
            at=self._clock.now(),
            body={**data, "round": given.round},
            duration_ms=took,
        )

    def _plan_entry(self, incident_id: str, plan: Plan, reason: str) -> EntryDraft:
        return EntryDraft(
            incident_id=incident_id,
            key="plan",
            kind=EntryKind.PLAN_PINNED,
            at=self._clock.now(),
            target=plan.target.text,
            body={
                "runbook": plan.runbook,
                "source": plan.source,
                "source_digest": plan.source_digest,
                "digest": plan.digest,
                "reason": reason,
                "bindings": dict(plan.bindings),
                "tiers": [{"name": t.name, "steps": [_told(s) for s in t.steps]} for t in plan.tiers],
            },
        )


def _planned(rules: Rules, incident: Incident, target: TargetRef | None) -> tuple[Plan | None, bytes, str]:
    if target is None:
        return None, b"", "there is no target"
    try:
        return rules.plan(incident, target)
    except ContractError as error:  # a document that does not fit this service: no plan, so a person is called
        return None, b"", f"{error} {error.next_step()}"


def _first_look(incident_id: str) -> str:
    return f"look/{incident_id}"


def _told(step: Step) -> Mapping[str, object]:
    """What the plan's entry tells of a step; all of it is in the kept document."""
    return {
        "id": step.id,
        "action": step.action,
        "undo": step.undo.value,
        "check": [{"name": c.name, "title": c.title, "query": c.query} for c in step.check],
    }

"""Looking: all queries at one pinned time, the verdict on them, and what must be kept before anything is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity

from activities import notices
from activities.casebook import Casebook
from activities.failures import translated
from activities.kept_evidence import keep
from activities.messages import GatherInput, GatherResult, KeepInput, RecoveryInput, RecoveryResult
from activities.rulebook import Rulebook, Rules
from activities.workloads import owner_of
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Truth
from firebreak.domain.errors import FirebreakError
from firebreak.domain.incident import Incident, IncidentPhase, Mode
from firebreak.domain.message import MessageDraft
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock, ClusterPort, MetricsPort
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import Facts, LookAhead, NextLook, Severity, Verdict
from firebreak.plans.pin import outline, plan_bytes
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
    ) -> None:
        self._casebook = casebook
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
        started = time.monotonic()
        incident = await self._casebook.incident(given.incident_id)
        rules = self._rulebook.current()
        target, refusal = await self._target(incident)
        tree = rules.tree(incident)
        facts = await self._facts(incident, tree)
        verdict = classify(facts, tree)
        ahead = look_ahead(
            verdict,
            alerts_firing=await self._casebook.incidents.firing(given.incident_id),
            opened_at=incident.opened_at,
            quiet_since=given.quiet_since,
            doubtful_since=given.doubtful_since,
            times=rules.look_times,
            target_refusal=refusal,
        )
        plan: Plan | None = None
        if ahead.next is NextLook.ACT and target is not None:
            plan, ahead = self._plan(incident, rules, verdict, target, ahead)
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
            self._entry(given, f"facts/{given.round}", EntryKind.FACTS_GATHERED, took, facts=facts),
        ]
        documents = [tree_bytes(tree)]
        if plan is not None:
            drafts.append(self._plan_entry(given.incident_id, plan, ahead.reason))
            documents.append(plan_bytes(plan))
            self._casebook.remember_plan(plan)
        now = self._clock.now()
        messages: Sequence[MessageDraft] = ()
        if verdict.severity is Severity.P1:
            messages = notices.classified(given.incident_id, now, self._limits.page_deadline, self._limits.mode)
        phase = IncidentPhase.PENDING if ahead.next is NextLook.AGAIN else IncidentPhase.CLASSIFIED
        written = await self._casebook.ledger.append(
            drafts,
            messages=messages,
            cancel=((given.incident_id, notices.UNCLASSIFIED),),
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
        verdict = classify(await self._facts(incident, tree), tree)
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

    async def _facts(self, incident: Incident, tree: SeverityTree) -> Facts:
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        local = activity.info().is_local
        answers = await self._metrics.range_batch(
            batch_of(tree.conditions),
            start=pinned - span_of(tree.conditions),
            end=pinned,
            step=step_of(tree.conditions),
            timeout=self._limits.query if local else self._limits.patient_query,
        )
        return Facts(
            pinned_at=pinned,
            step=step_of(tree.conditions),
            labels=incident.alert.labels,
            service=incident.service,
            tree_digest=tree.digest,
            bindings=incident.bindings,
            answers=answers,
            human_score=await self._casebook.person_score(incident.id),
            truncated=incident.truncated,
        )

    def _plan(
        self, incident: Incident, rules: Rules, verdict: Verdict, target: TargetRef, ahead: LookAhead
    ) -> tuple[Plan | None, LookAhead]:
        chosen, reason = rules.plan(incident, target)
        if chosen is None:
            return None, LookAhead(next=NextLook.CALL_PERSON, reason=f"{verdict.reason}; no runbook: {reason}")
        return chosen, LookAhead(next=NextLook.ACT, reason=f"{ahead.reason}; {reason}")

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
                "tiers": [
                    {"name": t.name, "steps": [{"id": s.id, "action": s.action} for s in t.steps]} for t in plan.tiers
                ],
            },
        )

"""Looking: all queries at one pinned time, and the verdict on them.

The first look at an incident is made when it is opened, before Temporal starts the workflow (ADR 0010), and is given to
it; a workflow without it finds the verdict in the record, as any repeat does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from temporalio import activity

from activities import notices
from activities.casebook import Casebook
from activities.failures import translated
from activities.foresight import Foresight
from activities.gathering import FirstStep, Gathering, Look
from activities.keeping import KeepHands
from activities.messages import GatherInput, GatherResult
from activities.stops import HANDS_OFF, hands_off
from activities.turns import in_turn
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.incident import Incident, IncidentPhase, Mode
from firebreak.domain.message import MessageDraft
from firebreak.domain.plan import Plan, PlanOutline, Step
from firebreak.domain.ports import Clock
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.domain.verdict import LookAhead, NextLook, Severity, Verdict
from firebreak.plans.pin import outline
from firebreak.triage.classify import classify, could_decide_at, is_known_well, without_waiting
from firebreak.triage.disposition import look_ahead

QUICK_LOOK = timedelta(milliseconds=50)
"""So long Temporal's start waits for the first look, which takes some 10 ms; beside it, both would take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLimits:
    """`query`: time limit of one batch. `page_deadline`: after classification."""

    query: timedelta = timedelta(milliseconds=800)
    patient_query: timedelta = timedelta(seconds=8)
    page_deadline: timedelta = timedelta(seconds=60)
    mode: Mode = Mode.OBSERVE

    def of_query(self) -> timedelta:
        """How long a batch may take in the activity that asks."""
        return self.query if activity.info().is_local else self.patient_query


class EvidenceHands:
    """`evidence.gather`."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        gathering: Gathering,
        keeping: KeepHands,
        clock: Clock,
        limits: EvidenceLimits,
        foresight: Foresight,
        first_step: FirstStep,
    ) -> None:
        self._casebook = casebook
        self._foresight = foresight
        self._first_step = first_step
        self._keeping = keeping
        self._clock = clock
        self._limits = limits
        self._gathering = gathering

    @activity.defn(name="evidence.gather")
    @translated
    @in_turn
    async def gather(self, given: GatherInput) -> GatherResult:
        """Facts, verdict and (where it may act) the pinned plan, in one transaction; a repeat finds them."""
        begun: GatherResult | None = None
        if given.round == 0:
            begun = await self._foresight.take(_first_look(given.incident_id))
        return begun or await self._gather(given, self._limits.of_query())

    async def foresee(self, incident: Incident) -> GatherResult | None:
        """The first look at an incident that has just been opened, when it is quick; else it goes on, and the story
        finds it (the dispatcher calls this)."""
        first = GatherInput(incident_id=incident.id, round=0)
        self._foresight.begin(_first_look(incident.id), lambda: self._gather(first, self._limits.query))
        return await self._foresight.soon(_first_look(incident.id), QUICK_LOOK)

    async def _gather(self, given: GatherInput, limit: timedelta) -> GatherResult:
        verdict_key = f"verdict/{given.round}"
        stored = await self._casebook.found(given.incident_id, verdict_key, *HANDS_OFF)
        if stored is not None and stored.key == verdict_key:
            return from_data(GatherResult, stored.body["result"])
        if stored is not None:  # whoever has it has it: the call finds that, too
            return GatherResult(next=NextLook.CALL_PERSON, reason=hands_off(stored))
        started = time.monotonic()
        read_up_to = await self._casebook.ledger.newest()
        incident = await self._casebook.incident(given.incident_id)
        look = await self._gathering.look(incident, limit, self._first_step)
        verdict = classify(look.facts, look.tree)
        ahead = look_ahead(
            verdict,
            alerts_firing=look.firing,
            opened_at=incident.opened_at,
            quiet_since=given.quiet_since,
            doubtful_since=given.doubtful_since,
            times=look.rules.look_times,
            target_refusal=look.refusal,
            truncated=look.facts.truncated,
            looks=given.round,
            known_well=is_known_well(verdict, look.tree),
            elsewhere=incident.elsewhere,
            unwaited=without_waiting(verdict, look.tree),
            sooner=could_decide_at(verdict, look.tree, look.rules.look_times.recheck),
        )
        plan: Plan | None = None
        if ahead.next is NextLook.ACT:
            plan, ahead = self._choice(look, verdict, ahead)
        if plan is not None:
            self._casebook.remember_plan(plan)
            self._first_step.check(given.incident_id, plan, look.step_check)
            self._keeping.begin(given.incident_id, plan)
        elif look.plan is not None:
            self._first_step.forget(given.incident_id, look.plan)
        result = GatherResult(
            next=ahead.next,
            reason=ahead.reason,
            again_at=ahead.again_at,
            quiet_since=ahead.quiet_since,
            doubtful_since=ahead.doubtful_since,
            plan=None if plan is None else self._outline(plan),
            seen_at=verdict.pinned_at,
        )
        took = (time.monotonic() - started) * 1000
        drafts = [
            self._entry(
                given,
                verdict_key,
                EntryKind.VERDICT_REACHED,
                took,
                verdict=verdict,
                result=result,
                read_up_to=read_up_to,
            ),
            self._entry(given, f"facts/{given.round}", EntryKind.FACTS_GATHERED, took, facts=look.facts),
        ]
        documents = [look.tree_data]
        if plan is not None:
            drafts.append(self._plan_entry(given.incident_id, plan, ahead.reason))
            documents.append(look.plan_data)
        now = self._clock.now()
        messages: tuple[MessageDraft, ...] = ()
        if verdict.severity is Severity.P1:
            messages = notices.classified(given.incident_id, now, self._limits.page_deadline, self._limits.mode)
        if ahead.next in (NextLook.AGAIN, NextLook.CALL_PERSON):
            due = max(ahead.again_at or now, now)
            late = notices.UNCLASSIFIED_AFTER
            messages += (notices.unclassified(given.incident_id, given.round + 1, due, late, self._limits.mode),)
        phase = IncidentPhase.PENDING if ahead.next is NextLook.AGAIN else IncidentPhase.CLASSIFIED
        written = await self._casebook.ledger.append(
            drafts,
            messages=messages,
            cancel=((given.incident_id, notices.unclassified_key(given.round)),),
            documents=documents,
            phase=(given.incident_id, phase),
        )
        self._casebook.forget_tree(given.incident_id)
        return from_data(GatherResult, written[0].entry.body["result"]) if written[0].found else result

    def _outline(self, plan: Plan) -> PlanOutline:
        return replace(outline(plan), keeps_evidence=self._keeping.keeps(plan))

    @staticmethod
    def _choice(look: Look, verdict: Verdict, ahead: LookAhead) -> tuple[Plan | None, LookAhead]:
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


def _first_look(incident_id: str) -> str:
    return f"look/{incident_id}"


def _told(step: Step) -> Mapping[str, object]:
    """What the plan's entry tells of a step; all of it is in the kept document."""
    return {
        "id": step.id,
        "action": step.action,
        "undo": step.undo.value,
        "approval": step.approval,
        "check": [{"name": c.name, "title": c.title, "query": c.query} for c in step.check],
    }

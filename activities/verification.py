"""Whether a step worked: healthy and carrying traffic, for its hold time, counted from the effect; and stays so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from temporalio import activity

from activities import notices
from activities.actions.base import Action
from activities.casebook import Casebook
from activities.failures import translated
from activities.looking import Looking
from activities.messages import StepInput, VerifyInput, VerifyResult
from activities.step_records import WROTE, StepEntries, handed_over, record_of, step_entry
from activities.stops import HANDS_OFF
from activities.turns import in_turn
from firebreak.domain import ids
from firebreak.domain.action import Effect, EffectOutcome, Progress, ProgressState
from firebreak.domain.age import counted_from
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Condition, ConditionResult, Truth
from firebreak.domain.errors import PermanentError, TransientError
from firebreak.domain.incident import IncidentPhase
from firebreak.domain.message import NoticeKind
from firebreak.domain.plan import Plan, Step, StepRecord, StepStatus, Verify
from firebreak.domain.ports import Clock, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.triage.queries import hold_span


class VerifyHands:
    """`step.verify`, `step.hold`."""

    def __init__(self, *, casebook: Casebook, looking: Looking, actions: Mapping[str, Action], clock: Clock) -> None:
        self._casebook = casebook
        self._looking = looking
        self._actions = actions
        self._clock = clock
        self._entries = StepEntries(clock)

    @activity.defn(name="step.verify")
    @translated
    @in_turn
    async def verify(self, given: VerifyInput) -> VerifyResult:
        """Healthy and carrying traffic, for the hold time, counted from the effect; or the time limit has passed. Only
        what was measured as still broken is "not verified" (row B1: then the next tier may act): what cannot be seen is
        undecided, which pages (issue item 7), and so is what somebody else has changed since. Where the clock was set
        back, by however much, the time limit counts once more at most; no evidence counts of a time that has been
        before."""
        at = StepInput(incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step)
        done = await self._casebook.found(given.incident_id, step_entry("verify", at), *HANDS_OFF)
        if done is not None:
            return VerifyResult(record=_found(at, done))
        plan = await self._casebook.plan(given.plan_digest)
        step = plan.step(given.tier, given.step)
        entry = await self._casebook.found(given.incident_id, step_entry("effect", at))
        if entry is None or step.verify is None:
            raise PermanentError(f"step {step.id} has no effect to verify")
        effect = from_data(Effect, entry.body["effect"])
        rule = step.verify
        now = self._clock.now()
        since = counted_from(entry.at, given.since, now)
        deadline = since + rule.within
        # Side by side: both must be over within one attempt, however slow the world is.
        progress, results = await asyncio.gather(
            self._progress(step, effect), self._judge(rule, entry.at + rule.settle)
        )
        if progress.state is ProgressState.CHANGED:  # neither a healing nor a failure is this step's any more
            return await self._decide(at, plan, StepStatus.UNDECIDED, progress.reason, results, progress, effect)
        unmet = [r for r in results if r.truth is not Truth.TRUE]
        broken = any(r.truth is Truth.FALSE for r in unmet)
        stuck = progress.state is ProgressState.FAILED
        if not unmet and progress.state is ProgressState.DONE:
            why = "healthy and carrying traffic"
            return await self._decide(at, plan, StepStatus.VERIFIED, why, results, progress, effect)
        unready = [] if progress.state is ProgressState.DONE else [progress.reason]
        why = "; ".join([*unready, *_unmet_words(unmet)])
        again_at = _again_at(rule, results, progress, now)
        if now >= deadline and not broken and all(r.truth is Truth.PENDING for r in unmet) and not unready:
            # Healthy at last: it is given the time to stay so, once, however often it wavers.
            deadline += hold_span(_held(rule))
        if now >= deadline or (stuck and (broken or not unmet)):
            status = StepStatus.NOT_VERIFIED if broken else StepStatus.UNDECIDED
            reason = why if now < deadline else f"not within {rule.within.total_seconds():g} s: {why}"
            return await self._decide(at, plan, status, reason, results, progress, effect)
        return VerifyResult(record=None, again_at=min(again_at, deadline), reason=why, since=since)

    async def _progress(self, step: Step, effect: Effect) -> Progress:
        if effect.outcome not in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED):
            return Progress(state=ProgressState.DONE, reason=effect.reason)
        try:
            return await self._actions[step.action].progress(effect)
        except TransientError as error:
            return Progress(state=ProgressState.UNKNOWN, reason=f"cannot be read now: {error}")

    async def _judge(self, rule: Verify, not_before: datetime) -> tuple[ConditionResult, ...]:
        return await self._looking.at_once(_held(rule), self._looking.limit(), not_before=not_before)

    async def _decide(
        self,
        at: StepInput,
        plan: Plan,
        status: StepStatus,
        reason: str,
        results: tuple[ConditionResult, ...],
        progress: Progress,
        effect: Effect,
    ) -> VerifyResult:
        step = plan.step(at.tier, at.step)
        now = self._clock.now()
        healed = status is StepStatus.VERIFIED
        draft = self._entries.draft(
            at,
            plan,
            "verify",
            EntryKind.VERIFICATION,
            outcome=status.value,
            reason=reason,
            wrote=effect.outcome in WROTE,
            conditions=[to_data(r) for r in results],
            progress=to_data(progress),
        )
        last = healed and at.step == len(plan.tiers[at.tier].steps) - 1
        restores: tuple[RestoreRecord, ...] = ()
        if healed and step.restore is not None and effect.outcome in WROTE:
            restores = (
                RestoreRecord(
                    incident_id=at.incident_id,
                    tier=at.tier,
                    step=at.step,
                    plan_digest=at.plan_digest,
                    opened_at=now,
                    restore=step.restore,
                ),
            )
        messages = () if healed else (self._entries.tell(at, NoticeKind.STEP_FAILED, "not-verified"),)
        written = await self._casebook.ledger.append(
            [draft, *(self._restore_entry(at, plan) for _ in restores)],
            messages=notices.healed(at.incident_id, ids.move_key("healed", at.tier, at.step), now)
            if last
            else messages,
            cancel=((at.incident_id, notices.DEADLINE),) if last else (),
            restores=restores,
            phase=(at.incident_id, IncidentPhase.HOLDING if last else IncidentPhase.VERIFYING),
        )
        return VerifyResult(record=record_of(at, written[0].entry))

    def _restore_entry(self, at: StepInput, plan: Plan) -> EntryDraft:
        return self._entries.draft(
            at, plan, "restore-opened", EntryKind.RESTORE_OPENED, reason="taken back by evidence later"
        )

    @activity.defn(name="step.hold")
    @translated
    @in_turn
    async def hold(self, given: VerifyInput) -> VerifyResult:
        """After a verification: healthy all the way through the plan's hold time, or a relapse. Not knowing for three
        times that long is undecided: doubt is neither health nor a relapse. That time counts once more at most where
        the clock was set back, by however much, and a relapse is looked for all the while."""
        at = StepInput(incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step)
        done = await self._casebook.found(given.incident_id, step_entry("hold", at), *HANDS_OFF)
        if done is not None:
            return VerifyResult(record=_found(at, done))
        read_up_to = await self._casebook.ledger.newest()
        plan = await self._casebook.plan(given.plan_digest)
        verified = await self._casebook.found(given.incident_id, step_entry("verify", at))
        if verified is None:
            raise PermanentError("nothing has been verified yet, so nothing can hold")
        held = tuple(replace(c, held_for=max(c.held_for, plan.hold)) for c in plan.recovery)
        results = await self._looking.at_once(held, self._looking.limit(), not_before=verified.at)
        now = self._clock.now()
        since = counted_from(verified.at, given.since, now)
        seen: dict[str, Any] = {
            "conditions": [to_data(r) for r in results],
            "wrote": bool(verified.body["wrote"]),  # what the effect did not write no relapse takes back
            "read_up_to": read_up_to,
        }
        unmet = [r for r in results if r.truth is not Truth.TRUE]
        if not unmet:
            reason = f"stayed healthy for {plan.hold.total_seconds():g} s"
            return await self._held(at, plan, StepStatus.VERIFIED, reason, seen)
        why = "; ".join(_unmet_words(unmet))
        if any(r.truth is Truth.FALSE for r in unmet):
            return await self._held(at, plan, StepStatus.NOT_VERIFIED, f"relapsed: {why}", seen)
        if now >= since + 3 * plan.hold:
            return await self._held(
                at, plan, StepStatus.UNDECIDED, f"whether it stays healed is not known: {why}", seen
            )
        soon = now + plan.hold / 4
        wait = max([r.holds_at for r in unmet if r.holds_at is not None], default=soon)
        return VerifyResult(record=None, again_at=soon if verified.at > now else wait, reason=why, since=since)

    async def _held(
        self, at: StepInput, plan: Plan, status: StepStatus, reason: str, seen: Mapping[str, Any]
    ) -> VerifyResult:
        draft = self._entries.draft(at, plan, "hold", EntryKind.HOLD_ENDED, outcome=status.value, reason=reason, **seen)
        now = self._clock.now()
        key = step_entry("relapse", at)
        # The step is named: after a relapse the engine goes on from there, and the page says so.
        call = notices.person_needed(at.incident_id, key, reason, now, tier=at.tier, step=at.step)
        written = await self._casebook.ledger.append([draft], messages=() if status is StepStatus.VERIFIED else call)
        return VerifyResult(record=record_of(at, written[0].entry))


def _found(at: StepInput, done: TimelineEntry) -> StepRecord:
    """What was decided; or that it is a person's to decide."""
    return handed_over(at, done, StepStatus.UNDECIDED, wrote=True) if done.key in HANDS_OFF else record_of(at, done)


def _unmet_words(unmet: Sequence[ConditionResult]) -> list[str]:
    """Each with its name: it is a page's title, and `0.8 ratio, not < 0.02` alone says nothing."""
    return [f"{result.name}: {result.reason}" for result in unmet]


def _held(rule: Verify) -> tuple[Condition, ...]:
    """Its conditions, each with the hold time that is asked of all."""
    return tuple(replace(c, held_for=max(c.held_for, rule.hold)) for c in rule.conditions)


def _again_at(rule: Verify, results: tuple[ConditionResult, ...], progress: Progress, now: datetime) -> datetime:
    """Earliest time at which all could hold; the poll interval where something is not true at all yet."""
    if progress.state is ProgressState.DONE and all(r.truth in (Truth.TRUE, Truth.PENDING) for r in results):
        return max([r.holds_at for r in results if r.holds_at is not None], default=now + rule.poll)
    return now + rule.poll

"""Doing one step of the plan: check, intent, act, read back, verify, undo. Nothing here is done twice.

Order of one write: intent on disk -> PATCH with the step's key -> effect on disk. An attempt that finds an intent
without an effect reads the world before it does anything (issue item 9, practice B6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity

from activities import notices
from activities.actions.base import Action
from activities.casebook import Casebook, step_body
from activities.failures import translated
from activities.foresight import Foresight
from activities.messages import StepInput, VerifyInput, VerifyResult
from firebreak.domain import ids
from firebreak.domain.action import (
    CheckOutcome,
    CheckResult,
    Effect,
    EffectOutcome,
    Intent,
    Progress,
    ProgressState,
    StepContext,
)
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Condition, ConditionResult, Truth
from firebreak.domain.errors import PermanentError, TransientError
from firebreak.domain.incident import IncidentPhase, Mode
from firebreak.domain.message import MessageDraft, NoticeKind
from firebreak.domain.plan import Plan, Step, StepRecord, StepStatus, Verify
from firebreak.domain.ports import Clock, MetricsPort, RestoreRecord
from firebreak.domain.target import BoundTarget, TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import batch_of, span_of, step_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """Time limits of one batch of queries; `metric_step` is the resolution of range queries."""

    query: timedelta = timedelta(milliseconds=700)
    patient_query: timedelta = timedelta(seconds=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was seen before a step: conditions that do not hold (a sentence), and the action's check at `stamp`."""

    unmet: str
    check: CheckResult
    stamp: datetime


class StepHands:
    """`step.act`, `step.verify`, `step.hold`, `step.undo`."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        metrics: MetricsPort,
        actions: Mapping[str, Action],
        clock: Clock,
        mode: Mode,
        limits: StepLimits,
        foresight: Foresight | None = None,
    ) -> None:
        self._casebook = casebook
        self._foresight = foresight or Foresight()
        self._metrics = metrics
        self._actions = actions
        self._clock = clock
        self._mode = mode
        self._limits = limits

    # --- act ---------------------------------------------------------------------------------------------------

    @activity.defn(name="step.act")
    @translated
    async def act(self, given: StepInput) -> StepRecord:
        """Refused, applied, would apply, or failed; the record is made from what is stored, also on a repeat."""
        plan = await self._casebook.plan(given.plan_digest)
        done = await self._casebook.found(
            given.incident_id, _key("effect", given), _key("refused", given), _key("would", given)
        )
        if done is not None:
            return _record(given, done)
        stored = await self._casebook.found(given.incident_id, _key("intent", given))
        if stored is not None:
            return await self._after_crash(given, plan, from_data(Intent, stored.body["intent"]))
        return await self._first_time(given, plan)

    async def _first_time(self, given: StepInput, plan: Plan) -> StepRecord:
        step = plan.step(given.tier, given.step)
        if await self._casebook.found(given.incident_id, "close") is not None:
            return await self._refuse(given, plan, "the incident has been closed: nothing is written for it any more")
        if step.approval:
            return await self._refuse(
                given, plan, f"waits for approval by {step.approval}; approvals are not taken yet"
            )
        target = step.target or plan.target
        taken, seen = await asyncio.gather(self._lock(given, target), self._seen(given, plan))
        if taken:
            return await self._refuse(given, plan, taken)
        if seen.unmet:
            return await self._refuse(given, plan, f"its check does not hold: {seen.unmet}")
        check, action = seen.check, self._actions[step.action]
        if check.outcome is CheckOutcome.REFUSED or check.target is None:
            return await self._refuse(given, plan, check.reason)
        if self._mode is Mode.OBSERVE and action.mutates:
            return await self._would_apply(given, plan, check)
        taken = await self._lock(given, check.target.ref) if check.target.ref != target else ""
        if taken:
            return await self._refuse(given, plan, taken)
        intent = Intent(
            step_key=ids.step_key(given.incident_id, given.tier, given.step),
            action=step.action,
            params=step.params,
            target=check.target,
            changes=check.changes,
            stamp=seen.stamp,
        )
        drafts = [
            self._draft(given, plan, "intent", EntryKind.INTENT_RECORDED, check.target, intent=to_data(intent)),
            self._draft(given, plan, "check", EntryKind.STEP_CHECKED, check.target, check=to_data(check)),
        ]
        written = await self._casebook.ledger.append(drafts, phase=(given.incident_id, IncidentPhase.ACTING))
        if written[0].found:  # another attempt was quicker: its intent binds
            return await self._after_crash(given, plan, from_data(Intent, written[0].entry.body["intent"]))
        if check.outcome is CheckOutcome.ALREADY_SO:
            as_is = Effect(
                outcome=EffectOutcome.NOT_APPLIED,
                reason=f"nothing to write: {check.reason}",
                step_key=intent.step_key,
                target=intent.target,
            )
            return await self._record_effect(given, plan, as_is)
        return await self._apply(given, plan, intent)

    def foresee(self, incident_id: str, plan: Plan) -> None:
        """Begin the look at a plan's first step (called when the plan is made, before it is written)."""
        first = StepInput(incident_id=incident_id, plan_digest=plan.digest, tier=0, step=0)
        if self._actions[plan.step(0, 0).action].mutates:
            self._foresight.begin(_look_key(first), lambda: self._look(first, plan, self._limits.query))

    async def _seen(self, given: StepInput, plan: Plan) -> _Seen:
        ahead_of_time: _Seen | None = await self._foresight.take(_look_key(given))
        return ahead_of_time or await self._look(given, plan, self._query_limit())

    async def _look(self, given: StepInput, plan: Plan, limit: timedelta) -> _Seen:
        """The runbook's conditions, then the action's own check. Reads only."""
        step = plan.step(given.tier, given.step)
        results = await self._evaluate(step.check, limit)
        unmet = "; ".join(f"{r.name}: {r.reason}" for r in results if r.truth is not Truth.TRUE)
        now = self._clock.now()
        if unmet:
            nothing = CheckResult(outcome=CheckOutcome.REFUSED, reason=unmet)
            return _Seen(unmet=unmet, check=nothing, stamp=now)
        context = StepContext(
            step_key=ids.step_key(given.incident_id, given.tier, given.step),
            default_target=step.target or plan.target,
            stamp=now,
        )
        check = await self._actions[step.action].check(step.params, context)
        return _Seen(unmet="", check=check, stamp=now)

    def _query_limit(self) -> timedelta:
        return self._limits.query if activity.info().is_local else self._limits.patient_query

    async def _lock(self, given: StepInput, target: TargetRef) -> str:
        """One actor per target, be it the workload or the very object that is written: who else has it, as a reason."""
        holder = await self._casebook.ledger.lock_target(target, given.incident_id)
        return (
            "" if holder == given.incident_id else f"{target.text} is being handled by {holder}: one actor per target"
        )

    async def _apply(self, given: StepInput, plan: Plan, intent: Intent) -> StepRecord:
        started = time.monotonic()
        try:
            effect = await self._actions[intent.action].apply(intent)
        except TransientError as error:
            if activity.info().is_local:
                raise  # the outcome is unknown: the patient attempt reads the world first
            return await self._read_back(given, plan, intent, str(error))
        except PermanentError as error:
            effect = _refused(intent, f"{error} {error.next_step()}")
        return await self._record_effect(given, plan, effect, took=(time.monotonic() - started) * 1000)

    async def _after_crash(self, given: StepInput, plan: Plan, intent: Intent) -> StepRecord:
        """An intent without an effect: read the world, and write only what is not there."""
        try:
            effect = await self._actions[intent.action].read_back(intent)
        except TransientError as error:
            if activity.info().is_local or activity.info().attempt < _LAST_ATTEMPT:
                raise
            effect = _unknown(intent, f"an earlier attempt's outcome cannot be read back: {error}")
        except PermanentError as error:  # the target is gone, or another one: nobody can tell any more
            effect = _unknown(intent, f"{error} {error.next_step()}")
        if effect.outcome is EffectOutcome.NOT_APPLIED and intent.changes:
            if self._mode is Mode.OBSERVE:  # switched after the intent: what was not written then is not written now
                effect = replace(effect, outcome=EffectOutcome.WOULD_APPLY, reason="mode observe: not written any more")
                return await self._record_effect(given, plan, effect)
            return await self._apply(given, plan, intent)
        return await self._record_effect(given, plan, effect)

    async def _read_back(self, given: StepInput, plan: Plan, intent: Intent, doubt: str) -> StepRecord:
        """After an unknown outcome in the patient attempt. What cannot be read stays unknown, and a person is paged
        once the last attempt has failed."""
        try:
            effect = await self._actions[intent.action].read_back(intent)
        except TransientError as error:
            if activity.info().attempt < _LAST_ATTEMPT:
                raise
            effect = _unknown(intent, f"{doubt}; reading back failed, too: {error}")
        if effect.outcome is EffectOutcome.NOT_APPLIED:
            raise TransientError(f"the write did not happen ({doubt}); it is tried again")
        return await self._record_effect(given, plan, effect)

    async def _record_effect(
        self, given: StepInput, plan: Plan, effect: Effect, took: float | None = None
    ) -> StepRecord:
        draft = self._draft(
            given, plan, "effect", EntryKind.EFFECT_RECORDED, effect.target, took=took, effect=to_data(effect)
        )
        messages: tuple[MessageDraft, ...] = ()
        if effect.outcome is not EffectOutcome.NOT_APPLIED:
            messages = (self._tell(given, NoticeKind.STEP_APPLIED, "applied"),)
        written = await self._casebook.ledger.append([draft], messages=messages)
        return _record(given, written[0].entry)

    async def _refuse(self, given: StepInput, plan: Plan, reason: str) -> StepRecord:
        draft = self._draft(given, plan, "refused", EntryKind.STEP_REFUSED, reason=reason)
        written = await self._casebook.ledger.append(
            [draft], messages=(self._tell(given, NoticeKind.STEP_FAILED, "refused"),)
        )
        return _record(given, written[0].entry)

    async def _would_apply(self, given: StepInput, plan: Plan, check: CheckResult) -> StepRecord:
        draft = self._draft(given, plan, "would", EntryKind.STEP_WOULD_APPLY, check=to_data(check))
        written = await self._casebook.ledger.append(
            [draft], messages=(self._tell(given, NoticeKind.WOULD_APPLY, "would"),)
        )
        return _record(given, written[0].entry)

    # --- verify ------------------------------------------------------------------------------------------------

    @activity.defn(name="step.verify")
    @translated
    async def verify(self, given: VerifyInput) -> VerifyResult:
        """Healthy and carrying traffic, for the hold time, counted from the effect; or the time limit has passed."""
        at = StepInput(incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step)
        done = await self._casebook.found(given.incident_id, _key("verify", at))
        if done is not None:
            return VerifyResult(record=_record(at, done))
        plan = await self._casebook.plan(given.plan_digest)
        step = plan.step(given.tier, given.step)
        entry = await self._casebook.found(given.incident_id, _key("effect", at))
        if entry is None or step.verify is None:
            raise PermanentError(f"step {step.id} has no effect to verify")
        effect = from_data(Effect, entry.body["effect"])
        rule = step.verify
        now = self._clock.now()
        deadline = entry.at + rule.within
        progress = await self._progress(step, effect)
        results = await self._judge(rule, entry.at + rule.settle)
        unmet = [r for r in results if r.truth is not Truth.TRUE]
        if progress.state is ProgressState.FAILED:
            return await self._decide(at, plan, StepStatus.NOT_VERIFIED, progress.reason, results, progress, effect)
        if not unmet and progress.state is ProgressState.DONE:
            why = "healthy and carrying traffic"
            return await self._decide(at, plan, StepStatus.VERIFIED, why, results, progress, effect)
        why = "; ".join([r.reason for r in unmet] or [progress.reason])
        if now >= deadline:
            reason = f"not verified within {rule.within.total_seconds():g} s: {why}"
            return await self._decide(at, plan, StepStatus.NOT_VERIFIED, reason, results, progress, effect)
        return VerifyResult(record=None, again_at=min(_again_at(rule, results, progress, now), deadline), reason=why)

    async def _progress(self, step: Step, effect: Effect) -> Progress:
        if effect.outcome not in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED):
            return Progress(state=ProgressState.DONE, reason=effect.reason)
        try:
            return await self._actions[step.action].progress(effect)
        except TransientError as error:
            return Progress(state=ProgressState.RUNNING, reason=f"cannot be read now: {error}")

    async def _judge(self, rule: Verify, not_before: Any) -> tuple[ConditionResult, ...]:
        held = tuple(replace(c, held_for=max(c.held_for, rule.hold)) for c in rule.conditions)
        return await self._evaluate(held, self._query_limit(), not_before)

    async def _evaluate(
        self, conditions: tuple[Condition, ...], limit: timedelta, not_before: Any = None
    ) -> tuple[ConditionResult, ...]:
        if not conditions:
            return ()
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        step = step_of(conditions)
        answers = await self._metrics.range_batch(
            batch_of(conditions),
            start=pinned - span_of(conditions),
            end=pinned,
            step=step,
            timeout=limit,
        )
        return tuple(evaluate(c, answers, pinned, step, not_before=not_before) for c in conditions)

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
        draft = self._draft(
            at,
            plan,
            "verify",
            EntryKind.VERIFICATION,
            outcome=status.value,
            reason=reason,
            wrote=effect.outcome in _WROTE,
            conditions=[to_data(r) for r in results],
            progress=to_data(progress),
        )
        last = healed and at.step == len(plan.tiers[at.tier].steps) - 1
        restores: tuple[RestoreRecord, ...] = ()
        if healed and step.restore is not None and effect.outcome in _WROTE:
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
        messages = () if healed else (self._tell(at, NoticeKind.STEP_FAILED, "not-verified"),)
        written = await self._casebook.ledger.append(
            [draft, *(self._restore_entry(at, plan) for _ in restores)],
            messages=notices.healed(at.incident_id, now) if last else messages,
            cancel=((at.incident_id, notices.DEADLINE),) if last else (),
            restores=restores,
            phase=(at.incident_id, IncidentPhase.HOLDING if last else IncidentPhase.VERIFYING),
        )
        return VerifyResult(record=_record(at, written[0].entry))

    def _restore_entry(self, at: StepInput, plan: Plan) -> EntryDraft:
        return self._draft(at, plan, "restore-opened", EntryKind.RESTORE_OPENED, reason="taken back by evidence later")

    @activity.defn(name="step.hold")
    @translated
    async def hold(self, given: VerifyInput) -> VerifyResult:
        """After a verification: healthy all the way through the plan's hold time, or a relapse. Not knowing for three
        times that long is a relapse, too: doubt is not health."""
        at = StepInput(incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step)
        done = await self._casebook.found(given.incident_id, _key("hold", at))
        if done is not None:
            return VerifyResult(record=_record(at, done))
        plan = await self._casebook.plan(given.plan_digest)
        verified = await self._casebook.found(given.incident_id, _key("verify", at))
        if verified is None:
            raise PermanentError("nothing has been verified yet, so nothing can hold")
        held = tuple(replace(c, held_for=max(c.held_for, plan.hold)) for c in plan.recovery)
        results = await self._evaluate(held, self._query_limit(), verified.at)
        now = self._clock.now()
        unmet = [r for r in results if r.truth is not Truth.TRUE]
        if not unmet:
            reason = f"stayed healthy for {plan.hold.total_seconds():g} s"
            return await self._held(at, plan, StepStatus.VERIFIED, reason, results)
        why = "; ".join(r.reason for r in unmet)
        broken = any(r.truth in (Truth.FALSE, Truth.NOT_APPLICABLE) for r in unmet)
        if broken or now >= verified.at + 3 * plan.hold:
            return await self._held(at, plan, StepStatus.NOT_VERIFIED, f"relapsed: {why}", results)
        wait = max([r.holds_at for r in unmet if r.holds_at is not None], default=now + plan.hold / 4)
        return VerifyResult(record=None, again_at=wait, reason=why)

    async def _held(
        self, at: StepInput, plan: Plan, status: StepStatus, reason: str, results: tuple[ConditionResult, ...]
    ) -> VerifyResult:
        conditions = [to_data(r) for r in results]
        draft = self._draft(
            at,
            plan,
            "hold",
            EntryKind.HOLD_ENDED,
            outcome=status.value,
            reason=reason,
            wrote=True,
            conditions=conditions,
        )
        now = self._clock.now()
        relapse = notices.person_needed(at.incident_id, _key("relapse", at), reason, now)
        written = await self._casebook.ledger.append([draft], messages=() if status is StepStatus.VERIFIED else relapse)
        return VerifyResult(record=_record(at, written[0].entry))

    # --- undo --------------------------------------------------------------------------------------------------

    @activity.defn(name="step.undo")
    @translated
    async def undo(self, given: StepInput) -> StepRecord:
        """The inverse of what the effect changed, through the same order: intent, write, effect."""
        plan = await self._casebook.plan(given.plan_digest)
        done = await self._casebook.found(given.incident_id, _key("undo", given))
        if done is not None:
            await self._end_restore(given, plan)
            return _record(given, done)
        effect = await undo_step(self._casebook, self._actions, self._clock, self._mode, given, plan)
        draft = self._draft(given, plan, "undo", EntryKind.UNDO_RECORDED, effect.target, effect=to_data(effect))
        written = await self._casebook.ledger.append([draft])
        await self._end_restore(given, plan)
        return _record(given, written[0].entry)

    async def _end_restore(self, given: StepInput, plan: Plan) -> None:
        """A step that relapsed and was undone is not to be taken back a second time."""
        opened = await self._casebook.found(given.incident_id, _key("restore-opened", given))
        rule = plan.step(given.tier, given.step).restore
        if opened is None or rule is None:
            return
        record = RestoreRecord(
            incident_id=given.incident_id,
            tier=given.tier,
            step=given.step,
            plan_digest=given.plan_digest,
            opened_at=opened.at,
            restore=rule,
        )
        why = "taken back already, since the incident relapsed"
        entry = self._draft(given, plan, "restore-ended", EntryKind.RESTORE_ENDED, outcome="undone", reason=why)
        await self._casebook.ledger.end_restore(record, outcome="undone", entry=entry, messages=())

    # --- entries -----------------------------------------------------------------------------------------------

    def _draft(
        self,
        given: StepInput,
        plan: Plan,
        key: str,
        kind: EntryKind,
        bound: BoundTarget | None = None,
        took: float | None = None,
        **more: Any,
    ) -> EntryDraft:
        """`bound`: the object that the step reads and writes; without it the entry is about the plan's target."""
        step = plan.step(given.tier, given.step)
        return EntryDraft(
            incident_id=given.incident_id,
            key=_key(key, given),
            kind=kind,
            at=self._clock.now(),
            body=step_body(plan, given.tier, given.step, **more),
            target=(step.target or plan.target).text if bound is None else bound.ref.text,
            uid="" if bound is None else bound.uid,
            duration_ms=took,
        )

    def _tell(self, given: StepInput, notice: NoticeKind, what: str) -> MessageDraft:
        return notices.chat(
            given.incident_id, notice, _key(what, given), self._clock.now(), tier=given.tier, step=given.step
        )


async def undo_step(
    casebook: Casebook, actions: Mapping[str, Action], clock: Clock, mode: Mode, given: StepInput, plan: Plan
) -> Effect:
    """Effect of taking back a step; used by a tier that did not verify and by a restore. The caller records it."""
    entry = await casebook.found(given.incident_id, _key("effect", given))
    written = await casebook.found(given.incident_id, _key("intent", given))
    if entry is None or written is None:
        raise PermanentError("there is no recorded effect to take back")
    effect = from_data(Effect, entry.body["effect"])
    step = plan.step(given.tier, given.step)
    action = actions[step.action]
    key = ids.step_key(given.incident_id, given.tier, given.step, undo=True)
    if mode is Mode.OBSERVE:
        return replace(effect, outcome=EffectOutcome.WOULD_APPLY, reason="mode observe: not taken back", step_key=key)
    stored = await casebook.found(given.incident_id, _key("undo-intent", given))
    try:
        if stored is not None:
            intent = from_data(Intent, stored.body["intent"])
            seen = await action.read_back(intent)
            return seen if seen.outcome is not EffectOutcome.NOT_APPLIED else await action.apply(intent)
        now = clock.now()
        check = await action.prepare_undo(from_data(Intent, written.body["intent"]), effect, step_key=key, stamp=now)
        if check.outcome is not CheckOutcome.READY or check.target is None:
            outcome = EffectOutcome.REFUSED if check.outcome is CheckOutcome.REFUSED else EffectOutcome.ALREADY_APPLIED
            return Effect(outcome=outcome, reason=check.reason, step_key=key, target=effect.target)
        intent = Intent(
            step_key=key,
            action=step.action,
            params=step.params,
            target=check.target,
            changes=check.changes,
            stamp=now,
            undo=True,
        )
        await casebook.ledger.append(
            [
                EntryDraft(
                    incident_id=given.incident_id,
                    key=_key("undo-intent", given),
                    kind=EntryKind.INTENT_RECORDED,
                    at=now,
                    body=step_body(plan, given.tier, given.step, intent=to_data(intent)),
                    target=check.target.ref.text,
                    uid=check.target.uid,
                )
            ]
        )
        return await action.apply(intent)
    except PermanentError as error:
        return Effect(
            outcome=EffectOutcome.REFUSED, reason=f"{error} {error.next_step()}", step_key=key, target=effect.target
        )


_LAST_ATTEMPT = 8  # of workflows.options.PATIENT


def _look_key(given: StepInput) -> str:
    """Of this very plan: what was seen for another one must never be written under this one."""
    return f"step/{given.incident_id}/{given.plan_digest}/{given.tier}.{given.step}"


def _key(kind: str, given: StepInput) -> str:
    return ids.move_key(kind, given.tier, given.step)


def _refused(intent: Intent, reason: str) -> Effect:
    return Effect(outcome=EffectOutcome.REFUSED, reason=reason, step_key=intent.step_key, target=intent.target)


def _unknown(intent: Intent, reason: str) -> Effect:
    return Effect(outcome=EffectOutcome.UNKNOWN, reason=reason, step_key=intent.step_key, target=intent.target)


def _again_at(rule: Verify, results: tuple[ConditionResult, ...], progress: Progress, now: Any) -> Any:
    """Earliest time at which all could hold; the poll interval where something is not true at all yet."""
    if progress.state is ProgressState.DONE and all(r.truth in (Truth.TRUE, Truth.PENDING) for r in results):
        return max([r.holds_at for r in results if r.holds_at is not None], default=now + rule.poll)
    return now + rule.poll


_STATUS = {
    EffectOutcome.APPLIED: StepStatus.APPLIED,
    EffectOutcome.ALREADY_APPLIED: StepStatus.APPLIED,
    EffectOutcome.NOT_APPLIED: StepStatus.APPLIED,  # the world was already so: nothing written, verified all the same
    EffectOutcome.REFUSED: StepStatus.REFUSED,
    EffectOutcome.UNKNOWN: StepStatus.FAILED,
    EffectOutcome.WOULD_APPLY: StepStatus.WOULD_APPLY,
}
_WROTE = {EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED, EffectOutcome.UNKNOWN}


def _record(given: StepInput, entry: TimelineEntry) -> StepRecord:
    """The step's record as the stored entry tells it: the only way from the store to a decision."""
    body = entry.body
    wrote = False
    if entry.kind is EntryKind.STEP_REFUSED:
        status, reason = StepStatus.REFUSED, str(body["reason"])
    elif entry.kind is EntryKind.STEP_WOULD_APPLY:
        status, reason = StepStatus.WOULD_APPLY, str(body["check"]["reason"])
    elif entry.kind in (EntryKind.VERIFICATION, EntryKind.HOLD_ENDED):
        status, reason, wrote = StepStatus(body["outcome"]), str(body["reason"]), bool(body["wrote"])
    else:
        effect = from_data(Effect, body["effect"])
        status, reason, wrote = _STATUS[effect.outcome], effect.reason, effect.outcome in _WROTE
        if entry.kind is EntryKind.UNDO_RECORDED:
            undone = effect.outcome in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED)
            status = StepStatus.UNDONE if undone else StepStatus.UNDO_FAILED
    return StepRecord(tier=given.tier, step=given.step, status=status, reason=reason, wrote=wrote)

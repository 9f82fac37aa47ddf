"""Looking whether a step that worked may be taken back, and doing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from temporalio import activity

from activities import notices
from activities.actions.base import Action
from activities.casebook import Casebook, step_body
from activities.failures import translated
from activities.messages import RestoreInput, RestoreResult, StepInput
from activities.steps import undo_step
from firebreak.domain import ids
from firebreak.domain.action import EffectOutcome
from firebreak.domain.codec import to_data
from firebreak.domain.condition import Truth
from firebreak.domain.errors import PermanentError
from firebreak.domain.incident import Mode
from firebreak.domain.message import MessageDraft, NoticeKind
from firebreak.domain.ports import Clock, MetricsPort, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import batch_of, span_of, step_of


class RestoreHands:
    """`restore.check`."""

    def __init__(
        self, *, casebook: Casebook, metrics: MetricsPort, actions: Mapping[str, Action], clock: Clock, mode: Mode
    ) -> None:
        self._casebook = casebook
        self._metrics = metrics
        self._actions = actions
        self._clock = clock
        self._mode = mode

    @activity.defn(name="restore.check")
    @translated
    async def check(self, given: RestoreInput) -> RestoreResult:
        """Taken back when the broken part itself has been healthy for the hold time; overdue: a page, and no flip."""
        key = ids.move_key("restore-ended", given.tier, given.step)
        stored = await self._casebook.found(given.incident_id, key)
        if stored is not None:
            return RestoreResult(ended=True, outcome=str(stored.body["outcome"]))
        plan = await self._casebook.plan(given.plan_digest)
        rule = plan.step(given.tier, given.step).restore
        if rule is None:
            raise PermanentError("the plan has no restore rule for this step")
        now = self._clock.now()
        pinned = now.replace(microsecond=now.microsecond // 1000 * 1000)
        held = tuple(replace(c, held_for=max(c.held_for, rule.hold)) for c in rule.conditions)
        step = step_of(held)
        answers = await self._metrics.range_batch(
            batch_of(held),
            start=pinned - span_of(held),
            end=pinned,
            step=step,
            timeout=timedelta(milliseconds=700) if activity.info().is_local else timedelta(seconds=8),
        )
        results = [evaluate(c, answers, pinned, step, not_before=given.opened_at) for c in held]
        record = RestoreRecord(
            incident_id=given.incident_id,
            tier=given.tier,
            step=given.step,
            plan_digest=given.plan_digest,
            opened_at=given.opened_at,
            restore=rule,
        )
        why = "; ".join(f"{r.name}: {r.reason}" for r in results)
        if all(r.truth is Truth.TRUE for r in results):
            at = StepInput(
                incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step
            )
            effect = await undo_step(self._casebook, self._actions, self._clock, self._mode, at, plan)
            good = effect.outcome in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED, EffectOutcome.WOULD_APPLY)
            outcome = "restored" if good else "refused"
            body = step_body(
                plan, given.tier, given.step, outcome=outcome, reason=f"{why}; {effect.reason}", effect=to_data(effect)
            )
            return await self._end(record, key, outcome, body, page=not good)
        if now - given.opened_at >= rule.within:
            reason = f"the broken part is not healthy after {rule.within}: {why}. Nothing was flipped."
            body = step_body(plan, given.tier, given.step, outcome="overdue", reason=reason)
            return await self._end(record, key, "overdue", body, page=True)
        return RestoreResult(ended=False, outcome="", again_at=min(now + rule.poll, given.opened_at + rule.within))

    async def _end(
        self, record: RestoreRecord, key: str, outcome: str, body: Mapping[str, object], *, page: bool
    ) -> RestoreResult:
        now = self._clock.now()
        entry = EntryDraft(
            incident_id=record.incident_id,
            key=key,
            kind=EntryKind.RESTORE_ENDED,
            at=now,
            body=json.loads(json.dumps(body)),
        )
        again = notices.postmortem(record.incident_id, f"postmortem/{key}", now)
        messages: tuple[MessageDraft, ...] = (
            notices.person_needed(record.incident_id, key, str(body["reason"]), now)
            if page
            else (notices.chat(record.incident_id, NoticeKind.RESTORED, key, now),)
        )
        await self._casebook.ledger.end_restore(record, outcome=outcome, entry=entry, messages=(*messages, again))
        return RestoreResult(ended=True, outcome=outcome)

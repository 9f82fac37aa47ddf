"""Doing one step of the plan: check, intent, act, read back, undo. Nothing here is done twice.

Order of one write: intent on disk -> PATCH with the step's key -> effect on disk. An attempt that finds an intent
without an effect reads the world before it does anything (issue item 9, practice B6).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from temporalio import activity

from activities.actions.base import Action
from activities.casebook import Casebook
from activities.failures import translated
from activities.messages import StepInput
from activities.step_checks import StepChecks
from activities.step_records import StepEntries, handed_over, record_of, step_entry
from activities.stops import HANDS_OFF, hands_off, let_go, too_old
from activities.turns import in_turn
from activities.undoing import TakingBack, undo_step
from firebreak.domain import ids
from firebreak.domain.action import (
    CheckOutcome,
    CheckResult,
    Effect,
    EffectOutcome,
    Intent,
)
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.errors import NotAnyMore, NotYet, PermanentError, TargetHeld, TransientError
from firebreak.domain.incident import IncidentPhase, Mode
from firebreak.domain.message import MessageDraft, NoticeKind
from firebreak.domain.plan import Plan, StepRecord, StepStatus
from firebreak.domain.ports import Clock
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import EntryKind, TimelineEntry


class StepHands:
    """`step.act`, `step.undo`."""

    def __init__(
        self,
        *,
        casebook: Casebook,
        checks: StepChecks,
        actions: Mapping[str, Action],
        clock: Clock,
        mode: Mode,
    ) -> None:
        self._casebook = casebook
        self._checks = checks
        self._actions = actions
        self._clock = clock
        self._mode = mode
        self._entries = StepEntries(clock)

    # --- act ---------------------------------------------------------------------------------------------------

    @activity.defn(name="step.act")
    @translated
    @in_turn
    async def act(self, given: StepInput) -> StepRecord:
        """Refused, applied, would apply, or failed; the record is made from what is stored, also on a repeat."""
        plan = await self._casebook.plan(given.plan_digest)
        kinds = ("effect", "refused", "would", "intent")
        keys = tuple(step_entry(kind, given) for kind in kinds)
        stored = await self._casebook.found(given.incident_id, *keys, *HANDS_OFF)
        return await (self._first_time(given, plan) if stored is None else self._as_stored(given, plan, stored))

    async def _as_stored(self, given: StepInput, plan: Plan, stored: TimelineEntry) -> StepRecord:
        """What another attempt has made of it, or what ended the incident for us."""
        if stored.key in HANDS_OFF:
            return handed_over(given, stored, StepStatus.REFUSED)
        if stored.kind is EntryKind.INTENT_RECORDED:
            return await self._after_crash(given, plan, from_data(Intent, stored.body["intent"]))
        return record_of(given, stored)

    async def _first_time(self, given: StepInput, plan: Plan) -> StepRecord:
        step = plan.step(given.tier, given.step)
        if why := too_old(given, self._clock.now()):
            return await self._refuse(given, plan, why)
        if step.approval:
            return await self._refuse(
                given, plan, f"waits for approval by {step.approval}; approvals are not taken yet"
            )
        seen = await self._checks.seen(given, plan)
        if seen.unmet:
            return await self._refuse(given, plan, f"its check does not hold: {seen.unmet}")
        check, action = seen.check, self._actions[step.action]
        if check.outcome is CheckOutcome.REFUSED or check.target is None:
            return await self._refuse(given, plan, check.reason)
        # One actor per target, be it the workload or the very object that is written.
        holding = (step.target or plan.target, check.target.ref, *check.beside)
        if self._mode is Mode.OBSERVE and action.mutates:
            return await self._would_apply(given, plan, check, holding)
        if why := too_old(given, self._clock.now()):  # a patient check takes its time
            return await self._refuse(given, plan, why)
        intent = Intent(
            step_key=ids.step_key(given.incident_id, given.tier, given.step),
            action=step.action,
            params=step.params,
            target=check.target,
            changes=check.changes,
            stamp=seen.stamp,
        )
        drafts = [
            self._entries.draft(given, plan, "intent", EntryKind.INTENT_RECORDED, check.target, intent=to_data(intent)),
            self._entries.draft(given, plan, "check", EntryKind.STEP_CHECKED, check.target, check=to_data(check)),
        ]
        try:
            written = await self._casebook.ledger.append(
                drafts,
                phase=(given.incident_id, IncidentPhase.ACTING),
                holding=holding,
                unless=(step_entry("refused", given), step_entry("would", given), *HANDS_OFF),
            )
        except TargetHeld as held:
            return await self._refuse(given, plan, str(held))
        if written[0].found:  # another attempt was quicker, or a person: since it was asked for above
            return await self._as_stored(given, plan, written[0].entry)
        if check.outcome is CheckOutcome.ALREADY_SO:
            as_is = intent.came_to(EffectOutcome.NOT_APPLIED, f"nothing to write: {check.reason}")
            return await self._record_effect(given, plan, as_is)
        return await self._apply(given, plan, intent)

    async def _apply(self, given: StepInput, plan: Plan, intent: Intent, *, again: bool = False) -> StepRecord:
        """`again`: an earlier attempt may have sent it."""
        started = time.monotonic()
        try:
            effect = await self._actions[intent.action].apply(intent, stopped=lambda: self._stopped(given, intent))
        except TransientError as error:
            if activity.info().is_local:
                raise  # the outcome is unknown: the patient attempt reads the world first
            return await self._read_back(given, plan, intent, str(error))
        except PermanentError as error:
            effect = intent.came_to(EffectOutcome.REFUSED, f"{error} {error.next_step()}")
            if again and isinstance(error, NotYet | NotAnyMore):  # the object is as it was, so what was sent may land
                effect = let_go(intent, effect.reason, self._clock.now())
        return await self._record_effect(given, plan, effect, took=(time.monotonic() - started) * 1000)

    async def _stopped(self, given: StepInput, intent: Intent) -> str:
        """Why an intent is not carried out any more, now; empty = it is."""
        ended = await self._casebook.found(given.incident_id, *HANDS_OFF)
        return hands_off(ended) if ended else too_old(given, self._clock.now(), intent)

    async def _after_crash(self, given: StepInput, plan: Plan, intent: Intent) -> StepRecord:
        """An intent without an effect: read the world, and write only what is not there."""
        try:
            effect = await self._actions[intent.action].read_back(intent)
        except TransientError as error:
            if _comes_again():
                raise
            doubt = f"an earlier attempt's outcome cannot be read back: {error}"
            effect = intent.came_to(EffectOutcome.UNKNOWN, doubt)
        except PermanentError as error:  # the target is gone, or another one: nobody can tell any more
            effect = intent.came_to(EffectOutcome.UNKNOWN, f"{error} {error.next_step()}")
        if effect.outcome is EffectOutcome.NOT_APPLIED and intent.changes:
            if self._mode is Mode.OBSERVE:  # switched after the intent: what was not written then is not written now
                why = "mode observe: not written any more"
                effect = let_go(intent, why, self._clock.now(), otherwise=EffectOutcome.WOULD_APPLY)
            elif why := await self._stopped(given, intent):
                effect = let_go(intent, why, self._clock.now())
            else:
                return await self._apply(given, plan, intent, again=True)
        return await self._record_effect(given, plan, effect)

    async def _read_back(self, given: StepInput, plan: Plan, intent: Intent, doubt: str) -> StepRecord:
        """After an unknown outcome in the patient attempt. What cannot be read after the last one, or is not there and
        may still land, stays unknown, and a person is paged."""
        try:
            effect = await self._actions[intent.action].read_back(intent)
        except TransientError as error:
            if _comes_again():
                raise
            effect = intent.came_to(EffectOutcome.UNKNOWN, f"{doubt}; reading back failed, too: {error}")
        except PermanentError as error:  # gone, another one, or not to be read: nobody can tell any more
            doubt = f"{doubt}; reading back failed, too: {error} {error.next_step()}"
            effect = intent.came_to(EffectOutcome.UNKNOWN, doubt)
        if effect.outcome is EffectOutcome.NOT_APPLIED:
            if _comes_again():
                raise TransientError(f"the write did not happen ({doubt}); it is tried again")
            effect = let_go(intent, f"it is not there, and is not tried any more: {doubt}", self._clock.now())
        return await self._record_effect(given, plan, effect)

    async def _record_effect(
        self, given: StepInput, plan: Plan, effect: Effect, took: float | None = None
    ) -> StepRecord:
        draft = self._entries.draft(
            given, plan, "effect", EntryKind.EFFECT_RECORDED, effect.target, took=took, effect=to_data(effect)
        )
        messages: tuple[MessageDraft, ...] = ()
        if effect.outcome is not EffectOutcome.NOT_APPLIED:
            messages = (self._entries.tell(given, NoticeKind.STEP_APPLIED, "applied"),)
        written = await self._casebook.ledger.append([draft], messages=messages)
        return record_of(given, written[0].entry)

    async def _refuse(self, given: StepInput, plan: Plan, reason: str) -> StepRecord:
        """Unless another attempt has its intent: then that binds, and what it may have written is looked for."""
        draft = self._entries.draft(given, plan, "refused", EntryKind.STEP_REFUSED, reason=reason)
        written = await self._casebook.ledger.append(
            [draft],
            messages=(self._entries.tell(given, NoticeKind.STEP_FAILED, "refused"),),
            unless=(step_entry("intent", given), step_entry("would", given)),
        )
        return await self._as_stored(given, plan, written[0].entry)

    async def _would_apply(
        self, given: StepInput, plan: Plan, check: CheckResult, holding: tuple[TargetRef, ...]
    ) -> StepRecord:
        draft = self._entries.draft(given, plan, "would", EntryKind.STEP_WOULD_APPLY, check=to_data(check))
        try:
            written = await self._casebook.ledger.append(
                [draft],
                messages=(self._entries.tell(given, NoticeKind.WOULD_APPLY, "would"),),
                holding=holding,
                unless=(step_entry("intent", given), step_entry("refused", given), *HANDS_OFF),
            )
        except TargetHeld as held:
            return await self._refuse(given, plan, str(held))
        return await self._as_stored(given, plan, written[0].entry)

    # --- undo --------------------------------------------------------------------------------------------------

    @activity.defn(name="step.undo")
    @translated
    @in_turn
    async def undo(self, given: StepInput) -> StepRecord:
        """The inverse of what the effect changed, through the same order: intent, write, effect."""
        plan = await self._casebook.plan(given.plan_digest)
        key = step_entry("undo", given)
        done = await self._casebook.found(given.incident_id, key)
        if done is None:
            back = await self._take_back(given, plan)
            data = to_data(back.effect)
            draft = self._entries.draft(given, plan, "undo", EntryKind.UNDO_RECORDED, back.effect.target, effect=data)
            told = self._entries.tell(given, NoticeKind.STEP_UNDONE, "undone")
            (written,) = await self._casebook.ledger.append([draft], messages=(told,), unless=back.unless(given))
            done = written.entry
            if done.key != key:  # its intent: the next attempt finds that, and what became of it
                raise TransientError("another attempt has begun to take the step back")
        record = record_of(given, done)
        if record.status is StepStatus.UNDONE:
            await self._end_restore(given, plan)
        return record

    async def _take_back(self, given: StepInput, plan: Plan) -> TakingBack:
        """What was begun, and does not get to its end in the last attempt either, is of an unknown outcome."""
        try:
            return await undo_step(self._casebook, self._actions, self._clock, self._mode, given, plan, of_tier=True)
        except TransientError as error:
            key = step_entry("undo-intent", given)
            begun = None if _comes_again() else await self._casebook.found(given.incident_id, key)
            if begun is None:
                raise
            intent = from_data(Intent, begun.body["intent"])
            return TakingBack(effect=intent.came_to(EffectOutcome.UNKNOWN, str(error)), begun=True)

    async def _end_restore(self, given: StepInput, plan: Plan) -> None:
        """A step that relapsed and was undone is not to be taken back a second time."""
        opened = await self._casebook.found(given.incident_id, step_entry("restore-opened", given))
        if opened is None:
            return
        why = "taken back already, since the incident relapsed"
        entry = self._entries.draft(given, plan, "restore-ended", EntryKind.RESTORE_ENDED, outcome="undone", reason=why)
        place = given.tier, given.step
        await self._casebook.ledger.end_restore(place, outcome="undone", entry=entry, messages=())


_LAST_ATTEMPT = 8  # of workflows.options.PATIENT


def _comes_again() -> bool:
    """Whether another attempt follows one that fails."""
    return activity.info().is_local or activity.info().attempt < _LAST_ATTEMPT

"""Looking whether a step that worked may be taken back, and doing it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from temporalio import activity

from activities import notices
from activities.actions.base import Action
from activities.casebook import Casebook, step_body
from activities.failures import translated
from activities.looking import Looking
from activities.messages import RestoreInput, RestoreResult, StepInput
from activities.restore_ends import FLIPPED, NOT_FLIPPED, lock_name, write_end
from activities.turns import in_turn
from activities.undoing import TakingBack, undo_step
from firebreak.documents.durations import spoken
from firebreak.domain import ids
from firebreak.domain.action import Effect, EffectOutcome, HeldBackEffect, Intent
from firebreak.domain.age import counted_from
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Truth
from firebreak.domain.errors import PermanentError, TransientError
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.message import NoticeKind, PagerAction
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.postmortem.people import open_reasons

OWN_INCIDENT = "its own incident is still open"


class RestoreHands:
    """`restore.check`."""

    def __init__(
        self, *, casebook: Casebook, looking: Looking, actions: Mapping[str, Action], clock: Clock, mode: Mode
    ) -> None:
        self._casebook = casebook
        self._looking = looking
        self._actions = actions
        self._clock = clock
        self._mode = mode

    @activity.defn(name="restore.check")
    @translated
    @in_turn
    async def check(self, given: RestoreInput) -> RestoreResult:
        """Taken back when the broken part itself has been healthy for the hold time; overdue: a page, and no flip.
        Where the clock was set back, by however much, the time limit counts once more at most; no evidence counts of a
        time that has been before."""
        key = ids.move_key("restore-ended", given.tier, given.step)
        stored = await self._casebook.found(given.incident_id, key)
        if stored is not None:
            await self._casebook.ledger.release_targets(lock_name(given))
            return RestoreResult(ended=True, outcome=str(stored.body["outcome"]))
        plan = await self._casebook.plan(given.plan_digest)
        rule = plan.step(given.tier, given.step).restore
        if rule is None:
            raise PermanentError("the plan has no restore rule for this step")
        now = self._clock.now()
        held = tuple(replace(c, held_for=max(c.held_for, rule.hold)) for c in rule.conditions)
        # Side by side: both must be over within one attempt, however slow the world is.
        results, found = await asyncio.gather(
            self._looking.at_once(held, self._looking.limit(), not_before=given.opened_at), self._found_back(given)
        )
        why = "; ".join(f"{r.name}: {r.reason}" for r in results)
        since = counted_from(given.opened_at, given.since, now)
        overdue = now - since >= rule.within
        again = RestoreResult(ended=False, outcome="", again_at=now + rule.poll, since=since)
        if found is not None:  # whatever would hold it back by now
            back = TakingBack(effect=found, begun=True)
            return await self._taken_back(given, plan, f"{why}; an earlier try had taken it back", back) or again
        held_back = ""
        if all(r.truth is Truth.TRUE for r in results):
            held_back = await self._held_back(given, plan)
            if not held_back:
                try:
                    back = await self._take_back(given, plan)
                except TransientError as error:
                    if not overdue:
                        raise
                    held_back = str(error)
                else:
                    if not isinstance(back.effect, HeldBackEffect):
                        return await self._taken_back(given, plan, why, back) or again
                    held_back = back.effect.reason.removesuffix(".")
            why = f"{why}; yet it cannot be taken back: {held_back}"
        await self._casebook.ledger.release_targets(lock_name(given))  # others may heal it until the next look
        if held_back not in ("", OWN_INCIDENT):
            await self._say_held_back(given, plan, held_back)
        if not overdue:
            return again
        begun = await self._begun(given) is not None
        late = f"{'not known to be' if begun else 'not'} taken back within {spoken(rule.within)}: {why}"
        reason = f"{late}. {FLIPPED if begun else NOT_FLIPPED}"
        body = step_body(plan, given.tier, given.step, outcome="overdue", reason=reason, begun=begun)
        return await self._end(given, body, begun=begun, page=True) or again

    async def _say_held_back(self, given: RestoreInput, plan: Plan, why: str) -> None:
        """Once: who wonders why it is still in force finds it in the record, and not only at the time limit."""
        key = ids.move_key("restore-held-back", given.tier, given.step)
        if await self._casebook.found(given.incident_id, key) is not None:
            return
        entry = EntryDraft(
            incident_id=given.incident_id,
            key=key,
            kind=EntryKind.RESTORE_HELD_BACK,
            at=self._clock.now(),
            body=step_body(plan, given.tier, given.step, reason=why),
        )
        await self._casebook.ledger.append([entry], unless=(ids.move_key("restore-ended", given.tier, given.step),))

    async def _begun(self, given: RestoreInput) -> Intent | None:
        """What an earlier look has recorded that it would write."""
        entry = await self._casebook.found(given.incident_id, ids.move_key("undo-intent", given.tier, given.step))
        return None if entry is None else from_data(Intent, entry.body["intent"])

    async def _found_back(self, given: RestoreInput) -> Effect | None:
        """The effect of a write whose answer was lost; None when there was none, or when nobody can tell now: the next
        look asks again, and at the time limit a person is told so."""
        intent = await self._begun(given)
        if intent is None:
            return None
        try:
            effect = await self._actions[intent.action].read_back(intent)
        except (TransientError, PermanentError):
            return None
        return None if effect.outcome is EffectOutcome.NOT_APPLIED else effect

    async def _held_back(self, given: RestoreInput, plan: Plan) -> str:
        """Why it may not be written now: mode observe, another incident of the service is open (what a reroute would
        change is its evidence, and it may be in a person's hands), or another actor has one of the targets. Empty =
        go on."""
        if self._mode is Mode.OBSERVE:
            return "mode observe writes nothing"
        for other in await self._casebook.incidents.open_incidents():
            if other.id == given.incident_id:
                continue
            if not isinstance(other, Incident):
                return f"incident {other.id} is open, and of which service cannot be read"
            if other.service == plan.service and not other.elsewhere:
                return f"incident {other.id} of {plan.service} is open"
        step = plan.step(given.tier, given.step)
        effect = await self._casebook.found(given.incident_id, ids.move_key("effect", given.tier, given.step))
        targets = {step.target or plan.target}
        if effect is not None:
            targets.add(from_data(Effect, effect.body["effect"]).target.ref)
        for target in sorted(targets, key=lambda t: t.text):
            holder = await self._casebook.ledger.lock_target(target, lock_name(given))
            if holder != lock_name(given):
                await self._casebook.ledger.release_targets(lock_name(given))
                return OWN_INCIDENT if holder == given.incident_id else f"{target.text} is being handled by {holder}"
        return ""

    async def _take_back(self, given: RestoreInput, plan: Plan) -> TakingBack:
        at = StepInput(incident_id=given.incident_id, plan_digest=given.plan_digest, tier=given.tier, step=given.step)
        return await undo_step(self._casebook, self._actions, self._clock, self._mode, at, plan)

    async def _taken_back(self, given: RestoreInput, plan: Plan, why: str, back: TakingBack) -> RestoreResult | None:
        effect = back.effect
        good = effect.outcome in (EffectOutcome.APPLIED, EffectOutcome.ALREADY_APPLIED)
        outcome = "restored" if good else "unknown" if effect.outcome is EffectOutcome.UNKNOWN else "refused"
        reason = f"{why}; {effect.reason}"
        if not good:  # first what a page's title has room for: the evidence is well, and does not say why
            told = "not taken back" if outcome == "refused" else "not known to be taken back"
            reason = f"{told}: {effect.reason.removesuffix('.')}; {why}"
        body = step_body(plan, given.tier, given.step, outcome=outcome, reason=reason, effect=to_data(effect))
        return await self._end(given, body, begun=back.begun, page=not good)

    async def _end(
        self, given: RestoreInput, body: Mapping[str, Any], *, begun: bool, page: bool
    ) -> RestoreResult | None:
        """None when another attempt has begun to take it back meanwhile: the next look finds what became of that."""
        now = self._clock.now()
        key = ids.move_key("restore-ended", given.tier, given.step)
        messages = notices.person_needed(given.incident_id, key, str(body["reason"]), now)
        if not page:
            messages = (notices.chat(given.incident_id, NoticeKind.RESTORED, key, now),)
            if await self._ends_the_page(given):
                high = PagerAction.RESOLVE_HIGH
                messages += (notices.pager(given.incident_id, NoticeKind.RESTORED, notices.page_key(key), high, now),)
        ended = await write_end(self._casebook.ledger, given, key, body, messages, now, begun=begun)
        if ended.key != key:
            return None
        return RestoreResult(ended=True, outcome=str(ended.body["outcome"]))

    async def _ends_the_page(self, given: RestoreInput) -> bool:
        """Whether the engine's watch had called a person about this restore, which came late (workers or Temporal were
        away), and nothing else calls one since the incident's end: all of its calls are one page at the pager. While
        it is open, its close ends that page."""
        own = ids.overdue_key(given.tier, given.step)
        if await self._casebook.found(given.incident_id, own) is None:
            return False
        entries = await self._casebook.ledger.entries(given.incident_id)
        closed = next((entry for entry in entries if entry.kind is EntryKind.INCIDENT_CLOSED), None)
        return open_reasons(closed, entries) == {own}

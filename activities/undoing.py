"""Taking back what a step changed: for a tier that did not verify, and for a restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from activities.actions.base import Action
from activities.casebook import Casebook, step_body
from activities.messages import StepInput
from activities.step_records import step_entry
from activities.stops import HANDS_OFF, hands_off, let_go, too_old
from firebreak.domain import ids
from firebreak.domain.action import CheckOutcome, Effect, EffectOutcome, HeldBackCheck, HeldBackEffect, Intent
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.errors import NotAnyMore, NotYet, PermanentError
from firebreak.domain.incident import Mode
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock
from firebreak.domain.timeline import EntryDraft, EntryKind

OBSERVED = "mode observe: not taken back"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingBack:
    """What became of it. `begun`: its intent is on disk, so that the effect says what that brought about."""

    effect: Effect
    begun: bool

    def unless(self, given: StepInput) -> tuple[str, ...]:
        """For whoever records it: what was not begun here may have been by another attempt, whose intent binds."""
        return () if self.begun else (step_entry("undo-intent", given),)


async def undo_step(
    casebook: Casebook,
    actions: Mapping[str, Action],
    clock: Clock,
    mode: Mode,
    given: StepInput,
    plan: Plan,
    *,
    of_tier: bool = False,
) -> TakingBack:
    """Taking back a step; used by a tier that did not verify and by a restore. The caller records the effect, or looks
    again after a HeldBackEffect. `of_tier`: not begun on old evidence, nor once the incident has been closed or is a
    person's, all of which a restore outlives; and held back by less: the tier was measured not to have healed, and the
    next one may (row B1)."""
    entry = await casebook.found(given.incident_id, step_entry("effect", given))
    written = await casebook.found(given.incident_id, step_entry("intent", given))
    if entry is None or written is None:
        raise PermanentError("there is no recorded effect to take back")
    effect = from_data(Effect, entry.body["effect"])
    action = actions[plan.step(given.tier, given.step).action]
    key = ids.step_key(given.incident_id, given.tier, given.step, undo=True)

    def said(outcome: EffectOutcome, why: str, *, begun: bool = False, kind: type[Effect] = Effect) -> TakingBack:
        return TakingBack(effect=kind(outcome=outcome, reason=why, step_key=key, target=effect.target), begun=begun)

    record, ends = (step_entry("undo", given), HANDS_OFF) if of_tier else (step_entry("restore-ended", given), ())
    stored = await casebook.found(given.incident_id, step_entry("undo-intent", given), *ends)
    if mode is Mode.OBSERVE and (stored is None or stored.key in ends):
        would = replace(effect, outcome=EffectOutcome.WOULD_APPLY, reason=OBSERVED, step_key=key)
        return TakingBack(effect=would, begun=False)
    # A restore has judged its evidence just now.
    rests = given if of_tier else replace(given, rests_on=clock.now())

    async def stopped() -> str:
        ended = await casebook.found(given.incident_id, *ends)
        return hands_off(ended) if ended else too_old(rests, clock.now(), intent if of_tier else None)

    intent: Intent | None = None
    sent = stored is not None  # by an earlier attempt, which may have sent it
    try:
        if stored is None:
            now = clock.now()
            if of_tier and (why := too_old(given, now)):
                return said(EffectOutcome.REFUSED, why)
            meant = from_data(Intent, written.body["intent"])
            check = await action.prepare_undo(meant, effect, step_key=key, stamp=now, least=of_tier)
            if check.outcome is not CheckOutcome.READY or check.target is None:
                no = check.outcome is CheckOutcome.REFUSED
                kind = HeldBackEffect if isinstance(check, HeldBackCheck) else Effect
                outcome = EffectOutcome.REFUSED if no else EffectOutcome.ALREADY_APPLIED
                return said(outcome, check.reason, kind=kind)
            back = replace(meant, step_key=key, target=check.target, changes=check.changes, stamp=now, undo=True)
            (there,) = await casebook.ledger.append([_draft(given, plan, back)], unless=(record, *ends))
            stored, sent = there.entry, there.found
        if stored.key in ends:
            return said(EffectOutcome.REFUSED, hands_off(stored))
        if stored.key == record:  # another attempt was quicker: whoever records this finds what that one did
            return said(EffectOutcome.REFUSED, "it has been recorded already", begun=True)
        intent = from_data(Intent, stored.body["intent"])
        left = await _left_by(casebook, action, clock, mode, given, intent, ends) if sent else None
        return TakingBack(effect=left or await action.apply(intent, least=of_tier, stopped=stopped), begun=True)
    except (NotYet, NotAnyMore) as error:
        why = f"{error} {error.next_step()}"
        if of_tier and sent and intent is not None:  # the object is as it was, so what was sent may land
            return TakingBack(effect=let_go(intent, why, clock.now()), begun=True)
        return said(EffectOutcome.REFUSED, why, begun=intent is not None, kind=HeldBackEffect)
    except PermanentError as error:
        return said(EffectOutcome.REFUSED, f"{error} {error.next_step()}", begun=intent is not None)


async def _left_by(
    casebook: Casebook, action: Action, clock: Clock, mode: Mode, given: StepInput, intent: Intent, ends: Sequence[str]
) -> Effect | None:
    """What an earlier attempt at `intent` has left: its effect, or that it is let go; None when it is to be written,
    never in mode observe. `ends`: what ends the tier's right to that; a restore has judged afresh."""
    try:
        seen = await action.read_back(intent)
    except PermanentError as error:  # the target is gone, or another one: nobody can tell any more
        why = f"an earlier attempt may have sent it, and that cannot be read back: {error} {error.next_step()}"
        return intent.came_to(EffectOutcome.UNKNOWN, why)
    if seen.outcome is not EffectOutcome.NOT_APPLIED:
        return seen
    now = clock.now()
    if mode is Mode.OBSERVE:  # switched after the intent: what was not written then is not written now
        return let_go(intent, OBSERVED, now, otherwise=EffectOutcome.WOULD_APPLY)
    if not ends:
        return None
    ended = await casebook.found(given.incident_id, *ends)
    why = hands_off(ended) if ended else too_old(given, now, intent)
    return let_go(intent, why, now) if why else None


def _draft(given: StepInput, plan: Plan, intent: Intent) -> EntryDraft:
    return EntryDraft(
        incident_id=given.incident_id,
        key=step_entry("undo-intent", given),
        kind=EntryKind.INTENT_RECORDED,
        at=intent.stamp,
        body=step_body(plan, given.tier, given.step, intent=to_data(intent)),
        target=intent.target.ref.text,
        uid=intent.target.uid,
    )

"""Taking back what a step changed: for a tier that did not verify, and for a restore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from activities.actions.base import Action
from activities.casebook import Casebook, step_body
from activities.messages import StepInput
from activities.step_records import step_entry
from firebreak.domain import ids
from firebreak.domain.action import CheckOutcome, Effect, EffectOutcome, HeldBackCheck, HeldBackEffect, Intent
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.errors import IncidentClosed, NotYet, PermanentError
from firebreak.domain.incident import Mode
from firebreak.domain.plan import Plan
from firebreak.domain.ports import Clock
from firebreak.domain.timeline import EntryDraft, EntryKind

CLOSED = "the incident has been closed: nothing is written for it any more"


async def undo_step(
    casebook: Casebook,
    actions: Mapping[str, Action],
    clock: Clock,
    mode: Mode,
    given: StepInput,
    plan: Plan,
    *,
    too_old: Callable[[StepInput, Intent | None], str] = lambda *_: "",
    of_tier: bool = False,
) -> Effect:
    """Effect of taking back a step; used by a tier that did not verify and by a restore. The caller records it, or
    looks again after a HeldBackEffect. `too_old`: why nothing may be written any more, or empty; a restore has judged
    afresh. `of_tier`: not begun once the incident has been closed, which a restore outlives, and held back by less: the
    tier was measured not to have healed, and the next one may (row B1)."""
    entry = await casebook.found(given.incident_id, step_entry("effect", given))
    written = await casebook.found(given.incident_id, step_entry("intent", given))
    if entry is None or written is None:
        raise PermanentError("there is no recorded effect to take back")
    effect = from_data(Effect, entry.body["effect"])
    step = plan.step(given.tier, given.step)
    action = actions[step.action]
    key = ids.step_key(given.incident_id, given.tier, given.step, undo=True)
    if mode is Mode.OBSERVE:
        return replace(effect, outcome=EffectOutcome.WOULD_APPLY, reason="mode observe: not taken back", step_key=key)
    stored = await casebook.found(given.incident_id, step_entry("undo-intent", given))
    try:
        if stored is not None:
            intent = from_data(Intent, stored.body["intent"])
            seen = await action.read_back(intent)
            if seen.outcome is not EffectOutcome.NOT_APPLIED:
                return seen
            closed = of_tier and await casebook.found(given.incident_id, "close") is not None
            why = CLOSED if closed else too_old(given, intent)
            return (
                replace(seen, outcome=EffectOutcome.REFUSED, reason=why)
                if why
                else await action.apply(intent, least=of_tier)
            )
        if why := too_old(given, None):
            return Effect(outcome=EffectOutcome.REFUSED, reason=why, step_key=key, target=effect.target)
        now = clock.now()
        check = await action.prepare_undo(
            from_data(Intent, written.body["intent"]), effect, step_key=key, stamp=now, least=of_tier
        )
        if check.outcome is not CheckOutcome.READY or check.target is None:
            outcome = EffectOutcome.REFUSED if check.outcome is CheckOutcome.REFUSED else EffectOutcome.ALREADY_APPLIED
            kind = HeldBackEffect if isinstance(check, HeldBackCheck) else Effect
            return kind(outcome=outcome, reason=check.reason, step_key=key, target=effect.target)
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
                    key=step_entry("undo-intent", given),
                    kind=EntryKind.INTENT_RECORDED,
                    at=now,
                    body=step_body(plan, given.tier, given.step, intent=to_data(intent)),
                    target=check.target.ref.text,
                    uid=check.target.uid,
                )
            ],
            unless_closed=of_tier,
        )
        return await action.apply(intent, least=of_tier)
    except (PermanentError, IncidentClosed) as error:
        kind = HeldBackEffect if isinstance(error, NotYet) else Effect
        return kind(
            outcome=EffectOutcome.REFUSED, reason=f"{error} {error.next_step()}", step_key=key, target=effect.target
        )

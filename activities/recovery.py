"""While a person has it: watching for the evidence to become healthy and to stay so."""

from __future__ import annotations

from datetime import timedelta

import structlog
from temporalio import activity

from activities.casebook import Casebook
from activities.evidence import EvidenceLimits
from activities.failures import translated
from activities.gathering import Gathering
from activities.messages import RecoveryInput, RecoveryResult
from activities.rulebook import Rulebook
from activities.turns import in_turn
from firebreak.domain.codec import to_data
from firebreak.domain.condition import Truth
from firebreak.domain.errors import ChainBroken, ContractError
from firebreak.domain.incident import Incident
from firebreak.domain.ports import Clock
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.triage.classify import classify, is_known_well
from firebreak.triage.tree import SeverityTree

log = structlog.get_logger()

_LONGEST_RECHECK = timedelta(seconds=60)


class RecoveryHands:
    """`evidence.watch_recovery`."""

    def __init__(
        self, *, casebook: Casebook, gathering: Gathering, rulebook: Rulebook, clock: Clock, limits: EvidenceLimits
    ) -> None:
        self._casebook = casebook
        self._gathering = gathering
        self._rulebook = rulebook
        self._clock = clock
        self._limits = limits

    @activity.defn(name="evidence.watch_recovery")
    @translated
    @in_turn
    async def watch_recovery(self, given: RecoveryInput) -> RecoveryResult:
        """While a person has it: healthy evidence that stays so (or a resolved alert with healthy evidence) ends it.
        While an alert fires, health is measured: a service that nobody calls any more is not well (issue item 6). The
        tree is the one of the last verdict: an edit does not end what it did not mend (item 8). Where that decided
        nothing, or cannot be read any more, it is today's. A `quiet_since` that is still to come, since the clock was
        set back, counts from this look on: that costs the quiet time once more. Of an alert that is not known to be of
        our cluster nothing is measured here: that one is over when all its alerts are."""
        stored = await self._casebook.found(given.incident_id, "recovery", "close")
        if stored is not None:
            return RecoveryResult(recovered=True, reason=str(stored.body["reason"]), again_at=self._clock.now())
        read_up_to = await self._casebook.ledger.newest()
        incident = await self._casebook.incident(given.incident_id)
        rules = self._rulebook.current()
        wait = min(rules.look_times.recheck * (1 + given.round // 20), _LONGEST_RECHECK)
        if incident.elsewhere:
            return await self._resolved(incident, read_up_to, wait)
        tree = await self._deciding_tree(incident.id) or rules.tree(incident)
        facts = await self._gathering.facts(incident, tree, self._limits.of_query())
        verdict = classify(facts, tree)
        now = verdict.pinned_at
        if verdict.truth not in (Truth.FALSE, Truth.NOT_APPLICABLE):
            reason = verdict.reason
            if verdict.truth is Truth.INCONCLUSIVE:  # of what is gone for good, no evidence will ever come
                reason = f"{reason}: `firebreak close` ends it, should there be nothing to measure any more"
            return RecoveryResult(recovered=False, reason=reason, again_at=now + wait)
        since = min(given.quiet_since or now, now)
        firing = known = await self._casebook.incidents.firing(given.incident_id)
        left_out = await self._casebook.incidents.truncated(given.incident_id)
        if left_out > 0:
            firing = max(firing, 1)  # nobody knows that all have resolved
        if known > 0 and not is_known_well(verdict, tree):
            reason = (
                "an alert fires, and nothing of the service itself can be measured as healthy (too few calls?): "
                "`firebreak close` ends it once it is well"
            )
            return RecoveryResult(recovered=False, reason=reason, again_at=now + wait)
        if now - since < rules.look_times.quiet and (firing > 0 or given.quiet_since is None):
            return RecoveryResult(
                recovered=False, reason="healthy; must stay so", again_at=now + wait, quiet_since=since
            )
        reason = f"the evidence is healthy since {since:%H:%M:%S} UTC; {_still_firing(known, left_out)}"
        conditions = [to_data(c) for c in verdict.conditions]
        await self._seen(incident.id, reason, read_up_to, conditions=conditions, facts=to_data(facts))
        return RecoveryResult(recovered=True, reason=reason, again_at=now, quiet_since=since)

    async def _resolved(self, incident: Incident, read_up_to: int, wait: timedelta) -> RecoveryResult:
        now = self._clock.now()
        firing = await self._casebook.incidents.firing(incident.id)
        left_out = await self._casebook.incidents.truncated(incident.id)  # read last: it never falls
        if firing == 0 and left_out == 0:
            reason = f"all its alerts have resolved ({incident.elsewhere})"
            await self._seen(incident.id, reason, read_up_to, conditions=[])
            return RecoveryResult(recovered=True, reason=reason, again_at=now)
        ends = "it ends when its alerts have resolved, or by `firebreak close`"
        if left_out > 0:  # nobody will ever tell that those have resolved
            ends = f"the source left out {left_out} of its alerts: `firebreak close` ends it"
        reason = f"{incident.elsewhere}; {ends}"
        return RecoveryResult(recovered=False, reason=reason, again_at=now + wait)

    async def _seen(self, incident_id: str, reason: str, read_up_to: int, **evidence: object) -> None:
        draft = EntryDraft(
            incident_id=incident_id,
            key="recovery",
            kind=EntryKind.RECOVERY_SEEN,
            at=self._clock.now(),
            body={"reason": reason, **evidence, "read_up_to": read_up_to},
        )
        await self._casebook.ledger.append([draft])

    async def _deciding_tree(self, incident_id: str) -> SeverityTree | None:
        try:
            return await self._casebook.deciding_tree(incident_id)
        except (ChainBroken, ContractError) as damage:
            log.error("recovery.tree_unreadable", incident=incident_id, error=str(damage))
            return None


def _still_firing(known: int, left_out: int) -> str:
    """`1 alert still fires`; the source may have left others out."""
    told = "1 alert still fires" if known == 1 else f"{known} alerts still fire"
    return told + (f", of those that its source told of ({left_out} were left out)" if left_out else "")

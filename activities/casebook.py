"""What every hand reads about its incident: the incident, its pinned plan, and what has been stored already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from firebreak.domain import ids
from firebreak.domain.condition import Truth
from firebreak.domain.errors import LedgerError
from firebreak.domain.incident import Incident
from firebreak.domain.plan import Plan, Step
from firebreak.domain.ports import IncidentsPort, LedgerPort
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.plans.pin import plan_from_bytes
from firebreak.triage.tree import SeverityTree, tree_from_bytes

_CACHED = 2_000  # incidents and plans never change once written, so a copy in memory is as good as the store's


class Casebook:
    """Reads through small caches. Raises LedgerError when an incident or a pinned plan is missing."""

    def __init__(self, ledger: LedgerPort, incidents: IncidentsPort) -> None:
        self.ledger = ledger
        self.incidents = incidents
        self._incidents: OrderedDict[str, Incident] = OrderedDict()
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._trees: OrderedDict[str, SeverityTree] = OrderedDict()
        self._deciding: OrderedDict[str, str] = OrderedDict()  # incident -> digest of its last verdict's tree

    def remember(self, incident: Incident) -> None:
        _put(self._incidents, incident.id, incident)

    async def incident(self, incident_id: str) -> Incident:
        known = self._incidents.get(incident_id)
        if known is None:
            known = await self.incidents.incident(incident_id)
            if known is None:
                raise LedgerError(f"incident {incident_id} is not in the store")
            self.remember(known)
        return known

    def known_service(self, incident_id: str) -> str:
        """The incident's service where it is in memory; empty otherwise. For the time when the store is down."""
        known = self._incidents.get(incident_id)
        return "" if known is None else known.service

    async def person_score(self, incident_id: str) -> float | None:
        """The health score 0-100 that a person has set last (row A2), if any."""
        score, number = None, 1
        while (entry := await self.ledger.find(incident_id, ids.score_key(number))) is not None:
            score, number = float(entry.body["score"]), number + 1
        return score

    def remember_plan(self, plan: Plan) -> None:
        _put(self._plans, plan.digest, plan)

    async def plan(self, digest: str) -> Plan:
        known = self._plans.get(digest)
        if known is None:
            known = plan_from_bytes(await self.ledger.document(digest))
            self.remember_plan(known)
        return known

    async def deciding_tree(self, incident_id: str) -> SeverityTree | None:
        """The kept tree of the incident's last verdict, whatever its documents say by now. For when no further verdict
        comes. None where it decided nothing: before the first verdict, and when that was inconclusive (an edit may have
        mended the tree). ChainBroken when entry or document cannot be read."""
        digest = self._deciding.get(incident_id)
        if digest is None:
            last = await self.ledger.newest_of(incident_id, EntryKind.VERDICT_REACHED)
            decided = last is not None and last.body["verdict"]["truth"] != Truth.INCONCLUSIVE
            digest = str(last.body["verdict"]["tree_digest"]) if last is not None and decided else ""
            _put(self._deciding, incident_id, digest)
        return await self._tree(digest) if digest else None

    async def _tree(self, digest: str) -> SeverityTree:
        known = self._trees.get(digest)
        if known is None:
            known = tree_from_bytes(await self.ledger.document(digest))
            _put(self._trees, digest, known)
        return known

    def forget_tree(self, incident_id: str) -> None:
        """A further verdict has come."""
        self._deciding.pop(incident_id, None)

    async def found(self, incident_id: str, *keys: str) -> TimelineEntry | None:
        """The first of `keys` that an earlier attempt has written."""
        return await self.ledger.find_first(incident_id, keys)


def step_body(plan: Plan, tier: int, step: int, **more: Any) -> Mapping[str, Any]:
    """Body of every entry about a step: where it stands in the plan, plus `more` (JSON data)."""
    at: Step = plan.step(tier, step)
    return {
        "tier": tier,
        "step": step,
        "tier_name": plan.tiers[tier].name,
        "step_id": at.id,
        "action": at.action,
        **more,
    }


def _put(cache: OrderedDict[str, Any], key: str, value: Any) -> None:
    cache[key] = value
    if len(cache) > _CACHED:
        cache.popitem(last=False)

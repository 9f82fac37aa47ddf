"""What one accepted alert becomes: it opens an incident or joins one, ends there, or is about the engine itself.

Everything here may be done again after a crash: the stores are keyed, starts use the incident's id.
"""

from __future__ import annotations

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import ENGINE_SERVICE, AcceptedAlert, AlertStatus, Disposition
from firebreak.domain.codec import to_data
from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine import own_alerts
from firebreak.engine.parts import DispatcherParts, is_handed_over
from firebreak.engine.starts import Starts
from firebreak.engine.temporal import tell_workflow
from firebreak.triage.intake import correlation_key
from workflows.messages import AlertResolved


class Deliveries:
    """Of one worker process."""

    def __init__(self, parts: DispatcherParts, starts: Starts) -> None:
        self._parts = parts
        self._starts = starts

    async def take(self, accepted: AcceptedAlert) -> tuple[Disposition, str]:
        """What became of it, and the incident (or record) that it is of, or why none. RPCError, OSError and LedgerError
        when Temporal or the store is away."""
        if accepted.alert.labels.get("service") == ENGINE_SERVICE:
            return await own_alerts.take(self._parts, accepted)
        if accepted.alert.status is AlertStatus.FIRING:
            return await self._firing(accepted)
        return await self._resolved(accepted)

    async def _firing(self, accepted: AcceptedAlert) -> tuple[Disposition, str]:
        incident = self._incident(accepted)
        now = self._parts.clock.now()
        opened = EntryDraft(
            incident_id=incident.id,
            key="opened",
            kind=EntryKind.INCIDENT_OPENED,
            at=now,
            actor="alertmanager",
            body=to_data(incident),
            target="" if incident.target is None else incident.target.text,
            duration_ms=(now - accepted.accepted_at).total_seconds() * 1000,
        )
        incident_id, disposition = await self._parts.incidents.open_or_join(
            incident,
            opened=opened,
            joined=self._alert_entry("joined", EntryKind.ALERT_JOINED, accepted),
            messages=(notices.unclassified(incident.id, 0, now, notices.UNCLASSIFIED_AFTER, self._parts.mode),),
            receipt=accepted.receipt,
            inbox=accepted.inbox,
        )
        if disposition is Disposition.OPENED:
            self._parts.casebook.remember(incident)
            await self._starts.incident(incident.id, await self._parts.foresee(incident))
        elif not self._starts.began(ids.incident_workflow_id(incident_id)):
            known = await self._parts.incidents.incident(incident_id)
            over = await is_handed_over(self._parts, incident_id)
            if known is not None and not over and known.alert.key == accepted.alert.key:
                await self._starts.incident(incident_id)  # a crash between opening and starting
        return disposition, incident_id

    def _incident(self, accepted: AcceptedAlert) -> Incident:
        resolution = self._parts.rulebook.current().resolve(accepted.alert)
        key = correlation_key(resolution.cluster, resolution.service, accepted.alert)
        return Incident(
            id=ids.incident_id(key, accepted.alert.key, accepted.accepted_at),
            opened_at=self._parts.clock.now(),
            accepted_at=accepted.accepted_at,
            intake_class=accepted.intake_class,
            correlation_key=key,
            service=resolution.service,
            target=resolution.target,
            alert=accepted.alert,
            refusal=resolution.refusal,
            truncated=accepted.truncated,
            pod=resolution.pod,
            bindings=resolution.bindings,
            elsewhere=resolution.elsewhere,
        )

    async def _resolved(self, accepted: AcceptedAlert) -> tuple[Disposition, str]:
        known = await self._parts.incidents.resolve_alert(
            accepted.alert,
            at=self._parts.clock.now(),
            accepted_at=accepted.accepted_at,
            receipt=accepted.receipt,
            inbox=accepted.inbox,
            truncated=accepted.truncated,
            entry=self._alert_entry("resolved", EntryKind.ALERT_RESOLVED, accepted),
        )
        if known is None:
            return Disposition.IGNORED, "no incident knows this alert"
        incident_id, firing = known
        if firing == 0:
            await tell_workflow(self._parts.client, incident_id, "alert_resolved", AlertResolved(firing=firing))
        return Disposition.RESOLVED, incident_id

    def _alert_entry(self, what: str, kind: EntryKind, accepted: AcceptedAlert) -> EntryDraft:
        """The store says of which incident."""
        return EntryDraft(
            incident_id="",
            key=ids.delivery_key(f"{what}/{accepted.alert.key}", accepted.receipt, accepted.accepted_at),
            kind=kind,
            at=self._parts.clock.now(),
            actor="alertmanager",
            body={"alert": to_data(accepted.alert), "truncated": accepted.truncated},
        )

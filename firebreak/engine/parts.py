"""What dispatcher and sweeper of one worker process work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from temporalio.client import Client

from activities import notices
from activities.casebook import Casebook
from activities.messages import GatherResult
from activities.rulebook import Rulebook
from firebreak.domain import ids
from firebreak.domain.alert import Alert, IntakeClass
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.ports import Clock, InboxPort, IncidentsPort, LedgerPort


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherParts:
    """What a dispatcher works with."""

    client: Client
    queue: str
    intake_class: IntakeClass
    inbox: InboxPort
    ledger: LedgerPort
    incidents: IncidentsPort
    casebook: Casebook
    rulebook: Rulebook
    clock: Clock
    data_dir: Path
    mode: Mode
    foresee: Callable[[Incident], Awaitable[GatherResult | None]]


async def open_incidents(parts: DispatcherParts) -> tuple[Incident, ...]:
    """Those of this worker's class, oldest first. About one that cannot be read the sweeper calls a person."""
    found = await parts.incidents.open_incidents()
    return tuple(one for one in found if isinstance(one, Incident) and one.intake_class is parts.intake_class)


async def is_handed_over(parts: DispatcherParts, incident_id: str) -> bool:
    """Whether an incident gets no workflow any more: it has been closed by now (a list of open ones grows old while
    their workflows are being started), or a person was told to handle it by hand, and ends it by `firebreak close`."""
    if await parts.ledger.find(incident_id, "close") is not None:
        return True
    return await parts.ledger.find(ids.orphan_record(incident_id), "fault") is not None


async def tell_fault(
    parts: DispatcherParts, incident_id: str, where: str, reason: str, alert: Alert | None = None, *, of: str = ""
) -> None:
    """A fault of ours: written down, and a person is paged about it, once per `incident_id`. `of`: the incident that it
    is about, whose record says so, too: its own calls go to its service's key, and must not say the contrary."""
    entry, page = notices.fault(incident_id, where, reason, parts.clock.now(), alert=alert)
    noted = [replace(entry, incident_id=of, key=f"{where}-fault")] if of else []
    await parts.ledger.append([entry, *noted], messages=[page])

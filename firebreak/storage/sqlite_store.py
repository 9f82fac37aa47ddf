"""The two stores as the engine, the gateway and the CLI open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firebreak.storage.alerts import AlertsStore
from firebreak.storage.database import driver
from firebreak.storage.handled import newest_of_inbox
from firebreak.storage.inbox import InboxStore
from firebreak.storage.incidents import IncidentsStore
from firebreak.storage.ledger import LedgerStore
from firebreak.storage.outbox import OutboxStore
from firebreak.storage.restores import RestoresStore
from firebreak.storage.schema import TIMELINE_REVISION
from firebreak.storage.verify import StoreReport, verify_connection

if TYPE_CHECKING:
    from firebreak.domain.ports import InboxPort, IncidentsPort, LedgerPort, OutboxPort

TIMELINE_FILE = "timeline.sqlite"
INBOX_FILE = "inbox.sqlite"

__all__ = ["INBOX_FILE", "TIMELINE_FILE", "InboxStore", "TimelineStore"]


class TimelineStore(LedgerStore, AlertsStore, IncidentsStore, OutboxStore, RestoresStore):
    """`timeline.sqlite`: LedgerPort, IncidentsPort and OutboxPort over one writer, so that an entry and its messages
    are one transaction. Several processes may open the same file; each has one writer thread."""

    schema = "timeline"
    revision = TIMELINE_REVISION

    async def verify(self) -> StoreReport:
        """Recompute the whole chain. Raises ChainBroken for the first entry or document that was changed."""
        report = await self._read(lambda connection: verify_connection(connection, self._database.path))
        report.raise_if_broken()
        return report

    async def newest_of_inbox(self, inbox: str) -> tuple[int, str] | None:
        """(receipt, time of acceptance as it is stored) of the last delivery of that inbox that changed something."""
        return await self._read(lambda connection: newest_of_inbox(driver(connection), inbox))


if TYPE_CHECKING:  # the type checker compares the classes with their ports here

    def _as_ports(
        timeline: TimelineStore, inbox: InboxStore
    ) -> tuple[LedgerPort, IncidentsPort, OutboxPort, InboxPort]:
        return timeline, timeline, timeline, inbox

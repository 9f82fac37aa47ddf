"""The inbox of a gateway that runs apart from its engine, where nobody else looks after its file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from firebreak.domain.alert import Alert, IntakeClass
from firebreak.storage.sqlite_store import InboxStore


class InboxInPlace(InboxStore):
    """What went into a file that was replaced, or removed, since it was opened is on disk for nobody: an engine that
    starts from then on opens the other one. It is no 200. (Beside `firebreak up` it is: the engine has opened the same
    file, goes on with it, and pages.)"""

    async def accept(
        self, alerts: Sequence[tuple[Alert, IntakeClass]], *, source: str, truncated: int, accepted_at: datetime
    ) -> tuple[int, ...]:
        receipts = await super().accept(alerts, source=source, truncated=truncated, accepted_at=accepted_at)
        self._database.refuse_another()
        return receipts

    async def probe(self) -> None:
        await super().probe()
        self._database.refuse_another()

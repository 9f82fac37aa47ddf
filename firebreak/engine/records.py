"""What the outbox has read of the last incidents. Entries are only ever added, so that of an incident which is told of
again only the new ones are read; and messages that go out at the same moment share what was made of them."""

from __future__ import annotations

from firebreak.domain.ports import LedgerPort
from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem.model import Case
from firebreak.postmortem.report import case_of

KEPT = 3_000
"""Entries of all incidents together. An incident has some 20, of 5 KB each once they are decoded."""


class Record:
    """The entries of one incident up to some moment, in order of `seq`."""

    def __init__(self, entries: tuple[TimelineEntry, ...], *, earlier: Case | None = None, told: int = 0) -> None:
        self.entries = entries
        self._case: Case | None = None
        self._earlier, self._told = earlier, told  # the Case of the first `told` entries, where one was made

    def and_then(self, more: tuple[TimelineEntry, ...]) -> Record:
        """With the entries since. What was made of those before is used again."""
        entries = (*self.entries, *more)
        if self._case is not None:
            return Record(entries, earlier=self._case, told=len(self.entries))
        return Record(entries, earlier=self._earlier, told=self._told)

    @property
    def last_seq(self) -> int:
        """0 when there are none."""
        return self.entries[-1].seq if self.entries else 0

    def case(self) -> Case:
        """What notices tell of. ContractError when there are no entries."""
        if self._case is None:
            self._case = case_of(self.entries, earlier=self._earlier, told=self._told)
            self._earlier = None
        return self._case


class Records:
    """The last incidents that were asked for, as many as have `kept` entries in all."""

    def __init__(self, ledger: LedgerPort, *, kept: int = KEPT) -> None:
        self._ledger = ledger
        self._most = kept
        self._known: dict[str, Record] = {}  # who was asked for last stands last
        self._kept = 0

    async def of(self, incident_id: str) -> Record:
        """All that is written now: the store is asked every time. LedgerError when it does not answer."""
        known = self._known.get(incident_id) or Record(())
        more = await self._ledger.entries_after(incident_id, known.last_seq)
        record = known.and_then(more) if more else known
        self._forget(incident_id)
        if len(record.entries) <= self._most:
            self._known[incident_id] = record
            self._kept += len(record.entries)
        while self._kept > self._most:
            self._forget(next(iter(self._known)))
        return record

    def _forget(self, incident_id: str) -> None:
        record = self._known.pop(incident_id, None)
        self._kept -= len(record.entries) if record else 0

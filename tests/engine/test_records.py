"""What the outbox keeps of incidents: never more than it may, and never older than the store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from firebreak.domain.errors import ContractError, LedgerError
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.engine.records import Records


class Ledger:
    """Entries in memory; `asked` = (incident, after) of every read."""

    def __init__(self) -> None:
        self.entries: list[TimelineEntry] = []
        self.asked: list[tuple[str, int]] = []
        self.away = False

    def write(self, incident_id: str, count: int = 1) -> None:
        for _ in range(count):
            seq = len(self.entries) + 1
            self.entries.append(
                TimelineEntry(
                    seq=seq,
                    incident_id=incident_id,
                    key=f"k{seq}",
                    kind=EntryKind.ENGINE_FAULT,
                    at=datetime(2026, 11, 21, tzinfo=UTC),
                    actor="engine",
                    target="",
                    uid="",
                    duration_ms=None,
                    body={"error": f"e{seq}"},
                )
            )

    async def entries_after(self, incident_id: str, seq: int) -> tuple[TimelineEntry, ...]:
        self.asked.append((incident_id, seq))
        found = tuple(e for e in self.entries if e.incident_id == incident_id and e.seq > seq)
        await asyncio.sleep(0)
        if self.away:
            raise LedgerError("locked")
        return found


def seqs(entries: tuple[TimelineEntry, ...]) -> list[int]:
    return [entry.seq for entry in entries]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def records_of(ledger: Ledger, kept: int = 100) -> Records:
    return Records(ledger, kept=kept)  # type: ignore[arg-type] # the one method that it uses


async def test_only_what_came_since_is_read(ledger: Ledger) -> None:
    """The store is asked every time, for what is new; all of it is there."""
    records = records_of(ledger)
    ledger.write("a", 2)
    ledger.write("b")
    assert seqs((await records.of("a")).entries) == [1, 2]
    ledger.write("a")
    record = await records.of("a")
    assert seqs(record.entries) == [1, 2, 4]
    assert await records.of("a") is record, "nothing new: what was made of it holds"
    assert ledger.asked == [("a", 0), ("a", 2), ("a", 4)]
    assert [fault.error for fault in record.case().faults] == ["e1", "e2", "e4"]


async def test_a_case_is_made_once_and_goes_on_from_there(ledger: Ledger) -> None:
    """Of one record once; the next one has what came since."""
    records = records_of(ledger)
    ledger.write("a")
    first = await records.of("a")
    assert first.case() is first.case()
    for _ in range(3):
        ledger.write("a")
        last = await records.of("a")  # a record that nobody asked for a case stands between
    assert [fault.error for fault in last.case().faults] == ["e1", "e2", "e3", "e4"]
    assert len(first.case().faults) == 1


async def test_a_store_that_is_away_is_no_old_answer(ledger: Ledger) -> None:
    """What is kept is not told for what is written."""
    records = records_of(ledger)
    ledger.write("a")
    await records.of("a")
    ledger.away = True
    with pytest.raises(LedgerError):
        await records.of("a")
    ledger.away = False
    ledger.write("a")
    assert seqs((await records.of("a")).entries) == [1, 2]


async def test_the_incident_that_was_asked_for_longest_ago_is_let_go(ledger: Ledger) -> None:
    """So many entries in all; an incident that has more by itself is read anew each time."""
    records = records_of(ledger, kept=5)
    for name in ("a", "b"):
        ledger.write(name, 2)
        await records.of(name)
    await records.of("a")
    ledger.write("c", 2)
    await records.of("c")
    ledger.asked.clear()
    for name in ("a", "c", "b"):
        await records.of(name)
    assert ledger.asked == [("a", 2), ("c", 6), ("b", 0)]
    ledger.write("d", 6)
    assert len((await records.of("d")).entries) == 6
    await records.of("d")
    assert ledger.asked[-2:] == [("d", 0), ("d", 0)]


async def test_two_that_read_at_once_both_see_all(ledger: Ledger) -> None:
    """Nothing is kept twice, and nothing is lost."""
    records = records_of(ledger)
    ledger.write("a", 2)
    first, second = await asyncio.gather(records.of("a"), records.of("a"))
    assert seqs(first.entries) == seqs(second.entries) == [1, 2]
    ledger.write("a")
    assert seqs((await records.of("a")).entries) == [1, 2, 3]


async def test_an_incident_without_entries_has_no_case(ledger: Ledger) -> None:
    """As a notice of nothing."""
    with pytest.raises(ContractError):
        (await records_of(ledger).of("nobody")).case()

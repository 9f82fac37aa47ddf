"""The inbox: accepted is on disk, and every delivery has one end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.alert import AlertStatus, Disposition, IntakeClass
from firebreak.storage.sqlite_store import InboxStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make

P1, OTHER = IntakeClass.P1_CANDIDATE, IntakeClass.OTHER


async def test_an_accepted_alert_comes_back_as_it_was_given(inbox: InboxStore, make: Make) -> None:
    """Labels that are no UTF-8 included; with its receipt, time, source and count of truncated alerts."""
    alert = make.alert(status=AlertStatus.RESOLVED)
    receipts = await inbox.accept([(alert, P1)], source="alertmanager", truncated=3, accepted_at=make.time(1))
    (claimed,) = await inbox.claim(P1, limit=9)
    assert receipts == (claimed.receipt,) == (1,)
    assert (claimed.alert, claimed.intake_class, claimed.source) == (alert, P1, "alertmanager")
    assert (claimed.truncated, claimed.accepted_at) == (3, make.time(1))


async def test_each_class_claims_its_own_oldest_first(inbox: InboxStore, make: Make) -> None:
    """P1 candidates never wait behind the rest; claiming takes nothing away."""
    batch = [(make.alert(f"f{n}"), P1 if n % 2 else OTHER) for n in range(6)]
    assert await inbox.accept(batch, source="s", truncated=0, accepted_at=make.time()) == (1, 2, 3, 4, 5, 6)
    assert [accepted.receipt for accepted in await inbox.claim(P1, limit=2)] == [2, 4]
    assert [accepted.receipt for accepted in await inbox.claim(P1, limit=9)] == [2, 4, 6]
    assert [accepted.receipt for accepted in await inbox.claim(OTHER, limit=9)] == [1, 3, 5]
    assert await inbox.backlog() == 6
    await inbox.settle([(2, Disposition.OPENED, "inc-a")])
    assert await inbox.backlogs() == {P1: 2, OTHER: 3}


async def test_a_delivery_is_settled_once(inbox: InboxStore, make: Make) -> None:
    """The first end stays; a settled delivery is neither claimed nor counted again."""
    await inbox.accept([(make.alert(), P1), (make.alert("f2"), P1)], source="s", truncated=0, accepted_at=make.time())
    await inbox.settle([(1, Disposition.OPENED, "inc-a"), (99, Disposition.IGNORED, "no such receipt")])
    await inbox.settle([(1, Disposition.DUPLICATE, "inc-b")])
    await inbox.settle([])
    assert await inbox.disposition(1) == (Disposition.OPENED, "inc-a")
    assert await inbox.disposition(2) is None
    assert [accepted.receipt for accepted in await inbox.claim(P1, limit=9)] == [2]
    assert await inbox.backlog() == 1


async def test_what_came_after_a_receipt_is_told_apart(inbox: InboxStore, make: Make) -> None:
    """The oldest of it that waits, and of which classes something has been settled."""
    assert (await inbox.newest(), await inbox.oldest(after=0)) == (0, None)
    batch = [(make.alert(f"f{n}"), P1 if n % 2 else OTHER) for n in range(5)]
    await inbox.accept(batch, source="s", truncated=0, accepted_at=make.time())
    await inbox.settle([(2, Disposition.OPENED, "inc-a"), (5, Disposition.IGNORED, "")])
    assert await inbox.newest() == 5
    found = [await inbox.oldest(after=receipt) for receipt in (0, 1, 3, 4)]
    assert [None if one is None else one.receipt for one in found] == [1, 3, 4, None]
    assert [await inbox.taken_up(after=receipt) for receipt in (0, 2, 5)] == [{P1, OTHER}, {OTHER}, set()]


async def test_each_inbox_has_a_name_of_its_own(
    inbox_path: Path, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes with each delivery and stays over a restart; one of an older program gets it when it is migrated."""

    async def name(path: Path) -> str:
        async with await InboxStore.open(path) as inbox:
            await inbox.accept([(make.alert(), P1)], source="s", truncated=0, accepted_at=make.time())
            named = {accepted.inbox for accepted in await inbox.claim(P1, limit=9)}
            assert await inbox.oldest() in await inbox.claim(P1, limit=1)
        assert len(named) == 1
        return named.pop()

    with monkeypatch.context() as older:
        older.setattr(InboxStore, "revision", "inbox_0001")
        async with await InboxStore.open(tmp_path / "older.sqlite"):
            pass
    names = [await name(path) for path in (inbox_path, inbox_path, tmp_path / "older.sqlite", tmp_path / "new.sqlite")]
    assert all(names)
    assert names[0] == names[1]
    assert len(set(names)) == 3


async def test_an_inbox_that_lost_its_name_hands_out_its_alerts(inbox: InboxStore, make: Make) -> None:
    """Nobody knows then of which inbox the receipt is: no reason to keep an alert waiting."""
    await inbox.accept([(make.alert(), IntakeClass.OTHER)], source="test", truncated=0, accepted_at=make.time(0))
    await inbox._write(lambda raw: raw.execute("DELETE FROM identity"))
    (claimed,) = await inbox.claim(IntakeClass.OTHER, limit=9)
    assert claimed.inbox == ""


async def test_receipts_rise_over_many_senders_and_a_restart(inbox_path: Path, make: Make) -> None:
    """Concurrent deliveries get different receipts, and so do those after a restart."""
    async with await InboxStore.open(inbox_path) as inbox:
        batches = await asyncio.gather(
            *(
                inbox.accept(
                    [(make.alert(f"{n}-{m}"), P1) for m in range(5)], source="s", truncated=0, accepted_at=make.time()
                )
                for n in range(20)
            )
        )
        assert sorted(receipt for batch in batches for receipt in batch) == list(range(1, 101))
        assert all(batch == tuple(range(batch[0], batch[0] + 5)) for batch in batches)
    async with await InboxStore.open(inbox_path) as inbox:
        assert await inbox.accept([(make.alert(), P1)], source="s", truncated=0, accepted_at=make.time()) == (101,)
        assert await inbox.accept([], source="s", truncated=0, accepted_at=make.time()) == ()


async def test_the_probe_writes_for_nothing(inbox: InboxStore) -> None:
    """It goes the way of an accepted alert and leaves none."""
    await inbox.probe()
    await inbox.probe()
    assert await inbox.backlog() == 0

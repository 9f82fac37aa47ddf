"""Entries and the targets that they speak of: written together, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.errors import LedgerError, TargetHeld
from firebreak.domain.incident import IncidentPhase
from firebreak.domain.timeline import Appended
from firebreak.storage.sqlite_store import TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def test_the_first_of_several_keys_is_found(store: TimelineStore, make: Make) -> None:
    """In the order of the question, not of the store; None when none of them was written."""
    early, late = await store.append([make.draft(key="early"), make.draft(key="late")])
    await store.append([make.draft("inc-b", "other")])
    assert await store.find_first("inc-a", ("none", "late", "early")) == late.entry
    assert await store.find_first("inc-a", ("early", "late")) == early.entry
    assert await store.find_first("inc-a", ["late"]) == late.entry
    assert await store.find_first("inc-a", ("other", "none")) is None
    assert await store.find_first("inc-a", ()) is None


async def test_an_append_takes_its_targets(store: TimelineStore, make: Make) -> None:
    """They are the incident's when the entry is there; what it holds already is no obstacle."""
    targets = [make.target(), make.target("pay-v2"), make.target()]
    await store.append([make.draft()], holding=targets[:1])
    (again,) = await store.append([make.draft(key="next")], holding=targets)
    assert not again.found
    for target in targets:
        assert await store.lock_target(target, "inc-b") == "inc-a"


@pytest.mark.parametrize("neighbours", [0, 5])
async def test_an_append_about_a_held_target_writes_nothing(store: TimelineStore, make: Make, neighbours: int) -> None:
    """No entry, message, document, restore, phase nor other target; alone, or beside others in one commit."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    await store.lock_target(make.target(), "inc-b")
    others = [asyncio.create_task(store.append([make.draft("inc-c", f"k{n}")])) for n in range(neighbours)]
    await asyncio.sleep(0)
    with pytest.raises(TargetHeld, match="is being handled by inc-b") as caught:
        await store.append(
            [make.draft(incident.id, "intent"), make.draft(incident.id, "check")],
            messages=[make.message("m", incident=incident.id)],
            documents=[b"plan"],
            restores=[make.restore(incident.id)],
            phase=(incident.id, IncidentPhase.ACTING),
            holding=[make.target("pay-v2"), make.target()],
        )
    await asyncio.gather(*others)
    assert (caught.value.target, caught.value.holder) == (make.target(), "inc-b")
    assert [entry.key for entry in await store.entries(incident.id)] == ["opened"]
    assert [entry.seq for entry in await store.entries("inc-c")] == list(range(2, 2 + neighbours))
    assert await store.due(make.time(99), limit=9) == ()
    assert await store.open_restores() == ()
    assert (await store.rows(limit=1))[0].phase is IncidentPhase.SEEN
    assert await store.lock_target(make.target("pay-v2"), "inc-x") == "inc-x"
    with pytest.raises(LedgerError, match="no document"):
        await store.document(hashlib.sha256(b"plan").hexdigest())


async def test_a_found_entry_takes_no_target(store: TimelineStore, make: Make) -> None:
    """What was done is found, whoever holds the target by now, and it is not taken again."""
    await store.append([make.draft()], holding=[make.target()])
    await store.release_targets("inc-a")
    (again,) = await store.append([make.draft()], holding=[make.target()])
    assert again.found
    assert await store.lock_target(make.target(), "inc-b") == "inc-b"
    (third,) = await store.append([make.draft()], holding=[make.target()])
    assert third.found


@pytest.mark.parametrize("neighbours", [0, 5])
async def test_of_two_that_exclude_each_other_one_is_written(store: TimelineStore, make: Make, neighbours: int) -> None:
    """The other one finds it, and writes nothing at all; alone, or beside others in one commit."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    (refused,) = await store.append([make.draft(incident.id, "refused")], unless=("intent", "close"))
    assert not refused.found
    others = [asyncio.create_task(store.append([make.draft("inc-c", f"k{n}")])) for n in range(neighbours)]
    await asyncio.sleep(0)
    found = await store.append(
        [make.draft(incident.id, "intent"), make.draft(incident.id, "check")],
        messages=[make.message("m", incident=incident.id)],
        documents=[b"plan"],
        restores=[make.restore(incident.id)],
        phase=(incident.id, IncidentPhase.ACTING),
        holding=[make.target()],
        unless=("close", "refused", "opened"),
    )
    await asyncio.gather(*others)
    assert found == (Appended(entry=refused.entry, found=True),)
    assert [entry.key for entry in await store.entries(incident.id)] == ["opened", "refused"]
    assert await store.due(make.time(99), limit=9) == ()
    assert await store.open_restores() == ()
    assert (await store.rows(limit=1))[0].phase is IncidentPhase.SEEN
    assert await store.lock_target(make.target(), "inc-x") == "inc-x"
    with pytest.raises(LedgerError, match="no document"):
        await store.document(hashlib.sha256(b"plan").hexdigest())


async def test_a_repeat_is_found_whatever_excludes_it_by_now(store: TimelineStore, make: Make) -> None:
    """What was done comes first; another incident's entries exclude nothing."""
    await store.append([make.draft("inc-b", "close")])
    (intent,) = await store.append([make.draft(key="intent")], unless=("close",))
    await store.append([make.draft(key="close")])
    (again,) = await store.append([make.draft(key="intent")], unless=("close",))
    assert (again.entry, again.found) == (intent.entry, True)


async def test_a_restore_does_not_end_beside_what_excludes_it(store: TimelineStore, make: Make) -> None:
    """Its row stays open, nobody is told, and the other entry is found."""
    record = make.restore()
    await store.append([make.draft(key="begun")], restores=[record])
    end, told = make.draft(key="ended"), [make.message("m")]
    kept = await store.end_restore((1, 0), outcome="overdue", entry=end, messages=told, unless=("begun",))
    assert (kept.entry.key, kept.found) == ("begun", True)
    assert await store.open_restores() == (record,)
    assert await store.due(make.time(99), limit=9) == ()
    done = await store.end_restore((1, 0), outcome="overdue", entry=end, messages=told)
    again = await store.end_restore((1, 0), outcome="overdue", entry=end, messages=told, unless=("begun",))
    assert (again.entry, again.found) == (done.entry, True)


async def test_targets_are_held_for_an_entry(store: TimelineStore, make: Make) -> None:
    """Without one there is no incident to hold them."""
    with pytest.raises(ValueError, match="first draft"):
        await store.append([], holding=[make.target()])
    with pytest.raises(ValueError, match="first draft"):
        await store.append([], unless=("close",))

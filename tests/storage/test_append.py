"""The ledger: written once, found again, without gaps, all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.errors import AppendConflict, ContractError, LedgerError
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import Channel, PagerAction
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.storage.sqlite_store import TimelineStore
from firebreak.storage.verify import verify_store
from firebreak.timeline.chain import GENESIS

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def test_an_appended_entry_comes_back_as_it_was_given(store: TimelineStore, make: Make) -> None:
    """All fields survive, numbers keep their meaning, and the first entry follows the genesis digest."""
    body = {"text": "€ \u2028 \x00 'quoted'", "nested": [{"x": 1.5}, None, True], "tiny": 1e-7}
    draft = replace(make.draft(body=body), target="lab/shop/Deployment/pay-v1", uid="u-1", duration_ms=5)
    (appended,) = await store.append([draft])
    entry = appended.entry
    assert not appended.found
    assert entry == await store.find("inc-a", "k")
    assert (entry.seq, entry.previous, len(entry.digest)) == (1, GENESIS, 64)
    assert (entry.body, entry.at, entry.uid, entry.duration_ms) == (body, draft.at, "u-1", 5.0)
    assert (entry.kind, entry.actor, entry.target) == (EntryKind.FACTS_GATHERED, "engine", draft.target)


async def test_a_second_append_finds_the_first_and_changes_nothing(store: TimelineStore, make: Make) -> None:
    """Facts are written once: another body under the same key is not written, not even when it is newer."""
    (first,) = await store.append([make.draft(body={"value": 1})])
    (second,) = await store.append([make.draft(body={"value": 2}, at=9)])
    assert second.found
    assert second.entry == first.entry
    assert await store.entries("inc-a") == (first.entry,)


async def test_what_goes_with_a_found_entry_is_not_applied_again(store: TimelineStore, make: Make) -> None:
    """Messages, cancels, restores and the phase belong to the first writing of the first draft."""
    incident = make.incident()
    await store.open_or_join(
        incident,
        opened=make.draft(incident.id, "opened"),
        joined=make.draft("", "joined"),
        messages=[make.message("deadline", incident=incident.id, due=60)],
    )
    await store.append([make.draft(incident.id)])
    again = await store.append(
        [make.draft(incident.id), make.draft(incident.id, "new")],
        messages=[make.message("m", incident=incident.id, channel=Channel.CHAT)],
        cancel=[(incident.id, "deadline")],
        restores=[make.restore(incident.id)],
        phase=(incident.id, IncidentPhase.ACTING),
    )
    assert [done.found for done in again] == [True, False]
    assert [m.draft.key for m in await store.due(make.time(99), limit=9)] == ["deadline"]
    assert await store.open_restores() == ()
    assert (await store.rows(limit=1))[0].phase is IncidentPhase.SEEN


async def test_one_append_is_one_transaction(store: TimelineStore, make: Make) -> None:
    """Entries, messages, cancels, documents, restores and phase are there together."""
    incident = make.incident()
    await store.open_or_join(
        incident,
        opened=make.draft(incident.id, "opened"),
        joined=make.draft("", "joined"),
        messages=[make.message("deadline", incident=incident.id, due=60, pager=PagerAction.TRIGGER_HIGH)],
    )
    await store.append(
        [make.draft(incident.id, "a"), make.draft(incident.id, "b")],
        messages=[make.message("m", incident=incident.id)],
        cancel=[(incident.id, "deadline")],
        documents=[b"plan", b"plan"],
        restores=[make.restore(incident.id)],
        phase=(incident.id, IncidentPhase.ACTING),
    )
    assert [entry.seq for entry in await store.entries(incident.id)] == [1, 2, 3]
    assert [m.draft for m in await store.due(make.time(99), limit=9)] == [make.message("m", incident=incident.id)]
    assert await store.document(hashlib.sha256(b"plan").hexdigest()) == b"plan"
    assert await store.open_restores() == (make.restore(incident.id),)
    assert (await store.rows(limit=1))[0].phase is IncidentPhase.ACTING


async def test_a_missing_document_is_an_error(store: TimelineStore) -> None:
    """A plan that cannot be read again is a fault of the ledger, never an empty plan."""
    with pytest.raises(LedgerError, match="no document"):
        await store.document("0" * 64)


async def test_a_body_that_is_not_json_data_is_refused_and_nothing_is_written(store: TimelineStore, make: Make) -> None:
    """NaN has no canonical form: the whole append is refused, the numbering has no hole."""
    with pytest.raises(ContractError):
        await store.append([make.draft(key="good"), make.draft(key="bad", body={"value": float("nan")})])
    (next_one,) = await store.append([make.draft(key="after")])
    assert next_one.entry.seq == 1


async def test_a_failing_unit_spoils_no_other_of_its_batch(store: TimelineStore, make: Make) -> None:
    """Units that share a commit fail alone: their neighbours are written, without a gap."""

    def broken(connection: object) -> None:
        raise ZeroDivisionError

    work = [store.append([make.draft(key=f"k{n}")]) for n in range(20)]
    results = await asyncio.gather(*work[:10], store._write(broken), *work[10:], return_exceptions=True)
    assert sum(isinstance(result, ZeroDivisionError) for result in results) == 1
    assert [entry.seq for entry in await store.entries("inc-a")] == list(range(1, 21))


@pytest.mark.parametrize("neighbours", [0, 10])
async def test_what_the_database_refuses_is_a_ledger_error(store: TimelineStore, make: Make, neighbours: int) -> None:
    """A write against the rules of the schema is an error of ours, alone in its batch or among others."""
    await store.append([make.draft()])

    def forbidden(raw: sqlite3.Connection) -> None:
        raw.execute("DELETE FROM entries")

    others = [store.append([make.draft(key=f"k{n}")]) for n in range(neighbours)]
    results = await asyncio.gather(*others, store._write(forbidden), return_exceptions=True)
    assert isinstance(results[-1], AppendConflict)
    assert "never deleted" in str(results[-1])
    assert len(await store.entries("inc-a")) == 1 + neighbours


async def test_a_cancelled_caller_harms_nobody(store: TimelineStore, make: Make) -> None:
    """A caller that gives up waiting leaves the writer at work for the others."""
    task = asyncio.create_task(store.append([make.draft(key="given-up")]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.append([make.draft(key="other")])
    assert await store.find("inc-a", "other") is not None


async def test_eight_writers_leave_no_gap(store: TimelineStore, make: Make, timeline_path: Path) -> None:
    """Tasks that append at once, some under the same key, leave one sequence that verifies."""

    async def write(writer: int) -> list[TimelineEntry]:
        done = []
        for n in range(40):
            (own,) = await store.append([make.draft(f"inc-{writer}", f"k{n}")])
            (shared,) = await store.append([make.draft("inc-shared", f"k{n}", body={"writer": writer})])
            done += [own.entry, shared.entry]
        return done

    written = [entry for part in await asyncio.gather(*(write(n) for n in range(8))) for entry in part]
    assert {entry.seq for entry in written} == set(range(1, 8 * 40 + 40 + 1))
    assert len({entry.digest for entry in written}) == 360
    assert (await asyncio.to_thread(verify_store, timeline_path)).entries == 360


_WRITE = """
import asyncio, sys
from datetime import datetime, UTC
from pathlib import Path
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import TimelineStore

async def main(path, name):
    async with await TimelineStore.open(Path(path)) as store:
        print("open", flush=True)
        sys.stdin.readline()
        for n in range(150):
            fields = {"key": f"k{n}", "kind": EntryKind.FACTS_GATHERED, "at": datetime.now(UTC), "body": {}}
            own, shared = (EntryDraft(incident_id=incident, **fields) for incident in (name, "shared"))
            await asyncio.gather(store.append([own]), store.append([shared]))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_share_one_sequence(timeline_path: Path) -> None:
    """Processes that write one file at once, from its first opening on, wait for each other and share keys."""
    pipe = asyncio.subprocess.PIPE
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITE, str(timeline_path), name, stdin=pipe, stdout=pipe
        )
        for name in ("one", "two")
    ]
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"open\n"
    await asyncio.gather(*(child.communicate(b"go\n") for child in children))
    assert [child.returncode for child in children] == [0, 0]
    report = await asyncio.to_thread(verify_store, timeline_path)
    assert (report.ok, report.entries) == (True, 450)


async def test_an_incident_closes_once(store: TimelineStore, make: Make) -> None:
    """The second close finds the first: outcome, messages and time stay, whoever asks."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    close = make.draft(incident.id, "close", kind=EntryKind.INCIDENT_CLOSED, at=30)
    first = await store.close_incident(
        close,
        IncidentOutcome.HEALED,
        messages=[make.message("closed", incident=incident.id, due=30)],
    )
    second = await store.close_incident(
        replace(close, at=make.time(40)),
        IncidentOutcome.CLOSED_BY_HAND,
        messages=[make.message("closed-2", incident=incident.id, due=40)],
    )
    (row,) = await store.rows(limit=5)
    assert first is not None
    assert second is not None
    assert (first.found, second.found, second.entry) == (False, True, first.entry)
    assert (row.outcome, row.closed_at, row.phase) == (IncidentOutcome.HEALED, make.time(30), IncidentPhase.CLOSED)
    assert [m.draft.key for m in await store.due(make.time(99), limit=9)] == ["closed"]
    assert await store.open_incidents() == ()


async def test_an_alert_that_joined_after_the_last_verdict_keeps_the_incident_open(
    store: TimelineStore, make: Make
) -> None:
    """Nothing is closed over an alert that nobody has looked at; after a look it may be."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    await store.append([make.draft(incident.id, "verdict/0", kind=EntryKind.VERDICT_REACHED)])
    await store.append([make.draft(incident.id, "joined/late", kind=EntryKind.ALERT_JOINED)])
    close = make.draft(incident.id, "close", kind=EntryKind.INCIDENT_CLOSED, at=30)

    async def closes() -> bool:
        done = await store.close_incident(close, IncidentOutcome.NOTHING_DONE, messages=(), unless_joined=True)
        return done is not None

    assert not await closes()
    assert await store.open_incidents() != ()
    await store.append([make.draft(incident.id, "verdict/1", kind=EntryKind.VERDICT_REACHED)])
    assert await closes()
    assert await store.open_incidents() == ()


async def test_closing_takes_back_the_deadline_and_lets_go_of_the_targets(store: TimelineStore, make: Make) -> None:
    """A deadline page of a healed incident is never sent; what is due already is; the target is free again."""
    incident = make.incident()
    await store.open_or_join(
        incident,
        opened=make.draft(incident.id, "opened"),
        joined=make.draft("", "joined"),
        messages=[
            make.message("notice", incident=incident.id, channel=Channel.CHAT),
            make.message("deadline", incident=incident.id, due=60, pager=PagerAction.TRIGGER_HIGH),
        ],
    )
    await store.lock_target(make.target(), incident.id)
    await store.close_incident(make.draft(incident.id, "close", at=20), IncidentOutcome.HEALED, messages=[])
    assert [m.draft.key for m in await store.due(make.time(99), limit=9)] == ["notice"]
    assert await store.lock_target(make.target(), "inc-other") == "inc-other"


@pytest.mark.parametrize("how", ["cancel", "close"])
@pytest.mark.parametrize(("at", "doubt"), [(30, False), (58.9, False), (59.5, True), (61, True)])
async def test_a_call_that_is_taken_back_when_it_is_due_may_be_on_its_way(
    store: TimelineStore, make: Make, how: str, at: float, doubt: bool
) -> None:
    """The record says so, also where it falls due while the change is being written; of one in good time it says
    nothing. (A close takes nothing back that is due.)"""
    incident = make.incident()
    call = make.message("deadline", incident=incident.id, due=60, pager=PagerAction.TRIGGER_HIGH)
    low = make.message("notice", incident=incident.id, due=60)
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[call, low]
    )
    if how == "cancel":
        cancel = [(incident.id, "deadline"), (incident.id, "notice")]
        await store.append([make.draft(incident.id, "verify", at=at)], cancel=cancel)
    else:
        await store.close_incident(make.draft(incident.id, "close", at=at), IncidentOutcome.HEALED, messages=[])
    back = [e.body["key"] for e in await store.entries(incident.id) if e.kind is EntryKind.MESSAGE_TAKEN_BACK]
    assert back == (["deadline"] if doubt and not (how == "close" and at > 60) else [])


async def test_a_call_that_waits_for_its_next_try_is_not_on_its_way(store: TimelineStore, make: Make) -> None:
    """What the one before may have done, its own entry says."""
    call = make.message("deadline", due=60, pager=PagerAction.TRIGGER_HIGH)
    await store.append([make.draft()], messages=[call])
    (message,) = await store.due(make.time(60), limit=9)
    await store.failed(message, next_try_at=make.time(90), entry=None)
    await store.append([make.draft(key="verify", at=70)], cancel=[("inc-a", "deadline")])
    assert [entry.key for entry in await store.entries("inc-a")] == ["k", "verify"]


async def test_a_phase_is_not_set_after_the_close(store: TimelineStore, make: Make) -> None:
    """A late record does not reopen what is closed."""
    incident = make.incident()
    await store.open_or_join(
        incident, opened=make.draft(incident.id, "opened"), joined=make.draft("", "joined"), messages=[]
    )
    await store.close_incident(make.draft(incident.id, "close"), IncidentOutcome.HEALED, messages=[])
    await store.append([make.draft(incident.id, "late")], phase=(incident.id, IncidentPhase.ACTING))
    assert (await store.rows(limit=1))[0].phase is IncidentPhase.CLOSED


async def test_one_actor_per_target(store: TimelineStore, make: Make) -> None:
    """The first incident holds the target until it lets go; asking again changes nothing."""
    holders = await asyncio.gather(*(store.lock_target(make.target(), f"inc-{n}") for n in range(8)))
    assert len(set(holders)) == 1
    holder = holders[0]
    assert await store.lock_target(make.target(), "inc-x") == holder
    assert await store.lock_target(make.target("pay-v2"), "inc-x") == "inc-x"
    await store.release_targets(holder)
    assert await store.lock_target(make.target(), "inc-x") == "inc-x"
    assert await store.lock_target(make.target(), "inc-x") == "inc-x"


async def test_a_restore_outlives_its_incident_and_ends_once(store: TimelineStore, make: Make) -> None:
    """It is open until it is ended, with its entry and messages; the second end finds the first."""
    record = make.restore()
    await store.append([make.draft()], restores=[record, make.restore(tier=2)])
    entry = make.draft(key="restore-ended", kind=EntryKind.RESTORE_ENDED, at=50)
    first = await store.end_restore((1, 0), outcome="restored", entry=entry, messages=[make.message("back", due=50)])
    second = await store.end_restore((1, 0), outcome="overdue", entry=entry, messages=[make.message("late", due=50)])
    assert (first.found, second.found) == (False, True)
    assert [open_.tier for open_ in await store.open_restores()] == [2]
    assert [m.draft.key for m in await store.due(make.time(99), limit=9)] == ["back"]


async def test_records_are_found_by_what_they_begin_with(store: TimelineStore, make: Make) -> None:
    """Each once, the last ones first; what only looks alike is another."""
    for name in ("engine-a-1", "engine-a-2", "engine-a", "engine-a.3", "engine-ab-4", "engine-a-30"):
        await store.append([make.draft(name), make.draft(name, "more")])
    assert await store.records("engine-a-") == ("engine-a-30", "engine-a-2", "engine-a-1")
    assert await store.records("engine-c-") == ()

"""Which alert belongs to which incident."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firebreak.domain.alert import Alert, AlertStatus, Disposition
from firebreak.domain.codec import to_data
from firebreak.domain.errors import ChainBroken
from firebreak.domain.incident import Incident, IncidentOutcome, UnreadableRow
from firebreak.domain.timeline import EntryKind
from firebreak.storage.sqlite_store import TimelineStore

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def _tell(store: TimelineStore, make: Make, incident: Incident) -> tuple[str, Disposition]:
    key = incident.alert.key
    return await store.open_or_join(
        incident,
        opened=make.draft(incident.id, "opened", kind=EntryKind.INCIDENT_OPENED),
        joined=make.draft("to be filled in", f"joined/{key}", kind=EntryKind.ALERT_JOINED),
        messages=[make.message("deadline", incident=incident.id, due=60)],
    )


async def _close(store: TimelineStore, make: Make, incident: str, *, at: float) -> None:
    await store.close_incident(make.draft(incident, "close", at=at), IncidentOutcome.NOTHING_DONE, messages=[])


def _resolved(make: Make, fingerprint: str = "f1", *, start: float = 0, end: float = 60) -> Alert:
    return make.alert(fingerprint, start=start, status=AlertStatus.RESOLVED, end=end)


async def test_a_new_alert_opens_an_incident(store: TimelineStore, make: Make) -> None:
    """The incident comes back as it was given, with its first entry, its deadline and one firing alert."""
    incident = make.incident()
    assert await _tell(store, make, incident) == (incident.id, Disposition.OPENED)
    assert await store.incident(incident.id) == incident
    assert await store.open_incidents() == (incident,)
    assert [entry.key for entry in await store.entries(incident.id)] == ["opened"]
    assert await store.next_due() == make.time(60)
    assert await store.firing(incident.id) == 1
    assert await store.firing_alerts(incident.id) == {incident.alert.key}
    (row,) = await store.rows(limit=5)
    assert (row.id, row.alertname, row.service, row.alerts_firing) == (incident.id, "PayDown", "pay", 1)
    assert (row.outcome, row.closed_at) == (IncidentOutcome.OPEN, None)


async def test_a_second_delivery_changes_nothing(store: TimelineStore, make: Make) -> None:
    """The same alert again is a duplicate of the incident that knows it."""
    incident = make.incident()
    await _tell(store, make, incident)
    assert await _tell(store, make, make.incident(accepted=5)) == (incident.id, Disposition.DUPLICATE)
    assert len(await store.entries(incident.id)) == 1
    assert await store.firing(incident.id) == 1
    assert await store.firing_alerts(incident.id) == {incident.alert.key}


async def test_an_alert_of_an_open_correlation_joins(store: TimelineStore, make: Make) -> None:
    """Another alert with the same correlation key joins: one incident, one entry of its own, no second deadline."""
    incident = make.incident()
    await _tell(store, make, incident)
    other = make.incident(make.alert("f2", start=3), accepted=3)
    assert await _tell(store, make, other) == (incident.id, Disposition.JOINED)
    assert [entry.kind for entry in await store.entries(incident.id)] == [
        EntryKind.INCIDENT_OPENED,
        EntryKind.ALERT_JOINED,
    ]
    assert await store.incident(other.id) is None
    assert await store.firing(incident.id) == 2


async def test_another_correlation_opens_its_own(store: TimelineStore, make: Make) -> None:
    """Alerts of different correlation keys have different incidents, newest first in the list."""
    first, second = make.incident(), make.incident(make.alert("f2"), correlation="order", accepted=1)
    assert (await _tell(store, make, first))[1] is Disposition.OPENED
    assert (await _tell(store, make, second))[1] is Disposition.OPENED
    assert [row.id for row in await store.rows(limit=9)] == [second.id, first.id]
    assert [row.id for row in await store.rows(limit=1)] == [second.id]


async def test_many_at_once_open_one_incident(store: TimelineStore, make: Make) -> None:
    """A storm with one correlation key opens one incident, and every other alert joins it."""
    told = await asyncio.gather(
        *(_tell(store, make, make.incident(make.alert(f"f{n}"), accepted=n)) for n in range(50))
    )
    assert sorted(disposition for _, disposition in told) == [Disposition.JOINED] * 49 + [Disposition.OPENED]
    assert len({incident for incident, _ in told}) == 1
    assert await store.firing(told[0][0]) == 50


async def test_a_repeat_soon_after_the_close_is_a_duplicate(store: TimelineStore, make: Make) -> None:
    """A healed incident is not opened again by the notification that was already on its way."""
    incident = make.incident()
    await _tell(store, make, incident)
    await _close(store, make, incident.id, at=30)
    assert await _tell(store, make, make.incident(accepted=60)) == (incident.id, Disposition.DUPLICATE)


async def test_a_repeat_long_after_the_close_opens_afresh(store: TimelineStore, make: Make) -> None:
    """An alert that Alertmanager still repeats after `rearm` is looked at again, in an incident of its own."""
    incident = make.incident()
    await _tell(store, make, incident)
    await _close(store, make, incident.id, at=30)
    later = make.incident(accepted=30 + 301)
    assert await _tell(store, make, later) == (later.id, Disposition.OPENED)
    assert await store.firing(later.id) == 1
    assert await store.firing(incident.id) == 0


@pytest.mark.parametrize(
    ("accepted", "expected"), [(3600 - 300, Disposition.DUPLICATE), (3600 - 301, Disposition.OPENED)]
)
async def test_a_repeat_long_before_the_close_opens_afresh(
    store: TimelineStore, make: Make, accepted: float, expected: Disposition
) -> None:
    """The clock was set back since: nobody waits until it says the old time again. What was accepted a little before
    the close was only handled late."""
    incident = make.incident(accepted=-10)
    await _tell(store, make, incident)
    await _close(store, make, incident.id, at=3600)
    assert (await _tell(store, make, make.incident(accepted=accepted)))[1] is expected


async def test_rearm_is_the_callers_to_set(store: TimelineStore, make: Make) -> None:
    """A shorter rearm opens sooner."""
    incident = make.incident()
    await _tell(store, make, incident)
    await _close(store, make, incident.id, at=30)
    later = make.incident(accepted=45)
    _, disposition = await store.open_or_join(
        later,
        opened=make.draft(later.id, "opened"),
        joined=make.draft("", "joined"),
        messages=[],
        rearm=timedelta(seconds=10),
    )
    assert disposition is Disposition.OPENED


async def test_a_resolved_alert_tells_its_incident_how_many_are_left(store: TimelineStore, make: Make) -> None:
    """Each resolution counts once; a repeated one gives the same answer; an unknown one gives none."""
    incident = make.incident()
    await _tell(store, make, incident)
    await _tell(store, make, make.incident(make.alert("f2")))
    assert await store.resolve_alert(_resolved(make), at=make.time(61)) == (incident.id, 1)
    assert await store.resolve_alert(_resolved(make), at=make.time(62)) == (incident.id, 1)
    assert await store.resolve_alert(_resolved(make, "f2"), at=make.time(63)) == (incident.id, 0)
    assert await store.resolve_alert(_resolved(make, "f3"), at=make.time(64)) is None


async def test_an_end_is_written_once_however_often_it_is_told(store: TimelineStore, make: Make) -> None:
    """With what it ended, in one transaction: a repeat, or an end that nobody knows of, adds nothing to the record."""
    incident = make.incident()
    await _tell(store, make, incident)
    before = len(await store.entries(incident.id))
    for receipt in (1, 2, 3):
        entry = make.draft("", f"resolved/{receipt}", kind=EntryKind.ALERT_RESOLVED)
        await store.resolve_alert(_resolved(make), at=make.time(60 + receipt), entry=entry)
        await store.resolve_alert(_resolved(make, "f9"), at=make.time(60 + receipt), entry=entry)
    assert [e.key for e in (await store.entries(incident.id))[before:]] == ["resolved/1"]


async def _handle(store: TimelineStore, make: Make, delivery: tuple[int, str, bool]) -> None:
    """As the dispatcher does: one second between two deliveries, one incident for each alert."""
    receipt, fingerprint, fires = delivery
    key = f"{receipt}"
    if fires:
        incident = make.incident(make.alert(fingerprint), correlation=fingerprint, accepted=receipt)
        await store.open_or_join(
            incident,
            opened=make.draft(incident.id, "opened", kind=EntryKind.INCIDENT_OPENED),
            joined=make.draft("", f"joined/{key}", kind=EntryKind.ALERT_JOINED),
            messages=[],
            receipt=receipt,
        )
    else:
        await store.resolve_alert(
            _resolved(make, fingerprint),
            at=make.time(receipt + 0.5),
            accepted_at=make.time(receipt),
            receipt=receipt,
            entry=make.draft("", f"resolved/{key}", kind=EntryKind.ALERT_RESOLVED),
        )


async def _books(store: TimelineStore) -> Any:
    """All that handling a delivery may change."""
    return await store._peek(
        lambda raw: [raw.execute(f"SELECT * FROM {table}").fetchall() for table in ("entries", "alerts", "incidents")]
    )


async def test_what_is_handled_again_changes_nothing(store: TimelineStore, make: Make) -> None:
    """After a crash: the last deliveries, any number of them, in their order, whatever they were."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    told: list[tuple[int, str, bool]] = []
    for receipt in range(1, 120):
        told.append((receipt, chance.choice(("f1", "f2")), chance.random() < 0.5))
        await _handle(store, make, told[-1])
        before = await _books(store)
        for again in told[-chance.randrange(1, 9) :]:
            await _handle(store, make, again)
        assert await _books(store) == before, told
    kinds = {row[3] for row in before[0]}
    assert kinds == {"incident.opened", "alert.joined", "alert.resolved"}, "the random deliveries tried too little"


async def test_a_new_inbox_or_a_clock_set_back_hides_no_alert(store: TimelineStore, make: Make) -> None:
    """Receipts that begin anew come later, and what is accepted earlier has a higher receipt: neither was handled."""
    incident = make.incident(accepted=30)
    drafts: Any = {"opened": make.draft(incident.id, "opened"), "messages": []}
    await store.open_or_join(incident, joined=make.draft("", "joined/7"), receipt=7, **drafts)
    await store.resolve_alert(_resolved(make), at=make.time(60), accepted_at=make.time(60), receipt=8)
    for again, receipt, accepted in (("clock set back", 9, 10), ("new inbox", 1, 90)):
        back = make.incident(accepted=accepted)
        told = await store.open_or_join(back, joined=make.draft("", f"joined/{again}"), receipt=receipt, **drafts)
        assert told == (incident.id, Disposition.JOINED), again
        assert await store.firing(incident.id) == 1
        await store.resolve_alert(_resolved(make), at=make.time(99), accepted_at=back.accepted_at, receipt=receipt + 1)


async def test_a_new_inbox_and_a_clock_set_back_together_hide_no_alert(store: TimelineStore, make: Make) -> None:
    """Neither counter has come as far as before, and yet nothing of it was handled: it is of another inbox."""
    incident = make.incident(accepted=30)
    drafts: Any = {"opened": make.draft(incident.id, "opened"), "messages": []}
    await store.open_or_join(incident, joined=make.draft("", "joined/7"), receipt=7, inbox="old", **drafts)
    ends: Any = {"at": make.time(60), "accepted_at": make.time(60), "receipt": 8}
    await store.resolve_alert(_resolved(make), inbox="old", **ends)
    again = make.incident(accepted=10)
    told = await store.open_or_join(again, joined=make.draft("", "joined/1"), receipt=1, inbox="new", **drafts)
    assert told == (incident.id, Disposition.JOINED)
    ends = {"at": make.time(11), "accepted_at": make.time(11), "receipt": 2}
    assert await store.resolve_alert(_resolved(make), inbox="new", **ends) == (incident.id, 0)


async def test_a_clock_set_back_makes_nothing_new_of_what_was_handled(store: TimelineStore, make: Make) -> None:
    """A crash after the end: the firing is handled again, and was accepted at a time that is later than the end's."""
    incident = make.incident(accepted=3600)
    drafts: Any = {"opened": make.draft(incident.id, "opened"), "messages": []}
    fires: Any = {"joined": make.draft("", "joined/7"), "receipt": 7, "inbox": "one", **drafts}
    await store.open_or_join(incident, **fires)
    await store.resolve_alert(_resolved(make), at=make.time(9), accepted_at=make.time(9), receipt=8, inbox="one")
    before = await _books(store)
    assert await store.open_or_join(incident, **fires) == (incident.id, Disposition.DUPLICATE)
    assert await _books(store) == before


async def test_what_resolves_an_alert_resolves_its_earlier_starts(store: TimelineStore, make: Make) -> None:
    """One label set has one alert at a time: a start that Alertmanager moved leaves nothing firing for ever."""
    incident = make.incident(make.alert(start=10))
    await _tell(store, make, incident)
    await _tell(store, make, make.incident(make.alert(start=5)))
    assert await store.resolve_alert(_resolved(make, start=5, end=60), at=make.time(61)) == (incident.id, 0)


async def test_a_late_resolution_of_an_earlier_episode_leaves_the_new_one_firing(
    store: TimelineStore, make: Make
) -> None:
    """A resolution speaks only of what began before its end."""
    incident = make.incident(make.alert(start=100))
    await _tell(store, make, incident)
    assert await store.resolve_alert(_resolved(make, start=0, end=60), at=make.time(130)) is None
    assert await store.firing(incident.id) == 1
    assert await store.firing_alerts(incident.id) == {incident.alert.key}


async def test_an_alert_that_fires_again_with_the_same_start_joins_its_open_incident(
    store: TimelineStore, make: Make
) -> None:
    """Resolved because its source was out of sight, and back: it fires in the books again."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store.resolve_alert(_resolved(make), at=make.time(61))
    assert await _tell(store, make, make.incident(accepted=90)) == (incident.id, Disposition.JOINED)
    assert await store.firing(incident.id) == 1
    assert await store.firing_alerts(incident.id) == {incident.alert.key}


async def test_an_alert_that_fires_again_after_the_close_opens_a_new_incident(store: TimelineStore, make: Make) -> None:
    """Resolved, closed, and firing again at once: an outage is not missed, however soon it comes back."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store.resolve_alert(_resolved(make), at=make.time(20))
    await _close(store, make, incident.id, at=21)
    later = make.incident(accepted=22)
    assert await _tell(store, make, later) == (later.id, Disposition.OPENED)
    assert await store.resolve_alert(_resolved(make), at=make.time(99)) == (later.id, 0)


async def test_an_incident_id_is_used_once(store: TimelineStore, make: Make) -> None:
    """Refired within the very second that its id is made of: a duplicate, not an error."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store.resolve_alert(_resolved(make), at=make.time(0.1))
    await _close(store, make, incident.id, at=0.2)
    assert await _tell(store, make, make.incident(accepted=0.3)) == (incident.id, Disposition.DUPLICATE)


async def test_close_requests_are_those_of_open_incidents(store: TimelineStore, make: Make) -> None:
    """A person's request is seen until the incident is closed."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store.append([make.draft(incident.id, "close-request", kind=EntryKind.CLOSE_REQUESTED)])
    assert [entry.key for entry in await store.close_requests()] == ["close-request"]
    await _close(store, make, incident.id, at=9)
    assert await store.close_requests() == ()


async def test_an_unknown_incident_is_none(store: TimelineStore) -> None:
    """Asking for what is not there is no error."""
    assert await store.incident("inc-20261121-083644-00000000") is None
    assert await store.entries("inc-20261121-083644-00000000") == ()
    assert await store.firing("inc-20261121-083644-00000000") == 0


@pytest.mark.parametrize("data", ["substr(data, 1, 50)", "'[]'", "'{\"id\": 1}'", "CAST(x'7bff' AS TEXT)", "x'00'"])
async def test_a_damaged_row_hides_no_incident(store: TimelineStore, make: Make, data: str) -> None:
    """What opened it is in the record, too, which the chain guards: both are read as they were."""
    plain = {"alertname": "PayDown", "service": "pay"}
    damaged = make.incident(replace(make.alert(), labels=plain))
    whole = make.incident(replace(make.alert("f2"), labels=plain), correlation="order")
    for incident in (damaged, whole):
        opened = make.draft(incident.id, "opened", kind=EntryKind.INCIDENT_OPENED, body=to_data(incident))
        await store.open_or_join(incident, opened=opened, joined=make.draft("", "joined"), messages=[])
    await store._write(lambda raw: raw.execute(f"UPDATE incidents SET data = {data} WHERE id = ?", (damaged.id,)))
    assert {i.id: i for i in await store.open_incidents()} == {damaged.id: damaged, whole.id: whole}
    assert await store.incident(damaged.id) == damaged


async def test_an_incident_that_neither_row_nor_record_tells_of_hides_no_other(
    store: TimelineStore, make: Make
) -> None:
    """It is named, with what is wrong, so that somebody can be told of it."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store._write(lambda raw: raw.execute("UPDATE incidents SET data = '{}', id = 'inc-x'"))
    whole = make.incident(make.alert("f2"), correlation="order")
    await _tell(store, make, whole)
    damaged, other = sorted(await store.open_incidents(), key=lambda one: one.id == whole.id)
    assert isinstance(damaged, UnreadableRow)
    assert (damaged.id, "cannot be read" in damaged.fault) == ("inc-x", True)
    assert other == whole


async def test_an_incident_that_neither_row_nor_record_tells_of_says_so(store: TimelineStore, make: Make) -> None:
    """With its id, and what to do."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store._write(lambda raw: raw.execute("UPDATE incidents SET data = '{}', id = 'inc-x'"))
    with pytest.raises(ChainBroken, match="inc-x cannot be read"):
        await store.incident("inc-x")


async def test_a_damaged_look_keeps_no_incident_open(store: TimelineStore, make: Make) -> None:
    """What it wrote cannot be read any more: whether an alert joined since is told by its place in the record."""
    incident = make.incident()
    await _tell(store, make, incident)
    await store.append([make.draft(incident.id, "verdict/0", kind=EntryKind.VERDICT_REACHED, body={"read_up_to": 1})])

    def damage(raw: Any) -> None:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("UPDATE entries SET body = '{' WHERE key = 'verdict/0'")

    await store._write(damage)
    end = make.draft(incident.id, "close", kind=EntryKind.INCIDENT_CLOSED)
    outcome = IncidentOutcome.NOTHING_DONE
    assert await store.close_incident(end, outcome, messages=(), unless_joined=True) is not None

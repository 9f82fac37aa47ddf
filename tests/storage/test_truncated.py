"""How many alerts were left out: of any body about an incident, the most."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firebreak.domain.alert import Alert, AlertStatus, Disposition
from firebreak.domain.codec import to_data
from firebreak.domain.incident import IncidentOutcome
from firebreak.storage.sqlite_store import TimelineStore
from firebreak.storage.store import encode_json

if TYPE_CHECKING:
    from tests.storage.conftest import Make


async def _tell(
    store: TimelineStore, make: Make, truncated: int, alert: Alert | None = None, *, accepted: float = 0
) -> tuple[str, Disposition]:
    incident = replace(make.incident(alert, accepted=accepted), truncated=truncated)
    return await store.open_or_join(
        incident,
        opened=make.draft(incident.id, "opened"),
        joined=make.draft("", f"joined/{incident.alert.key}"),
        messages=[],
    )


def _over(make: Make, fingerprint: str = "f1") -> Alert:
    return make.alert(fingerprint, status=AlertStatus.RESOLVED)


async def test_whoever_tells_of_an_incident_raises_what_was_left_out(store: TimelineStore, make: Make) -> None:
    """The body that opens it, one that joins, a repeat, and one that resolves."""
    incident, _ = await _tell(store, make, 1)
    assert await store.truncated(incident) == 1
    assert await _tell(store, make, 3, make.alert("f2"), accepted=1) == (incident, Disposition.JOINED)
    assert await store.truncated(incident) == 3
    assert await _tell(store, make, 5, accepted=2) == (incident, Disposition.DUPLICATE)
    assert await store.truncated(incident) == 5
    await store.resolve_alert(_over(make), at=make.time(61), truncated=7)
    assert await store.truncated(incident) == 7


async def test_a_whole_body_lowers_nothing(store: TimelineStore, make: Make) -> None:
    """It may be of another group of the source, and says nothing of the one that left alerts out."""
    incident, _ = await _tell(store, make, 4)
    await _tell(store, make, 0, accepted=1)
    await _tell(store, make, 2, make.alert("f2"), accepted=2)
    await store.resolve_alert(_over(make), at=make.time(61), truncated=0)
    assert await store.truncated(incident) == 4


async def test_what_was_left_out_is_of_one_incident(store: TimelineStore, make: Make) -> None:
    """Another one is not touched, and one that nobody knows has none."""
    incident, _ = await _tell(store, make, 0)
    other = make.incident(make.alert("f2"), correlation="order")
    await store.open_or_join(other, opened=make.draft(other.id, "opened"), joined=make.draft(""), messages=[])
    await store.resolve_alert(_over(make, "f2"), at=make.time(61), truncated=2)
    assert (await store.truncated(incident), await store.truncated(other.id)) == (0, 2)
    assert await store.truncated("inc-20261121-083644-00000000") == 0


async def test_the_last_known_alert_is_not_the_last_where_any_were_left_out(store: TimelineStore, make: Make) -> None:
    """One may fire that nobody told of, whether the body that resolves left it out or an earlier one; what is known to
    fire stays as it is."""
    incident, _ = await _tell(store, make, 0)
    await _tell(store, make, 0, make.alert("f2"), accepted=1)
    assert await store.resolve_alert(_over(make), at=make.time(61), truncated=2) == (incident, 1)
    assert await store.resolve_alert(_over(make, "f2"), at=make.time(62)) == (incident, 1)
    assert await store.firing(incident) == 0


async def test_a_repeat_within_the_second_of_an_id_is_heeded(store: TimelineStore, make: Make) -> None:
    """Refired so soon that it can open none of its own: what its body left out is of the one that has the id."""
    incident, _ = await _tell(store, make, 0)
    await store.resolve_alert(_over(make), at=make.time(0.1))
    ending = make.draft(incident, "close", at=0.2)
    await store.close_incident(ending, IncidentOutcome.NOTHING_DONE, messages=[])
    assert await _tell(store, make, 2, accepted=0.3) == (incident, Disposition.DUPLICATE)
    assert await store.truncated(incident) == 2


async def test_an_older_store_keeps_what_the_opening_body_left_out(
    timeline_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revision before knew of no other; an incident of a still older program, which kept none, has none."""
    with monkeypatch.context() as older:
        older.setattr(TimelineStore, "revision", "timeline_0002")
        async with await TimelineStore.open(timeline_path):
            pass
    first = replace(make.incident(), truncated=3)
    second = make.incident(make.alert("f2"), correlation="order")
    told = [(first, to_data(first)), (second, {k: v for k, v in to_data(second).items() if k != "truncated"})]
    with closing(sqlite3.connect(timeline_path)) as raw, raw:
        for incident, data in told:
            row = (incident.id, incident.correlation_key, encode_json(data))
            raw.execute("INSERT INTO incidents VALUES (?, ?, 'pay', 'a', 'p1', '', NULL, 'open', 'seen', ?)", row)
        damaged = ("inc-damaged", "edge", '{"trunc')  # hides no other, and keeps no engine from its start
        raw.execute("INSERT INTO incidents VALUES (?, ?, 'pay', 'a', 'p1', '', '2026', 'open', 'seen', ?)", damaged)
    async with await TimelineStore.open(timeline_path) as store:
        assert (await store.truncated(first.id), await store.truncated(second.id)) == (3, 0)
        assert await store.incident(first.id) == first

"""Alerts about the engine itself: a page that ends with its alert."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities import notices
from firebreak.domain import ids
from firebreak.domain.alert import ENGINE_SERVICE, AcceptedAlert, Disposition, IntakeClass
from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine import own_alerts
from firebreak.gateway.untaken import oversize_alert
from firebreak.postmortem.notices import render_notice

pytestmark = pytest.mark.servers

ENGINE_FAULT, RECOVERY_SEEN = EntryKind.ENGINE_FAULT, EntryKind.RECOVERY_SEEN


def waiting(office: Any, record: str) -> dict[str, str]:
    """Waiting messages: key -> pager action."""
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        query = "SELECT key, pager FROM messages WHERE incident_id = ? AND state = 'waiting'"
        return dict(raw.execute(query, (record,)).fetchall())


async def test_a_page_about_the_engine_ends_with_its_alert(office: Any) -> None:
    """A rule that watches it from outside resolves, and may fire again with the same start: told each time; deliveries
    that are handled again, as after a crash, change nothing."""
    fires = office.alert("GatewayBacklog", service=ENGINE_SERVICE)
    ends = office.alert("GatewayBacklog", service=ENGINE_SERVICE, resolved=True)
    receipts = await office.accept(fires, fires, ends, ends, fires)
    _, _, last, _, again = receipts
    deliveries = await office.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    async with office.dispatching():
        told = await office.settled(*receipts)
    assert [disposition for disposition, _ in told] == [
        Disposition.PAGED,
        Disposition.PAGED,
        Disposition.RESOLVED,
        Disposition.RESOLVED,
        Disposition.PAGED,
    ]
    (record,) = {where for _, where in told}
    by_receipt = {d.receipt: d for d in deliveries}
    ended = ids.delivery_key("ended", last, by_receipt[last].accepted_at)
    fault = ids.delivery_key("fault", again, by_receipt[again].accepted_at)
    messages = {"pager/fault": "trigger_high", f"pager/{ended}": "resolve_high", f"pager/{fault}": "trigger_high"}
    assert waiting(office, record) == messages
    for delivery in deliveries:
        await own_alerts.take(office.parts, delivery)
    assert waiting(office, record) == messages
    assert [entry.key for entry in await office.store.entries(record)] == ["fault", ended, fault]


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({}, "GatewayBacklog: it fires"),
        ({"runbook_url": "https://wiki.example"}, "GatewayBacklog: it fires"),
        ({"summary": "900 wait", "description": "Since 9:00"}, "GatewayBacklog: 900 wait. Since 9:00"),
    ],
)
async def test_a_page_about_the_engine_names_its_alert(office: Any, annotations: dict[str, str], told: str) -> None:
    """Whatever annotations its rule has, or none."""
    fires = delivery(office, 1, 0)
    _, record = await own_alerts.take(office.parts, replace(fires, alert=replace(fires.alert, annotations=annotations)))
    page = render_notice(NoticeKind.PERSON_NEEDED, await office.store.entries(record))
    assert page.title.startswith(f"Firebreak itself needs a person: {told} [")


def delivery(
    office: Any, receipt: int, minutes: float, *, resolved: bool = False, start: float | None = None
) -> AcceptedAlert:
    """Accepted so many minutes after the first; `start` in minutes, where the alert's is another one."""
    alert = office.alert("GatewayBacklog", service=ENGINE_SERVICE, resolved=resolved)
    if start is not None:
        alert = replace(alert, starts_at=alert.starts_at + timedelta(minutes=start))
    return AcceptedAlert(
        receipt=receipt,
        accepted_at=datetime(2026, 11, 21, 9, tzinfo=UTC) + timedelta(minutes=minutes),
        intake_class=IntakeClass.P1_CANDIDATE,
        source="alertmanager",
        truncated=0,
        alert=alert,
    )


async def kinds(office: Any, *deliveries: AcceptedAlert) -> list[EntryKind]:
    """Of the record, once these have been handled."""
    for each in deliveries:
        _, record = await own_alerts.take(office.parts, each)
    return [entry.kind for entry in await office.store.entries(record)]


async def test_with_a_new_inbox_the_engine_is_paged_about_and_the_page_ends(office: Any) -> None:
    """Its receipts begin anew: what is accepted later is later, also under a receipt that was there before."""
    before = (delivery(office, 1, 0), delivery(office, 2, 1, resolved=True), delivery(office, 3, 2))
    assert await kinds(office, *before) == [ENGINE_FAULT, RECOVERY_SEEN, ENGINE_FAULT]
    after = (delivery(office, 2, 3, resolved=True), delivery(office, 1, 4))
    assert (await kinds(office, *after))[3:] == [RECOVERY_SEEN, ENGINE_FAULT]
    again = (delivery(office, 2, 5, resolved=True), delivery(office, 3, 6))
    assert (await kinds(office, *again))[5:] == [RECOVERY_SEEN, ENGINE_FAULT]
    assert len(await kinds(office, *again)) == 7, "handled again, as after a crash"


async def test_with_a_clock_that_was_set_back_the_page_ends(office: Any) -> None:
    """Then the receipts tell what is later."""
    assert await kinds(office, delivery(office, 1, 0), delivery(office, 2, -60, resolved=True)) == [
        ENGINE_FAULT,
        RECOVERY_SEEN,
    ]


async def test_a_clock_that_was_set_back_pages_nobody_anew_after_a_crash(office: Any) -> None:
    """Both are handled again; the firing was accepted at a later time than its end, whose entry is there already: a
    second page would never end."""
    told = (of("one", delivery(office, 1, 0)), of("one", delivery(office, 2, -60, resolved=True)))
    assert await kinds(office, *told, *told) == [ENGINE_FAULT, RECOVERY_SEEN]


async def test_with_a_new_inbox_and_a_clock_that_was_set_back_the_engine_is_paged_about(office: Any) -> None:
    """Neither counter has come as far as before, and yet nothing of it was handled."""
    before = (of("old", delivery(office, 5, 0)), of("old", delivery(office, 6, 1, resolved=True)))
    after = (of("new", delivery(office, 1, -60)), of("new", delivery(office, 2, -59, resolved=True)))
    assert await kinds(office, *before, *after) == 2 * [ENGINE_FAULT, RECOVERY_SEEN]


def of(inbox: str, delivery: AcceptedAlert) -> AcceptedAlert:
    return replace(delivery, inbox=inbox)


async def test_an_end_from_before_the_page_does_not_end_it_when_it_is_handled_again(office: Any) -> None:
    """It was of nothing that anybody was paged about, and is that after a crash, too."""
    early = delivery(office, 1, 0, resolved=True)
    await own_alerts.take(office.parts, early)
    assert await kinds(office, delivery(office, 2, 1), early) == [ENGINE_FAULT]


async def test_the_end_of_what_nobody_was_paged_about_is_ignored(office: Any) -> None:
    """Its firing went to an engine before this one, or was lost."""
    alert = office.alert("GatewayBacklog", service=ENGINE_SERVICE, resolved=True)
    async with office.dispatching():
        ((disposition, _),) = await office.settled(*await office.accept(alert))
    assert disposition is Disposition.IGNORED


async def handled(office: Any, *deliveries: AcceptedAlert) -> list[tuple[str, str]]:
    """Waiting messages about the engine, in their order, once these have been handled: (start in minutes, action)."""
    for each in deliveries:
        await own_alerts.take(office.parts, each)
    first = int(datetime(2026, 11, 21, 9, tzinfo=UTC).timestamp())
    with closing(sqlite3.connect(f"file:{office.folder / 'timeline.sqlite'}?mode=ro", uri=True)) as raw:
        found = raw.execute(
            "SELECT incident_id, pager FROM messages WHERE state = 'waiting' ORDER BY number"
        ).fetchall()
    return [(f"{(int(record.rpartition('-')[2]) - first) / 60:g}", pager) for record, pager in found]


async def test_a_start_that_moves_back_pages_no_second_time(office: Any) -> None:
    """Alertmanager merged it with an earlier alert of the same labels: it is the same one."""
    moved = (delivery(office, 1, 1), delivery(office, 2, 2, start=-5))
    assert await handled(office, *moved) == [("0", "trigger_high")]
    assert await handled(office, *moved) == [("0", "trigger_high")], "handled again, as after a crash"


@pytest.mark.parametrize("start", [-5, 0.5])
async def test_the_end_of_another_start_ends_the_page(office: Any, start: float) -> None:
    """An earlier or a later one, also when only the end tells of it; handled again it changes nothing."""
    told = (delivery(office, 1, 1), delivery(office, 2, 3, resolved=True, start=start))
    assert await handled(office, *told) == [("0", "trigger_high"), ("0", "resolve_high")]
    assert len(await handled(office, *told)) == 2


async def test_an_end_ends_all_pages_up_to_it(office: Any) -> None:
    """Of two starts, as earlier engines paged about a moved one; a page of what began after that end stays."""
    for start in (0, -5):
        each = delivery(office, 0, 1, start=start)
        record = ids.own_alert_record(each.alert.fingerprint, each.alert.starts_at)
        entry, page = notices.fault(record, "GatewayBacklog", "alerts wait", each.accepted_at)
        await office.store.append([entry], messages=[page])
    later = delivery(office, 4, 41, start=40)
    told = await handled(office, later, delivery(office, 5, 42, resolved=True, start=-5))
    assert sorted(told[:2]) == [("-5", "trigger_high"), ("0", "trigger_high")]
    assert told[2] == ("40", "trigger_high")
    assert sorted(told[3:]) == [("-5", "resolve_high"), ("0", "resolve_high")]


async def test_what_began_after_the_page_is_a_page_of_its_own(office: Any) -> None:
    """The end in between was never heard, or the sender tells none, as the gateway: silence would hide all that
    follows."""
    assert await handled(office, delivery(office, 1, 1), delivery(office, 2, 61, start=60)) == [
        ("0", "trigger_high"),
        ("60", "trigger_high"),
    ]


async def test_what_is_handled_again_after_its_end_pages_nobody_under_another_start(office: Any) -> None:
    """A crash came before it was settled: the moved start has no record of its own to say so."""
    told = (delivery(office, 1, 1), delivery(office, 2, 2, start=-5), delivery(office, 3, 3, resolved=True))
    before = await handled(office, *told)
    assert len(before) == 2
    assert await handled(office, *told) == before


async def test_an_alert_whose_fingerprint_begins_with_the_other_is_another(office: Any) -> None:
    """Its page stays open."""
    one = delivery(office, 1, 1)
    other = replace(one, receipt=2, alert=replace(one.alert, fingerprint=f"{one.alert.fingerprint}-7"))
    assert len(await handled(office, one, other)) == 2
    told = await handled(office, delivery(office, 3, 3, resolved=True))
    assert [action for _, action in told] == ["trigger_high", "trigger_high", "resolve_high"]


async def closed_by_hand(office: Any, record: str, page: str, minutes: float) -> None:
    """What `firebreak close` writes about that page."""
    at = datetime(2026, 11, 21, 9, tzinfo=UTC) + timedelta(minutes=minutes)
    wish = EntryDraft(
        incident_id=record,
        key=ids.close_key(page),
        kind=EntryKind.CLOSE_REQUESTED,
        at=at,
        body={"reason": "I have it", "by": "ada"},
    )
    await office.store.append([wish], messages=[notices.fault_handled(record, page, at)])


async def test_what_fires_on_after_a_close_by_hand_pages_anew(office: Any) -> None:
    """Not at once, since who closed it knows; and once for each close, also when deliveries are handled again."""
    first, soon, later = delivery(office, 1, 0), delivery(office, 2, 31), delivery(office, 3, 36)
    _, record = await own_alerts.take(office.parts, first)
    await closed_by_hand(office, record, "pager/fault", 30)
    assert len(await handled(office, soon)) == 2, "the page and its end"
    told = await handled(office, later, delivery(office, 4, 240))
    assert [action for _, action in told] == ["trigger_high", "resolve_high", "trigger_high"]
    assert len(await handled(office, first, later)) == 3, "handled again, as after a crash"
    again = ids.delivery_key("fault", later.receipt, later.accepted_at)
    await closed_by_hand(office, record, notices.page_key(again), 250)
    assert len(await handled(office, delivery(office, 5, 251), first, later)) == 4
    assert [action for _, action in await handled(office, delivery(office, 6, 500))][4:] == ["trigger_high"]


@pytest.mark.parametrize(("now", "accepted", "pages"), [(80, 60, 1), (20, 20, 2)], ids=["late", "clock set back"])
async def test_what_was_accepted_before_a_close_by_hand_is_no_news(
    office: Any, clock: Any, now: float, accepted: float, pages: int
) -> None:
    """Handled long after, since no worker ran: who closed the page has it. Where the close is still to come, the clock
    was set back, and it may have been accepted long after."""
    office.parts = replace(office.parts, clock=clock)
    _, record = await own_alerts.take(office.parts, delivery(office, 1, 0))
    await closed_by_hand(office, record, "pager/fault", 75)
    clock.forward(60 * now)
    told = [action for _, action in await handled(office, delivery(office, 2, accepted))]
    assert told.count("trigger_high") == pages


async def test_a_close_of_an_earlier_page_is_none_of_the_one_that_came_back(office: Any) -> None:
    """It was asked for just as the alert fired anew: that page is open, and no second one goes out."""
    told = (delivery(office, 1, 0), delivery(office, 2, 1, resolved=True), delivery(office, 3, 2))
    assert len(await handled(office, *told)) == 3
    (_, record) = await own_alerts.take(office.parts, told[2])
    await closed_by_hand(office, record, "pager/fault", 2)
    assert [action for _, action in await handled(office, delivery(office, 4, 60))].count("trigger_high") == 2


async def test_the_end_of_an_alert_that_was_closed_by_hand_lets_it_page_at_once(office: Any) -> None:
    """It ended and fires again: that is news, however short ago the close was."""
    _, record = await own_alerts.take(office.parts, delivery(office, 1, 0))
    await closed_by_hand(office, record, "pager/fault", 1)
    told = await handled(office, delivery(office, 2, 2, resolved=True), delivery(office, 3, 3))
    assert [action for _, action in told] == ["trigger_high", "resolve_high", "resolve_high", "trigger_high"]


async def test_a_body_that_is_too_large_again_after_a_close_pages_anew(office: Any) -> None:
    """Within the hour it is the same alert: whoever closed it too early hears of it."""
    at = datetime(2026, 11, 21, 9, 2, tzinfo=UTC)
    first = replace(delivery(office, 1, 2), alert=oversize_alert(limit=9, at=at))
    _, record = await own_alerts.take(office.parts, first)
    await closed_by_hand(office, record, "pager/fault", 10)
    for minutes, pages in ((12, 1), (20, 2), (30, 2)):
        more = replace(delivery(office, minutes, minutes), alert=oversize_alert(limit=9, at=at))
        told = [action for _, action in await handled(office, more)]
        assert told.count("trigger_high") == pages

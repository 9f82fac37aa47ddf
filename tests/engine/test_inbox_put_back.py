"""An inbox that was put back from a copy, beside a record that knows more: it swallows no alert."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.alert import AcceptedAlert, Alert, AlertStatus, Disposition, IntakeClass
from firebreak.domain.codec import format_time
from firebreak.domain.ids import incident_id, label_fingerprint, own_alert_record
from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.stores import opened_inbox, opened_record
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore


async def started(data_dir: Path) -> None:
    """Both stores, as a start opens them."""
    settings = Settings(data_dir=data_dir)
    async with opened_record(settings) as record, opened_inbox(settings, record):
        pass


def fires(clock: Any, status: AlertStatus = AlertStatus.FIRING) -> Alert:
    labels = {"alertname": "PayDown", "service": "pay"}
    return Alert(
        fingerprint=label_fingerprint(labels),
        status=status,
        labels=labels,
        starts_at=clock.at,
        ends_at=None if status is AlertStatus.FIRING else clock.at,
    )


async def accepted(inbox: InboxStore, clock: Any, alert: Alert) -> AcceptedAlert:
    """Another delivery, a second later."""
    clock.forward(1)
    await inbox.accept([(alert, IntakeClass.OTHER)], source="t", truncated=0, accepted_at=clock.at)
    return (await inbox.claim(IntakeClass.OTHER, limit=99))[-1]


async def opened(store: TimelineStore, clock: Any, delivery: AcceptedAlert) -> Disposition:
    incident = Incident(
        id=incident_id("pay", delivery.alert.key, delivery.accepted_at),
        opened_at=clock.at,
        accepted_at=delivery.accepted_at,
        intake_class=IntakeClass.OTHER,
        correlation_key="pay",
        service="pay",
        target=None,
        alert=delivery.alert,
    )
    draft = EntryDraft(incident_id=incident.id, key="opened", kind=EntryKind.INCIDENT_OPENED, at=clock.at, body={})
    _, disposition = await store.open_or_join(
        incident, opened=draft, joined=draft, messages=[], receipt=delivery.receipt, inbox=delivery.inbox
    )
    return disposition


async def resolved(store: TimelineStore, clock: Any, delivery: AcceptedAlert) -> tuple[str, int] | None:
    return await store.resolve_alert(
        delivery.alert,
        at=clock.at,
        accepted_at=delivery.accepted_at,
        receipt=delivery.receipt,
        inbox=delivery.inbox,
    )


@pytest.mark.parametrize("before", [0, 4], ids=["at once", "a gateway took some first"])
async def test_an_inbox_that_is_put_back_alone_swallows_no_alert(tmp_path: Path, clock: Any, before: int) -> None:
    """It counts again what the record knows as handled: with a new name, its receipts are none of those. A start that
    finds all as it was renames nothing."""
    path = tmp_path / INBOX_FILE
    async with await TimelineStore.open(tmp_path / TIMELINE_FILE) as store:
        async with await InboxStore.open(path) as inbox:
            name = await inbox.name()
        shutil.copy(path, tmp_path / "copy")
        async with await InboxStore.open(path) as inbox:
            assert await opened(store, clock, await accepted(inbox, clock, fires(clock))) is Disposition.OPENED
            await resolved(store, clock, await accepted(inbox, clock, fires(clock, AlertStatus.RESOLVED)))
            assert await opened(store, clock, await accepted(inbox, clock, fires(clock))) is Disposition.JOINED
        await started(tmp_path)
        async with await InboxStore.open(path) as inbox:
            assert await inbox.name() == name
        shutil.copy(tmp_path / "copy", path)
        async with await InboxStore.open(path) as inbox:
            for _ in range(before):
                await accepted(inbox, clock, fires(clock, AlertStatus.RESOLVED))
        await started(tmp_path)
        async with await InboxStore.open(path) as inbox:
            assert await inbox.name() != name
            await accepted(inbox, clock, fires(clock, AlertStatus.RESOLVED))
            (over, *_) = await inbox.claim(IntakeClass.OTHER, limit=99)
            told = await resolved(store, clock, over)
        assert told is not None
        assert told[1] == 0


async def test_what_the_record_keeps_of_alerts_about_the_engine_counts_too(
    tmp_path: Path, store: Any, inbox: Any, clock: Any
) -> None:
    """They are in no incident's books; one whose body is damaged stops no start."""
    name = await inbox.name()
    for number, receipt in enumerate((2, 7, 5)):
        at = format_time(clock.at)
        record = own_alert_record(f"{number}a", clock.at)
        body = {"inbox": name, "receipt": receipt, "accepted_at": at}
        draft = EntryDraft(incident_id=record, key="fault", kind=EntryKind.ENGINE_FAULT, at=clock.at, body=body)
        await store.append([draft])
    assert await store.newest_of_inbox(name) == (7, at)
    assert await store.newest_of_inbox("another") is None
    with closing(sqlite3.connect(tmp_path / TIMELINE_FILE)) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("UPDATE entries SET body = '{' WHERE seq = 1")
    await started(tmp_path)
    assert await inbox.name() not in ("", name)

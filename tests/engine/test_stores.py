"""The stores of an engine that starts: one that is gone calls a person, and a first start nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from firebreak.domain.alert import Alert, AlertStatus, Disposition, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.message import Channel
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.stores import TEMPORAL_FILE, opened_inbox, opened_record
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore


async def delivered(data_dir: Path, disposition: Disposition | None) -> None:
    """An alert was accepted, and became that; None: nobody has taken it up yet."""
    now = datetime.now(UTC)
    alert = Alert(fingerprint="f", status=AlertStatus.FIRING, labels={"service": "pay"}, starts_at=now)
    async with await InboxStore.open(data_dir / INBOX_FILE) as inbox:
        taken = [(alert, IntakeClass.P1_CANDIDATE)]
        (receipt,) = await inbox.accept(taken, source="t", truncated=0, accepted_at=now)
        if disposition is not None:
            await inbox.settle([(receipt, disposition, "")])


async def written(data_dir: Path) -> None:
    """An incident stands in the record."""
    async with await TimelineStore.open(data_dir / TIMELINE_FILE) as store:
        opened = EntryDraft(
            incident_id="inc-7", key="opened", kind=EntryKind.INCIDENT_OPENED, at=datetime.now(UTC), body={}
        )
        await store.append([opened])


async def started(data_dir: Path) -> dict[str, str]:
    """What waits for the pager once both stores have been opened: record -> why."""
    settings = Settings(data_dir=data_dir)
    async with opened_record(settings) as record, opened_inbox(settings, record):
        due = await record.due(datetime.now(UTC), limit=9, channel=Channel.PAGER)
        return {message.draft.incident_id.rpartition("-")[0]: message.draft.body["reason"] for message in due}


async def test_a_first_start_calls_nobody(tmp_path: Path) -> None:
    """Nor does the next one, after which Temporal's database is there and nothing has happened."""
    assert await started(tmp_path) == {}
    (tmp_path / TEMPORAL_FILE).touch()
    assert await started(tmp_path) == {}


@pytest.mark.parametrize("disposition", [None, Disposition.IGNORED])
async def test_an_inbox_of_which_no_record_tells_is_no_loss(tmp_path: Path, disposition: Disposition | None) -> None:
    """A gateway ran before the first engine; or all that came was the end of what nobody knew."""
    await delivered(tmp_path, disposition)
    assert await started(tmp_path) == {}


async def test_a_record_that_is_gone_calls_a_person_once(tmp_path: Path) -> None:
    """Alerts were handled here: the engine starts, and says that it knows of nothing; the second start adds no call."""
    await delivered(tmp_path, Disposition.OPENED)
    for _ in range(2):
        told = await started(tmp_path)
        assert list(told) == ["lost-record"]
        assert f"{TIMELINE_FILE} is gone" in told["lost-record"]


async def test_a_record_that_is_gone_is_told_also_when_its_new_file_was_made_already(tmp_path: Path) -> None:
    """The start before was killed between the two."""
    await delivered(tmp_path, Disposition.OPENED)
    async with await TimelineStore.open(tmp_path / TIMELINE_FILE):
        pass
    assert list(await started(tmp_path)) == ["lost-record"]


async def test_temporals_database_without_a_record_calls_a_person(tmp_path: Path) -> None:
    """An engine has its record first: workflows of incidents that nobody knows may run there."""
    (tmp_path / TEMPORAL_FILE).touch()
    assert list(await started(tmp_path)) == ["lost-record"]


async def test_an_inbox_that_is_gone_calls_a_person_once(tmp_path: Path) -> None:
    """What it had accepted may be handled by nobody."""
    await written(tmp_path)
    for _ in range(2):
        told = await started(tmp_path)
        assert list(told) == ["lost-inbox"]
        assert f"{INBOX_FILE} is gone" in told["lost-inbox"]


async def test_both_stores_as_they_were_call_nobody(tmp_path: Path) -> None:
    """An ordinary start."""
    await written(tmp_path)
    await delivered(tmp_path, Disposition.OPENED)
    assert await started(tmp_path) == {}


async def test_what_is_said_of_a_lost_record_fits_into_its_page(tmp_path: Path) -> None:
    """Whole sentences: why, what to look at, and how the page ends."""
    from firebreak.domain.message import NoticeKind
    from firebreak.postmortem.notices import render_notice

    await delivered(tmp_path, Disposition.OPENED)
    settings = Settings(data_dir=tmp_path)
    async with opened_record(settings) as record:
        (message,) = await record.due(datetime.now(UTC), limit=9)
        entries = await record.entries(message.draft.incident_id)
    lines = render_notice(NoticeKind.PERSON_NEEDED, entries, body=message.draft.body).lines
    assert any(line.endswith("which of its steps are in force") for line in lines)
    assert any("from a copy." in line and "firebreak close lost-record-" in line for line in lines)


async def test_a_store_that_cannot_be_opened_pages(tmp_path: Path, pager: Any) -> None:
    """Each under a key of its own."""
    settings = Settings(data_dir=tmp_path, pagerduty_url=pager.url, fallback_pager_key=SecretStr("k" * 32))
    await written(tmp_path)
    (tmp_path / INBOX_FILE).write_bytes(b"no database at all" * 100)
    async with opened_record(settings) as record:
        with pytest.raises(LedgerError, match=r"inbox\.sqlite"):
            async with opened_inbox(settings, record):
                raise AssertionError("it was opened")
    (tmp_path / TIMELINE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match=r"timeline\.sqlite"):
        async with opened_record(settings):
            raise AssertionError("it was opened")
    assert [event["dedup_key"].split("-")[0] for event in pager.got] == ["inbox", "record"]

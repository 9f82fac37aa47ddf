"""What must hold before anything starts: somebody to page, an unchanged record, documents that can be used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from activities import notices
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.errors import ChainBroken, ContractError, LedgerError, SettingsInvalid
from firebreak.domain.ids import label_fingerprint
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.start_checks import check_documents, check_pager, check_record, end_leftovers
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.process import free_port
from firebreak.servers.registry import Entry, Registry
from firebreak.settings import Settings, load_settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore


def test_acting_without_anybody_to_page_is_refused() -> None:
    """The last tier always pages, so there must be a key for every service, known or not."""
    with pytest.raises(SettingsInvalid, match="nobody can be paged"):
        check_pager(Settings(mode=Mode.ACT))


def test_with_a_fallback_key_it_may_act_and_without_one_it_may_observe() -> None:
    """Observing writes nothing: there a warning is enough."""
    check_pager(Settings(mode=Mode.ACT, fallback_pager_key=SecretStr("k" * 32)))
    check_pager(Settings(mode=Mode.OBSERVE))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("FIREBREAK_FALBACK_PAGER_KEY", "FIREBREAK_FALLBACK_PAGER_KEY"),
        ("firebreak_falback_pager_key", "FIREBREAK_FALLBACK_PAGER_KEY"),
        ("firebreak_secrets_dir", "FIREBREAK_SECRETS_DIR"),  # read in capitals only
    ],
)
def test_a_mistyped_setting_is_refused_and_the_right_name_told(
    monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    """A typo in the pager's key must not be silent, in whatever case."""
    monkeypatch.setenv(typed, "k")
    with pytest.raises(SettingsInvalid, match=rf"{typed} \(meant {meant}\?\)"):
        load_settings()


def test_a_setting_in_two_spellings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either case counts: which of two would is nobody's to guess."""
    monkeypatch.setenv("firebreak_mode", "observe")
    assert load_settings().mode is Mode.OBSERVE
    monkeypatch.setenv("FIREBREAK_MODE", "act")
    with pytest.raises(SettingsInvalid, match=r"the same setting twice: FIREBREAK_MODE, firebreak_mode"):
        load_settings()


SECRETS = ("webhook_token", "temporal_api_key", "slack_token", "fallback_pager_key")


@pytest.mark.parametrize("around", ["{}\n", " {} ", "\t{}\r\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_blanks_around_a_secret_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch, name: str, around: str) -> None:
    """A header cannot carry them: with the line's end of a file nobody would ever be let in, or called."""
    monkeypatch.setenv("FIREBREAK_TEMPORAL_ADDRESS", "temporal:7233")  # without one its key is refused
    monkeypatch.setenv(f"FIREBREAK_{name.upper()}", around.format("a token"))
    assert getattr(load_settings(), name).get_secret_value() == "a token"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_of_blanks_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Somebody meant to say one: neither is it empty, nor can anybody send it."""
    monkeypatch.setenv(f"FIREBREAK_{name.upper()}", " \n")
    with pytest.raises(SettingsInvalid, match=rf"FIREBREAK_{name.upper()}.*only blanks"):
        load_settings()


@pytest.mark.parametrize("around", ["{}\n", " {} ", "\t{}\r\n"])
def test_blanks_around_a_header_of_prometheus_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    """It may be a token, with the line's end of the file that it came from."""
    headers = {"Authorization": around.format("Bearer s3cr3t"), "X-Scope-OrgID": "shop"}
    monkeypatch.setenv("FIREBREAK_PROMETHEUS_HEADERS", json.dumps(headers))
    taken = {name: said.get_secret_value() for name, said in load_settings().prometheus_headers.items()}
    assert taken == {"Authorization": "Bearer s3cr3t", "X-Scope-OrgID": "shop"}


def test_a_header_of_blanks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other secret."""
    monkeypatch.setenv("FIREBREAK_PROMETHEUS_HEADERS", json.dumps({"Authorization": " \n"}))
    with pytest.raises(SettingsInvalid, match=r"FIREBREAK_PROMETHEUS_HEADERS.*only blanks"):
        load_settings()


# --- the record --------------------------------------------------------------------------------------------------


async def test_a_changed_record_stops_the_start_and_pages(tmp_path: Path, store: Any, clock: Any, pager: Any) -> None:
    """No automation on top of a record that cannot be trusted; somebody hears of it."""
    drafts = [
        EntryDraft(incident_id="inc-1", key=str(n), kind=EntryKind.ENGINE_FAULT, at=clock.at, body={"n": n})
        for n in range(3)
    ]
    await store.append(drafts)
    settings = Settings(data_dir=tmp_path, pagerduty_url=pager.url, fallback_pager_key=SecretStr("k" * 32))
    await check_record(settings)
    assert pager.got == []
    with closing(sqlite3.connect(tmp_path / "timeline.sqlite")) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("""UPDATE entries SET body = '{"n":9}' WHERE seq = 2""")
    with pytest.raises(ChainBroken, match="from entry 2"):
        await check_record(settings)
    (event,) = pager.got
    assert (event["event_action"], event["routing_key"]) == ("trigger", "k" * 32)


async def test_a_changed_record_stops_the_start_also_when_nobody_can_be_paged(
    tmp_path: Path, store: Any, clock: Any
) -> None:
    """The pager is away: the reason of the stop is still the record."""
    await store.append(
        [EntryDraft(incident_id="inc-1", key="1", kind=EntryKind.ENGINE_FAULT, at=clock.at, body={"n": 1})]
    )
    with closing(sqlite3.connect(tmp_path / "timeline.sqlite")) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("""UPDATE entries SET body = '{"n":9}' WHERE seq = 1""")
    settings = Settings(
        data_dir=tmp_path, pagerduty_url=f"http://127.0.0.1:{free_port()}", fallback_pager_key=SecretStr("k" * 32)
    )
    with pytest.raises(ChainBroken):
        await check_record(settings)


@pytest.mark.parametrize("revision", ["timeline_0001", "timeline_0002"])
async def test_a_record_of_an_earlier_version_is_checked_before_it_is_migrated(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    """The new version starts on it; one that was changed stops it as ever."""
    with monkeypatch.context() as older:
        older.setattr(TimelineStore, "revision", revision)
        async with await TimelineStore.open(tmp_path / TIMELINE_FILE) as store:
            draft = EntryDraft(incident_id="inc-1", key="1", kind=EntryKind.ENGINE_FAULT, at=clock.at, body={"n": 1})
            await store.append([draft])
    await check_record(Settings(data_dir=tmp_path))
    with closing(sqlite3.connect(tmp_path / TIMELINE_FILE)) as raw, raw:
        raw.execute("DROP TRIGGER entries_never_change")
        raw.execute("""UPDATE entries SET body = '{"n":9}' WHERE seq = 1""")
    with pytest.raises(ChainBroken):
        await check_record(Settings(data_dir=tmp_path))


async def test_a_first_start_has_no_record_to_check(tmp_path: Path) -> None:
    """No file yet is no fault."""
    await check_record(Settings(data_dir=tmp_path))


async def test_a_record_without_a_schema_is_that_of_a_first_start(tmp_path: Path, pager: Any) -> None:
    """It was killed, or the disk was full, before anything was kept: the next one begins anew, and pages nobody."""
    (tmp_path / TIMELINE_FILE).touch()
    await check_record(stopped(tmp_path, pager))
    assert pager.got == []


def stopped(data_dir: Path, pager: Any) -> Settings:
    return Settings(data_dir=data_dir, pagerduty_url=pager.url, fallback_pager_key=SecretStr("k" * 32))


async def test_a_record_that_cannot_be_opened_stops_the_start_and_pages_once(tmp_path: Path, pager: Any) -> None:
    """However often a supervisor starts it: one key at the pager, and what to do."""
    (tmp_path / TIMELINE_FILE).write_bytes(b"no database at all" * 100)
    for _ in range(2):
        with pytest.raises(LedgerError, match="not a Firebreak store"):
            await check_record(stopped(tmp_path, pager))
    assert [event["event_action"] for event in pager.got] == ["trigger", "trigger"]
    assert len({event["dedup_key"] for event in pager.got}) == 1
    told = str(pager.got[0]["payload"])
    assert "does not start" in told
    assert "put back a copy of all of it" in told


# --- what an earlier run left ------------------------------------------------------------------------------------


async def test_a_damaged_list_of_processes_keeps_no_engine_from_starting(tmp_path: Path, pager: Any) -> None:
    """The kernel ended them with their parent, whose lock is free; the list is kept for who wants to look."""
    (tmp_path / "processes.json").write_text("{")
    assert await end_leftovers(stopped(tmp_path, pager), tmp_path) == ()
    assert (tmp_path / "processes.damaged").read_text() == "{"
    assert Registry(tmp_path).entries() == ()
    assert pager.got == []


async def test_a_leftover_that_cannot_be_ended_stops_the_start_and_pages(
    tmp_path: Path, pager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hang in the kernel for hours, and who is on call would not know."""

    async def hangs(run_dir: Path) -> tuple[Entry, ...]:
        raise ServerUnavailable("p1 (pid 7) of an earlier run cannot be killed", advice="Restart the machine.")

    monkeypatch.setattr("firebreak.engine.start_checks.reap_leftovers", hangs)
    with pytest.raises(ServerUnavailable):
        await end_leftovers(stopped(tmp_path, pager), tmp_path)
    (event,) = pager.got
    assert "Restart the machine." in str(event["payload"])


# --- documents ---------------------------------------------------------------------------------------------------


def spoilt(tmp_path: Path, pager: Any) -> Settings:
    """Settings of an engine whose services.yaml cannot be used."""
    services = tmp_path / "services.yaml"
    services.write_text("services: [what is this\n")
    return Settings(
        data_dir=tmp_path / "data",
        services=services,
        pagerduty_url=pager.url,
        fallback_pager_key=SecretStr("k" * 32),
    )


async def alert_waits(settings: Settings) -> None:
    """An alert that was answered with 200 and is in no incident yet."""
    labels = {"alertname": "PayDown", "service": "pay"}
    now = datetime.now(UTC)
    alert = Alert(fingerprint=label_fingerprint(labels), status=AlertStatus.FIRING, labels=labels, starts_at=now)
    async with await InboxStore.open(settings.data_dir / INBOX_FILE) as inbox:
        await inbox.accept([(alert, IntakeClass.P1_CANDIDATE)], source="t", truncated=0, accepted_at=now)


async def message_waits(settings: Settings) -> None:
    """A call for a person that was not sent yet."""
    entry, page = notices.fault("engine-1", "workflow", "look at it", datetime.now(UTC) + timedelta(minutes=1))
    async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE) as store:
        await store.append([entry], messages=[page])


async def incident_is_open(settings: Settings) -> None:
    """An incident that the engine was at work on, with nothing to tell at the moment."""
    now = datetime.now(UTC)
    incident = Incident(
        id="inc-7",
        opened_at=now,
        accepted_at=now,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key="lab/pay",
        service="pay",
        target=None,
        alert=Alert(fingerprint="f", status=AlertStatus.FIRING, labels={"service": "pay"}, starts_at=now),
    )
    opened = EntryDraft(
        incident_id="inc-7", key="opened", kind=EntryKind.INCIDENT_OPENED, at=now, body=to_data(incident)
    )
    async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE) as store:
        await store.open_or_join(incident, opened=opened, joined=opened, messages=())


@pytest.mark.parametrize(
    ("waits", "says"),
    [
        (alert_waits, "1 accepted alerts"),
        (incident_is_open, "open incidents inc-7"),
        (message_waits, "messages that were not sent yet"),
    ],
    ids=["an alert", "an incident", "a message"],
)
async def test_documents_that_cannot_be_used_page_when_somebody_waits(
    tmp_path: Path, pager: Any, waits: Any, says: str
) -> None:
    """The start is refused with the place of the fault; one page says what waits, and carries the reason."""
    settings = spoilt(tmp_path, pager)
    settings.data_dir.mkdir()
    await waits(settings)
    with pytest.raises(ContractError, match=r"services\.yaml"):
        await check_documents(settings)
    (event,) = pager.got
    assert (event["event_action"], event["routing_key"]) == ("trigger", "k" * 32)
    told = str(event["payload"])
    assert says in told
    assert "services.yaml" in told


async def test_documents_that_cannot_be_used_page_nobody_when_nothing_waits(tmp_path: Path, pager: Any) -> None:
    """A typo at the first start, or after all has ended, is the matter of who started it."""
    settings = spoilt(tmp_path, pager)
    settings.data_dir.mkdir()
    with pytest.raises(ContractError):
        await check_documents(settings)
    async with await TimelineStore.open(settings.data_dir / TIMELINE_FILE):
        pass
    with pytest.raises(ContractError):
        await check_documents(settings)
    assert pager.got == []


async def test_a_record_that_cannot_be_read_counts_as_somebody_who_waits(tmp_path: Path, pager: Any) -> None:
    """Doubt calls a person."""
    settings = spoilt(tmp_path, pager)
    settings.data_dir.mkdir()
    (settings.data_dir / INBOX_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ContractError):
        await check_documents(settings)
    (event,) = pager.got
    assert "unknown" in str(event["payload"])


async def test_documents_that_can_be_used_are_loaded(tmp_path: Path) -> None:
    """The shipped ones."""
    rulebook = await check_documents(Settings(data_dir=tmp_path))
    assert rulebook.current().runbooks

"""Stores on a temporary directory, and short ways to make what goes into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.ids import incident_id
from firebreak.domain.incident import Incident
from firebreak.domain.message import Channel, MessageDraft, NoticeKind, PagerAction
from firebreak.domain.plan import Restore
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore

START = datetime(2026, 11, 21, 8, 36, 44, 123456, tzinfo=UTC)


class Make:
    """Values for tests; `at` counts seconds from a fixed start."""

    start = START

    def time(self, seconds: float = 0) -> datetime:
        return START + timedelta(seconds=seconds)

    def draft(
        self,
        incident: str = "inc-a",
        key: str = "k",
        *,
        kind: EntryKind = EntryKind.FACTS_GATHERED,
        body: Mapping[str, Any] | None = None,
        at: float = 0,
    ) -> EntryDraft:
        return EntryDraft(
            incident_id=incident, key=key, kind=kind, at=self.time(at), body={"n": 1} if body is None else body
        )

    def message(
        self,
        key: str,
        *,
        incident: str = "inc-a",
        channel: Channel = Channel.PAGER,
        due: float = 0,
        pager: PagerAction = PagerAction.NONE,
    ) -> MessageDraft:
        return MessageDraft(
            incident_id=incident,
            key=key,
            channel=channel,
            notice=NoticeKind.CLASSIFIED,
            due_at=self.time(due),
            pager=pager,
            body={"why": "test"},
        )

    def alert(
        self, fingerprint: str = "f1", *, start: float = 0, status: AlertStatus = AlertStatus.FIRING, end: float = 60
    ) -> Alert:
        return Alert(
            fingerprint=fingerprint,
            status=status,
            labels={"alertname": "PayDown", "service": "pay", "note": "€ \udc80 <!channel>"},
            annotations={"summary": "pay is down"},
            starts_at=self.time(start),
            ends_at=self.time(end) if status is AlertStatus.RESOLVED else None,
        )

    def incident(self, alert: Alert | None = None, *, correlation: str = "pay", accepted: float = 0) -> Incident:
        opening = alert or self.alert()
        accepted_at = self.time(accepted)
        return Incident(
            id=incident_id(correlation, opening.key, accepted_at),
            opened_at=accepted_at,
            accepted_at=accepted_at,
            intake_class=IntakeClass.P1_CANDIDATE,
            correlation_key=correlation,
            service="pay",
            target=self.target(),
            alert=opening,
            bindings={"service": "pay"},
        )

    def target(self, name: str = "pay-v1") -> TargetRef:
        return TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name=name)

    def restore(self, incident: str = "inc-a", *, tier: int = 1, step: int = 0) -> RestoreRecord:
        span = timedelta(seconds=10)
        return RestoreRecord(
            incident_id=incident,
            tier=tier,
            step=step,
            plan_digest="d" * 64,
            opened_at=self.time(),
            restore=Restore(conditions=(), hold=span, within=span, poll=span),
        )


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def timeline_path(tmp_path: Path) -> Path:
    return tmp_path / TIMELINE_FILE


@pytest.fixture
def inbox_path(tmp_path: Path) -> Path:
    return tmp_path / INBOX_FILE


@pytest.fixture
async def store(timeline_path: Path) -> AsyncIterator[TimelineStore]:
    async with await TimelineStore.open(timeline_path) as opened:
        yield opened


@pytest.fixture
async def inbox(inbox_path: Path) -> AsyncIterator[InboxStore]:
    async with await InboxStore.open(inbox_path) as opened:
        yield opened

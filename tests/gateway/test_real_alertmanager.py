"""A real Alertmanager delivers to the real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from firebreak.domain.alert import AcceptedAlert, AlertStatus, IntakeClass
from firebreak.gateway.serve import serve
from firebreak.gateway.token import TOKEN_FILE
from firebreak.servers import local_http
from firebreak.servers.alertmanager import start_alertmanager
from firebreak.servers.process import free_port
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, InboxStore

pytestmark = pytest.mark.servers

LIMIT = 30.0

_CONFIG = """
route: {{receiver: fire.break, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: fire.break
    webhook_configs:
      - url: http://127.0.0.1:{port}/v1/alerts/alertmanager
        http_config: {{authorization: {{credentials_file: {token_file}}}}}
"""


async def _delivered(inbox: InboxStore, wanted: Callable[[AcceptedAlert], bool]) -> AcceptedAlert:
    async with asyncio.timeout(LIMIT):
        while True:
            for accepted in await inbox.claim(IntakeClass.P1_CANDIDATE, limit=100):
                if wanted(accepted):
                    return accepted
            await asyncio.sleep(0.05)


async def test_a_real_alertmanager_delivers_firing_and_resolved(tmp_path: Path) -> None:
    """Both arrive as the same alert: one key, labels as posted, an end only when it is over."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(Settings(data_dir=tmp_path, gateway_port=0), stop, ready.set_result))
    port = await asyncio.wait_for(ready, LIMIT)
    config = _CONFIG.format(port=port, token_file=tmp_path / TOKEN_FILE)
    alertmanager = await start_alertmanager(
        config=config, port=free_port(), run_dir=tmp_path / "run", die_with_parent=True
    )
    labels = {"alertname": "PayErrors", "severity": "critical", "service": "pay", "note": "€ <!channel> {{ x }}"}

    async def post(**times: datetime) -> None:
        alert = {"labels": labels, "annotations": {"summary": "s"}, **{k: t.isoformat() for k, t in times.items()}}
        answer = await local_http.call(
            "POST",
            f"{alertmanager.url}/api/v2/alerts",
            body=json.dumps([alert]).encode(),
            headers={"Content-Type": "application/json"},
            seconds=LIMIT,
        )
        assert answer.status == 200, answer.body

    try:
        async with await InboxStore.open(tmp_path / INBOX_FILE) as inbox:
            began = datetime.now(UTC)
            await post(startsAt=began, endsAt=began + timedelta(hours=1))
            firing = await _delivered(inbox, lambda accepted: accepted.alert.status is AlertStatus.FIRING)
            await post(startsAt=began, endsAt=datetime.now(UTC))
            resolved = await _delivered(inbox, lambda accepted: accepted.alert.status is AlertStatus.RESOLVED)
    finally:
        await alertmanager.stop()
        stop.set()
        await asyncio.wait_for(serving, LIMIT)
    assert firing.alert.labels == resolved.alert.labels == labels
    assert firing.alert.key == resolved.alert.key
    assert firing.alert.starts_at == began
    assert firing.alert.ends_at is None
    assert resolved.alert.ends_at is not None

"""What `firebreak lab status` makes of parts that do not answer as they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web import Application, Request, Response

from firebreak.domain.errors import TransientError
from firebreak.lab import control
from firebreak.lab.kube import KubeAccess
from firebreak.lab.state import LabState


@pytest.fixture
def state(tmp_path: Path) -> LabState:
    url = "http://127.0.0.1:1"
    return LabState(
        lab_dir=tmp_path,
        pid=1,
        admin=KubeAccess(url, "/ca", "secret"),
        audit_log="/audit.log",
        shop_url=url,
        prometheus_url=url,
        alertmanager_url=url,
        slack_url=url,
        pagerduty_url=url,
        gateway_url=url,
        engine={},
    )


async def test_a_part_that_is_gone_is_told_in_words(state: LabState) -> None:
    """As after a kill -9 of the lab: not in the insides of our HTTP client."""
    problems = {part.name: part.problem for part in await control.parts(state)}
    assert problems["slack"] == "http://127.0.0.1:1/healthz does not answer: Connection refused"
    assert problems["shop"] == problems["slack"]


async def test_a_prometheus_that_is_not_ready_has_no_alerts_to_tell(state: LabState) -> None:
    """It answers 503 in plain text until then: that is said, with what to do."""

    async def unready(_: Request) -> Response:
        return Response(status=503, text="Service Unavailable")

    app = Application()
    app.router.add_get("/{path:.*}", unready)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        with pytest.raises(TransientError, match="503") as failure:
            await control.firing_alerts(replace(state, prometheus_url=url))
    assert "lab status" in failure.value.next_step()

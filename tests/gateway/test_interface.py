"""Health, metrics, the OpenAPI document, and the document kept."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from firebreak.domain.alert import AcceptedAlert, Alert, IntakeClass
from firebreak.gateway.app import create_app
from firebreak.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.gateway.conftest import Gateway


async def test_a_ready_gateway_says_so(gateway: Gateway) -> None:
    """Health needs no store, readiness writes to it, and leaves no alert."""
    assert (await gateway.client.get("/healthz")).json() == {"status": "ok"}
    assert (await gateway.client.get("/readyz")).json() == {"status": "ready"}
    assert await gateway.inbox.backlog() == 0


async def test_a_closed_inbox_is_not_ready(gateway: Gateway) -> None:
    """The reason is in the answer."""
    await gateway.inbox.close()
    answer = await gateway.client.get("/readyz")
    assert answer.status_code == 503
    assert "closed" in answer.json()["error"]
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_an_address_with_a_slash_at_its_end_is_no_redirect(gateway: Gateway, body: dict[str, Any]) -> None:
    """Alerts are taken there, too, by the same token; other paths are not known. A redirect would take the token to
    plain HTTP."""
    answer = await gateway.client.post("/v1/alerts/alertmanager/", json=body)
    assert answer.status_code == 200
    wrong = await gateway.client.post("/v1/alerts/alertmanager/", json=body, headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401
    assert await gateway.inbox.backlog() == 1
    assert (await gateway.client.get("/readyz/")).status_code == 404


async def test_metrics_are_in_prometheus_text_format(gateway: Gateway, body: dict[str, Any]) -> None:
    """Counters by name, rejections by reason; nothing of the process' default registry."""
    await gateway.post(body)
    await gateway.post_bytes(b"{")
    answer = await gateway.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert "firebreak_gateway_alerts_accepted_total 1.0" in lines
    assert 'firebreak_gateway_requests_rejected_total{reason="json"} 1.0' in lines
    assert "firebreak_gateway_requests_oversize_total 0.0" in lines
    assert "python_info" not in answer.text


async def test_the_document_describes_request_and_answers(gateway: Gateway) -> None:
    """Body, every status that the route answers, and the bearer scheme; no operation without an id."""
    document = (await gateway.client.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/v1/alerts/alertmanager", "/healthz", "/readyz", "/metrics"}
    post = document["paths"]["/v1/alerts/alertmanager"]["post"]
    assert post["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Webhook"}
    assert set(post["responses"]) == {"200", "400", "401", "413", "422", "503"}
    assert post["security"] == [{"HTTPBearer": []}]
    schemas = document["components"]["schemas"]
    assert {"Webhook", "WebhookAlert", "Accepted", "Refusal", "Health"} <= set(schemas)
    assert set(schemas["Webhook"]["required"]) == {"version", "alerts"}
    assert set(schemas["WebhookAlert"]["required"]) == {"status", "labels", "startsAt"}


class RememberingInbox:
    """Keeps alerts in memory: for many examples without many fsyncs."""

    def __init__(self) -> None:
        self.kept: list[Alert] = []

    async def accept(
        self,
        alerts: Sequence[tuple[Alert, IntakeClass]],
        *,
        source: str,
        truncated: int,
        accepted_at: datetime,
    ) -> tuple[int, ...]:
        first = len(self.kept) + 1
        self.kept += [alert for alert, _ in alerts]
        return tuple(range(first, first + len(alerts)))

    async def claim(self, *_: object, **__: object) -> tuple[Any, ...]:
        raise AssertionError

    async def settle(self, dispositions: object) -> None:
        raise AssertionError

    async def oldest(self, *, after: int = 0) -> AcceptedAlert | None:
        return None

    async def newest(self) -> int:
        return 0

    async def taken_up(self, *, after: int) -> frozenset[IntakeClass]:
        return frozenset()

    async def backlog(self) -> int:
        return 0

    async def backlogs(self) -> Mapping[IntakeClass, int]:
        return {}

    async def probe(self) -> None:
        return None


def _app() -> FastAPI:
    settings = Settings(data_dir=Path("unused"))
    return create_app(RememberingInbox(), settings, token="t", poke=lambda _: None)


schema = schemathesis.openapi.from_asgi("/openapi.json", _app())


@schema.parametrize()
@hypothesis.settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    """Generated requests, right and wrong ones: no 5xx, and no status, media type or body beyond the document."""
    case.call_and_validate(
        headers={"Authorization": "Bearer t"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )

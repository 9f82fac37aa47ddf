"""The HTTP interface. An answer of 200 means: on disk. 503: try again. 4xx: this body can never be right."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import FirebreakError, LedgerError
from firebreak.domain.ports import InboxPort
from firebreak.gateway.alertmanager import Parsed, Refused, parse_webhook
from firebreak.gateway.body import BodyTooLarge, BodyTooSlow, read_body
from firebreak.gateway.metrics import GatewayMetrics
from firebreak.gateway.openapi import BEARER, describe
from firebreak.gateway.token import is_bearer
from firebreak.gateway.untaken import Told, oversize_alert, spoilt_alert
from firebreak.settings import Settings
from firebreak.triage.intake import intake_class

log = structlog.get_logger("firebreak.gateway")

SOURCE = "alertmanager"
RETRY_AFTER = "5"
"""Seconds. Alertmanager ignores the header and backs off by itself; proxies and other senders heed it."""
BACKLOG_LOOK = 0.25
"""Seconds that a count of the backlog is good for: counting is a query, a request may be one of thousands."""
PARSE_ON_THREAD = 256 * 1024
"""Bytes from which a body is parsed beside the event loop, so that a large one does not hold up a small one."""


class Inbox(InboxPort, Protocol):
    """An inbox that can say whether it would keep an alert now, and of which class how many wait."""

    async def probe(self) -> None:
        """Write and sync something: LedgerError when an alert could not be kept."""

    async def backlogs(self) -> Mapping[IntakeClass, int]:
        """Deliveries without a disposition, of each class."""


class Accepted(BaseModel):
    """The alerts are on disk."""

    accepted: int = Field(description="How many alerts.", ge=0)
    receipts: list[int] = Field(description="Their numbers in the inbox, in the order of the body.")
    refused: int = Field(default=0, description="Alerts of the body that can never be right: a person is paged.", ge=0)
    refusal: str = Field(default="", description="What is wrong with the first of those.")


class Refusal(BaseModel):
    """Why a request was not taken."""

    error: str = Field(description="What is wrong, in a sentence.")
    next_step: str = Field(description="What to do about it.")
    reason: str = Field(description="The word under which it is counted in /metrics.")


class Health(BaseModel):
    """The process answers."""

    status: str


def create_app(
    inbox: Inbox,
    settings: Settings,
    *,
    token: str,
    poke: Callable[[Iterable[IntakeClass]], None],
    metrics: GatewayMetrics | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """The gateway over an inbox. `poke` is called after each delivery that was kept, with its alerts' classes; it must
    not block or raise."""
    # A redirect names the scheme that we see: behind a proxy that ends TLS the sender's token would follow it in clear.
    app = FastAPI(title="Firebreak gateway", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    counters = metrics or GatewayMetrics()
    intake = _Intake(inbox, settings, token=token, poke=poke, metrics=counters, clock=clock)

    @app.post("/v1/alerts/alertmanager/", include_in_schema=False)
    @app.post(
        "/v1/alerts/alertmanager",
        summary="Take a webhook of Alertmanager (version 4)",
        operation_id="acceptAlertmanagerWebhook",
        response_model=Accepted,
        responses={code: {"model": Refusal, "description": text} for code, text in _REFUSALS.items()},
        dependencies=[BEARER],
    )
    async def accept(request: Request) -> Response:
        return await intake.take(request)

    @app.get("/healthz", summary="Is the process up?", operation_id="health")
    async def health() -> Health:
        return Health(status="ok")

    @app.get(
        "/readyz",
        summary="Would an alert be kept now? Writes to the inbox and syncs it.",
        operation_id="ready",
        responses={503: {"model": Refusal, "description": "The inbox cannot be written; the reason is in the body."}},
    )
    async def ready() -> Health:
        await inbox.probe()
        return Health(status="ready")

    @app.get(
        "/metrics",
        summary="Counters in Prometheus' text format",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def exposition() -> Response:
        return Response(generate_latest(counters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.exception_handler(LedgerError)
    async def unwritable(_: Request, error: LedgerError) -> Response:
        counters.rejected.labels("ledger").inc()
        log.error("inbox cannot be written", error=str(error), next_step=error.next_step())
        return refusal(503, error, "ledger", {"Retry-After": RETRY_AFTER})

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        sentence = f"{request.method} {request.url.path[:200]}: {error.detail}"
        advice = "POST alerts to /v1/alerts/alertmanager; see /openapi.json for the rest."
        return refusal(error.status_code, FirebreakError(sentence, advice=advice), "path", error.headers)

    describe(app)
    return app


_REFUSALS: dict[int | str, str] = {
    400: "The body is not JSON, or not UTF-8.",
    401: "The bearer token is missing or wrong.",
    413: "The body is over the limit. A person is paged, since it will not be sent again in a smaller form.",
    422: "JSON, but not webhook version 4, or none of its alerts can be right; for the latter a person is paged.",
    503: "The alerts cannot be kept now, or too many wait: send them again.",
}


def refusal(status: int, error: FirebreakError, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer with the sentence and the next step of `error`."""
    body = Refusal(error=str(error), next_step=error.next_step(), reason=reason)
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


class _Intake:
    """One webhook: authenticate, read, parse, keep, answer."""

    def __init__(
        self,
        inbox: Inbox,
        settings: Settings,
        *,
        token: str,
        poke: Callable[[Iterable[IntakeClass]], None],
        metrics: GatewayMetrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._inbox = inbox
        self._settings = settings
        self._token = token
        self._poke = poke
        self._metrics = metrics
        self._clock = clock
        self._backlogs: Counter[IntakeClass] = Counter()
        self._counted_at = float("-inf")
        self._told = Told()

    async def take(self, request: Request) -> Response:
        if not is_bearer(request.headers.get("authorization"), self._token):
            return self._refuse(
                401,
                FirebreakError(
                    "the bearer token is missing or wrong",
                    advice="Set `http_config.authorization.credentials` of the receiver to the webhook token.",
                ),
                "token",
                {"WWW-Authenticate": 'Bearer realm="firebreak"'},
            )
        await self._count()
        if all(self._too_many_wait(of) for of in IntakeClass):  # whatever the body holds
            return self._too_many()
        try:
            body = await read_body(request, self._settings.max_body_bytes)
        except BodyTooLarge as error:
            return await self._too_large(error)
        except BodyTooSlow as error:
            return self._refuse(503, error, "slow", {"Retry-After": RETRY_AFTER, "Connection": "close"})
        except ClientDisconnect:
            gone = FirebreakError("the sender went away before the body was whole", advice="It is sent again.")
            return self._refuse(400, gone, "gone")  # for the log and the counter: nobody hears it
        return await self._keep(body)

    async def _keep(self, body: bytes) -> Response:
        began = time.perf_counter()
        try:
            if len(body) < PARSE_ON_THREAD:
                parsed = parse_webhook(body)
            else:
                parsed = await asyncio.to_thread(parse_webhook, body)
        except Refused as error:
            return self._refuse(400 if error.reason in _NOT_JSON else 422, error, error.reason)
        now = self._clock()
        classed = [(alert, intake_class(alert.labels)) for alert in parsed.alerts]
        if classed and self._too_many_wait(_most_urgent(of for _, of in classed)):
            return self._too_many()
        receipts = await self._inbox.accept(classed, source=SOURCE, truncated=parsed.truncated, accepted_at=now)
        self._metrics.accept_seconds.observe(time.perf_counter() - began)
        self._kept([of for _, of in classed])
        if parsed.why is None:
            return JSONResponse({"accepted": len(receipts), "receipts": list(receipts)})
        return await self._spoilt(parsed, parsed.why, receipts, now)

    async def _spoilt(self, parsed: Parsed, why: Refused, receipts: Sequence[int], now: datetime) -> Response:
        """Some alerts can never be right. A person is told, since they end nowhere else; the others are taken: what
        answers 4xx comes again at every flush."""
        if name := self._told.news(parsed.spoilt, now):
            alert = spoilt_alert(name=name, names=parsed.spoilt, count=parsed.refused, why=why, at=now)
            await self._inbox.accept(
                [(alert, IntakeClass.P1_CANDIDATE)], source="gateway", truncated=0, accepted_at=now
            )
            self._told.remember(name, parsed.spoilt, now)
            self._kept([IntakeClass.P1_CANDIDATE])
        count = parsed.refused
        self._metrics.spoilt.inc(count)
        if not receipts:
            return self._refuse(422, why, why.reason)
        log.warning("alerts refused", refused=count, reason=why.reason, error=str(why))
        return JSONResponse(
            {"accepted": len(receipts), "receipts": list(receipts), "refused": count, "refusal": str(why)}
        )

    async def _too_large(self, error: BodyTooLarge) -> Response:
        now = self._clock()
        alert = oversize_alert(limit=error.limit, at=now)
        await self._inbox.accept([(alert, IntakeClass.P1_CANDIDATE)], source="gateway", truncated=0, accepted_at=now)
        self._metrics.oversize.inc()
        self._kept([IntakeClass.P1_CANDIDATE])
        return self._refuse(413, error, "oversize")

    def _kept(self, classes: Sequence[IntakeClass]) -> None:
        self._metrics.accepted.inc(len(classes))
        self._backlogs.update(classes)
        if classes:
            self._poke(set(classes))

    async def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted_at > BACKLOG_LOOK:
            self._counted_at = now
            self._backlogs = Counter(await self._inbox.backlogs())
            self._metrics.backlog.set(self._backlogs.total())

    def _too_many_wait(self, of: IntakeClass) -> bool:
        return self._backlogs[of] > self._settings.backlog_limit

    def _too_many(self) -> Response:
        sentence = f"more than {self._settings.backlog_limit} alerts of its class wait to be looked at"
        advice = "Check that the worker runs (`firebreak up` or `firebreak worker`); Alertmanager sends them again."
        return self._refuse(503, FirebreakError(sentence, advice=advice), "backlog", {"Retry-After": RETRY_AFTER})

    def _refuse(
        self, status: int, error: FirebreakError, reason: str, headers: dict[str, str] | None = None
    ) -> Response:
        self._metrics.rejected.labels(reason).inc()
        log.warning("webhook refused", status=status, reason=reason, error=str(error), next_step=error.next_step())
        return refusal(status, error, reason, headers)


_NOT_JSON = frozenset({"json", "encoding", "nesting"})


def _most_urgent(classes: Iterable[IntakeClass]) -> IntakeClass:
    """Of one body, which is taken whole or not at all: a flood of the others keeps no P1 candidate out."""
    return IntakeClass.P1_CANDIDATE if IntakeClass.P1_CANDIDATE in classes else IntakeClass.OTHER

"""PagerDuty as PagerPort: Events API v2 (PagerDuty developer docs, events-API-v2).

Two dedup keys per incident: `-notice` with severity warning (low urgency), `-page` with critical (high urgency),
because an open alert's severity cannot be relied on to rise. The same key again is the same alert: sending is
idempotent, so after a doubt it is simply sent again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import httpx

from firebreak.connectors.http import HttpEdge, httpx_transport
from firebreak.connectors.outcome import HttpReply
from firebreak.connectors.wording import plain, shorten, shown
from firebreak.domain.errors import ContractError, FirebreakError, PermanentError, TransientError
from firebreak.domain.ids import pager_notice_key, pager_page_key
from firebreak.domain.message import NoticeText, PagerAction

SUMMARY_LIMIT = 1024
DEDUP_LIMIT = 255
BODY_LIMIT = 512 * 1024
"""Bytes of the whole event, as documented."""

_DETAILS_ROOM = BODY_LIMIT - 32 * 1024  # what is left beside summary, keys and JSON's own marks
_FIELD_LIMIT = 1024  # characters of source, component, group
_BUSY_WAIT = timedelta(seconds=30)
_LOW = frozenset({PagerAction.TRIGGER_LOW, PagerAction.RESOLVE_LOW})
_SEVERITY = {PagerAction.TRIGGER_LOW: "warning", PagerAction.TRIGGER_HIGH: "critical"}
_WHERE = "Check pager_key in services.yaml (or FIREBREAK_FALLBACK_PAGER_KEY): an Events v2 integration's key."
_NOT_IT = f"It has no such answer: check FIREBREAK_PAGERDUTY_URL and FIREBREAK_PROXY_URL. {_WHERE}"
_CONNECTIONS = 8


class PagerDuty:
    """PagerPort over PagerDuty or what speaks its Events v2. `source` is what PagerDuty shows as the alert's source;
    `proxy` the URL of an HTTP proxy, empty = none."""

    def __init__(
        self,
        base_url: str = "https://events.pagerduty.com",
        *,
        source: str = "firebreak",
        timeout: timedelta = timedelta(seconds=10),
        proxy: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = HttpEdge(
            base_url,
            system="PagerDuty",
            max_body_bytes=64 * 1024,
            connections=_CONNECTIONS,
            # pages are few: httpx itself, where what a call costs does not matter (docs/adr/0012)
            transport=transport or httpx_transport(_CONNECTIONS, proxy=proxy),
        )
        self._source, self._timeout = source, timeout

    def __repr__(self) -> str:
        return f"PagerDuty({self._http.system})"

    async def send(
        self,
        routing_key: str,
        action: PagerAction,
        *,
        incident_id: str,
        text: NoticeText,
        details: Mapping[str, Any],
    ) -> str:
        """See PagerPort. TransientError: send again, it is idempotent. PermanentError: a wrong key or event."""
        if not routing_key.strip():
            raise PermanentError(f"no routing key to page for {incident_id}", advice=_WHERE)
        key = dedup_key(action, incident_id)
        body = event(routing_key, action, key=key, source=self._source, text=text, details=details)
        reply = await self._http.send("POST", "v2/enqueue", content=body, timeout=self._timeout)
        if reply.status != 202:
            raise refused(reply, routing_key)
        return key

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def dedup_key(action: PagerAction, incident_id: str) -> str:
    """Which of the incident's two alerts an action speaks of. ContractError for NONE or an id that is too long."""
    if action is PagerAction.NONE:
        raise ContractError(f"a message of {incident_id} for the pager names no pager action")
    key = pager_notice_key(incident_id) if action in _LOW else pager_page_key(incident_id)
    if len(key) > DEDUP_LIMIT:
        raise ContractError(f"the incident id {incident_id[:80]}… is too long for a PagerDuty dedup key")
    return key


def event(
    routing_key: str, action: PagerAction, *, key: str, source: str, text: NoticeText, details: Mapping[str, Any]
) -> bytes:
    """The event's JSON, at most BODY_LIMIT bytes; what was left out of `details` is said in them."""
    if action not in _SEVERITY:
        return _json({"routing_key": routing_key, "event_action": "resolve", "dedup_key": key})
    payload: dict[str, Any] = {
        "summary": plain(text.title, SUMMARY_LIMIT) or "Firebreak incident",
        "source": plain(source, _FIELD_LIMIT) or "firebreak",
        "severity": _SEVERITY[action],
        "custom_details": _fitted({"what": "\n".join(text.lines), **details}),
    }
    if service := plain(text.service, _FIELD_LIMIT):
        payload["component"] = service
    return _json(
        {
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": key,
            "client": "Firebreak",
            "payload": payload,
        }
    )


def refused(reply: HttpReply, routing_key: str) -> FirebreakError:
    """The error for an answer other than 202. The routing key is taken out of what PagerDuty says."""
    said = reply.text().replace(routing_key, "(routing key)")
    if reply.status == 429:
        wait = reply.retry_after() or _BUSY_WAIT
        return TransientError("PagerDuty asks to wait before the next event", retry_after=wait)
    if 400 <= reply.status < 500 and reply.status != 408:
        advice = _WHERE if reply.status == 400 else _NOT_IT  # it documents 202, 400 and 429
        return PermanentError(f"PagerDuty refused the event with {reply.status}: {said}", advice=advice)
    if 300 <= reply.status < 400:
        return PermanentError(f"PagerDuty's address answers with a redirect ({reply.status})", advice="Check the URL.")
    # A 5xx; or a 2xx that is not the documented 202, so that something else than PagerDuty may have answered.
    return TransientError(
        f"PagerDuty did not take the event, status {reply.status}: {said}", retry_after=reply.retry_after()
    )


def _fitted(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details in their order as long as they fit, long values cut; what is missing is counted and said."""
    room, kept, dropped, cut = _DETAILS_ROOM, {}, 0, 0
    for name, given in details.items():
        value = _clean(given)
        if len(_json(value)) > room // 2:  # one huge value must not push out all that follow
            text = value if isinstance(value, str) else _json(value).decode()
            value = shorten(text, max(1, room // 24))  # a character is at most 12 bytes of escaped JSON
            cut += 1
        size = len(_json(value)) + len(_json(shown(name))) + 2
        if size > room:
            dropped += 1
            continue
        room -= size
        kept[shown(name)] = value
    if cut or dropped:
        kept["shortened"] = f"{cut} values cut and {dropped} left out to fit PagerDuty; `firebreak show` has all of it"
    return kept


def _clean(value: Any) -> Any:
    """The value as JSON that every reader takes: no NaN, no lone surrogates, no control characters."""
    match value:
        case str():
            return shown(value)
        case bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {shown(str(k)): _clean(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(v) for v in value]
        case _:
            return shown(str(value))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()

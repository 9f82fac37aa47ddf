"""A stand-in for PagerDuty: Events API v2, `POST /v2/enqueue`.

It refuses what the real one refuses, in its words, as far as its documents and its users' reports show them
(developer.pagerduty.com "Events API v2"; summary over 1024: dagster-io/dagster#19567; routing keys:
blockpane/tenderduty#10, robusta-dev/robusta#571). The limits are written down here on purpose, not shared with the
connector that they test.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import web

from firebreak.lab.receiver import Receiver, Reply, parsed

_MAX_BODY = 512 * 1024
_MAX_DEDUP = 255
_MAX_SUMMARY = 1024
_KEY_LENGTH = 32
_ACTIONS = ("trigger", "acknowledge", "resolve")
_SEVERITIES = ("critical", "warning", "error", "info")
_HIGH = ("critical", "error")


@dataclass(slots=True)
class PagerAlert:
    """One alert as the service keeps it: `status` triggered | acknowledged | resolved. Its severity is that of the
    first trigger: a later one under the same key is only a line in its log, and wakes nobody."""

    routing_key: str
    dedup_key: str
    summary: str
    source: str
    severity: str
    details: Any
    status: str = "triggered"
    history: list[str] = field(default_factory=list)

    @property
    def urgency(self) -> str:
        """high rings a phone, low does not (a service with severity-based urgency)."""
        return "high" if self.severity in _HIGH else "low"


class PagerDuty(Receiver):
    """`routing_keys` maps each known integration key to the service it belongs to."""

    title = "Pager (stand-in for PagerDuty)"

    def __init__(self, log_file: Path, routing_keys: Mapping[str, str]) -> None:
        super().__init__(log_file)
        self._routing_keys = routing_keys
        self.alerts: list[PagerAlert] = []
        self.app.router.add_post("/v2/enqueue", self._enqueue)
        self.app.router.add_get("/alerts", self._get_alerts)

    def ratelimited(self, retry_after: int) -> Reply:
        body = {"status": "throttle exceeded", "message": "Requests for this service are arriving too quickly."}
        return Reply(429, body, accepted=False, headers={"Retry-After": str(retry_after)})

    async def _enqueue(self, request: web.Request) -> web.Response:
        raw = await request.read()
        forced = await self.disturbed()
        try:
            event: Any = parsed(raw)
        except ValueError:
            event = None
        shown = event if isinstance(event, dict) else {"body": raw[:2000].decode(errors="replace")}
        return await self.answered("enqueue", shown, forced or self._judge(raw, event))

    def _judge(self, raw: bytes, event: Any) -> Reply:
        if len(raw) > _MAX_BODY:
            return Reply(413, "Request Entity Too Large", accepted=False)
        if not isinstance(event, dict):
            return _invalid("Event object is invalid: it is not valid JSON")
        errors = [*_routing_errors(event), *_event_errors(event)]
        if errors:
            return _invalid(*errors)
        if event["routing_key"] not in self._routing_keys:
            return Reply(400, "Invalid routing key", accepted=False)
        key = event.get("dedup_key") or str(uuid.uuid4())
        self._keep(event, key)
        return Reply(202, {"status": "success", "message": "Event processed", "dedup_key": key}, accepted=True)

    def _keep(self, event: Mapping[str, Any], key: str) -> None:
        at = datetime.now(UTC).strftime("%H:%M:%S")
        action = event["event_action"]
        # Only an open alert of the same key *and* the same integration is meant.
        there = (a for a in self.alerts if (a.routing_key, a.dedup_key) == (event["routing_key"], key))
        found = next((a for a in there if a.status != "resolved"), None)
        if action == "trigger":
            payload = event["payload"]
            if found is None:
                found = PagerAlert(
                    event["routing_key"],
                    key,
                    payload["summary"],
                    payload["source"],
                    payload["severity"],
                    payload.get("custom_details"),
                )
                self.alerts.append(found)
            found.history.append(f"{at} trigger ({payload['severity']}): {payload['summary']}")
        elif found is not None:
            found.status = "acknowledged" if action == "acknowledge" else "resolved"
            found.history.append(f"{at} {action}")

    async def _get_alerts(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "service": self._routing_keys[alert.routing_key],
                    "dedup_key": alert.dedup_key,
                    "summary": alert.summary,
                    "severity": alert.severity,
                    "urgency": alert.urgency,
                    "status": alert.status,
                    "history": alert.history,
                }
                for alert in self.alerts
            ]
        )

    def body_html(self) -> str:
        cards = []
        for alert in reversed(self.alerts):
            state = "resolved" if alert.status == "resolved" else alert.urgency
            details = alert.details if isinstance(alert.details, str) else json.dumps(alert.details, indent=1)
            shown = f"<details><summary>details</summary><pre>{escape(details)}</pre></details>"
            shown = shown if alert.details else ""
            lines = "".join(f"<pre>{escape(line)}</pre>" for line in alert.history)
            cards.append(
                f'<article class="{state}"><b>{escape(alert.summary)}</b><br>'
                f"<small>{escape(self._routing_keys[alert.routing_key])} · {alert.urgency} urgency · "
                f"{escape(alert.severity)} · {alert.status} · {escape(alert.dedup_key)}</small>{lines}{shown}</article>"
            )
        return "".join(cards) or "<p>Nobody was called.</p>"


def _invalid(*errors: str) -> Reply:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)}
    return Reply(400, body, accepted=False)


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _routing_errors(event: Mapping[str, Any]) -> list[str]:
    key = event.get("routing_key")
    if _blank(key):
        return ["'routing_key' is missing or blank"]
    errors = []
    if not isinstance(key, str) or len(key) != _KEY_LENGTH:
        errors.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if not isinstance(key, str) or not re.fullmatch("[A-Za-z0-9]*", key):
        errors.append("'routing_key' cannot contain non-alphanumeric characters.")
    return errors


def _event_errors(event: Mapping[str, Any]) -> list[str]:
    errors = []
    action, dedup = event.get("event_action"), event.get("dedup_key")
    if _blank(action):
        errors.append("'event_action' is missing or blank")
    elif action not in _ACTIONS:
        errors.append("'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')")
    if dedup is not None and not isinstance(dedup, str):
        errors.append("'dedup_key' must be a string")
    elif dedup is not None and len(dedup) > _MAX_DEDUP:
        errors.append(f"'dedup_key' is too long (maximum is {_MAX_DEDUP} characters)")
    if action in ("acknowledge", "resolve") and _blank(dedup):
        errors.append("'dedup_key' is missing or blank")
    if action == "trigger":
        errors += _payload_errors(event.get("payload"))
    return errors


def _payload_errors(payload: Any) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing or blank"]
    needed = ("summary", "source", "severity")
    errors = [f"'payload.{name}' is missing or blank" for name in needed if _blank(payload.get(name))]
    summary, source, severity = (payload.get(name) for name in needed)
    if not _blank(summary):
        if not isinstance(summary, str):
            errors.append("'payload.summary' must be a string")
        elif len(summary) > _MAX_SUMMARY:
            errors.append(f"'summary' is too long (maximum is {_MAX_SUMMARY} characters)")
    if not _blank(source) and not isinstance(source, str):
        errors.append("'payload.source' must be a string")
    if not _blank(severity) and severity not in _SEVERITIES:
        errors.append(
            "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')"
        )
    return errors

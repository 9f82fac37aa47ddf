"""PagerPort over PagerDuty: against a capture server, and the lab's stand-in, which keeps PagerDuty's limits."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

import firebreak.lab.pagerduty as stand_in
from firebreak.connectors.outcome import HttpReply
from firebreak.connectors.pagerduty import BODY_LIMIT, PagerDuty, event, refused
from firebreak.domain.errors import ContractError, FirebreakError, PermanentError, TransientError
from firebreak.domain.message import NoticeText, PagerAction
from firebreak.domain.ports import PagerPort
from firebreak.lab.receiver import Mode

if TYPE_CHECKING:
    from tests.connectors.conftest import Capture

KEY = "R0UT1NGKEYsecret0123456789abcdef"
INCIDENT = "inc-20261121-083644-1f0a9c3e"
TEXT = NoticeText(title="P1 pay: 30 % of calls fail", lines=("seen: errors", "decided: restart"))
ACCEPTED = {"status": "success", "message": "Event processed"}


async def send(
    pager: PagerPort,
    action: PagerAction,
    *,
    key: str = KEY,
    incident: str = INCIDENT,
    text: NoticeText = TEXT,
    details: Mapping[str, Any] | None = None,
) -> str:
    return await pager.send(key, action, incident_id=incident, text=text, details=details or {})


async def test_a_named_proxy_is_used(capture: Capture) -> None:
    """It is told the whole address, and who we are to it; PagerDuty itself is not asked for by name."""
    capture.say(capture.said(202, ACCEPTED))
    proxy = capture.url.replace("http://", "http://ada:secret@")
    async with PagerDuty("http://pager.invalid", proxy=proxy) as pager:
        await send(pager, PagerAction.TRIGGER_HIGH)
    (heard,) = capture.heard
    assert (heard.headers["host"], heard.path) == ("pager.invalid", "/v2/enqueue")
    assert heard.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'ada:secret').decode()}"


# --- the contract, on the lab's stand-in -------------------------------------------------------------------------


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[tuple[stand_in.PagerDuty, str]]:
    """The lab's PagerDuty and its address."""
    found = stand_in.PagerDuty(tmp_path / "pager.jsonl", {KEY: "pay"})
    server = TestServer(found.app)
    await server.start_server()
    yield found, f"http://127.0.0.1:{server.port}"
    await server.close()


Lab = tuple[stand_in.PagerDuty, str]


async def test_low_and_high_are_two_alerts_of_their_own(lab: Lab) -> None:
    """A severity under one key cannot be relied on to rise; resolving one leaves the other."""
    there, url = lab
    async with PagerDuty(url) as pager:
        low = await send(pager, PagerAction.TRIGGER_LOW)
        high = await send(pager, PagerAction.TRIGGER_HIGH)
        assert (low, high) == (f"{INCIDENT}-notice", f"{INCIDENT}-page")
        assert {(a.dedup_key, a.severity, a.urgency) for a in there.alerts} == {
            (low, "warning", "low"),
            (high, "critical", "high"),
        }
        assert await send(pager, PagerAction.RESOLVE_LOW) == low
        assert {a.dedup_key: a.status for a in there.alerts} == {low: "resolved", high: "triggered"}
        await send(pager, PagerAction.RESOLVE_HIGH)
    assert {a.status for a in there.alerts} == {"resolved"}


async def test_sending_twice_opens_one_alert(lab: Lab) -> None:
    """After a doubt it is simply sent again."""
    there, url = lab
    async with PagerDuty(url) as pager:
        assert await send(pager, PagerAction.TRIGGER_HIGH) == await send(pager, PagerAction.TRIGGER_HIGH)
    assert len(there.alerts) == 1


HOSTILE: dict[str, Any] = {
    "service": "pay\x00\u202e",
    "nan": float("nan"),
    "inf": [float("inf"), {"x": -float("inf")}],
    "surrogate": "bad \ud800",
    "at": datetime(2026, 11, 21, tzinfo=UTC),
    "for": timedelta(seconds=3),
    "set": frozenset({"a"}),
    "huge": "\U0001f525" * 300_000,
    "many": [{"n": n, "text": "é" * 50} for n in range(3000)],
    **{f"value {n}": "x" * 20_000 for n in range(60)},
}


async def test_pagerduty_takes_the_most_hostile_event(lab: Lab) -> None:
    """Title too long, details far over 512 KB, values that are no JSON."""
    there, url = lab
    text = NoticeText(title="t" * 3000 + "\ud800", lines=("<b>\x00",) * 10, service="pay\x00\ud800" * 900)
    async with PagerDuty(url, source="s" * 3000) as pager:
        await send(pager, PagerAction.TRIGGER_LOW, text=text, details=HOSTILE)
        await send(pager, PagerAction.TRIGGER_HIGH, text=NoticeText(title="", lines=()))
    first, second = there.alerts
    assert len(first.summary) == 1024
    assert second.summary


async def test_an_unknown_key_is_permanent_and_stays_secret(lab: Lab) -> None:
    """A page that nobody gets must be told of, and the key must not."""
    other = "S3CRETkey" + "0" * 23
    async with PagerDuty(lab[1]) as pager:
        for key in (other, "short-secret-key"):
            with pytest.raises(PermanentError) as caught:
                await send(pager, PagerAction.TRIGGER_HIGH, key=key)
            assert key not in str(caught.value) + caught.value.next_step() + repr(pager)
            assert "services.yaml" in caught.value.next_step()


async def test_a_throttle_and_an_outage_pass(lab: Lab) -> None:
    """429 says how long to wait; a 503 is tried again."""
    there, url = lab
    async with PagerDuty(url) as pager:
        there.mode, there.retry_after = Mode.RATELIMITED, 9
        with pytest.raises(TransientError) as caught:
            await send(pager, PagerAction.TRIGGER_HIGH)
        assert caught.value.retry_after == timedelta(seconds=9)
        there.mode = Mode.DOWN
        with pytest.raises(TransientError):
            await send(pager, PagerAction.TRIGGER_HIGH)
    assert there.alerts == []


# --- on the wire -------------------------------------------------------------------------------------------------


async def test_the_events_are_what_pagerduty_documents(capture: Capture) -> None:
    """Events API v2: trigger with payload, resolve with the key alone."""
    capture.say(capture.said(202, ACCEPTED))
    async with PagerDuty(capture.url, source="lab") as pager:
        await send(pager, PagerAction.TRIGGER_LOW, text=replace(TEXT, service="pay"), details={"url": "x"})
        await send(pager, PagerAction.RESOLVE_LOW)
    trigger, resolve = capture.heard
    assert (trigger.method, trigger.path) == ("POST", "/v2/enqueue")
    assert trigger.headers["content-type"] == "application/json"
    assert trigger.json == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": f"{INCIDENT}-notice",
        "client": "Firebreak",
        "payload": {
            "summary": "P1 pay: 30 % of calls fail",
            "source": "lab",
            "severity": "warning",
            "component": "pay",
            "custom_details": {"what": "seen: errors\ndecided: restart", "url": "x"},
        },
    }
    assert resolve.json == {"routing_key": KEY, "event_action": "resolve", "dedup_key": f"{INCIDENT}-notice"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {"ok": True}, TransientError),
        (201, {}, TransientError),
        (302, b"", PermanentError),
        (400, {"message": f"key {KEY} is wrong", "errors": ["e"]}, PermanentError),
        (401, b"", PermanentError),
        (403, b"", PermanentError),
        (404, b"<html>", PermanentError),
        (408, b"", TransientError),
        (413, b"", PermanentError),
        (429, b"", TransientError),
        (500, b"", TransientError),
        (503, f"no {KEY}".encode(), TransientError),
    ],
)
async def test_only_202_counts_as_taken(capture: Capture, status: int, body: Any, error: type[FirebreakError]) -> None:
    """Anything else may be a proxy's word; the routing key is taken out of what it says, and nothing is repeated."""
    capture.say(capture.said(status, body))
    async with PagerDuty(capture.url) as pager:
        with pytest.raises(FirebreakError) as caught:
            await send(pager, PagerAction.TRIGGER_HIGH)
    assert type(caught.value) is error
    assert KEY not in str(caught.value) + caught.value.next_step()
    assert len(capture.heard) == 1


async def test_what_pagerduty_says_is_told(capture: Capture) -> None:
    """The message of a 400 names the mistake."""
    capture.say(capture.said(400, {"status": "invalid event", "errors": ["'payload.summary' is missing or blank"]}))
    async with PagerDuty(capture.url) as pager:
        with pytest.raises(PermanentError, match="missing or blank"):
            await send(pager, PagerAction.TRIGGER_HIGH)


async def test_a_pager_that_hangs_costs_the_time_limit(capture: Capture) -> None:
    """And may be tried again."""
    capture.say(capture.said(hang=True))
    async with PagerDuty(capture.url, timeout=timedelta(milliseconds=100)) as pager:
        with pytest.raises(TransientError, match="PagerDuty"):
            await send(pager, PagerAction.TRIGGER_HIGH)


@pytest.mark.parametrize(
    ("key", "action", "incident", "error"),
    [
        ("", PagerAction.TRIGGER_HIGH, INCIDENT, PermanentError),
        ("  ", PagerAction.TRIGGER_HIGH, INCIDENT, PermanentError),
        (KEY, PagerAction.NONE, INCIDENT, ContractError),
        (KEY, PagerAction.RESOLVE_HIGH, "i" * 255, ContractError),
    ],
)
async def test_what_can_never_be_sent_is_refused_before_it_is(
    capture: Capture, key: str, action: PagerAction, incident: str, error: type[FirebreakError]
) -> None:
    """No key, no action, an id that is no dedup key."""
    async with PagerDuty(capture.url) as pager:
        with pytest.raises(error):
            await send(pager, action, key=key, incident=incident)
    assert capture.heard == []


# --- the event ---------------------------------------------------------------------------------------------------


def details_of(details: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    body = event(KEY, PagerAction.TRIGGER_LOW, key="k", source="s", text=TEXT, details=details)
    return len(body), json.loads(body)["payload"]["custom_details"]


def test_an_event_never_exceeds_the_limit_and_says_what_is_missing() -> None:
    """What comes first stays; the rest is counted."""
    size, kept = details_of(HOSTILE)
    assert BODY_LIMIT // 2 < size <= BODY_LIMIT
    assert kept["nan"] == "nan"
    assert kept["what"].startswith("seen")
    assert kept["huge"].endswith("…")
    assert "left out" in kept["shortened"]
    assert kept["value 0"] == "x" * 20_000


def test_small_details_are_whole() -> None:
    """Nothing is cut where nothing must be."""
    given = {"a": 1, "b": [True, None, 1.5], "c": {"d": "e"}}
    _, kept = details_of(given)
    assert kept == {"what": "seen: errors\ndecided: restart", **given}


@pytest.mark.parametrize("char", ["x", "é", "\U0001f525", "\\", '"', "\x00"])
@pytest.mark.parametrize("length", [100_000, 2_000_000])
def test_the_limit_is_in_bytes_of_the_body(char: str, length: int) -> None:
    """A character is one to twelve bytes of JSON."""
    size, _ = details_of({"one": char * length, "two": char * length, char * 10: 1})
    assert size <= BODY_LIMIT


@pytest.mark.parametrize(
    ("status", "doubted"), [(400, "pager_key"), (403, "FIREBREAK_PROXY_URL"), (404, "_PAGERDUTY_URL")]
)
def test_a_refusal_that_is_not_pagerdutys_doubts_the_address(status: int, doubted: str) -> None:
    """A proxy's or a portal's page sent people after a routing key that was right."""
    error = refused(HttpReply(status=status, headers={}, body=b"<html>"), "k" * 32)
    assert isinstance(error, PermanentError)
    assert doubted in error.next_step()
    assert ("FIREBREAK_PAGERDUTY_URL" in error.next_step()) is (status != 400)

"""The pager's stand-in refuses what the real one refuses, and keeps what it got."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from firebreak.lab.pagerduty import PagerDuty

KEY, OTHER = "ab" * 16, "cd" * 16
Client = TestClient[Request, Application]


def trigger(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "inc-1-page",
        "payload": {"summary": "pay is down", "source": "lab/shop/pay-v1", "severity": "critical"},
    }
    return event | changes


def payload(**changes: Any) -> dict[str, Any]:
    return trigger(payload={**trigger()["payload"], **changes})


@pytest.fixture
def pager(tmp_path: Path) -> PagerDuty:
    return PagerDuty(tmp_path / "pagerduty.jsonl", {KEY: "pay", OTHER: "order"})


@pytest.fixture
async def client(pager: PagerDuty) -> AsyncIterator[Client]:
    async with TestClient(TestServer(pager.app)) as connected:
        yield connected


async def send(client: Client, event: Any) -> tuple[int, Any]:
    async with client.post("/v2/enqueue", data=event if isinstance(event, bytes) else json.dumps(event)) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text


async def test_an_event_is_taken_with_its_own_dedup_key(client: Client, pager: PagerDuty) -> None:
    """202, and the key that names the alert from now on."""
    assert await send(client, trigger()) == (
        202,
        {"status": "success", "message": "Event processed", "dedup_key": "inc-1-page"},
    )
    assert [(a.summary, a.severity, a.urgency, a.status) for a in pager.alerts] == [
        ("pay is down", "critical", "high", "triggered")
    ]


async def test_an_event_without_dedup_key_gets_one(client: Client) -> None:
    """Each such trigger is an alert of its own."""
    event = trigger()
    del event["dedup_key"]
    first, second = await send(client, event), await send(client, event)
    assert first[1]["dedup_key"] != second[1]["dedup_key"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 200_000, "JSON"),
        (b'{"x":' + b"[" * 200 + b"]" * 200 + b"}", "JSON"),
        (trigger(routing_key=""), "'routing_key' is missing"),
        (trigger(routing_key="short"), "32 characters"),
        (trigger(routing_key="-" * 32), "non-alphanumeric"),
        (trigger(routing_key="99" * 16), "Invalid routing key"),
        (trigger(event_action=None), "'event_action' is missing"),
        (trigger(event_action="open"), "'event_action' is invalid"),
        (trigger(dedup_key="k" * 256), "255"),
        (trigger(dedup_key=5), "string"),
        (trigger(payload=None), "'payload' is missing"),
        (payload(summary=" "), "'payload.summary' is missing"),
        (payload(summary="s" * 1025), "1024"),
        (payload(source=""), "'payload.source' is missing"),
        (payload(source=["pay"]), "'payload.source' must be a string"),
        (payload(severity=None), "'payload.severity' is missing"),
        (payload(severity="fatal"), "'payload.severity' is invalid"),
        ({"routing_key": KEY, "event_action": "resolve"}, "'dedup_key' is missing"),
    ],
)
async def test_what_the_real_one_refuses_gets_400(client: Client, pager: PagerDuty, event: Any, said: str) -> None:
    """Nothing is kept but the attempt, and the answer says what is wrong."""
    status, body = await send(client, event)
    assert status == 400
    assert said in str(body)
    assert pager.alerts == []
    assert [entry["accepted"] for entry in pager.log] == [False]


@pytest.mark.parametrize("event", [trigger(dedup_key="k" * 255), payload(summary="s" * 1024), payload(severity="info")])
async def test_what_is_just_within_a_limit_is_taken(client: Client, event: Any) -> None:
    """A stand-in that is too strict would hide that the real one would have called."""
    assert (await send(client, event))[0] == 202


async def test_a_body_over_512_kb_is_too_large(client: Client) -> None:
    """Events API payloads are limited to 512 KB."""
    assert (await send(client, payload(custom_details={"x": "y" * (512 * 1024)})))[0] == 413
    assert (await send(client, payload(custom_details={"x": "y" * (500 * 1024)})))[0] == 202


async def test_a_severity_under_one_key_does_not_rise(client: Client, pager: PagerDuty) -> None:
    """A later, worse trigger is a line in the alert's log: it wakes nobody."""
    await send(client, payload(severity="warning"))
    await send(client, payload(severity="critical"))
    (alert,) = pager.alerts
    assert (alert.severity, alert.urgency, len(alert.history)) == ("warning", "low", 2)


async def test_a_resolved_key_opens_a_new_alert(client: Client, pager: PagerDuty) -> None:
    """As PagerDuty's documents say it."""
    await send(client, trigger())
    await send(client, {"routing_key": KEY, "event_action": "resolve", "dedup_key": "inc-1-page"})
    await send(client, trigger())
    assert [alert.status for alert in pager.alerts] == ["resolved", "triggered"]


async def test_a_resolve_by_another_routing_key_is_dropped(client: Client, pager: PagerDuty) -> None:
    """It answers 202 all the same, as the real one does."""
    await send(client, trigger())
    status, _ = await send(client, {"routing_key": OTHER, "event_action": "resolve", "dedup_key": "inc-1-page"})
    assert status == 202
    assert [alert.status for alert in pager.alerts] == ["triggered"]


async def test_an_acknowledged_alert_is_not_open_anew(client: Client, pager: PagerDuty) -> None:
    """A trigger after an acknowledgement belongs to the same alert."""
    await send(client, trigger())
    await send(client, {"routing_key": KEY, "event_action": "acknowledge", "dedup_key": "inc-1-page"})
    await send(client, trigger())
    assert [alert.status for alert in pager.alerts] == ["acknowledged"]


@pytest.mark.parametrize(("mode", "status"), [("down", 503), ("ratelimited", 429)])
async def test_it_fails_on_command_and_recovers(client: Client, pager: PagerDuty, mode: str, status: int) -> None:
    """While it fails nothing is taken; every attempt is in the log."""
    await client.post("/control", json={"mode": mode, "retry_after": 7})
    async with client.post("/v2/enqueue", json=trigger()) as answer:
        assert answer.status == status
        assert answer.headers.get("Retry-After") == ("7" if mode == "ratelimited" else None)
    assert pager.alerts == []
    await client.post("/control", json={"mode": "ok"})
    assert (await send(client, trigger()))[0] == 202
    assert [entry["accepted"] for entry in pager.log] == [False, True]


async def test_slow_answers_late_and_still_takes_the_event(client: Client, pager: PagerDuty) -> None:
    """The sender may have given up by then: the outcome that it does not know."""
    await client.post("/control", json={"mode": "slow", "seconds": 0.05})
    assert (await send(client, trigger()))[0] == 202
    assert len(pager.alerts) == 1


async def test_an_unknown_mode_is_refused(client: Client, pager: PagerDuty) -> None:
    """A slip of the pen must not look like a mode."""
    async with client.post("/control", json={"mode": "off"}) as answer:
        assert answer.status == 400
    assert pager.mode == "ok"


async def test_what_it_got_is_in_the_log_file_and_under_log(client: Client, pager: PagerDuty, tmp_path: Path) -> None:
    """One JSON object a line; the same under GET /log."""
    await send(client, trigger())
    await send(client, payload(severity="fatal"))
    lines = [json.loads(line) for line in (tmp_path / "pagerduty.jsonl").read_text().splitlines()]
    async with client.get("/log") as answer:
        assert (await answer.json())["calls"] == lines
    assert [line["status"] for line in lines] == [202, 400]
    assert lines[0]["request"]["payload"]["summary"] == "pay is down"


async def test_the_page_escapes_what_came_from_outside(client: Client) -> None:
    """An alert's text must not become markup on it."""
    await send(client, payload(summary="<script>alert(1)</script>", custom_details={"x": "</pre><b>"}))
    async with client.get("/") as answer:
        text = await answer.text()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "</pre><b>" not in text
    assert "high urgency" in text


async def test_the_page_shows_what_was_refused_and_why(client: Client) -> None:
    """The reason in the words of the answer, and the call itself; the newest first."""
    await send(client, payload(severity="fatal", summary="<b>pay</b> is down"))
    await send(client, trigger(routing_key="99" * 16))
    async with client.get("/") as answer:
        refused = (await answer.text()).partition("Refused calls: 2")[2]
    assert refused.index("Invalid routing key") < refused.index("Event object is invalid; ")
    assert "&#x27;payload.severity&#x27; is invalid" in refused
    assert "&lt;b&gt;pay&lt;/b&gt; is down" in refused
    assert "<b>pay" not in refused


async def test_the_page_of_calls_that_were_all_taken_shows_none_as_refused(client: Client) -> None:
    """So that the word is a sign."""
    await send(client, trigger())
    async with client.get("/") as answer:
        assert "Refused" not in await answer.text()


async def test_the_page_shows_the_newest_of_many_refused_calls(client: Client) -> None:
    """And says how many there were."""
    for number in range(52):
        await send(client, payload(severity="fatal", summary=f"call {number} of many"))
    async with client.get("/") as answer:
        text = await answer.text()
    assert "Refused calls: 52, the newest 50" in text
    assert "call 51 of many" in text
    assert "call 2 of many" in text
    assert "call 1 of many" not in text


async def test_half_a_surrogate_pair_does_not_end_the_page(client: Client) -> None:
    """JSON may carry what UTF-8 cannot: it is taken, and shown as a question mark."""
    assert (await send(client, payload(summary="pay \ud800 is down")))[0] == 202
    async with client.get("/") as answer:
        assert answer.status == 200
        assert "pay ? is down" in await answer.text()


async def test_what_is_nested_as_deep_as_it_may_be_is_shown(client: Client) -> None:
    """The page follows every level; what it could not follow is not taken."""
    nested: Any = "bottom"
    for _ in range(90):
        nested = {"x": nested}
    assert (await send(client, payload(custom_details=nested)))[0] == 202
    async with client.get("/") as answer:
        assert "bottom" in await answer.text()

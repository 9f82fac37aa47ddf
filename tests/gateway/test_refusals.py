"""Bad input gets a sentence and a next step, is counted, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from firebreak.domain.alert import AcceptedAlert, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.gateway import body as body_module
from firebreak.gateway.alertmanager import parse_webhook
from firebreak.gateway.app import create_app
from firebreak.gateway.metrics import GatewayMetrics
from firebreak.settings import Settings

if TYPE_CHECKING:
    from tests.gateway.conftest import Gateway


async def _refused(gateway: Gateway, answer: httpx.Response, status: int, reason: str, *, paged: bool = False) -> str:
    """The sentence, after checking all that every refusal has in common. `paged`: an alert about it is all that it
    leaves behind."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["reason"] == reason
    assert told["error"]
    assert told["next_step"]
    assert len(answer.content) < 2_000
    assert gateway.count("requests_rejected_total", reason=reason) == 1
    assert await gateway.inbox.backlog() == (1 if paged else 0)
    assert gateway.pokes == ([{IntakeClass.P1_CANDIDATE}] if paged else [])
    return str(told["error"])


@pytest.mark.parametrize(
    ("sent", "reason", "says"),
    [
        (b"", "json", "EOF"),
        (b"{", "json", "EOF"),
        (b"not json", "json", "line 1 column"),
        (b'{"version": "4", "alerts": []} trailing', "json", "trailing"),
        (b"\xff\xfe{}", "encoding", "byte 0"),
        (b'{"version": "4", "alerts": [], "x": "\xc3\x28"}', "encoding", "not UTF-8"),
        (b'{"version": "4", "alerts": [], "x": "\\ud800"}', "json", "line 1 column"),
        (b"[" * 200_000, "nesting", "nested too deeply"),
        (b'{"version": "4", "alerts": [], "x": ' + b'{"a":' * 100_000, "nesting", "nested too deeply"),
    ],
)
async def test_what_is_not_json_is_a_400(gateway: Gateway, sent: bytes, reason: str, says: str) -> None:
    """Malformed, truncated, wrongly encoded or absurdly nested: refused, and the sentence says where or why."""
    assert says in await _refused(gateway, await gateway.post_bytes(sent), 400, reason)


def _alert(**change: object) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["alerts"][0].update(change)


def _top(**change: object) -> Callable[[dict[str, Any]], None]:
    return lambda body: body.update(change)


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def remove(body: dict[str, Any]) -> None:
        part = body["alerts"][0] if path[0] == "alert" else body
        del part[path[-1]]

    return remove


@pytest.mark.parametrize(
    ("spoil", "reason", "says"),
    [
        (_top(version="3"), "version", 'only webhook version "4"'),
        (_top(version=4), "version", 'only webhook version "4"'),
        (_without("version"), "version", 'only webhook version "4"'),
        (_without("alerts"), "schema", "alerts: Field required"),
        (_top(alerts={}), "schema", "alerts: "),
        (_top(truncatedAlerts=-1), "schema", "truncatedAlerts"),
    ],
)
async def test_what_can_never_be_right_is_a_422(
    gateway: Gateway, body: dict[str, Any], spoil: Callable[[dict[str, Any]], None], reason: str, says: str
) -> None:
    """JSON that is no webhook of version 4: the sentence names the place."""
    spoil(body)
    assert says in await _refused(gateway, await gateway.post(body), 422, reason)


@pytest.mark.parametrize(
    ("spoil", "reason", "says"),
    [
        (_without("alert", "labels"), "schema", "alerts[0].labels: Field required"),
        (_without("alert", "status"), "schema", "alerts[0].status: Field required"),
        (_without("alert", "startsAt"), "schema", "alerts[0].startsAt: Field required"),
        (_alert(status="pending"), "schema", "alerts[0].status"),
        (_alert(startsAt="yesterday"), "schema", "alerts[0].startsAt"),
        (_alert(startsAt="2026-11-21T08:36:44"), "schema", "alerts[0].startsAt"),
        (_alert(startsAt=1763714204), "schema", "alerts[0].startsAt"),
        (_alert(startsAt="0001-01-01T00:00:00Z"), "time", "alerts[0].startsAt"),
        (_alert(endsAt="9999-12-31T23:59:59-12:00"), "time", "alerts[0].endsAt"),
        (_alert(labels={"severity": 1}), "schema", "alerts[0].labels.severity"),
        (_alert(labels={"severity": None}), "schema", "alerts[0].labels.severity"),
        (_alert(labels=["a"]), "schema", "alerts[0].labels"),
        (_alert(labels={"": "x"}), "label_name", "''"),
        (_alert(labels={"a\nb": "x"}), "label_name", r"'a\nb'"),
        (_alert(labels={"\u202e<!channel>": "x"}), "label_name", r"'\u202e<!channel>'"),
        (_alert(labels={f"l{n}": "x" for n in range(257)}), "too_many_labels", "at most 256"),
        (_alert(labels={f"l{n}": "x" for n in range(10_000)}), "too_many_labels", "alerts[0].labels: "),
        (_alert(labels={"alertname": "x" * 70_000}), "labels_too_long", "at most 65536"),
        (_alert(annotations={"summary": 1}), "schema", "alerts[0].annotations.summary"),
        (_alert(fingerprint=7), "schema", "alerts[0].fingerprint"),
    ],
)
async def test_an_alert_that_can_never_be_right_is_a_422_and_pages(
    gateway: Gateway, body: dict[str, Any], spoil: Callable[[dict[str, Any]], None], reason: str, says: str
) -> None:
    """It would end nowhere: the sentence names the place, and an alert about it waits among the P1 candidates."""
    spoil(body)
    assert says in await _refused(gateway, await gateway.post(body), 422, reason, paged=True)
    (accepted,) = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert accepted.alert.labels["alertname"] == "FirebreakAlertRefused"
    assert says in accepted.alert.annotations["description"]
    assert "by hand" in accepted.alert.annotations["description"]
    assert gateway.count("alerts_refused_total") == 1


@pytest.mark.parametrize("sent", [b"null", b"[]", b'"x"', b"1", b"true"])
async def test_json_that_is_no_object_is_a_422(gateway: Gateway, sent: bytes) -> None:
    """Any JSON value may arrive; only an object can be a webhook."""
    assert "body: " in await _refused(gateway, await gateway.post_bytes(sent), 422, "schema")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"labels": {"alertname": "TooMany", **{f"l{n}": "x" for n in range(257)}}}, "alerts[1].labels: at most 256"),
        ({"labels": {"alertname": "TooMany", "a": 1}}, "alerts[1].labels.a"),
        ({"labels": {"alertname": "TooMany", "": "x"}}, "alerts[1].labels: ''"),
        ({"labels": {"alertname": "TooMany"}, "startsAt": "0001-01-01T00:00:00Z"}, "alerts[1].startsAt"),
    ],
)
async def test_one_bad_alert_takes_no_other_one_with_it(
    gateway: Gateway, grouped_body: dict[str, Any], bad: dict[str, Any], says: str
) -> None:
    """The others are on disk, in the order of the body, and what was wrong is said, counted and paged about: refused
    as a whole, the body would come again at every flush, and never be taken."""
    grouped_body["alerts"][1].update(bad)
    answer = await gateway.post(grouped_body)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["accepted"], told["refused"]) == (2, 1)
    assert says in told["refusal"]
    kept = {
        one.receipt: one.alert
        for intake_class in IntakeClass
        for one in await gateway.inbox.claim(intake_class, limit=9)
    }
    taken = [kept.pop(receipt) for receipt in told["receipts"]]
    assert [alert.labels.get("instance") for alert in taken] == ["10.0.0.1:80", "10.0.0.3:80"]
    (about,) = kept.values()
    assert "1 alert(s), TooMany" in about.annotations["summary"]
    assert says in about.annotations["description"]
    assert gateway.count("alerts_refused_total") == 1


async def test_two_kinds_of_bad_alerts_in_one_body_are_both_named(
    gateway: Gateway, grouped_body: dict[str, Any]
) -> None:
    """One does not fit the schema, one only our rules; the third is taken."""
    grouped_body["alerts"][0]["labels"] = {"alertname": "Odd", "a": 1}
    grouped_body["alerts"][2]["labels"] = {"alertname": "Even <!channel>", "": "x"}
    told = (await gateway.post(grouped_body)).json()
    assert (told["accepted"], told["refused"]) == (1, 2)
    waiting = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    (about,) = [one for one in waiting if one.alert.labels["alertname"] == "FirebreakAlertRefused"]
    assert "2 alert(s), Odd, 'Even <!channel>'" in about.alert.annotations["summary"]


async def test_a_bad_alert_that_comes_again_and_again_pages_once_an_hour(
    gateway: Gateway, body: dict[str, Any]
) -> None:
    """Alertmanager sends it at every flush, which may be every second: one line in the inbox for the hour."""
    body["alerts"][0]["labels"] = {"a": 1}
    for minutes in (0, 10, 10, 60):
        gateway.now += timedelta(minutes=minutes)
        assert (await gateway.post(body)).status_code == 422
    told = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert len(told) == len({one.alert.key for one in told}) == 2
    assert gateway.count("alerts_refused_total") == 4


async def test_another_bad_alert_within_the_hour_is_news(gateway: Gateway, grouped_body: dict[str, Any]) -> None:
    """The body is answered with 200, so that it does not come again: whoever was not told of by then never would be."""
    for name in ("One", "Two", "One"):
        grouped_body["alerts"][1]["labels"] = {"alertname": name, "": "x"}
        assert (await gateway.post(grouped_body)).status_code == 200
    waiting = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    told = [one.alert for one in waiting if one.alert.labels["alertname"] == "FirebreakAlertRefused"]
    assert [alert.labels["refused"] for alert in told] == ["One", "Two"]
    assert len({alert.key for alert in told}) == 2


async def test_the_page_names_the_one_that_is_news(gateway: Gateway, body: dict[str, Any]) -> None:
    """Behind three that a person knows of already."""
    bad = [{**body["alerts"][0], "labels": {"alertname": name, "": "x"}} for name in ("A", "B", "C", "New")]
    for alerts in (bad[:3], bad):
        body["alerts"] = alerts
        assert (await gateway.post(body)).status_code == 422
    last = (await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9))[-1].alert
    assert "4 alert(s), New, A, B and 1 more" in last.annotations["summary"]


async def test_bad_alerts_of_ever_new_names_share_one_page_in_the_end(gateway: Gateway, body: dict[str, Any]) -> None:
    """A sender gone wild calls nobody a thousand times."""
    for number in range(40):
        body["alerts"][0]["labels"] = {"alertname": f"Wild{number}", "": "x"}
        assert (await gateway.post(body)).status_code == 422
    told = [one.alert.labels["refused"] for one in await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=99)]
    assert told == [*(f"Wild{number}" for number in range(20)), "(others)"]


async def test_a_long_list_of_mistakes_is_a_short_sentence(gateway: Gateway, body: dict[str, Any]) -> None:
    """The first alert's places are named, the others counted in the page."""
    body["alerts"] = [{}] * 1000
    said = await _refused(gateway, await gateway.post(body), 422, "schema", paged=True)
    assert "alerts[0].startsAt" in said
    assert len(said) < 200
    (told,) = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert "1000 alert(s), without a name" in told.alert.annotations["summary"]
    assert gateway.count("alerts_refused_total") == 1000


_START = '"status":"firing","startsAt":"2026-11-21T08:36:44Z"'


@pytest.mark.parametrize(
    ("first", "each", "last"),
    [
        ("", "1", ""),
        ("", "{}", ""),
        ("", '{"status":1,"labels":{"a":1},"startsAt":1}', ""),
        ("{" + _START + ',"labels":{', '"%d":1', "}}"),
        ("{" + _START + ',"labels":{},"annotations":{', '"%d":1', "}}"),
        ("{" + _START + ',"labels":{', '"%d":"x"', "}}"),
    ],
    ids=["numbers", "empty", "wrong-everywhere", "label-values", "annotation-values", "labels"],
)
def test_a_large_body_of_mistakes_takes_little_memory(first: str, each: str, last: str) -> None:
    """A kilobyte for each fault would be gigabytes for a body within the limit, and end the gateway."""
    many = 1_000_000 // len(each)
    parts = ",".join(each % n if "%" in each else each for n in range(many))
    sent = f'{{"version":"4","alerts":[{first}{parts}{last}]}}'.encode()
    tracemalloc.start()
    try:
        parsed = parse_webhook(sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parsed.refused == (1 if first else many)
    assert parsed.why is not None
    assert peak < 40 * len(sent)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", "bearer a-token-for-test", "Basic YTpi", "a-token-for-tests", "Bearer ü"],
)
async def test_a_wrong_token_is_a_401(gateway: Gateway, body: dict[str, Any], header: str) -> None:
    """Missing, empty, wrong, of another scheme or not even ASCII: refused with a challenge, before the body is read."""
    headers = {b"Authorization": header.encode()}
    answer = await gateway.client.post("/v1/alerts/alertmanager", json=body, headers=headers)
    await _refused(gateway, answer, 401, "token")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "a-token-for-tests" not in answer.text


async def test_the_schemes_name_is_case_insensitive(gateway: Gateway, body: dict[str, Any]) -> None:
    """RFC 9110 11.1: `bearer` is `Bearer`."""
    assert (await gateway.post(body, Authorization="bearer a-token-for-tests")).status_code == 200


async def test_a_body_over_the_limit_is_a_413_and_pages(gateway: Gateway, body: dict[str, Any]) -> None:
    """Announced too large: refused, counted, and an alert about it waits among the P1 candidates."""
    body["padding"] = "x" * 1_000_000
    answer = await gateway.post(body)
    assert answer.status_code == 413
    assert "over 1000000 bytes" in answer.json()["error"]
    (accepted,) = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert accepted.alert.labels["alertname"] == "FirebreakWebhookTooLarge"
    assert accepted.alert.labels["service"] == "firebreak"
    assert "by hand" in accepted.alert.annotations["description"]
    assert gateway.count("requests_oversize_total") == 1
    assert gateway.count("requests_rejected_total", reason="oversize") == 1
    assert gateway.pokes == [{IntakeClass.P1_CANDIDATE}]


async def test_a_body_that_grows_over_the_limit_is_a_413_and_pages_once_an_hour(gateway: Gateway) -> None:
    """Not announced (chunked): counted while it is read. At every flush it comes again, and is the same alert."""
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * 100_000

    for wait in (timedelta(0), timedelta(minutes=20), timedelta(hours=1)):
        gateway.now += wait
        answer = await gateway.client.post("/v1/alerts/alertmanager", content=chunks())
        assert answer.status_code == 413
    first, second, later = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert first.alert.key == second.alert.key != later.alert.key
    assert read < 3 * 50  # an endless body is not read to its end


@pytest.mark.parametrize(
    ("announced", "arrived"), [(b"50000000", [900_000]), (None, [600_000, 600_000])], ids=["announced", "counted"]
)
async def test_a_sender_of_too_much_that_goes_away_is_counted_and_pages(
    gateway: Gateway, settings: Settings, announced: bytes | None, arrived: list[int]
) -> None:
    """It was known to be over the limit before the connection broke, as it will be every time that it is sent."""
    app = create_app(gateway.inbox, settings, token="t", poke=gateway.pokes.append, metrics=gateway.metrics)
    headers = [(b"authorization", b"Bearer t")] + ([] if announced is None else [(b"content-length", announced)])
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": b"x" * n, "more_body": True} for n in arrived]
    heard = iter([*parts, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(heard)

    async def send(message: MutableMapping[str, Any]) -> None:
        assert message.get("status", 413) == 413

    path = "/v1/alerts/alertmanager"
    await app({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}, receive, send)
    (accepted,) = await gateway.inbox.claim(IntakeClass.P1_CANDIDATE, limit=9)
    assert accepted.alert.labels["alertname"] == "FirebreakWebhookTooLarge"
    assert gateway.count("requests_oversize_total") == 1
    assert gateway.count("requests_rejected_total", reason="gone") == 0


async def test_a_body_of_exactly_the_limit_is_read(gateway: Gateway, body: dict[str, Any]) -> None:
    """The limit itself is allowed."""
    raw = json.dumps(body).encode()
    assert (await gateway.post_bytes(raw + b" " * (1_000_000 - len(raw)))).status_code == 200
    assert (await gateway.post_bytes(raw + b" " * (1_000_001 - len(raw)))).status_code == 413


async def test_a_body_that_never_ends_is_a_503(
    gateway: Gateway, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that stalls is asked to come again."""
    monkeypatch.setattr(body_module, "READ_PATIENCE", 0.05)

    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    answer = await gateway.client.post("/v1/alerts/alertmanager", content=stalls())
    await _refused(gateway, answer, 503, "slow")


class FullInbox:
    """An inbox on a full disk."""

    async def accept(self, *_: object, **__: object) -> tuple[int, ...]:
        raise LedgerError("inbox.sqlite: the disk is full", advice="Free disk space.")

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
        raise LedgerError("inbox.sqlite: the disk is full", advice="Free disk space.")


@pytest.mark.parametrize("size", [0, 2_000_000])
async def test_what_cannot_be_kept_is_a_503(settings: Settings, body: dict[str, Any], size: int) -> None:
    """A full disk: never 200, and 503 rather than 413 too, so that the page about it is not lost either."""
    metrics = GatewayMetrics()
    pokes: list[object] = []
    app = create_app(FullInbox(), settings, token="t", poke=pokes.append, metrics=metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        body["padding"] = "x" * size
        answer = await client.post("/v1/alerts/alertmanager", json=body, headers={"Authorization": "Bearer t"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json() == {
            "error": "inbox.sqlite: the disk is full",
            "next_step": "Free disk space.",
            "reason": "ledger",
        }
        unready = await client.get("/readyz")
        assert (unready.status_code, unready.json()["error"]) == (503, "inbox.sqlite: the disk is full")
        assert (await client.get("/healthz")).status_code == 200
    assert pokes == []
    assert metrics.registry.get_sample_value("firebreak_gateway_alerts_accepted_total") == 0


async def test_other_paths_and_methods_say_where_to_go(gateway: Gateway) -> None:
    """404 and 405 are JSON with a next step, like every refusal."""
    for method, path, status in (("GET", "/v1/alerts/alertmanager", 405), ("POST", "/alerts", 404)):
        answer = await gateway.client.request(method, path)
        assert answer.status_code == status
        assert "/v1/alerts/alertmanager" in answer.json()["next_step"]

"""What Alertmanager sends is taken, and 200 means on disk."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from firebreak.domain.alert import AlertStatus, Disposition, IntakeClass
from firebreak.domain.ids import label_fingerprint
from firebreak.gateway import app as app_module
from firebreak.gateway.alertmanager import parse_webhook

if TYPE_CHECKING:
    from tests.gateway.conftest import Gateway

P1, OTHER = IntakeClass.P1_CANDIDATE, IntakeClass.OTHER


async def test_an_alert_of_alertmanager_0_25_is_in_the_inbox_after_200(gateway: Gateway, body: dict[str, Any]) -> None:
    """Every field as it was sent, its class by its labels, no end while it fires; the dispatchers are woken."""
    answer = await gateway.post(body)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "receipts": [1]})
    (accepted,) = await gateway.inbox.claim(P1, limit=9)
    alert = accepted.alert
    assert (alert.fingerprint, alert.status, alert.ends_at) == ("2f2b4c1f3a9e5d70", AlertStatus.FIRING, None)
    assert alert.starts_at == datetime(2026, 11, 21, 8, 36, 44, 123000, tzinfo=UTC)
    assert alert.labels == body["alerts"][0]["labels"]
    assert alert.annotations == {"summary": "pay fails"}
    assert alert.generator_url == body["alerts"][0]["generatorURL"]
    assert (accepted.source, accepted.truncated) == ("alertmanager", 0)
    assert accepted.accepted_at == datetime(2026, 11, 21, 9, 30, 12, tzinfo=UTC)
    assert gateway.pokes == [{P1}]
    assert gateway.count("alerts_accepted_total") == 1
    assert gateway.count("accept_seconds_count") == 1


async def test_a_group_of_alertmanager_0_31_is_taken_whole(gateway: Gateway, grouped_body: dict[str, Any]) -> None:
    """Resolved and firing alerts, newer fields, null maps, dotted label names, nanoseconds, offsets, truncation."""
    answer = await gateway.post(grouped_body)
    assert answer.json() == {"accepted": 3, "receipts": [1, 2, 3]}
    (candidate,) = await gateway.inbox.claim(P1, limit=9)
    resolved, bare = await gateway.inbox.claim(OTHER, limit=9)
    assert [item.truncated for item in (candidate, resolved, bare)] == [2, 2, 2]
    assert resolved.alert.status is AlertStatus.RESOLVED
    assert resolved.alert.ends_at == datetime(2026, 11, 21, 9, 25, 0, 500000, tzinfo=UTC)
    assert resolved.alert.starts_at == datetime(2026, 11, 21, 9, 20, 0, 123456, tzinfo=UTC)
    assert resolved.alert.annotations == {}
    assert candidate.alert.labels["service.name"] == "order"
    assert bare.alert.fingerprint == label_fingerprint(dict(bare.alert.labels))


async def test_a_body_sent_again_has_the_same_alert_keys(gateway: Gateway, body: dict[str, Any]) -> None:
    """A re-delivery, also by another peer with other group fields, is a row of its own with the same identity."""
    await gateway.post(body)
    again = body | {"externalURL": "http://peer-2", "notification_reason": "repeat interval elapsed", "receiver": "x"}
    await gateway.post(again)
    first, second = await gateway.inbox.claim(P1, limit=9)
    assert first.alert.key == second.alert.key
    assert first.receipt != second.receipt


async def test_fields_nobody_knows_are_ignored(gateway: Gateway, body: dict[str, Any]) -> None:
    """A later Alertmanager may add what it likes, at every level."""
    body["alerts"][0] |= {"new": {"deep": [1, 2, None]}}
    body |= {"newer": 1.5, "receiver": 7}
    assert (await gateway.post(body)).status_code == 200


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"annotations": None}, "alert"),
        ({"labels": None}, "alert"),
        ({"endsAt": None}, "alert"),
        ({"fingerprint": None, "generatorURL": None}, "alert"),
        ({"groupLabels": None, "commonLabels": None, "truncatedAlerts": None}, "body"),
        ({"alerts": None}, "body"),
        ({"alerts": []}, "body"),
    ],
)
async def test_null_is_empty(gateway: Gateway, body: dict[str, Any], change: dict[str, Any], where: str) -> None:
    """Go writes a nil map as null: it means none of them."""
    (body["alerts"][0] if where == "alert" else body).update(change)
    answer = await gateway.post(body)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == len(body["alerts"] or [])


async def test_hostile_text_is_kept_as_it_is(gateway: Gateway, body: dict[str, Any]) -> None:
    """PromQL, Slack markup, YAML and templates in values are text: kept unchanged, interpreted by nobody here."""
    hostile = {
        "alertname": '"} or vector(1) #',
        "a": "<!channel> *x* <http://x|y>",
        "b": "- !!python/object:os.system",
        "c": "{{ 7*7 }}${x}$service",
        "d": "\x00\u202e\n",
    }
    body["alerts"][0]["labels"] = hostile
    assert (await gateway.post(body)).status_code == 200
    (accepted,) = await gateway.inbox.claim(OTHER, limit=9)
    assert accepted.alert.labels == hostile


@pytest.mark.parametrize("fingerprint", ["", "not hex", "a" * 65, "f1@1763714204123000"])
async def test_a_fingerprint_of_another_form_is_made_by_us(
    gateway: Gateway, body: dict[str, Any], fingerprint: str
) -> None:
    """A sender's odd fingerprint is not worth losing its alert, and cannot forge another alert's key."""
    body["alerts"][0]["fingerprint"] = fingerprint
    await gateway.post(body)
    (accepted,) = await gateway.inbox.claim(P1, limit=9)
    assert accepted.alert.fingerprint == label_fingerprint(body["alerts"][0]["labels"])


async def test_long_annotations_are_cut_and_say_so(gateway: Gateway, body: dict[str, Any]) -> None:
    """Text for people never makes an alert too heavy for its incident."""
    body["alerts"][0]["annotations"] = {f"a{n}": "x" * 9000 for n in range(100)}
    assert (await gateway.post(body)).status_code == 200
    (accepted,) = await gateway.inbox.claim(P1, limit=9)
    assert len(accepted.alert.annotations) == 64
    assert all(len(text) == 8192 + 6 and text.endswith(" [cut]") for text in accepted.alert.annotations.values())


async def test_a_large_group_is_taken_whole(gateway: Gateway, body: dict[str, Any]) -> None:
    """A storm's body, large enough to be parsed beside the event loop."""
    template = body["alerts"][0]
    body["alerts"] = [
        template | {"labels": template["labels"] | {"pod": f"p{n}"}, "fingerprint": f"{n:016x}"} for n in range(900)
    ]
    assert len(json.dumps(body)) > 256 * 1024
    assert (await gateway.post(body)).json()["accepted"] == 900
    assert await gateway.inbox.backlog() == 900


async def test_alerts_that_wait_make_the_gateway_answer_503(gateway: Gateway, body: dict[str, Any]) -> None:
    """Over the backlog limit the sender is asked to come again, with 503 since Alertmanager gives up on 429."""
    body["alerts"] *= 51
    assert (await gateway.post(body)).status_code == 200
    answer = await gateway.post(body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "more than 50 alerts of its class wait" in answer.json()["error"]
    assert "worker" in answer.json()["next_step"]
    assert await gateway.inbox.backlog() == 51
    assert gateway.count("requests_rejected_total", reason="backlog") == 1


@pytest.mark.parametrize("flood", [P1, OTHER])
async def test_a_flood_of_one_class_keeps_no_alert_of_the_other_out(
    gateway: Gateway, body: dict[str, Any], flood: IntakeClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own limit; a body of both is one with a P1 candidate. What the gateway counts is all of them."""
    monkeypatch.setattr(app_module, "BACKLOG_LOOK", -1.0)
    (alert,) = parse_webhook(json.dumps(body).encode()).alerts
    await gateway.inbox.accept([(alert, flood)] * 51, source="earlier", truncated=0, accepted_at=gateway.now)
    (urgent,) = body["alerts"]
    other = urgent | {"labels": urgent["labels"] | {"severity": "warning"}}
    answers = [
        (await gateway.post(body | {"alerts": alerts})).status_code for alerts in ([urgent], [other], [other, urgent])
    ]
    assert answers == ([503, 200, 503] if flood is P1 else [200, 503, 200])
    await gateway.post(body | {"alerts": []})
    assert gateway.count("backlog") == await gateway.inbox.backlog() == 51 + (1 if flood is P1 else 3)


async def test_where_too_many_of_both_classes_wait_no_body_is_read(gateway: Gateway, body: dict[str, Any]) -> None:
    """Whatever it may hold, there is no room: not even what is wrong with it is looked at."""
    (alert,) = parse_webhook(json.dumps(body).encode()).alerts
    both = [(alert, P1), (alert, OTHER)] * 51
    await gateway.inbox.accept(both, source="earlier", truncated=0, accepted_at=gateway.now)
    assert (await gateway.post_bytes(b"no JSON")).status_code == 503


async def test_a_backlog_that_others_made_or_settled_counts(
    gateway: Gateway, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited before the start is counted; once it is settled, alerts are taken again."""
    monkeypatch.setattr(app_module, "BACKLOG_LOOK", -1.0)
    alerts = parse_webhook(json.dumps(body).encode()).alerts
    receipts = await gateway.inbox.accept(
        [(alerts[0], P1)] * 51, source="earlier", truncated=0, accepted_at=gateway.now
    )
    assert (await gateway.post(body)).status_code == 503
    await gateway.inbox.settle([(receipt, Disposition.DUPLICATE, "") for receipt in receipts])
    assert (await gateway.post(body)).status_code == 200
    assert gateway.count("backlog") == 0

"""The configuration texts of Prometheus and Alertmanager, and the shop's own exposition."""

from __future__ import annotations

import json

import promql_parser
import pytest

from firebreak.lab.meters import BUCKETS, Meters
from firebreak.lab.model import GAVE_UP
from firebreak.lab.monitoring import alert_rules, alertmanager_config, prometheus_config
from firebreak.lab.shape import FLOWS, SERVICES

RULES = alert_rules()["groups"][0]["rules"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["expr"][-60:])
def test_every_rule_is_promql_that_fires_at_once(rule: dict[str, object]) -> None:
    """No `for`: whether it held is the engine's to judge."""
    promql_parser.parse(str(rule["expr"]))
    assert "for" not in rule
    assert rule["labels"] == {"severity": "critical", "cluster": "lab"}


def test_every_rule_keeps_service_and_deployment() -> None:
    """Labels lead to a target: each expression aggregates to these two and to nothing else."""
    for rule in RULES:
        assert rule["expr"].count("(service, deployment)") + rule["expr"].count("(service, deployment, le)") >= 1
        assert "pod" not in rule["expr"]


def test_every_service_and_every_flow_is_watched() -> None:
    """Latency by service with its own objective, the main flow by the service behind it."""
    text = json.dumps(RULES)
    for shape in SERVICES.values():
        assert f'service=\\"{shape.name}\\"' in text
    for flow in FLOWS:
        assert f'\\"({flow})\\"' in text


def test_objectives_lie_between_two_buckets() -> None:
    """Else an interpolated P99 could be on the wrong side of its objective."""
    for shape in SERVICES.values():
        assert any(bound <= shape.objective for bound in BUCKETS)
        assert any(bound > shape.objective for bound in BUCKETS)


def test_prometheus_scrapes_and_evaluates_every_second() -> None:
    """Item 4 of the issue."""
    config = json.loads(prometheus_config(shop_port=1, alertmanager_port=2))
    assert config["global"] == {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    assert alert_rules()["groups"][0]["interval"] == "1s"


def test_a_p1_goes_to_the_engine_at_once_with_its_token() -> None:
    """Item 4 of the issue: group_wait 0s, group_interval 1s, and the resolution is sent, too."""
    config = json.loads(alertmanager_config(gateway_port=4711, token="t0ken"))
    (route,) = config["route"]["routes"]
    assert (route["group_wait"], route["group_interval"]) == ("0s", "1s")
    (webhook,) = next(r for r in config["receivers"] if r["name"] == route["receiver"])["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:4711/v1/alerts/alertmanager"
    assert webhook["send_resolved"] is True
    assert webhook["http_config"]["authorization"] == {"type": "Bearer", "credentials": "t0ken"}


def test_the_error_series_exists_only_after_the_first_error() -> None:
    """As on a real service: absence is not zero."""
    meters = Meters()
    meters.began("pay", "v1")
    meters.ended("pay", "v1", "pay", 200, 0.01)
    assert 'code="500"' not in meters.text().decode()
    meters.began("pay", "v1")
    meters.ended("pay", "v1", "pay", 500, 0.01)
    assert (
        'http_requests_total{code="500",deployment="pay-v1",route="/pay",service="pay",version="v1"} 1.0'
        in meters.text().decode()
    )


def test_a_call_that_was_given_up_has_no_duration() -> None:
    """A dead dependency must not show a latency of its own, or a second service would alert."""
    meters = Meters()
    meters.began("recommend", "v1")
    assert 'http_requests_in_flight{deployment="recommend-v1",service="recommend",version="v1"} 1.0' in (
        meters.text().decode()
    )
    meters.ended("recommend", "v1", "order", GAVE_UP, 1.3)
    text = meters.text().decode()
    assert 'http_requests_in_flight{deployment="recommend-v1",service="recommend",version="v1"} 0.0' in text
    assert 'http_request_duration_seconds_count{deployment="recommend-v1"' not in text
    assert 'code="499"' in text


def test_the_main_flow_counts_attempts_and_successes_apart() -> None:
    """Both series of each flow are there from the start."""
    meters = Meters()
    meters.flow_ended("pay", well=False)
    text = meters.text().decode()
    assert 'main_flow_attempts_total{flow="pay"} 1.0' in text
    assert 'main_flow_success_total{flow="pay"} 0.0' in text
    assert 'main_flow_attempts_total{flow="order"} 0.0' in text

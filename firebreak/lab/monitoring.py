"""Configuration texts of the lab's Prometheus and Alertmanager. JSON is YAML, and quotes every value by itself.

Every rule fires at once (no `for`): whether a condition has held for its time is the engine's to judge.
"""

from __future__ import annotations

import json
from typing import Any

from firebreak.lab.shape import CLUSTER, FLOWS, SERVICES

RULES_FILE = "shop-rules.yml"

OWN_ERROR_RATIO = 0.05
"""Row A1: errors >= 5 %."""

FLOW_DROP = 0.30
"""Row A1: success of a main flow down by more than 30 %."""

WINDOW = "3s"
"""With a scrape a second: three samples; every run of a true condition is at most this much longer than its cause."""

_OWN_ERRORS = f'sum by (service, deployment) (rate(http_requests_total{{code="500"}}[{WINDOW}]))'
_CALLS = f"sum by (service, deployment) (rate(http_requests_total[{WINDOW}]))"


def alert_rules() -> dict[str, Any]:
    """The rule file's document. Each alert has the culprit's `service` and `deployment`, and no other service's."""

    def rule(name: str, expr: str, summary: str) -> dict[str, Any]:
        return {
            "alert": name,
            "expr": expr,
            "labels": {"severity": "critical", "cluster": CLUSTER},
            "annotations": {"summary": summary},
        }

    rules = [
        rule(
            "ServiceErrors",
            f"{_OWN_ERRORS} / {_CALLS} >= {OWN_ERROR_RATIO}",
            "{{ $labels.service }} fails {{ $value | humanizePercentage }} of its calls by itself",
        )
    ]
    for shape in SERVICES.values():
        p99 = (
            "histogram_quantile(0.99, sum by (service, deployment, le) "
            f'(rate(http_request_duration_seconds_bucket{{service="{shape.name}"}}[{WINDOW}])))'
        )
        rules.append(
            rule(
                "ServiceLatency",
                f"{p99} > {shape.objective}",
                f"{shape.name} takes {{{{ $value | humanizeDuration }}}} at P99, its objective is {shape.objective} s",
            )
        )
    # The flow has the name of the service behind it. Joined with that service's own errors, so that the alert carries
    # the deployment that causes it and stays silent while a callee of it is at fault.
    success = (
        f"sum by (flow) (rate(main_flow_success_total[{WINDOW}])) "
        f"/ sum by (flow) (rate(main_flow_attempts_total[{WINDOW}]))"
    )
    for flow in FLOWS:
        rules.append(
            rule(
                "MainFlowDown",
                f'{_OWN_ERRORS.replace("code=", f"""service="{flow}",code=""")} > 0 and on (service) '
                f'label_replace(1 - {success}, "service", "$1", "flow", "({flow})") > {FLOW_DROP}',
                f"customers cannot {flow}",
            )
        )
    return {"groups": [{"name": "shop", "interval": "1s", "rules": rules}]}


def prometheus_config(*, shop_port: int, alertmanager_port: int) -> str:
    """Scrape and evaluation every second."""
    return json.dumps(
        {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [RULES_FILE],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
            "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{shop_port}"]}]}],
        },
        indent=1,
    )


def rules_text() -> str:
    """The rule file."""
    return json.dumps(alert_rules(), indent=1)


def alertmanager_config(*, gateway_port: int, token: str) -> str:
    """One route: a P1 alert goes to the engine at once, again only after an hour, and when it is resolved."""
    return json.dumps(
        {
            "route": {
                "receiver": "nobody",
                "routes": [
                    {
                        "receiver": "engine",
                        "matchers": ['severity="critical"'],
                        "group_by": ["cluster", "service"],
                        "group_wait": "0s",
                        "group_interval": "1s",
                        "repeat_interval": "1h",
                    }
                ],
            },
            "receivers": [
                {"name": "nobody"},
                {
                    "name": "engine",
                    "webhook_configs": [
                        {
                            "url": f"http://127.0.0.1:{gateway_port}/v1/alerts/alertmanager",
                            "send_resolved": True,
                            "http_config": {"authorization": {"type": "Bearer", "credentials": token}},
                        }
                    ],
                },
            ],
        },
        indent=1,
    )

"""What the benchmark's engine is told about its many services, and the alerts that it gets about them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from ruamel.yaml import YAML

from firebreak.lab.shape import CLUSTER, SERVICES
from firebreak.locator import runbooks_dir

FLAG = "optional.enabled"
DEPENDENCY = "optional"
A_NAMESPACE = 4
"""Services of one namespace: as many as the lab's shop has."""

_SHAPE = SERVICES["order"]


def service_name(number: int) -> str:
    return f"svc-{number}"


def namespace_of(number: int) -> str:
    return f"bench-{number // A_NAMESPACE}"


def flags_name(number: int) -> str:
    return f"{service_name(number)}-flags"


def services_text(count: int) -> str:
    """services.yaml with `count` services; JSON is YAML."""
    services = {
        service_name(n): {
            "team": "bench",
            "chat_channel": _SHAPE.chat_channel,
            "pager_key": _SHAPE.pager_key,
            "target": {"namespace": namespace_of(n), "kind": "Deployment", "name": {"label": "deployment"}},
            "params": {
                "route": service_name(n),
                "flow": "order",
                "flags": flags_name(n),
                "flag_key": FLAG,
                "dependency": DEPENDENCY,
            },
        }
        for n in range(count)
    }
    return json.dumps({"kind": "services", "cluster_label": "cluster", "services": services}, indent=1)


def runbook_text() -> str:
    """The shipped runbook of a service with a flag, its degrade tier first and without `restore`: a restore is a
    workflow of its own, which outlives the incident."""
    path = runbooks_dir() / "catalog" / "heal-service-with-flag.yaml"
    runbook: dict[str, Any] = YAML(typ="safe").load(path.read_text())
    step = next(s for t in runbook["tiers"] for s in t["steps"] if s["action"] == "set_flag")
    del step["restore"]
    step |= {"undo": "none", "undo_reason": "The benchmark turns the flag on again for its next round."}
    page = runbook["tiers"][-1]
    used = {*step["check"], *step["verify"]["conditions"], *runbook["recovery"]}
    runbook["conditions"] = {name: block for name, block in runbook["conditions"].items() if name in used}
    runbook["durations"] = {n: d for n, d in runbook["durations"].items() if not n.startswith("restore")}
    runbook["tiers"] = [{"name": "degrade", "steps": [step]}, page]
    return json.dumps(runbook, indent=1)


def webhook(number: int) -> bytes:
    """Alertmanager's webhook, version 4, with one new alert about service `number`."""
    now = datetime.now(UTC)
    labels = {
        "alertname": "ServiceErrors",
        "severity": "critical",
        "cluster": CLUSTER,
        "service": service_name(number),
        "deployment": service_name(number),
    }
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": f"{service_name(number)} fails 30.0% of its calls by itself"},
        "startsAt": now.isoformat(timespec="milliseconds"),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=up",
        "fingerprint": uuid.uuid4().hex[:16],
    }
    group = {"cluster": CLUSTER, "service": service_name(number)}
    body = {
        "version": "4",
        "groupKey": f'{{}}/{{severity="critical"}}:{json.dumps(group)}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "engine",
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": alert["annotations"],
        "externalURL": "http://alertmanager.example",
        "alerts": [alert],
    }
    return json.dumps(body).encode()

"""What an accepted alert is, from its labels alone: which queue it belongs to, and which incident."""

from __future__ import annotations

from collections.abc import Mapping

from firebreak.domain.alert import Alert, IntakeClass

_URGENT = frozenset({"critical", "page", "p1", "sev1", "emergency", "fatal", "disaster"})
_SEVERITY_LABELS = ("severity", "priority")


def intake_class(labels: Mapping[str, str]) -> IntakeClass:
    """P1_CANDIDATE for an urgent `severity` or `priority`, or a label that says that the business is blocked (row A1).

    A queue, no judgement: a P1 among the rest is classified all the same, only behind the candidates."""
    if any(labels.get(name, "").strip().lower() in _URGENT for name in _SEVERITY_LABELS):
        return IntakeClass.P1_CANDIDATE
    if labels.get("business_impact", "").strip().lower() == "blocked":
        return IntakeClass.P1_CANDIDATE
    return IntakeClass.OTHER


def correlation_key(cluster: str, service: str, alert: Alert) -> str:
    """Alerts with the same key are one incident: all of one service in the cluster that they say they are of (empty:
    they do not say); without a known service each alert alone."""
    if service:
        return f"{cluster}/{service}"
    return f"{cluster}//{alert.labels.get('alertname', '')}/{alert.fingerprint}"

"""Queue and incident of an alert, from its labels."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.triage.intake import correlation_key, intake_class


@pytest.mark.parametrize(
    ("labels", "urgent"),
    [
        ({"severity": "critical"}, True),
        ({"severity": " Critical "}, True),
        ({"severity": "page"}, True),
        ({"priority": "P1"}, True),
        ({"business_impact": "blocked"}, True),
        ({"severity": "warning"}, False),
        ({"severity": "critical-ish"}, False),
        ({}, False),
    ],
)
def test_urgent_labels_make_a_candidate(labels: dict[str, str], urgent: bool) -> None:
    """A word that houses use for urgent, in any case; else it is one of the rest."""
    assert (intake_class(labels) is IntakeClass.P1_CANDIDATE) is urgent


def alert(name: str, fingerprint: str) -> Alert:
    return Alert(
        fingerprint=fingerprint,
        status=AlertStatus.FIRING,
        labels={"alertname": name},
        starts_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


def test_alerts_of_one_service_are_one_incident() -> None:
    """Whatever they are called; another cluster is another incident."""
    assert correlation_key("lab", "pay", alert("Slow", "1")) == correlation_key("lab", "pay", alert("Errors", "2"))
    assert correlation_key("lab", "pay", alert("Slow", "1")) != correlation_key("eu", "pay", alert("Slow", "1"))


def test_alerts_of_no_service_stand_alone() -> None:
    """Nothing says that they belong together, nor to a service that is called like them."""
    keys = {correlation_key("lab", "", alert(name, print_)) for name in ("a", "b") for print_ in ("1", "2")}
    assert len(keys) == 4
    assert correlation_key("lab", "", alert("pay", "1")) != correlation_key("lab", "pay", alert("pay", "1"))

"""Alerts about alerts that could not be taken: what sends them does not send them in another form.

They go the way of every other alert, so that they end as a page. One for each hour in which it happens: Alertmanager
tries the same body again at every flush.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from firebreak.domain.alert import ENGINE_SERVICE, Alert, AlertStatus
from firebreak.domain.ids import label_fingerprint
from firebreak.gateway.alertmanager import Refused

_NAMED = 3  # alerts whose names stand in the page


def oversize_alert(*, limit: int, at: datetime) -> Alert:
    """A body over the limit."""
    return _alert(
        "FirebreakWebhookTooLarge",
        at,
        {
            "summary": "Alertmanager sent a webhook body that is too large: its alerts were not taken",
            "description": (
                f"The body is over {limit} bytes (FIREBREAK_MAX_BODY_BYTES). Look at Alertmanager for the alerts "
                "of the last minutes and handle them by hand. Then set `max_alerts` or a narrower `group_by` there."
            ),
        },
    )


def spoilt_alert(*, names: Sequence[str], why: Refused, at: datetime) -> Alert:
    """Alerts that can never be right, in a body that is a webhook all the same. `names` may stand in a sentence."""
    some = ", ".join(dict.fromkeys(names[:_NAMED]))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return _alert(
        "FirebreakAlertRefused",
        at,
        {
            "summary": f"Alertmanager sent what can never be taken: {len(names)} alert(s), {some}{more}",
            "description": f"{why}. Look at Alertmanager for them and handle them by hand. {why.next_step()}",
        },
    )


def hour_of(at: datetime) -> datetime:
    """The hour in which it happens: for so long it is the same alert."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _alert(name: str, at: datetime, annotations: Mapping[str, str]) -> Alert:
    labels = {"alertname": name, "severity": "critical", "service": ENGINE_SERVICE}
    return Alert(
        fingerprint=label_fingerprint(labels),
        status=AlertStatus.FIRING,
        labels=labels,
        annotations=annotations,
        starts_at=hour_of(at),
    )

"""The alert about an alert that could not be taken: a body over the limit will not be sent again in a smaller form.

It goes the way of every other alert, so that it ends as a page.
"""

from __future__ import annotations

from datetime import UTC, datetime

from firebreak.domain.alert import ENGINE_SERVICE, Alert, AlertStatus
from firebreak.domain.ids import label_fingerprint

LABELS = {"alertname": "FirebreakWebhookTooLarge", "severity": "critical", "service": ENGINE_SERVICE}


def oversize_alert(*, limit: int, at: datetime) -> Alert:
    """One alert for each hour in which it happens: Alertmanager tries the same body again at every flush."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return Alert(
        fingerprint=label_fingerprint(LABELS),
        status=AlertStatus.FIRING,
        labels=LABELS,
        annotations={
            "summary": "Alertmanager sent a webhook body that is too large: its alerts were not taken",
            "description": (
                f"The body is over {limit} bytes (FIREBREAK_MAX_BODY_BYTES). Look at Alertmanager for the alerts "
                "of the last minutes and handle them by hand. Then set `max_alerts` or a narrower `group_by` there."
            ),
        },
        starts_at=hour,
    )

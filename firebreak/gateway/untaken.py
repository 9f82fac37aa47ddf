"""Alerts about alerts that could not be taken: what sends them does not send them in another form.

They go the way of every other alert, so that they end as a page. One for each hour in which it happens, since
Alertmanager tries the same again at every flush; of refused alerts one for each name, since another one is news.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from firebreak.domain.alert import ENGINE_SERVICE, REFUSED, TOO_LARGE, Alert, AlertStatus
from firebreak.domain.ids import label_fingerprint
from firebreak.gateway.alertmanager import Refused

_NAMED = 3  # alerts whose names stand in the page
_MOST = 20  # names of which each has a page of its own in an hour; all others share one
_OTHERS = "(others)"  # no name of an alert is shown like this


class Told:
    """Which refused alerts a person has heard of in this hour, by name."""

    def __init__(self) -> None:
        self._hour: datetime | None = None
        self._names: set[str] = set()

    def news(self, names: Sequence[str], at: datetime) -> str:
        """The name under which a page is due; empty when all are known, or share the page of the many."""
        known = self._names if self._hour == _hour_of(at) else set()
        new = next((name for name in names if name not in known), "")
        if new and len(known) >= _MOST:
            return "" if _OTHERS in known else _OTHERS
        return new

    def remember(self, name: str, names: Sequence[str], at: datetime) -> None:
        """The page under `name`, which tells of `names`, is on disk."""
        if self._hour != _hour_of(at):
            self._hour, self._names = _hour_of(at), set()
        self._names |= {name, *names[:_NAMED]}


def oversize_alert(*, limit: int, at: datetime) -> Alert:
    """A body over the limit."""
    return _alert(
        TOO_LARGE,
        at,
        {
            "summary": "Alertmanager sent a webhook body that is too large: its alerts were not taken",
            "description": (
                f"The body is over {limit} bytes (FIREBREAK_MAX_BODY_BYTES). Look at Alertmanager for the alerts "
                "of the last minutes and handle them by hand. Then set `max_alerts` or a narrower `group_by` there."
            ),
        },
    )


def spoilt_alert(*, name: str, names: Sequence[str], count: int, why: Refused, at: datetime) -> Alert:
    """`count` alerts that can never be right, in a body that is a webhook all the same. `names` (each once) may stand
    in a sentence; the page is the same one for as long as `name` and the hour are."""
    first = sorted(names, key=lambda each: each != name)  # who is news goes before who is known
    some = ", ".join(first[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return _alert(
        REFUSED,
        at,
        {
            "summary": f"Alertmanager sent what can never be taken: {count} alert(s), {some}{more}",
            "description": f"{why}. Look at Alertmanager for them and handle them by hand. {why.next_step()}",
        },
        refused=name,
    )


def _hour_of(at: datetime) -> datetime:
    """The hour in which it happens: for so long it is the same alert."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _alert(name: str, at: datetime, annotations: Mapping[str, str], **more: str) -> Alert:
    labels = {"alertname": name, "severity": "critical", "service": ENGINE_SERVICE, **more}
    return Alert(
        fingerprint=label_fingerprint(labels),
        status=AlertStatus.FIRING,
        labels=labels,
        annotations=annotations,
        starts_at=_hour_of(at),
    )

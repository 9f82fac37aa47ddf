"""Which alerts an incident has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading
from firebreak.postmortem.model import AlertLine

_ALERTS = (EntryKind.INCIDENT_OPENED, EntryKind.ALERT_JOINED)
ABOUT_ALERTS = frozenset({*_ALERTS, EntryKind.ALERT_RESOLVED})
"""Kinds that `alerts_of` looks at."""


def left_out_of(entries: Sequence[TimelineEntry]) -> int:
    """The most alerts that one body left out, as its alerts' entries tell; of a repeat, which has none, the looks."""
    told = [reading.whole(entry.body, "truncated") for entry in entries if entry.kind in ABOUT_ALERTS]
    seen = [reading.whole(e.body, "facts", "truncated") for e in entries if e.kind is EntryKind.FACTS_GATHERED]
    return max([0, *told, *seen])


def alerts_of(entries: Sequence[TimelineEntry]) -> tuple[AlertLine, ...]:
    """Distinct alert instances in order of joining; the opening one may be told of twice, and each may fire again after
    its end, with the same start."""
    found: dict[tuple[str, str], AlertLine] = {}
    for entry in entries:
        if entry.kind not in ABOUT_ALERTS:
            continue
        alert = reading.mapping(entry.body, "alert")
        key = (reading.text(alert, "fingerprint"), reading.text(alert, "starts_at"))
        if entry.kind in _ALERTS and alert and key not in found:
            found[key] = AlertLine(
                name=reading.text(alert, "labels", "alertname"),
                fingerprint=key[0],
                starts_at=reading.time(alert, "starts_at"),
                joined_at=entry.at,
                labels={str(k): str(v) for k, v in sorted(reading.mapping(alert, "labels").items())},
            )
        elif key in found:
            found[key] = replace(found[key], resolved_at=_end(found[key], entry))
    return tuple(found.values())


def _end(known: AlertLine, entry: TimelineEntry) -> datetime | None:
    """None when it fires (again); the first of several tellings of its end."""
    if entry.kind is not EntryKind.ALERT_RESOLVED:
        return None
    return known.resolved_at or entry.at

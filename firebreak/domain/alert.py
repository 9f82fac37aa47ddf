"""One alert as Alertmanager told it, whatever the source's wire format was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AlertStatus(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


class IntakeClass(StrEnum):
    """Which queue and process an alert belongs to, judged from labels alone before any query."""

    P1_CANDIDATE = "p1"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`fingerprint` is the source's hash of the labels (ours, same form, where it sent none). `starts_at` with it is
    the alert's identity: the same pair again is a re-delivery. Annotations are untrusted text, for people only."""

    fingerprint: str
    status: AlertStatus
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    starts_at: datetime
    ends_at: datetime | None = None
    generator_url: str = ""

    @property
    def key(self) -> str:
        """Identity of this alert instance over all deliveries: fingerprint and start in whole microseconds."""
        return f"{self.fingerprint}@{int(self.starts_at.timestamp() * 1_000_000)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedAlert:
    """An alert on disk. `receipt` is the inbox row's number, rising in order of acceptance; `inbox` is whose number it
    is: another inbox counts anew (empty: not known)."""

    receipt: int
    accepted_at: datetime
    intake_class: IntakeClass
    source: str
    truncated: int
    alert: Alert
    inbox: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableDelivery:
    """In the place of a delivery whose row this program cannot have written; `fault` says why. `stored` is what stands
    for its alert; `accepted_at` None = that cannot be read, either."""

    receipt: int
    accepted_at: datetime | None
    stored: str
    fault: str


ENGINE_SERVICE = "firebreak"
"""The `service` label of alerts about the engine itself, its own and those of rules that watch it: they are pages,
whatever a tree would say."""

TOO_LARGE, REFUSED = "FirebreakWebhookTooLarge", "FirebreakAlertRefused"
"""Names of the gateway's own alerts about what it could not take. Nobody sends their end: they happened."""


class Disposition(StrEnum):
    """The one end of each accepted delivery (no accepted alert without an end)."""

    OPENED = "opened"  # opened an incident
    JOINED = "joined"  # a further alert of an open incident
    DUPLICATE = "duplicate"  # the same alert and status again
    RESOLVED = "resolved"  # told its incident, or ended its page
    IGNORED = "ignored"  # resolved, and nobody knows it
    PAGED = "paged"  # is about the engine itself: a person was paged, nothing else can be done
    PARKED = "parked"  # could not be handled; a person was paged

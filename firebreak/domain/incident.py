"""One incident: opened by an alert, owned by one workflow, ended in exactly one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from firebreak.domain.alert import Alert, IntakeClass
from firebreak.domain.target import TargetRef


class Mode(StrEnum):
    OBSERVE = "observe"
    ACT = "act"


class IncidentPhase(StrEnum):
    """Where it stands; also the names under which row D5 stamps times."""

    SEEN = "seen"
    PENDING = "pending"
    CLASSIFIED = "classified"
    ACTING = "acting"
    VERIFYING = "verifying"
    HOLDING = "holding"
    WAITING_FOR_PERSON = "waiting_for_person"
    CLOSED = "closed"


class IncidentOutcome(StrEnum):
    HEALED = "healed"  # a tier was verified and held
    NOTHING_DONE = "nothing_done"  # resolved or broke before it held; nothing was written
    RECOVERED = "recovered"  # a person was paged; the evidence became healthy and held (elsewhere: all alerts resolved)
    CLOSED_BY_HAND = "closed_by_hand"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What a workflow starts with. `target` is None where the labels lead to none: then a person is paged."""

    id: str
    opened_at: datetime
    accepted_at: datetime
    intake_class: IntakeClass
    correlation_key: str
    service: str
    target: TargetRef | None
    alert: Alert
    refusal: str = ""  # why no target: a sentence
    pod: TargetRef | None = None  # the labels name a pod: its workload is found by walking its owners
    bindings: Mapping[str, str] = field(default_factory=dict)  # what fills the placeholders of documents
    truncated: int = 0  # alerts that the opening body left out; of all bodies: IncidentsPort.truncated
    elsewhere: str = ""  # why the alert is not known to be of our cluster, a sentence: what we measure is not about it


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """One line of `firebreak incidents`."""

    id: str
    service: str
    alertname: str
    opened_at: datetime
    closed_at: datetime | None
    outcome: IncidentOutcome
    phase: IncidentPhase
    intake_class: IntakeClass
    alerts_firing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRow:
    """In the place of a row that this program cannot have written; `fault` says why. The record itself may be whole."""

    id: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRestore:
    """In the place of an open restore whose row this program cannot have written; `fault` says why, `place` which step
    it is of (tier and step, as they are stored)."""

    incident_id: str
    place: str
    fault: str

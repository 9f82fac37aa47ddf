"""What a restart would destroy, kept before the first write. Bounded in size, and says what it could not have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from firebreak.domain.target import TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """How a container ended: `reason` as the kubelet says it (Error, OOMKilled, Completed, ...)."""

    reason: str
    exit_code: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """`state` is a sentence: `running since ...`, `waiting: CrashLoopBackOff ...`, `terminated: ...`."""

    name: str
    image: str
    ready: bool
    restarts: int
    state: str
    last_termination: Termination | None = None
    init: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """`problems`: every condition that is not true, with its reason, and what the pod's own status says."""

    name: str
    uid: str
    node: str
    phase: str
    ready: bool
    created_at: datetime | None
    deleting: bool
    problems: tuple[str, ...]
    containers: tuple[ContainerState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent:
    """One event of the workload, its ReplicaSets or its pods; `at` = the last time it was seen."""

    about: str  # Kind/name
    warning: bool
    reason: str
    message: str
    count: int
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousLog:
    """Last lines of the container instance before the present one, each cut to a length."""

    pod: str
    container: str
    lines: tuple[str, ...]


class ChangeKind(StrEnum):
    ROLLOUT = "rollout"
    CONFIG = "config"
    SCALING = "scaling"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentChange:
    """One change within the window before the incident. `about` = Kind/name; `what` is a sentence."""

    kind: ChangeKind
    about: str
    at: datetime
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingEvidence:
    """What could not be had, and why: permission, time-out, none there, or left out for its size. `sections`: of the
    runbook's evidence, those that lack something since a question was not answered; empty for what is left out or none
    there, and in older records."""

    what: str
    reason: str
    sections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvidence:
    """Taken at `at` within `took`; what is read of whole collections (events, changes) at most a second before.
    `changes` reach back over `window`, newest first. `sections`: what was asked for; empty in older records, which
    asked for all."""

    target: TargetRef
    at: datetime
    took: timedelta
    window: timedelta
    pods: tuple[PodState, ...] = ()
    events: tuple[KeptEvent, ...] = ()
    previous_logs: tuple[PreviousLog, ...] = ()
    changes: tuple[RecentChange, ...] = ()
    missing: tuple[MissingEvidence, ...] = ()
    sections: tuple[str, ...] = ()

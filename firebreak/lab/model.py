"""How the shop behaves: pure functions of the cluster's state, the fault and the dice. The process carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from firebreak.lab.faults import Fault, Pod
from firebreak.lab.shape import SERVICES

OK = 200
OWN_FAILURE = 500
UPSTREAM_FAILURE = 502
NO_POD = 503
GAVE_UP = 499  # as nginx logs it: the caller went away before there was an answer


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What the shop knows of the cluster: ready pods by (service, version), weights by service and version, flags."""

    ready: Mapping[tuple[str, str], tuple[Pod, ...]] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def version_for(self, service: str, draw: float) -> str | None:
        """The version that a call goes to, by route weight; `draw` in [0, 1). None: no backend has a weight."""
        weights = self.weights.get(service, {})
        total = sum(weights.values())
        mark = draw * total
        for version, weight in weights.items():
            if mark < weight:
                return version
            mark -= weight
        return None

    def pod_for(self, service: str, version: str, draw: float) -> Pod | None:
        """A ready pod of that version, each as likely as the others; None when there is none."""
        pods = self.ready.get((service, version), ())
        return pods[int(draw * len(pods))] if pods else None


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault and the Unix time in seconds since when it is on."""

    fault: Fault
    since: float


@dataclass(frozen=True, slots=True)
class Dice:
    """Three independent draws in [0, 1) for one call: which pod, does it fail, how long does it take."""

    pod: float
    fate: float
    pace: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pod does with a call before it calls anybody: `code` 200 = it goes on, after `delay` seconds of own work.
    `hangs` = it never answers."""

    code: int
    delay: float
    hangs: bool = False


def answer(
    view: ClusterView, active: ActiveFault | None, service: str, version: str, *, dice: Dice, now: float
) -> Answer:
    """One call to `version` of `service` at `now` (Unix seconds)."""
    pod = view.pod_for(service, version, dice.pod)
    if pod is None:
        return Answer(NO_POD, 0.0)
    symptom = None
    if active is not None and active.fault.active(active.since, now):
        symptom = active.fault.symptom(pod, active.since)
    if symptom is None:
        return Answer(OK, _between(SERVICES[service].work, dice.pace))
    if symptom.hangs:
        return Answer(GAVE_UP, 0.0, hangs=True)
    delay = _between(symptom.delay or SERVICES[service].work, dice.pace)
    return Answer(OWN_FAILURE if dice.fate < symptom.failing else OK, delay)


def probe(
    view: ClusterView, active: ActiveFault | None, service: str, version: str, *, draw: float, now: float
) -> Answer:
    """The deep health check of one pod of that version: it fails for certain wherever a fault touches the pod."""
    return answer(view, active, service, version, dice=Dice(draw, 0.0, 0.0), now=now)


def after_callee(service: str, callee: str, code: int | None) -> int:
    """The code with which `service` answers when `callee` answered `code`, or nothing in time (None).

    A caller that suffers says 502, so that 500 names the culprit. order's wait for the optional recommend is its own
    bug, and so its own failure.
    """
    if code is None:
        return OWN_FAILURE if (service, callee) == ("order", "recommend") else UPSTREAM_FAILURE
    return OK if code < OWN_FAILURE else UPSTREAM_FAILURE


def _between(bounds: tuple[float, float], draw: float) -> float:
    low, high = bounds
    return low + (high - low) * draw

"""The fault classes. Each is a frozen value: it says what it does to a pod, and how an incident about it must end.

A fault knows pods only: their service, version, image and age. What heals it follows from that: no fault asks what the
engine did. What each does to the metrics over time is in its docstring; figures are per service, in the lab's window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from firebreak.domain.condition import Dimension
from firebreak.domain.errors import ContractError
from firebreak.domain.incident import IncidentOutcome
from firebreak.lab.shape import BAD_TAG


class Tier(StrEnum):
    """Row B1's tiers, and none for what no tier can heal."""

    RESTART = "restart"
    REROUTE = "reroute"
    DEGRADE = "degrade"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the API server tells of it. `created_at` in Unix seconds (whole ones: Kubernetes has no finer)."""

    name: str
    service: str
    version: str
    image: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a fault does to one pod: `failing` is the share of calls answered with 500, `delay` the bounds in seconds
    that replace its own work, `hangs` = it never answers."""

    failing: float = 0.0
    delay: tuple[float, float] | None = None
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class BadRollout:
    """What the lab rolls out, through the API like anybody, before the fault begins: `tag` on `deployment`, then all
    traffic of `service` to `version`."""

    service: str
    version: str
    deployment: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault class. `service` and `deployment` are the labels that every alert about it must carry, `trips` the
    dimensions of row A1 that become true, `heals_by` the first tier that helps, `outcome` and `pages` how the incident
    must end. A fault with `lasts` stops by itself, before any of them has held for its time."""

    name: str
    summary: str
    service: str
    deployment: str
    trips: frozenset[Dimension]
    heals_by: Tier
    outcome: IncidentOutcome
    pages: bool = False
    lasts: timedelta | None = None
    rollout: BadRollout | None = None

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        """What the fault, active since `since` (Unix seconds), does to `pod`; None = nothing."""
        raise NotImplementedError

    def active(self, since: float, now: float) -> bool:
        """False once a fault that stops by itself has stopped."""
        return self.lasts is None or now < since + self.lasts.total_seconds()


_ALL_THREE = frozenset({Dimension.LATENCY, Dimension.ERRORS, Dimension.BUSINESS})
_SLOW = (0.60, 0.72)  # over pay's objective of 0.5 s, and under order's of 1.25 s also on a busy machine


class WedgedPods(Fault):
    """Every pay pod that is older than the fault answers slowly, three of five calls with 500; fresh pods are well.

    pay: own 500 ratio 0.6 and P99 about 0.75 s after one window; flow pay succeeds 40 %, global 5xx 30 %. While pay-v1
    rolls over, both fall by a third per replaced pod. v2's old pods are wedged, too: rerouting there does not help.
    """

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        # Against the whole second, so a pod of the same second counts as fresh although it may be older. The other way
        # round a fresh pod would stay wedged and no restart would heal it; this way none that had traffic is spared,
        # since a pod takes READY_DELAY, a second, to be ready.
        if pod.service == "pay" and pod.created_at < math.floor(since):
            return Symptom(failing=0.6, delay=_SLOW)
        return None


class BadRelease(Fault):
    """pay's new release fails: four of five calls end with 500, all are slow. Only pods that run its image are hit.

    The lab rolls image tag 2.1.0 out to pay-v2 and moves all traffic there. pay: own 500 ratio 0.8 with
    deployment="pay-v2", P99 about 0.75 s; flow pay succeeds 20 %, global 5xx 40 %. A restart gives fresh pods of the
    same image. Traffic back on v1 is well at the next call; the probe of v2 stays 0 till the image is taken back.
    """

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        if pod.service == "pay" and pod.image.endswith(f":{BAD_TAG}"):
            return Symptom(failing=0.8, delay=_SLOW)
        return None


class DeadDependency(Fault):
    """recommend takes calls and never answers. order waits 1.3 s for it, then fails the call with 500.

    order: own 500 ratio 0.5 (all of flow order, none of flow pay), P99 about 1.5 s; flow order succeeds 0 %, global 5xx
    50 %, requests in flight of recommend 26. recommend itself answers nothing, so it has neither errors nor latencies;
    its probe is 0. Fresh pods and v2 of order wait just so; with recommend.enabled off order does not call it.
    """

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        return Symptom(hangs=True) if pod.service == "recommend" else None


class Unfixable(Fault):
    """Every pay pod fails four of five calls and is slow: old or fresh, v1 or v2, and there is no flag for it.

    The metrics of bad-release with deployment="pay-v1", whatever is restarted or rerouted, until the lab is healed.
    """

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        return Symptom(failing=0.8, delay=_SLOW) if pod.service == "pay" else None


class Blip(Fault):
    """Every pay pod fails every call at once, for 1.1 s; then all is well without anybody's doing.

    pay: own 500 ratio up to 1 and flow pay down to 0 %. With a scrape a second and rates over 3 s both conditions are
    true for 2 to 4 s, less than their `for` times. Latency stays as it was: calls fail quickly.
    """

    def symptom(self, pod: Pod, since: float) -> Symptom | None:
        return Symptom(failing=1.0) if pod.service == "pay" else None


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            WedgedPods(
                name="wedged-pods",
                summary="pay's pods are stuck: slow, most calls fail; only fresh pods work",
                service="pay",
                deployment="pay-v1",
                trips=_ALL_THREE,
                heals_by=Tier.RESTART,
                outcome=IncidentOutcome.HEALED,
            ),
            BadRelease(
                name="bad-release",
                summary="pay v2 was released and got all traffic, and it fails",
                service="pay",
                deployment="pay-v2",
                trips=_ALL_THREE,
                heals_by=Tier.REROUTE,
                outcome=IncidentOutcome.HEALED,
                rollout=BadRollout("pay", "v2", "pay-v2", BAD_TAG),
            ),
            DeadDependency(
                name="dead-dependency",
                summary="recommend does not answer, and order fails without it",
                service="order",
                deployment="order-v1",
                trips=_ALL_THREE,
                heals_by=Tier.DEGRADE,
                outcome=IncidentOutcome.HEALED,
            ),
            Unfixable(
                name="unfixable",
                summary="pay fails whatever is done; only a person can help",
                service="pay",
                deployment="pay-v1",
                trips=_ALL_THREE,
                heals_by=Tier.NONE,
                outcome=IncidentOutcome.RECOVERED,  # a person was paged, and heals the lab
                pages=True,
            ),
            Blip(
                name="blip",
                summary="pay fails for a moment and is well again before the rule's time has passed",
                service="pay",
                deployment="pay-v1",
                trips=frozenset({Dimension.ERRORS, Dimension.BUSINESS}),
                heals_by=Tier.NONE,
                outcome=IncidentOutcome.NOTHING_DONE,
                lasts=timedelta(seconds=1.1),
            ),
        )
    }
)
"""All fault classes by name."""


def fault_named(name: str) -> Fault:
    """The fault called `name`. ContractError naming the known ones."""
    try:
        return FAULTS[name]
    except KeyError:
        raise ContractError(
            f"there is no fault called {name!r}", advice=f"Known faults: {', '.join(FAULTS)}."
        ) from None

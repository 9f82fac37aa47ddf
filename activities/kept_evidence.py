"""Keeps, before the first write, what a restart would destroy: pods, terminations, events, logs, and what changed before.

All questions run at once under one deadline. What could not be had is recorded with its reason and stops nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from activities.recent_changes import (
    config_changes,
    controller_of,
    event_time,
    name_of,
    node_changes,
    roll_outs,
    scalings,
    time_of,
)
from activities.workloads import WORKLOAD_KINDS, container_statuses, is_ready, pods_of
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError
from firebreak.domain.evidence import (
    ChangeKind,
    ContainerState,
    KeptEvent,
    KeptEvidence,
    MissingEvidence,
    PodState,
    PreviousLog,
    Termination,
)
from firebreak.domain.ports import Clock, ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef

WINDOW = timedelta(hours=1)
MOST_BYTES = 200_000  # of the whole value as JSON: it is one entry of the timeline
MOST_PODS = 40
MOST_EVENTS = 100
MOST_CHANGES = 100
MOST_LOGS = 8
LOG_LINES = 50
LINE_LENGTH = 240  # characters
_TEXT_LENGTH = 300
_NODE_EVENTS = "default"  # events of what has no namespace are kept there

T = TypeVar("T")


async def keep(cluster: ClusterPort, target: TargetRef, *, budget: timedelta, clock: Clock) -> KeptEvidence:
    """Everything that could be had of `target` within `budget`. Never raises for what the API server says or does not
    say: that is in `missing`."""
    now = clock.now()
    since = now - WINDOW
    loop = asyncio.get_running_loop()
    started = loop.time()
    asker = _Asker(deadline=started + 0.95 * budget.total_seconds())  # the rest is for putting it together

    def listed(what: str, kind: ResourceKind, namespace: str = target.namespace) -> Awaitable[tuple[KubeObject, ...]]:
        return asker.ask(what, lambda left: cluster.list(kind, namespace, timeout=left), ())

    (workload, pods, logs), events, sets, revisions, deployments, stateful, configs, nodes, node_events = (
        await asyncio.gather(
            _workload(asker, cluster, target),
            listed("events", ResourceKind.EVENT),
            listed("roll-outs of Deployments", ResourceKind.REPLICASET),
            listed("roll-outs of StatefulSets and DaemonSets", ResourceKind.CONTROLLER_REVISION),
            listed("scaling of Deployments", ResourceKind.DEPLOYMENT),
            listed("scaling of StatefulSets", ResourceKind.STATEFULSET),
            listed("changes of ConfigMaps", ResourceKind.CONFIG_MAP),
            listed("changes of nodes", ResourceKind.NODE, ""),
            listed("events of nodes", ResourceKind.EVENT, _NODE_EVENTS),
        )
    )
    rolled = roll_outs(sets, revisions, since)
    workloads = [("Deployment", d) for d in deployments] + [("StatefulSet", s) for s in stateful]
    changes = (
        *rolled,
        *config_changes(configs, since),
        *scalings(workloads, events, (c.about for c in rolled if c.kind is ChangeKind.ROLLOUT), since),
        *node_changes(nodes, node_events, since),
    )
    ours = _concerning(target, workload, sets, pods, events)
    evidence = KeptEvidence(
        target=target,
        at=now,
        took=timedelta(0),
        window=WINDOW,
        pods=tuple(_pod_state(p) for p in asker.most("pods", sorted(pods, key=_sickest_first), MOST_PODS)),
        events=tuple(_kept_event(e) for e in asker.most("events", sorted(ours, key=_newest_event), MOST_EVENTS)),
        previous_logs=logs,
        changes=tuple(asker.most("changes", sorted(changes, key=lambda c: c.at, reverse=True), MOST_CHANGES)),
        missing=tuple(asker.missing),
    )
    took = timedelta(seconds=round(loop.time() - started, 6))
    return _bounded(replace(evidence, took=took))


class _Asker:
    """Asks under one deadline and notes what could not be had."""

    def __init__(self, *, deadline: float) -> None:
        self._deadline = deadline
        self.missing: list[MissingEvidence] = []

    def lacks(self, what: str, reason: str) -> None:
        self.missing.append(MissingEvidence(what=what, reason=reason[:_TEXT_LENGTH]))

    async def ask(self, what: str, call: Callable[[timedelta], Awaitable[T]], otherwise: T) -> T:
        """The call's answer, or `otherwise`; `call` is given the time that is left."""
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            self.lacks(what, "no time was left to ask")
            return otherwise
        try:
            async with asyncio.timeout_at(self._deadline):
                return await call(timedelta(seconds=left))
        except TimeoutError:
            self.lacks(what, "no answer within the time limit")
        except FirebreakError as error:
            self.lacks(what, str(error))
        return otherwise

    def most(self, what: str, found: Sequence[T], limit: int) -> Sequence[T]:
        if len(found) > limit:
            self.lacks(what, f"{len(found) - limit} of {len(found)} are left out: {limit} are kept")
        return found[:limit]


async def _workload(
    asker: _Asker, cluster: ClusterPort, target: TargetRef
) -> tuple[KubeObject | None, tuple[KubeObject, ...], tuple[PreviousLog, ...]]:
    """The workload, then its pods, then the logs of their containers' previous instances."""
    if target.kind not in WORKLOAD_KINDS:
        asker.lacks("pods", f"{target.text} is no workload and has no pods")
        return None, (), ()
    nothing: Mapping[str, Any] = {}
    workload = await asker.ask("the workload", lambda left: cluster.get(target, timeout=left), nothing)
    selector = (workload.get("spec") or {}).get("selector")
    if not selector:
        asker.lacks("pods", "the workload could not be read, or has no selector")
        return None, (), ()
    pods = await asker.ask(
        "pods", lambda left: pods_of(cluster, target.namespace, selector, timeout=left), ()
    )
    ended = [
        (pod["metadata"]["name"], str(status.get("name")), _ended_at(status) or datetime.min.replace(tzinfo=None))
        for pod in pods
        for status in container_statuses(pod)
        if (status.get("lastState") or {}).get("terminated")
    ]
    if pods and not ended:
        asker.lacks("previous logs", "no container has a previous instance")
    ended.sort(key=lambda e: str(e[2]), reverse=True)
    chosen = asker.most("previous logs", ended, MOST_LOGS)
    logs = await asyncio.gather(*(_log(asker, cluster, target.namespace, pod, name) for pod, name, _ in chosen))
    return workload, pods, tuple(log for log in logs if log is not None)


async def _log(
    asker: _Asker, cluster: ClusterPort, namespace: str, pod: str, container: str
) -> PreviousLog | None:
    text = await asker.ask(
        f"previous log of {pod}/{container}",
        lambda left: cluster.logs(namespace, pod, container, previous=True, tail_lines=LOG_LINES, timeout=left),
        None,
    )
    if text is None:
        return None
    lines = tuple(_cut(line, LINE_LENGTH) for line in text.splitlines()[-LOG_LINES:])
    return PreviousLog(pod=pod, container=container, lines=lines)

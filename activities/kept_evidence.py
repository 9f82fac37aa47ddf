"""Keeps, before the first write, what a restart would destroy: pods, terminations, events, logs, recent changes.

All questions run at once under one deadline. What could not be had is recorded with its reason and stops nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from activities.pod_states import kept_event, last_termination, pod_state, shortened
from activities.recent_changes import (
    config_changes,
    controller_of,
    event_time,
    node_changes,
    roll_outs,
    scalings,
)
from activities.shared_lists import SharedLists
from activities.workloads import WORKLOAD_KINDS, container_statuses, is_ready, pods_of
from firebreak.domain.codec import to_data
from firebreak.domain.errors import FirebreakError, PermanentError, PermissionDenied
from firebreak.domain.evidence import KeptEvidence, MissingEvidence, PreviousLog
from firebreak.domain.ports import Clock, ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import EntryDraft, EntryKind

WINDOW = timedelta(hours=1)
MOST_BYTES = 200_000  # of the whole value as JSON: it is one entry of the timeline
MOST_PODS = 40
MOST_EVENTS = 100
MOST_CHANGES = 100
MOST_LOGS = 8
LOG_LINES = 50
LINE_LENGTH = 240  # characters
_NODE_EVENTS = "default"  # events of what has no namespace are kept there

T = TypeVar("T")
Objects = tuple[KubeObject, ...]
_NONE: Objects = ()


async def keep(
    cluster: ClusterPort,
    target: TargetRef,
    *,
    budget: timedelta,
    clock: Clock,
    lists: SharedLists,
    sections: Sequence[str] = ("pods", "events", "previous_logs", "changes"),
) -> KeptEvidence:
    """Everything of `sections` (the runbook's `evidence`) that could be had of `target` within `budget`. Never raises
    for what the API server says or does not say: that is in `missing`. `lists`: of whole collections, which another
    incident may have asked for a moment ago."""
    now = clock.now()
    since = now - WINDOW
    loop = asyncio.get_running_loop()
    started = loop.time()
    asker = _Asker(deadline=started + 0.95 * budget.total_seconds())  # the rest is for putting it together

    async def listed(
        what: str, kind: ResourceKind, namespace: str = target.namespace, *, of: tuple[str, ...] = ("changes",)
    ) -> Objects:
        wanted = tuple(section for section in of if section in sections)
        if not wanted:
            return _NONE
        return await asker.ask(what, lambda left: lists.list(kind, namespace, timeout=left), _NONE, wanted)

    (pods, logs), (events, sets, revisions, deployments, configs, nodes, node_events) = await asyncio.gather(
        _pods_and_logs(asker, cluster, target, sections),
        asyncio.gather(
            listed("events", ResourceKind.EVENT, of=("events", "changes")),  # they tell of scaling, too
            listed("roll-outs of Deployments", ResourceKind.REPLICASET),
            listed("roll-outs of StatefulSets and DaemonSets", ResourceKind.CONTROLLER_REVISION),
            listed("who scaled Deployments", ResourceKind.DEPLOYMENT),
            listed("changes of ConfigMaps", ResourceKind.CONFIG_MAP),
            listed("changes of nodes", ResourceKind.NODE, ""),
            listed("events of nodes", ResourceKind.EVENT, _NODE_EVENTS),
        ),
    )
    rolled = roll_outs(sets, revisions, since)
    if target.kind is ResourceKind.STATEFULSET and "changes" in sections:
        asker.lacks("scaling", "Kubernetes keeps no time at which a StatefulSet was scaled", ("changes",))
    changes = (
        *rolled,
        *config_changes(configs, since),
        *scalings(deployments, events, rolled, since),
        *node_changes(nodes, node_events, since),
    )
    ours = _concerning(target, sets, pods, events) if "events" in sections else []
    evidence = KeptEvidence(
        target=target,
        at=now,
        took=timedelta(0),
        window=WINDOW,
        pods=tuple(pod_state(p) for p in asker.most("pods", sorted(pods, key=_sickest_first), MOST_PODS)),
        events=tuple(kept_event(e) for e in asker.most("events", ours, MOST_EVENTS)),
        previous_logs=logs,
        changes=tuple(asker.most("changes", sorted(changes, key=lambda c: c.at, reverse=True), MOST_CHANGES)),
        missing=tuple(asker.missing),
        sections=tuple(sections),
    )
    took = timedelta(seconds=round(loop.time() - started, 6))
    return _bounded(replace(evidence, took=took))


def kept_entry(incident_id: str, kept: KeptEvidence, at: datetime, took_ms: float) -> EntryDraft:
    """The one entry about it of an incident."""
    return EntryDraft(
        incident_id=incident_id,
        key="evidence",
        kind=EntryKind.EVIDENCE_KEPT,
        at=at,
        body=to_data(kept),
        target=kept.target.text,
        duration_ms=took_ms,
    )


class _Asker:
    """Asks under one deadline and notes what could not be had."""

    def __init__(self, *, deadline: float) -> None:
        self._deadline = deadline
        self.missing: list[MissingEvidence] = []

    def lacks(self, what: str, reason: str, sections: tuple[str, ...] = ()) -> None:
        self.missing.append(MissingEvidence(what=what, reason=shortened(reason), sections=sections))

    async def ask(
        self, what: str, call: Callable[[timedelta], Awaitable[T]], otherwise: T, sections: tuple[str, ...]
    ) -> T:
        """The call's answer, or `otherwise`; `call` is given the time that is left. `sections`: what asks for it."""
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            self.lacks(what, "no time was left to ask", sections)
            return otherwise
        try:
            async with asyncio.timeout_at(self._deadline):
                return await call(timedelta(seconds=left))
        except TimeoutError:
            self.lacks(what, "no answer within the time limit", sections)
        except FirebreakError as error:
            self.lacks(what, str(error), sections)
        return otherwise

    def most(self, what: str, found: Sequence[T], limit: int) -> Sequence[T]:
        if len(found) > limit:
            self.lacks(what, f"{len(found) - limit} of {len(found)} are left out: {limit} are kept")
        return found[:limit]


async def _pods_and_logs(
    asker: _Asker, cluster: ClusterPort, target: TargetRef, sections: Sequence[str]
) -> tuple[Objects, tuple[PreviousLog, ...]]:
    """The workload's pods, and the logs of their containers' previous instances."""
    if "pods" not in sections and "previous_logs" not in sections:
        return (), ()
    if target.kind not in WORKLOAD_KINDS:
        asker.lacks("pods", f"{target.text} is no workload and has no pods")
        return (), ()
    nothing: Mapping[str, Any] = {}
    wanted = tuple(section for section in ("pods", "previous_logs") if section in sections)
    workload = await asker.ask("the workload", lambda left: cluster.get(target, timeout=left), nothing, wanted)
    selector = (workload.get("spec") or {}).get("selector")
    if not selector:
        asker.lacks("pods", "the workload could not be read, or has no selector")
        return (), ()
    # Cached: for the newest of all, a server whose pods are quiet waits up to 0.1 s for etcd to tell that they are.
    pods = await asker.ask(
        "pods", lambda left: _newest_known(cluster, target.namespace, selector, timeout=left), _NONE, wanted
    )
    if "previous_logs" not in sections:
        return pods, ()
    ended = [(pod, status) for pod in pods for status in container_statuses(pod) if last_termination(status)]
    if pods and not ended:
        asker.lacks("previous logs", "no container has a previous instance")
    ended.sort(key=lambda e: str(e[1]["lastState"]["terminated"].get("finishedAt", "")), reverse=True)
    chosen = asker.most("previous logs", ended, MOST_LOGS)
    logs = await asyncio.gather(
        *(_log(asker, cluster, target.namespace, pod["metadata"]["name"], str(s.get("name"))) for pod, s in chosen)
    )
    return pods, tuple(log for log in logs if log is not None)


async def _newest_known(
    cluster: ClusterPort, namespace: str, selector: Mapping[str, Any], *, timeout: timedelta
) -> Objects:
    """A workload's pods; thousands do not fit into the one piece that the cache gives, and come in pages."""
    began = asyncio.get_running_loop().time()
    try:
        return await pods_of(cluster, namespace, selector, cached=True, timeout=timeout)
    except PermissionDenied:
        raise  # in pieces, too
    except PermanentError:
        left = timeout - timedelta(seconds=asyncio.get_running_loop().time() - began)
        return await pods_of(cluster, namespace, selector, timeout=left)


async def _log(asker: _Asker, cluster: ClusterPort, namespace: str, pod: str, container: str) -> PreviousLog | None:
    text: str | None = await asker.ask(
        f"previous log of {pod}/{container}",
        lambda left: cluster.logs(namespace, pod, container, previous=True, tail_lines=LOG_LINES, timeout=left),
        None,
        ("previous_logs",),
    )
    if text is None:
        return None
    lines = tuple(shortened(line, LINE_LENGTH) for line in text.splitlines()[-LOG_LINES:])
    return PreviousLog(pod=pod, container=container, lines=lines)


def _sickest_first(pod: KubeObject) -> tuple[bool, str]:
    return is_ready(pod), str(pod["metadata"]["name"])


def _newest_first(event: KubeObject) -> float:
    at = event_time(event)
    return -at.timestamp() if at is not None else 0.0


def _concerning(
    target: TargetRef, sets: Sequence[KubeObject], pods: Sequence[KubeObject], events: Sequence[KubeObject]
) -> list[KubeObject]:
    """Events of the workload, of its ReplicaSets, and of its pods, also of those that are gone."""
    owner = f"{target.kind.kind}/{target.name}"
    known = {(target.kind.kind, target.name)}
    known |= {("ReplicaSet", s["metadata"]["name"]) for s in sets if controller_of(s) == owner}
    known |= {("Pod", p["metadata"]["name"]) for p in pods}
    # names as the controllers make them: <set>-<5 letters>, <stateful set>-<ordinal>, <daemon set>-<5 letters>
    parents = {name for kind, name in known if kind != "Pod"}
    found = []
    for event in events:
        involved = event.get("involvedObject") or {}
        kind, name = str(involved.get("kind")), str(involved.get("name"))
        parent, _, suffix = name.rpartition("-")
        gone_pod = kind == "Pod" and parent in parents and re.fullmatch(r"[a-z0-9]{5}|\d+", suffix)
        if (kind, name) in known or gone_pod:
            found.append(event)
    return sorted(found, key=_newest_first)


def _bounded(evidence: KeptEvidence) -> KeptEvidence:
    """At most MOST_BYTES as JSON: the largest part is halved until it fits; old log lines, old events, old changes and
    healthy pods go first."""
    cut_parts: set[str] = set()
    while _size(evidence) > MOST_BYTES:
        sizes = {part: _size(getattr(evidence, part)) for part in _CUTS}
        largest = max(sizes, key=lambda part: sizes[part])
        if sizes[largest] <= _EMPTY:
            break
        evidence = replace(evidence, **{largest: _CUTS[largest](getattr(evidence, largest))})
        cut_parts.add(largest)
    notes = tuple(
        MissingEvidence(what=part.replace("_", " "), reason=f"partly left out: the whole was over {MOST_BYTES} bytes")
        for part in sorted(cut_parts)
    )
    return replace(evidence, missing=(*evidence.missing, *notes))


def _half(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return items[: len(items) // 2]


def _half_logs(logs: tuple[PreviousLog, ...]) -> tuple[PreviousLog, ...]:
    """Half the lines of each; a log without lines goes."""
    cut = (replace(log, lines=log.lines[len(log.lines) - len(log.lines) // 2 :]) for log in logs)
    return tuple(log for log in cut if log.lines)


_CUTS: Mapping[str, Callable[[Any], Any]] = {
    "previous_logs": _half_logs,
    "events": _half,
    "changes": _half,
    "pods": _half,
}
_EMPTY = len("[]")


def _size(value: Any) -> int:
    """Bytes as JSON."""
    return len(json.dumps(to_data(value), ensure_ascii=False).encode("utf-8", "surrogatepass"))

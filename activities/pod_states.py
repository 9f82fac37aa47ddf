"""Pods, their containers and events as frozen values of bounded size. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from activities.recent_changes import event_time, time_of
from activities.workloads import is_ready
from firebreak.domain.evidence import ContainerState, KeptEvent, PodState, Termination
from firebreak.domain.ports import KubeObject

TEXT_LENGTH = 300  # characters of one sentence of the kubelet's or a controller's
_MOST_CONTAINERS = 20


def shortened(text: object, length: int = TEXT_LENGTH) -> str:
    """At most `length` characters, with a mark where something was cut."""
    whole = str(text)
    return whole if len(whole) <= length else f"{whole[: length - 1]}…"


def pod_state(pod: KubeObject) -> PodState:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    problems = [
        shortened(f"{c.get('type')} is {c.get('status')}: {c.get('reason') or ''} {c.get('message') or ''}".strip())
        for c in status.get("conditions") or ()
        if c.get("status") != "True"
    ]
    if status.get("reason"):  # Evicted, NodeLost, ...
        problems.append(shortened(f"{status['reason']}: {status.get('message') or ''}"))
    statuses = [(True, s) for s in status.get("initContainerStatuses") or ()]
    statuses += [(False, s) for s in status.get("containerStatuses") or ()]
    return PodState(
        name=meta["name"],
        uid=str(meta.get("uid", "")),
        node=str(spec.get("nodeName") or ""),
        phase=str(status.get("phase") or "Unknown"),
        ready=is_ready(pod),
        created_at=time_of(meta.get("creationTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        problems=tuple(problems[:10]),
        containers=tuple(_container(s, init) for init, s in statuses[:_MOST_CONTAINERS]),
    )


def last_termination(status: Mapping[str, Any]) -> Termination | None:
    """How the previous instance of a container ended, or None."""
    ended = (status.get("lastState") or {}).get("terminated")
    if not ended:
        return None
    return Termination(
        reason=str(ended.get("reason") or "unknown"),
        exit_code=int(ended.get("exitCode") or 0),
        started_at=time_of(ended.get("startedAt")),
        finished_at=time_of(ended.get("finishedAt")),
        message=shortened(ended.get("message") or ""),
    )


def kept_event(event: KubeObject) -> KeptEvent:
    involved = event.get("involvedObject") or {}
    return KeptEvent(
        about=f"{involved.get('kind')}/{involved.get('name')}",
        warning=event.get("type") == "Warning",
        reason=shortened(event.get("reason") or ""),
        message=shortened(event.get("message") or ""),
        count=int((event.get("series") or {}).get("count") or event.get("count") or 1),
        at=event_time(event),
    )


def _container(status: Mapping[str, Any], init: bool) -> ContainerState:
    return ContainerState(
        name=str(status.get("name")),
        image=shortened(status.get("image") or ""),
        ready=bool(status.get("ready")),
        restarts=int(status.get("restartCount") or 0),
        state=_state_sentence(status.get("state") or {}),
        last_termination=last_termination(status),
        init=init,
    )


def _state_sentence(state: Mapping[str, Any]) -> str:
    if "running" in state:
        return f"running since {(state['running'] or {}).get('startedAt', 'unknown')}"
    if "waiting" in state:
        waiting = state["waiting"] or {}
        return shortened(f"waiting: {waiting.get('reason', 'unknown')} {waiting.get('message') or ''}".strip())
    if "terminated" in state:
        ended = state["terminated"] or {}
        return shortened(f"terminated: {ended.get('reason', 'unknown')}, exit code {ended.get('exitCode')}")
    return "unknown"

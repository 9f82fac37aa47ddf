"""What changed before the incident, read from the objects themselves: roll-outs, ConfigMaps, scaling, nodes. Pure.

Kubernetes keeps no history of its objects; used is what it does keep: ReplicaSets and ControllerRevisions with their
creation times, the times in managedFields (one per manager and subresource), conditions, events (an hour by default).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from activities.workloads import RESTARTED_AT
from firebreak.domain.codec import parse_time
from firebreak.domain.evidence import ChangeKind, RecentChange
from firebreak.domain.ports import KubeObject

_REVISION = "deployment.kubernetes.io/revision"
_RESTORED = "deployment.kubernetes.io/revision-history"  # a ReplicaSet that was rolled back to carries it

_ROLLING = timedelta(
    seconds=60
)  # a roll-out scales ReplicaSets, too: for so long after it began its events are its own
_MOST_SCALINGS = 5


def time_of(text: Any) -> datetime | None:
    """A Kubernetes time stamp; None when there is none or it cannot be read."""
    try:
        return parse_time(str(text)) if text else None
    except ValueError:
        return None


def name_of(obj: KubeObject, kind: str) -> str:
    return f"{kind}/{obj['metadata']['name']}"


def controller_of(obj: KubeObject) -> str:
    """`Kind/name` of the controlling owner, or empty."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return f"{owner.get('kind')}/{owner.get('name')}"
    return ""


def event_time(event: KubeObject) -> datetime | None:
    """When an event was last seen, in whichever of the fields its reporter has filled."""
    series = event.get("series") or {}
    for value in (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")):
        at = time_of(value)
        if at is not None:
            return at
    return time_of(event["metadata"].get("creationTimestamp"))


@dataclass(frozen=True, slots=True)
class _Revision:
    number: int
    created_at: datetime | None
    template: Mapping[str, Any]
    restored_at: datetime | None = None


def roll_outs(
    replica_sets: Iterable[KubeObject], controller_revisions: Iterable[KubeObject], since: datetime
) -> tuple[RecentChange, ...]:
    """New revisions since then, each with what differs from the one before it, and returns to an earlier one."""
    owned: dict[str, list[_Revision]] = {}
    for obj in replica_sets:
        owned.setdefault(controller_of(obj), []).append(_of_replica_set(obj))
    for obj in controller_revisions:
        template = ((obj.get("data") or {}).get("spec") or {}).get("template") or {}
        created = time_of(obj["metadata"].get("creationTimestamp"))
        owned.setdefault(controller_of(obj), []).append(_Revision(int(obj.get("revision") or 0), created, template))
    changes = []
    for owner, revisions in owned.items():
        if not owner:
            continue
        revisions.sort(key=lambda r: r.number)
        for before, new in zip([None, *revisions], revisions, strict=False):
            if new.created_at is not None and new.created_at >= since:
                changes.append(_change(owner, new.created_at, f"revision {new.number}: {_difference(before, new)}"))
        last = revisions[-1]
        if last.restored_at is not None and last.restored_at >= since and (last.created_at or since) < since:
            what = f"back to an earlier template, now revision {last.number} ({_images_text(last.template)})"
            changes.append(_change(owner, last.restored_at, what))
    return tuple(changes)


def config_changes(config_maps: Iterable[KubeObject], since: datetime) -> tuple[RecentChange, ...]:
    """ConfigMaps created or written since then, by whom, and which keys that writer owns; never their values."""
    changes = []
    for obj in config_maps:
        about = name_of(obj, "ConfigMap")
        created = time_of(obj["metadata"].get("creationTimestamp"))
        if created is not None and created >= since:
            changes.append(RecentChange(kind=ChangeKind.CONFIG, about=about, at=created, what="created"))
        for entry, at in _writes(obj, since):
            if created is not None and (at - created).total_seconds() < 1:
                continue  # the creation itself
            keys = sorted(k.removeprefix("f:") for k in (entry.get("fieldsV1") or {}).get("f:data") or {} if k != ".")
            owns = f", which owns {', '.join(keys[:20])}" if keys else ""
            what = f"written by {entry.get('manager')}{owns}"
            changes.append(RecentChange(kind=ChangeKind.CONFIG, about=about, at=at, what=what))
    return tuple(changes)


def scalings(
    deployments: Iterable[KubeObject], events: Iterable[KubeObject], rolled: Iterable[RecentChange], since: datetime
) -> tuple[RecentChange, ...]:
    """Autoscalers' decisions, and replica counts that moved while nothing rolled out; the newest few of each object.

    The entry that a write to the scale subresource leaves in managedFields has no time (seen on 1.34), so that it says
    who, and the events say when."""
    writers = {
        name_of(obj, "Deployment"): str(entry.get("manager"))
        for obj in deployments
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("subresource") == "scale"
    }
    roll_out_times: dict[str, list[datetime]] = {}
    for change in rolled:
        roll_out_times.setdefault(change.about, []).append(change.at)
    found: dict[str, list[RecentChange]] = {}
    for event in events:
        at, involved = event_time(event), event.get("involvedObject") or {}
        about, reason = f"{involved.get('kind')}/{involved.get('name')}", event.get("reason")
        if at is None or at < since or reason not in ("SuccessfulRescale", "ScalingReplicaSet"):
            continue
        if reason == "ScalingReplicaSet" and any(
            timedelta(0) <= at - began <= _ROLLING for began in roll_out_times.get(about, ())
        ):
            continue
        who = f" (replicas last set by {writers[about]})" if about in writers else ""
        what = f"{str(event.get('message') or reason)[:300]}{who}"
        found.setdefault(about, []).append(RecentChange(kind=ChangeKind.SCALING, about=about, at=at, what=what))
    newest = (sorted(changes, key=lambda c: c.at)[-_MOST_SCALINGS:] for changes in found.values())
    return tuple(change for changes in newest for change in changes)


def node_changes(
    nodes: Iterable[KubeObject], events: Iterable[KubeObject], since: datetime
) -> tuple[RecentChange, ...]:
    """Nodes that are new, leaving, gone, cordoned, or had a condition change since then."""
    changes: list[RecentChange] = []

    def add(about: str, at: datetime | None, what: str) -> None:
        if at is not None and at >= since:
            changes.append(RecentChange(kind=ChangeKind.NODE, about=about, at=at, what=what))

    for node in nodes:
        about, meta = name_of(node, "Node"), node["metadata"]
        created = time_of(meta.get("creationTimestamp"))
        is_new = created is not None and created >= since
        add(about, created, "joined the cluster")
        add(about, time_of(meta.get("deletionTimestamp")), "is being removed")
        for condition in (node.get("status") or {}).get("conditions") or ():
            healthy = condition.get("status") == ("True" if condition.get("type") == "Ready" else "False")
            if is_new and healthy:
                continue  # part of joining
            what = f"{condition.get('type')} became {condition.get('status')} ({condition.get('reason')})"
            add(about, time_of(condition.get("lastTransitionTime")), what)
        if (node.get("spec") or {}).get("unschedulable"):
            add(about, _cordoned_at(node, since), "cordoned: takes no new pods")
    for event in events:
        involved = event.get("involvedObject") or {}
        if involved.get("kind") == "Node" and event.get("reason") == "RemovingNode":
            add(f"Node/{involved.get('name')}", event_time(event), "left the cluster")
    return tuple(changes)


def _change(owner: str, at: datetime, what: str) -> RecentChange:
    return RecentChange(kind=ChangeKind.ROLLOUT, about=owner, at=at, what=what)


_LONGEST = 19  # digits of a number that Kubernetes writes


def _of_replica_set(obj: KubeObject) -> _Revision:
    notes = obj["metadata"].get("annotations") or {}
    number = notes.get(_REVISION, "0")
    written = [at for _, at in _writes(obj, None)]
    return _Revision(
        int(number) if number.isascii() and number.isdigit() and len(number) < _LONGEST else 0,
        time_of(obj["metadata"].get("creationTimestamp")),
        obj["spec"].get("template") or {},
        max(written, default=None) if _RESTORED in notes else None,
    )


def _writes(obj: KubeObject, since: datetime | None) -> Iterator[tuple[Mapping[str, Any], datetime]]:
    """managedFields entries of the object itself (of no subresource) since then, with their times."""
    for entry in obj["metadata"].get("managedFields") or ():
        at = time_of(entry.get("time"))
        if not entry.get("subresource") and at is not None and (since is None or at >= since):
            yield entry, at


def _cordoned_at(node: KubeObject, since: datetime) -> datetime | None:
    for entry, at in _writes(node, since):
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}):
            return at
    taints = (node.get("spec") or {}).get("taints") or ()
    return next(
        (time_of(t.get("timeAdded")) for t in taints if t.get("key") == "node.kubernetes.io/unschedulable"), None
    )


def _difference(before: _Revision | None, new: _Revision) -> str:
    if before is None:
        return f"first one known ({_images_text(new.template)})"
    old_images, new_images = _images(before.template), _images(new.template)
    moved = [
        f"{name}: {old_images.get(name, 'none')} -> {new_images.get(name, 'none')}"
        for name in sorted(old_images.keys() | new_images.keys())
        if old_images.get(name) != new_images.get(name)
    ]
    if moved:
        return f"images {'; '.join(moved)}"
    if _essence(before.template) == _essence(new.template):
        return "a restart (same template)"
    return "template changed, same images"


def _images(template: Mapping[str, Any]) -> dict[str, str]:
    spec = template.get("spec") or {}
    containers: Sequence[Mapping[str, Any]] = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return {str(c.get("name")): str(c.get("image", "")) for c in containers}


def _images_text(template: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {image}" for name, image in _images(template).items()) or "no images"


def _essence(template: Mapping[str, Any]) -> Any:
    """The template without what a restart and the controller write into it."""
    bare = copy.deepcopy(dict(template))
    meta = bare.get("metadata") or {}
    for where, key in (("annotations", RESTARTED_AT), ("labels", "pod-template-hash")):
        kept = {k: v for k, v in (meta.get(where) or {}).items() if k != key}
        meta[where] = kept
    meta.pop("creationTimestamp", None)
    bare["metadata"] = meta
    return bare

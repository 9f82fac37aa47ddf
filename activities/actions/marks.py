"""The mark of one step on an object, and what is told of a write by it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from activities.fields import as_patched, differences, inverse, merge_patch, moved_fields
from firebreak.domain.action import Effect, EffectOutcome, FieldChange, Intent
from firebreak.domain.codec import format_time, parse_time
from firebreak.domain.errors import TargetChanged
from firebreak.domain.ids import is_step_annotation, step_annotation
from firebreak.domain.ports import KubeObject
from firebreak.domain.target import BoundTarget, TargetRef

MARK_KEPT = timedelta(days=30)
"""Nobody asks for a mark once its effect is on record, which is a matter of seconds, or of an engine's absence."""

_THE_SERVERS = frozenset({"metadata", "status"})
_MOST_TOLD = 3
"""Differences named in one sentence."""


def bound(ref: TargetRef, obj: KubeObject) -> BoundTarget:
    """`ref` as it was read: with UID and resourceVersion."""
    meta = obj["metadata"]
    return BoundTarget(ref=ref, uid=meta["uid"], resource_version=meta["resourceVersion"])


def same_object(intent: Intent, obj: KubeObject) -> None:
    """TargetChanged when it is another one by now."""
    uid = obj["metadata"]["uid"]
    if uid != intent.target.uid:
        raise TargetChanged(
            f"{intent.target.ref.text} is another object now (UID {uid}, planned on {intent.target.uid})"
        )


def being_deleted(obj: KubeObject) -> bool:
    """Only a finalizer keeps it: what is written to it is lost with it."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def mark_of(step_key: str, obj: KubeObject) -> str | None:
    """Time stamp of this step's annotation on the object, if it is there."""
    mark = (obj["metadata"].get("annotations") or {}).get(step_annotation(step_key))
    return None if mark is None else str(mark)


def marked_patch(
    obj: KubeObject, changes: tuple[FieldChange, ...], step_key: str, stamp: datetime
) -> Mapping[str, Any]:
    """Touched fields, mark and resourceVersion in one patch: all of it is written, or none. Marks that have had their
    time go with it: the API server takes 256 KiB of annotations, some 4,000 steps, and then no further write."""
    body = merge_patch(obj, changes)
    meta = body.setdefault("metadata", {})
    meta["resourceVersion"] = obj["metadata"]["resourceVersion"]
    notes = meta.setdefault("annotations", {})
    notes |= dict.fromkeys(_outlived(obj["metadata"].get("annotations") or {}, stamp))
    notes[step_annotation(step_key)] = format_time(stamp)
    return body


def _outlived(notes: Mapping[str, Any], now: datetime) -> Iterator[str]:
    for key, value in notes.items():
        if is_step_annotation(key):
            try:
                if now - parse_time(str(value)) > MARK_KEPT:
                    yield key
            except (ValueError, OverflowError):  # none that we wrote
                continue


def unplanned(obj: KubeObject, body: Mapping[str, Any], answer: KubeObject) -> str:
    """What `answer` holds that the patch `body` alone does not make of `obj`, and what of it was not taken: admission
    altered the write. Empty = it is as planned; metadata and status, which the API server keeps, are not looked at."""
    planned = as_patched(obj, body)
    wanted, got = ({k: v for k, v in one.items() if k not in _THE_SERVERS} for one in (planned, answer))
    found = tuple(islice(differences(wanted, got), _MOST_TOLD + 1))
    more = "; and more" if len(found) > _MOST_TOLD else ""
    return "; ".join(found[:_MOST_TOLD]) + more


def effect_on(
    intent: Intent, obj: KubeObject, outcome: EffectOutcome, reason: str, changes: tuple[FieldChange, ...] = ()
) -> Effect:
    """What became of the intent, on the object as it is now."""
    target = bound(intent.target.ref, obj)
    return Effect(outcome=outcome, reason=reason, step_key=intent.step_key, target=target, changes=changes)


def found_on(intent: Intent, obj: KubeObject, outcome: EffectOutcome, reason: str) -> Effect:
    """Our mark is on it: what we wrote is what was meant; what became of it since is said beside."""
    since = moved_fields(obj, inverse(intent.changes))
    later = f"; changed by somebody else since: {'; '.join(since)}" if since else ""
    return effect_on(intent, obj, outcome, reason + later, intent.changes)

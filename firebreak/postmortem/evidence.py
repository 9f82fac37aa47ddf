"""What was kept before the first write, and what had changed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.model import ChangeLine, EvidencePart

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def evidence_of(entries: Sequence[TimelineEntry]) -> EvidencePart | None:
    """The first kept evidence; None when there is none."""
    entry = next((e for e in entries if e.kind is EntryKind.EVIDENCE_KEPT), None)
    if entry is None:
        return None
    body = entry.body
    changes = [_change(found) for found in reading.items(body, "changes")]
    return EvidencePart(
        kept_at=entry.at,
        kept=tuple(_kept(body)),
        changes=tuple(sorted(changes, key=lambda c: (c.at or _LONG_AGO, c.target, c.what), reverse=True)),
        missing=tuple(_missing(body)),
        raw=body,
    )


def _change(found: Mapping[str, Any]) -> ChangeLine:
    target = reading.target_text(found, "target") or next(
        (t for name in ("target", "object", "ref") if (t := reading.text(found, name))), ""
    )
    what = next((t for name in ("what", "summary", "reason", "detail") if (t := reading.text(found, name))), "changed")
    return ChangeLine(at=reading.time(found, "at"), target=target, what=what)


def _kept(body: Mapping[str, Any]) -> list[str]:
    """`4 pods`, `2 previous logs`: the lists that hold something."""
    return [
        f"{len(found)} {name.replace('_', ' ')}"
        for name, found in sorted(body.items())
        if name not in ("changes", "missing") and isinstance(found, (list, tuple)) and found
    ]


def _missing(body: Mapping[str, Any]) -> list[str]:
    found = body.get("missing")
    if not isinstance(found, (list, tuple)):
        return []
    lines = []
    for item in found:
        if isinstance(item, Mapping):
            what = next((t for name in ("what", "name", "kind") if (t := reading.text(item, name))), "something")
            why = next((t for name in ("reason", "why", "detail") if (t := reading.text(item, name))), "")
            lines.append(f"{what}: {why}" if why else what)
        else:
            lines.append(wording.clean(str(item)))
    return lines

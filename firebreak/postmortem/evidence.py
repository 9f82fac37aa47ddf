"""What was kept before the first write (`firebreak.domain.evidence.KeptEvidence`), and what had changed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.model import ChangeLine, EvidencePart, LogPart

_CHANGES = "changes"  # as runbooks name it
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def evidence_of(entries: Sequence[TimelineEntry]) -> EvidencePart | None:
    """The first kept evidence; None when there is none."""
    entry = next((e for e in entries if e.kind is EntryKind.EVIDENCE_KEPT), None)
    if entry is None:
        return None
    body = entry.body
    changes = [
        ChangeLine(at=reading.time(found, "at"), about=reading.text(found, "about"), what=reading.text(found, "what"))
        for found in reading.items(body, "changes")
    ]
    return EvidencePart(
        kept_at=entry.at,
        pods=tuple(_pod(pod) for pod in reading.items(body, "pods")),
        events=tuple(_event(event) for event in reading.items(body, "events")),
        logs=tuple(
            LogPart(
                pod=reading.text(log, "pod"),
                container=reading.text(log, "container"),
                lines=reading.texts(log, "lines"),
            )
            for log in reading.items(body, "previous_logs")
        ),
        changes=tuple(sorted(changes, key=lambda c: (c.at or _LONG_AGO, c.about, c.what), reverse=True)),
        missing=tuple(_missing(found) for found in reading.items(body, "missing")),
        unanswered=tuple(_missing(found) for found in reading.items(body, "missing") if _unanswered(found)),
        changes_looked_for=_CHANGES in (reading.texts(body, "sections") or (_CHANGES,)),
        changes_unseen=_unseen(body),
    )


def _unanswered(found: Mapping[str, Any]) -> bool:
    """Older records do not tell a question without an answer from an answer that there is none."""
    return "sections" not in found or bool(reading.texts(found, "sections"))


def _missing(found: Mapping[str, Any]) -> str:
    return ": ".join(t for t in (reading.text(found, "what"), reading.text(found, "reason")) if t)


def _unseen(body: Mapping[str, Any]) -> tuple[str, ...]:
    """One line for each reason: an API server that hangs has one for all."""
    of: dict[str, list[str]] = {}
    for found in reading.items(body, "missing"):
        if _CHANGES in reading.texts(found, "sections"):
            of.setdefault(reading.text(found, "reason"), []).append(reading.text(found, "what"))
    return tuple(": ".join(t for t in (", ".join(what), reason) if t) for reason, what in of.items())


def _pod(pod: Mapping[str, Any]) -> str:
    """`pay-v1-x on node-1, Running, not ready: ...; app restarted 3 times, last ended by OOMKilled (137)`."""
    ready = "ready" if pod.get("ready") is True else "not ready"
    words = [f"{reading.text(pod, 'name')} on {reading.text(pod, 'node') or 'no node'}"]
    words += [t for t in (reading.text(pod, "phase"), ready) if t]
    told = [", ".join(words), *reading.texts(pod, "problems")]
    for container in reading.items(pod, "containers"):
        restarts = reading.whole(container, "restarts")
        ended = reading.mapping(container, "last_termination")
        if restarts > 0 or ended:
            line = f"{reading.text(container, 'name')} restarted {wording.several(max(restarts, 0), 'time')}"
            if ended:
                line += f", last ended by {reading.text(ended, 'reason')} ({reading.text(ended, 'exit_code')})"
            told.append(line)
    return "; ".join(told)


def _event(event: Mapping[str, Any]) -> str:
    count = reading.whole(event, "count")
    words = f"{wording.clock(reading.time(event, 'at'))} {reading.text(event, 'about')} {reading.text(event, 'reason')}"
    times = f" ({count} times)" if count > 1 else ""
    return f"{words.strip()}{times}: {reading.text(event, 'message')}"

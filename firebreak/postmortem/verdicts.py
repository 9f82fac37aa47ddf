"""The verdict that decided, and how its conditions read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from firebreak.domain.condition import Truth
from firebreak.domain.record import looks
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.model import ConditionLine, NodeLine, VerdictPart, WorstLine

_HURT = (Truth.TRUE, Truth.PENDING)


class Verdicts:
    """The verdicts of one incident. The conditions of each are read once, and only when they are asked for."""

    def __init__(self, entries: Sequence[TimelineEntry]) -> None:
        self._all = [e for e in entries if e.kind is EntryKind.VERDICT_REACHED]
        self._looks = looks(entries)
        self._conditions: dict[int, tuple[ConditionLine, ...]] = {}  # by the entry's identity: `_all` keeps it

    def deciding(self) -> VerdictPart | None:
        """The last verdict before a plan, a page or the end; None when there was none."""
        if not self._looks:
            return None
        entry = self._looks[-1]
        verdict = reading.mapping(entry.body, "verdict")
        return VerdictPart(
            severity=reading.text(verdict, "severity") or "none",
            truth=reading.text(verdict, "truth"),
            may_act=verdict.get("may_act") is True,
            act_reason=reading.text(verdict, "act_reason"),
            reason=reading.text(verdict, "reason"),
            tree=reading.text(verdict, "tree"),
            tree_digest=reading.text(verdict, "tree_digest"),
            reached_at=entry.at,
            pinned_at=reading.time(verdict, "pinned_at"),
            looks=len(self._looks),
            health_score=reading.number(verdict, "health_score"),
            dimensions=reading.texts(verdict, "dimensions"),
            nodes=tuple(
                NodeLine(
                    depth=max(reading.whole(node, "depth"), 0),
                    operator=reading.text(node, "operator"),
                    truth=reading.text(node, "truth"),
                    condition=reading.text(node, "condition"),
                )
                for node in reading.items(verdict, "nodes")
            ),
            conditions=self._of(entry),
            again_at=reading.time(entry.body, "result", "again_at"),
        )

    def worst_seen(self) -> tuple[ConditionLine, ...]:
        """The conditions that were true or pending in the last look that found any: what a moment's jitter was, too."""
        for entry in reversed(self._looks):
            hurt = tuple(line for line in self._of(entry) if line.truth in _HURT)
            if hurt:
                return hurt
        return ()

    def worst_by_dimension(self) -> tuple[WorstLine, ...]:
        """For each dimension that any verdict found hurt, the value farthest beyond its limit, over all verdicts (those
        after the decision, too)."""
        found: dict[str, WorstLine] = {}
        for entry in self._all:
            for line in self._of(entry):
                if line.truth not in _HURT or not line.dimension:
                    continue
                known = found.get(line.dimension)
                worse = known is None or _beyond(line) > _beyond(known.condition)
                since = [t for t in (known.since if known else None, line.since) if t]
                found[line.dimension] = WorstLine(
                    dimension=line.dimension,
                    condition=line if known is None or worse else known.condition,
                    at=_pinned_at(entry) if known is None or worse else known.at,
                    since=min(since) if since else None,
                )
        return tuple(found.values())

    def _of(self, entry: TimelineEntry) -> tuple[ConditionLine, ...]:
        if id(entry) not in self._conditions:
            self._conditions[id(entry)] = conditions_of(reading.mapping(entry.body, "verdict"))
        return self._conditions[id(entry)]


def _pinned_at(entry: TimelineEntry) -> datetime:
    return reading.time(entry.body, "verdict", "pinned_at") or entry.at


def _beyond(line: ConditionLine) -> tuple[float, float]:
    """How far a value is beyond its limit (`> 500`, `<= 70`; a bare number is an upper limit), to compare lines of one
    dimension that have different units; what is no number (a label) is beyond nothing."""
    sign, _, limit = line.threshold.rpartition(" ")
    try:
        value, bound = float(line.value), float(limit)
    except ValueError:
        return (0.0, 0.0)
    if math.isnan(value) or math.isnan(bound):
        return (0.0, 0.0)
    low = sign.startswith("<")
    above, below = (bound, value) if low else (value, bound)
    return (above / below if below > 0 and math.isfinite(below) else math.inf, -value if low else value)


def conditions_of(data: Mapping[str, Any]) -> tuple[ConditionLine, ...]:
    """The stored ConditionResults under `conditions`."""
    return tuple(
        ConditionLine(
            name=reading.text(found, "name"),
            dimension=reading.text(found, "dimension"),
            truth=reading.text(found, "truth"),
            reason=reading.text(found, "reason"),
            query=reading.text(found, "query"),
            value=reading.text(found, "value"),
            threshold=reading.text(found, "threshold"),
            unit=reading.text(found, "unit"),
            sample_age=reading.number(found, "sample_age"),
            volume=reading.number(found, "volume"),
            since=reading.time(found, "since"),
        )
        for found in reading.items(data, "conditions")
    )


def condition_words(line: ConditionLine) -> str:
    """`errors ratio 25.12 % (limit > 5 %)`: short enough for a phone."""
    words = wording.clean(line.name, 60).replace("_", " ")
    if line.value:
        words += f" {wording.value(line.value, line.unit)}"
    if line.threshold:
        words += f" (limit {wording.value(line.threshold, line.unit)})"
    return words

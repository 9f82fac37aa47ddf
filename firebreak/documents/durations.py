"""Durations as documents write them (`250ms`, `10s`, `2m`, `1h30m`, `7d`), and as PromQL reads them.

The grammar is PromQL's own (Prometheus, docs/querying/basics.md, "Float literals and time durations"): units `w d h m s
ms`, largest first, each at most once. Years are left out: no incident lasts one.
"""

from __future__ import annotations

import functools
import re
from datetime import timedelta

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
DURATION_PATTERN = r"^(?=[0-9])(?:[0-9]+w)?(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?(?:[0-9]+ms)?$"
_WHOLE = re.compile(
    r"(?=[0-9])(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+)s)?(?:([0-9]+)ms)?"
)
_LONGEST = timedelta(days=366)


def parse_duration(text: str) -> timedelta:
    """`1h30m` -> 90 minutes. ValueError with a sentence for anything else, and above 366 days."""
    found = _WHOLE.fullmatch(text) if len(text) <= 64 and text.isascii() else None
    if found is None:
        raise ValueError(f"{text!r} is not a duration: write it like 250ms, 10s, 2m, 1h30m or 7d")
    counts = [int(count or 0) for count in found.groups()]
    if any(count > 10**12 for count in counts):
        raise ValueError(f"{text!r} is longer than 366 days")
    span = timedelta(0)
    for count, unit in zip(counts, _UNITS.values(), strict=True):
        if count > _LONGEST // unit:
            raise ValueError(f"{text!r} is longer than 366 days")
        span += count * unit
    if span > _LONGEST:
        raise ValueError(f"{text!r} is longer than 366 days")
    return span


@functools.lru_cache(maxsize=512)
def promql_duration(span: timedelta) -> str:
    """Shortest PromQL duration of a span: `1h30m`, `7d`, `250ms`; `0s` for none.

    ValueError for a negative span and for parts of a millisecond, which PromQL cannot say."""
    rest, part = divmod(span, timedelta(milliseconds=1))
    if span < timedelta(0) or part:
        raise ValueError(f"{span!r} cannot be written as a PromQL duration: not negative, whole milliseconds")
    text = ""
    for name, unit in _UNITS.items():
        count, rest = divmod(rest, unit // timedelta(milliseconds=1))
        if name == "w":  # weeks read badly: 7d is what people wrote
            rest += count * (unit // timedelta(milliseconds=1))
        elif count:
            text += f"{count}{name}"
    return text or "0s"


def spoken(span: timedelta) -> str:
    """A span for people, to a tenth of a second: `7 s`, `2.5 s`, `2 min`, `1 h 5 min`."""
    seconds = span.total_seconds()
    if seconds < 0:
        return f"-{spoken(-span)}"
    if seconds < 120:
        return f"{round(seconds, 1):g} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min" + (f" {left} s" if left else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")

"""How long something has waited, where the wall clock may be set forward or back meanwhile. Pure: both clocks' readings
are passed in, `elapsed` in seconds of the one that nobody sets."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from datetime import datetime, timedelta

from firebreak.domain.age import is_to_come


class IntakeWait:
    """Of the oldest accepted alert. What this process has seen itself counts, once it runs for `limit`: a clock that is
    set forward makes no alert of a moment ago an old one. Until then the wall clock counts as well: what has waited
    since before an engine was started again has waited."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._began: float | None = None
        self._looks: deque[tuple[float, datetime]] = deque()  # those within `limit`, and the last one before
        self._oldest: tuple[int, float] = (0, 0.0)  # receipt, and when it was first seen to be the oldest

    def looked(self, now: datetime, elapsed: float) -> None:
        """At each look, before the inbox is read."""
        self._began = elapsed if self._began is None else self._began
        if self._looks and is_to_come(self._looks[-1][1], now):
            self._looks.clear()  # set back: all that is accepted now would seem to lie before them
        self._looks.append((elapsed, now))
        while len(self._looks) > 1 and elapsed - self._looks[1][0] >= self._limit.total_seconds():
            self._looks.popleft()

    def of(self, receipt: int, accepted_at: datetime | None) -> timedelta:
        """How long the oldest alert has waited at the last look: since the first one that came after it was accepted
        (None: nobody can read when), or since it was first the oldest, whichever is longer ago."""
        elapsed, now = self._looks[-1]
        if self._oldest[0] != receipt:
            self._oldest = receipt, elapsed
        if accepted_at is None:
            return timedelta(seconds=elapsed - self._oldest[1])
        after = next((at for at, said in self._looks if said >= accepted_at), elapsed)
        seen = timedelta(seconds=elapsed - min(after, self._oldest[1]))
        young = self._began is None or elapsed - self._began < self._limit.total_seconds()
        return max(seen, now - accepted_at) if young else seen


class Standstill:
    """What comes after an alert that waits, and that somebody was paged about: for as long as nothing of its class is
    taken up, that page stands for it, too. Where it is taken up as ever, and then stands still, that is news; so it is
    where another class stands still."""

    def __init__(self) -> None:
        self._known: int | None = None  # as `known`; None = there is no page
        self._at_looks: deque[int] = deque(maxlen=3)  # last receipts that there were then
        self._flows: set[Hashable] = set()  # classes of which something that came later was taken up at once
        self._told: set[Hashable] = set()  # classes that the open pages are about; None = nobody can read of which

    def over(self) -> None:
        """Nothing waits for long any more."""
        self._known = None
        self._at_looks.clear()
        self._flows.clear()
        self._told.clear()

    def paged(self, intake_class: Hashable | None) -> None:
        """About an alert of that class."""
        self._told.add(intake_class)

    def looked(self, newest: int) -> int:
        """At each look while a page is open, with the last receipt that there is. After which receipt it is asked what
        has been taken up: a delivery that came since the last look but one was taken up within seconds."""
        self._at_looks.append(newest)
        self._known = newest if self._known is None else self._known
        return max(self._known, self._at_looks[0])

    @property
    def known(self) -> int:
        """The last receipt that the open pages stand for: the oldest that waits is asked for behind it."""
        return self._known or 0

    def taken_up(self, classes: Collection[Hashable]) -> None:
        self._flows.update(classes)

    def is_news(self, intake_class: Hashable | None) -> bool:
        """The oldest of what came later, of that class (None: nobody can read which), has waited for too long."""
        if intake_class is None:
            return bool(self._flows)
        return intake_class in self._flows or not self._told & {intake_class, None}

    def stands_for(self, receipt: int) -> None:
        """What waits there is no news. What came behind it, perhaps of another class, is looked at by itself."""
        self._known = receipt

    def stands_for_all(self) -> None:
        """What waits now has just got a page, which counts it."""
        self._known = self._at_looks[-1]
        self._flows.clear()


class OpenSince:
    """Of promises whose time limit counts by the wall clock: where it was set back, and the time at which one was made
    is still to come, what this process has seen of it counts as well."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, float] = {}  # those that were still to come at some look, and when first

    def of(self, key: Hashable, opened_at: datetime, now: datetime, elapsed: float) -> timedelta:
        if is_to_come(opened_at, now):
            self._seen.setdefault(key, elapsed)
        return max(now - opened_at, timedelta(seconds=elapsed - self._seen.get(key, elapsed)))

    def keep(self, keys: Collection[Hashable]) -> None:
        """The others are over."""
        self._seen = {key: at for key, at in self._seen.items() if key in keys}

"""The clock of the shop's durations: it stands still while the process does.

The pods of a cluster do not share one process. Here they do, and while a busy machine gives it nothing for half a
second, every call that is on its way takes half a second longer: order's, too, while pay is at fault, and its latency
alert would name a service that is well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TICK = 0.05  # seconds
_AT_MOST = 0.2  # seconds that count between two ticks: what is longer is the process' stall, not a pod's work


class OwnTime:
    """Seconds of `read` (monotonic), of which at most 0.2 count between two turns of the event loop's tick."""

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self._read = read
        self._counted = 0.0
        self._ticked = read()

    def now(self) -> float:
        """Seconds since some moment; the difference of two is what passed while the process ran."""
        return self._counted + min(self._read() - self._ticked, _AT_MOST)

    def tick(self) -> None:
        """The process runs."""
        at = self._read()
        self._counted += min(at - self._ticked, _AT_MOST)
        self._ticked = at

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(_TICK)

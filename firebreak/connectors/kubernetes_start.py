"""Whether a 403 says what this user may do, or that the API server has just been started.

One that starts denies everybody everything, `/readyz` too, until it has read its roles (kube-apiserver 1.34: seen for
2 s). Where `/readyz` may never be read (a cluster without `system:public-info-viewer`, some proxies), time tells.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

JUST_NOW = 1.0
"""Seconds for which an answer shows that the roles are known: a server is not started anew in so little."""
LONGEST = 10.0
"""Seconds for which a server that denies `/readyz`, too, may be starting."""


class Starting:
    """What one API server has answered so far. `elapsed`: seconds that only grow."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._let_in_at: float | None = None
        self._denied_since: float | None = None
        self._denied_at: float | None = None

    def let_in(self) -> None:
        """It has answered a call with what was asked for."""
        self._let_in_at, self._denied_since = self._elapsed(), None

    async def explains_denial(self, readiness: Callable[[], Awaitable[int | None]]) -> bool:
        """Of a call that got 403: whether it may pass by itself. `readiness`: the status of `/readyz`, None when it did
        not answer; 404 is who does not know the question."""
        now = self._elapsed()
        if self._let_in_at is not None and now - self._let_in_at < JUST_NOW:
            return False
        status = await readiness()
        if status in (401, 403):
            if self._denied_since is None or self._denied_at is None or now - self._denied_at > LONGEST:
                self._denied_since = now
            self._denied_at = now
            return now - self._denied_since < LONGEST
        self._denied_since = None
        return status not in (200, 404)

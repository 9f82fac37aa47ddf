"""The wall clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """`Clock` of the ports, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

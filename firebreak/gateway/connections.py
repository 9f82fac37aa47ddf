"""Connections that only wait make room for new ones: who opens a thousand and says nothing, with no token, keeps no
alert out."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

ROOM = 500
"""Connections from which on the one that has waited longest for a request is closed for each new one. Half of what the
gateway takes, and of the 1024 files that a process may have open by default."""


class Connection(H11Protocol):
    """One of Alertmanager, or of anybody who can reach the port. A sender whose idle connection is closed opens another
    one."""

    waits_since = 0.0  # by the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base class has it
        super().connection_made(transport)
        self.waits_since = self.loop.time()
        if len(self.connections) > ROOM:
            self._make_room()

    def on_response_complete(self) -> None:
        self.waits_since = self.loop.time()
        super().on_response_complete()

    @property
    def waits(self) -> bool:
        """For the head of a request: nothing is under way on it."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _make_room(self) -> None:
        waiting = [
            each for each in self.connections if isinstance(each, Connection) and each.waits and each is not self
        ]
        if waiting:
            min(waiting, key=lambda each: each.waits_since).transport.abort()

"""Lists of the API server shared among incidents: a storm in one namespace asks for each collection once a second, not
once for each incident, at the very moment at which the API server has enough to do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind

FRESH = timedelta(seconds=1)
"""A list that was begun longer ago is asked for anew."""


@dataclass(frozen=True, slots=True)
class _Asked:
    began: float  # of the monotonic clock
    answer: asyncio.Task[tuple[KubeObject, ...]]

    def serves(self, now: float, fresh: float) -> bool:
        failed = self.answer.done() and (self.answer.cancelled() or self.answer.exception() is not None)
        return now - self.began <= fresh and not failed


class SharedLists:
    """Whole collections, each at most `fresh` old. For reading only: the objects belong to all who asked."""

    def __init__(self, cluster: ClusterPort, *, fresh: timedelta = FRESH) -> None:
        self._cluster = cluster
        self._fresh = fresh.total_seconds()
        self._asked: dict[tuple[ResourceKind, str], _Asked] = {}

    async def list(self, kind: ResourceKind, namespace: str, *, timeout: timedelta) -> tuple[KubeObject, ...]:
        """As ClusterPort.list, with its errors; `timeout` is of who asks first, and a failure is of those alone who
        waited for it. Who is cancelled takes nothing from the others."""
        now = time.monotonic()
        self._asked = {key: asked for key, asked in self._asked.items() if asked.serves(now, self._fresh)}
        known = self._asked.get((kind, namespace))
        if known is None:
            known = _Asked(now, asyncio.ensure_future(self._cluster.list(kind, namespace, timeout=timeout)))
            known.answer.add_done_callback(_looked_at)
            self._asked[kind, namespace] = known
        return await asyncio.shield(known.answer)


def _looked_at(answer: asyncio.Task[tuple[KubeObject, ...]]) -> None:
    """A failure that nobody waits for any more is not an error of the process."""
    if not answer.cancelled():
        answer.exception()

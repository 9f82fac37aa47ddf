"""Lists of the API server shared among incidents: a storm in one namespace asks for each collection once a second, not
once for each incident, at the very moment at which the API server has enough to do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from firebreak.domain.errors import TransientError
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind

FRESH = timedelta(seconds=1)
"""A list that was begun longer ago is asked for anew."""


_Answer = asyncio.Task[tuple[KubeObject, ...]]


@dataclass(frozen=True, slots=True)
class _Asked:
    began: float  # of the monotonic clock
    answer: _Answer

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
        """As ClusterPort.list, with its errors. Who joins another's question and is told that it failed (its time may
        have been over) asks once more by itself. Who is cancelled takes nothing from the others."""
        now = time.monotonic()
        self._asked = {key: asked for key, asked in self._asked.items() if asked.serves(now, self._fresh)}
        known = self._asked.get((kind, namespace))
        if known is None:
            return await asyncio.shield(self._ask(kind, namespace, now, timeout))
        try:
            return await asyncio.shield(known.answer)
        except TransientError:
            left = timeout - timedelta(seconds=time.monotonic() - now)
            return await self._cluster.list(kind, namespace, timeout=left)

    def _ask(self, kind: ResourceKind, namespace: str, now: float, timeout: timedelta) -> _Answer:
        answer = asyncio.ensure_future(self._cluster.list(kind, namespace, timeout=timeout))
        answer.add_done_callback(_looked_at)
        asked = self._asked[kind, namespace] = _Asked(now, answer)

        def forget() -> None:
            if self._asked.get((kind, namespace)) is asked:
                del self._asked[kind, namespace]

        asyncio.get_running_loop().call_later(self._fresh, forget)  # collections are large
        return answer


def _looked_at(answer: _Answer) -> None:
    """A failure that nobody waits for any more is not an error of the process."""
    if not answer.cancelled():
        answer.exception()

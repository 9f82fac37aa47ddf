"""Prometheus and what speaks its API (Thanos, Mimir, VictoriaMetrics), as MetricsPort.

One POST for all queries of a look at the evidence: every figure of a verdict is from the same pinned times. When that
one answer cannot be trusted, each query is asked alone, so that one bad query does not blind the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import httpx

from firebreak.connectors.http import HttpEdge
from firebreak.connectors.outcome import HttpReply
from firebreak.connectors.prometheus_batch import (
    Blame,
    ExprType,
    Grid,
    Matrix,
    Problem,
    answer_of,
    clock_doubt,
    expr_type,
    joined,
    read,
    split,
)
from firebreak.domain.condition import AnswerStatus, MetricAnswer, MetricQuery

BATCH_SHARE = 0.6
"""Share of the time limit for the joined query; the rest is kept for asking each alone."""

BACKOFF = 0.1
"""Seconds before the one repeat: a 503 can be the query's own time-out, and repeats multiply load."""

PARALLEL = 8
"""Queries asked alone at once; Prometheus evaluates 20 at once by default (`--query.max-concurrency`)."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Bytes; 30 single series of 100 steps are 0.1 MB, and reading more would hold up the event loop."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One call of `range_batch`: its steps and the loop time at which it must be over."""

    grid: Grid
    until: float

    def left(self) -> float:
        return self.until - asyncio.get_running_loop().time()


class Prometheus:
    """MetricsPort over one back end. `params` go with every query (Thanos: `partial_response=false`, VictoriaMetrics:
    `deny_partial_response=1`, `nocache=1`), `headers` with every request (tenant, token). `now` is our own wall
    clock: a server's that is ahead of it puts all of its answers in doubt."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        parallel: int = PARALLEL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = HttpEdge(
            base_url,
            system="Prometheus",
            headers=headers,
            max_body_bytes=MAX_ANSWER_BYTES,
            connections=parallel + 4,
            transport=transport,
        )
        self._params = dict(params or {})
        self._parallel = parallel
        self._now = now
        self._looks = 0  # calls of `range_batch` under way

    @property
    def address(self) -> str:
        """Its base URL, without credentials."""
        return self._http.shown

    async def range_batch(
        self,
        queries: Sequence[MetricQuery],
        *,
        start: datetime,
        end: datetime,
        step: timedelta,
        timeout: timedelta,
    ) -> tuple[MetricAnswer, ...]:
        """See MetricsPort. The last step is `end`, cut to the millisecond; the first is at or just before `start`.
        ContractError for times that cannot be asked for; every fault of the back end is an answer."""
        grid = Grid.pinned(start, end, step)
        if not queries:
            return ()
        look = _Look(grid, asyncio.get_running_loop().time() + timeout.total_seconds())
        exprs = list(dict.fromkeys(query.expr for query in queries))  # volumes and inputs repeat over conditions
        batch = [(expr, kind) for expr in exprs if (kind := expr_type(expr)) is not ExprType.OTHER]
        if len(batch) == 1:
            batch = []  # nothing to join: ask it as it is written
        known = {expr for expr, _ in batch}
        alone = [expr for expr in exprs if expr not in known]
        self._looks += 1
        try:
            if batch and alone:
                first, second = await asyncio.gather(self._together(batch, look), self._each(alone, look, again=True))
                answers = dict(first + second)
            else:
                answers = dict(await (self._together(batch, look) if batch else self._each(alone, look, again=True)))
        finally:
            self._looks -= 1
        return tuple(replace(answers[query.expr], key=query.key) for query in queries)

    async def _together(self, batch: Sequence[tuple[str, ExprType]], look: _Look) -> list[tuple[str, MetricAnswer]]:
        exprs = [expr for expr, _ in batch]
        text = joined(tuple(batch))
        outcome = await self._ask(text, look.grid, look.left() * BATCH_SHARE)
        if isinstance(outcome, Problem) and outcome.blame is Blame.SERVER and outcome.again:
            await asyncio.sleep(min(BACKOFF, max(look.left(), 0)))
            outcome = await self._ask(text, look.grid, look.left())
        if isinstance(outcome, Problem):
            # Late while many look at once: the load is to blame, and asking each alone would multiply it.
            overload = outcome.status is AnswerStatus.UNAVAILABLE and self._looks > self._parallel
            if outcome.blame is Blame.SERVER or overload:
                return [(expr, outcome.answer("")) for expr in exprs]
            # After a 5xx or a time-out this is the one repeat that each of them gets.
            return await self._each(exprs, look, again=outcome.status is AnswerStatus.REFUSED)
        groups = None if outcome.doubts else split(outcome, len(exprs))
        if groups is None:
            return await self._each(exprs, look, again=True)
        times: dict[float, datetime] = {}
        return [(expr, answer_of("", series, "", look.grid, times)) for expr, series in zip(exprs, groups, strict=True)]

    async def _each(self, exprs: Sequence[str], look: _Look, *, again: bool) -> list[tuple[str, MetricAnswer]]:
        gate = asyncio.Semaphore(self._parallel)

        async def one(expr: str) -> tuple[str, MetricAnswer]:
            async with gate:
                return expr, await self._alone(expr, look, again=again)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(expr)) for expr in exprs]
        return [task.result() for task in tasks]

    async def _alone(self, expr: str, look: _Look, *, again: bool) -> MetricAnswer:
        outcome = await self._ask(expr, look.grid, look.left())
        if isinstance(outcome, Problem) and outcome.again and again:
            await asyncio.sleep(min(BACKOFF, max(look.left(), 0)))
            outcome = await self._ask(expr, look.grid, look.left())
        if isinstance(outcome, Problem):
            return outcome.answer("")
        return answer_of("", outcome.series, outcome.doubts, look.grid, {})

    async def _ask(self, expr: str, grid: Grid, seconds: float) -> Matrix | Problem:
        if seconds <= 0:
            detail = f"no time was left to ask {self._http.system}"
            return Problem(status=AnswerStatus.UNAVAILABLE, detail=detail, blame=Blame.SERVER)
        # With our limit as its own, the server stops evaluating what nobody waits for any more.
        form = {"query": expr, **grid.form(), "timeout": f"{seconds:.3f}", **self._params}
        limit = timedelta(seconds=seconds)
        answer = await self._http.try_send("POST", "api/v1/query_range", form=form, timeout=limit)
        outcome = read(answer, self._http.system)
        if isinstance(outcome, Matrix) and isinstance(answer, HttpReply):
            return clock_doubt(answer.headers, self._now(), self._http.system) or outcome
        return outcome

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

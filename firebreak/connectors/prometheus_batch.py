"""Many PromQL expressions as one, and its answer taken apart again. Pure.

`label_replace((e1), "firebreak_key", "0", "", "") or label_replace((e2), "firebreak_key", "1", "", "") or ...`: the key
makes all label sets differ, so `or` keeps every series. Envelope and status codes: Prometheus docs/querying/api.md.
"""

from __future__ import annotations

import email.utils
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import promql_parser as promql

from firebreak.connectors.outcome import FailureKind, HttpFailure, HttpReply
from firebreak.connectors.wording import plain
from firebreak.domain.condition import AnswerStatus, MetricAnswer, Point
from firebreak.domain.errors import ContractError

KEY_LABEL = "firebreak_key"
DETAIL_LIMIT = 500
"""Characters of an error or warning that are kept with an answer."""

CLOCK_BEHIND = timedelta(seconds=5)
"""How far a server's clock may be ahead of ours. A sample's age is told from our own time, so that it looks fresher by
as much: less is little against any `stale_after`, and clocks that are kept right at all differ by far less."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The pinned steps in whole milliseconds since 1970 (Prometheus' resolution); the last one is `end` itself."""

    start: int
    end: int
    step: int

    @classmethod
    def pinned(cls, start: datetime, end: datetime, step: timedelta) -> Grid:
        """Steps from at or just before `start` up to exactly `end`, cut (not rounded up: that would look into the
        future) to the millisecond. ContractError for naive times, a step below 1 ms, or an end before its start."""
        if start.tzinfo is None or end.tzinfo is None:
            raise ContractError("a metric query needs times with a zone")
        if step < _MILLISECOND:
            raise ContractError("the step of a metric query must be at least 1 ms")
        if end < start:
            raise ContractError(f"a metric query ends ({end.isoformat()}) before it starts ({start.isoformat()})")
        last, width = (end - _EPOCH) // _MILLISECOND, step // _MILLISECOND
        count = -(-(last - (start - _EPOCH) // _MILLISECOND) // width)
        return cls(start=last - count * width, end=last, step=width)

    def form(self) -> dict[str, str]:
        """The request's parameters, exact: decimal seconds."""
        return {"start": _seconds(self.start), "end": _seconds(self.end), "step": _seconds(self.step)}

    def time_of(self, stamp: float) -> datetime | None:
        """The step that `stamp` (Unix seconds) names, or None when it is none of ours."""
        if not math.isfinite(stamp):  # JSON's 1e999 is one
            return None
        millis = round(stamp * 1000)
        if millis < self.start or millis > self.end or (millis - self.start) % self.step:
            return None
        return _EPOCH + timedelta(milliseconds=millis)


def _seconds(millis: int) -> str:
    sign, millis = ("-", -millis) if millis < 0 else ("", millis)
    return f"{sign}{millis // 1000}.{millis % 1000:03d}"


class ExprType(StrEnum):
    VECTOR = "vector"
    SCALAR = "scalar"
    OTHER = "other"  # a range vector, a string, or not parsed: the server says what is wrong with it


@functools.lru_cache(maxsize=4096)  # the same services' queries come again with every look at them
def expr_type(expr: str) -> ExprType:
    """What `expr` evaluates to; OTHER when the parser does not know it (it may be newer PromQL)."""
    try:
        return _type(promql.parse(expr))
    except ValueError:
        return ExprType.OTHER


def _type(node: Any) -> ExprType:
    while isinstance(node, (promql.ParenExpr, promql.UnaryExpr)):
        node = node.expr
    if isinstance(node, (promql.VectorSelector, promql.AggregateExpr)):
        return ExprType.VECTOR
    if isinstance(node, promql.NumberLiteral):
        return ExprType.SCALAR
    if isinstance(node, promql.BinaryExpr):
        both = _type(node.lhs) is ExprType.SCALAR and _type(node.rhs) is ExprType.SCALAR
        return ExprType.SCALAR if both else ExprType.VECTOR
    if isinstance(node, promql.Call):
        if node.func.return_type == promql.ValueType.Scalar:
            return ExprType.SCALAR
        return ExprType.VECTOR if node.func.return_type == promql.ValueType.Vector else ExprType.OTHER
    return ExprType.OTHER


@functools.lru_cache(maxsize=256)  # as above; the same text again is also encoded only once
def joined(exprs: tuple[tuple[str, ExprType], ...]) -> str:
    """One expression for all. Each must have parsed alone (so that no `) or (` breaks out of its place); the newline
    ends a trailing comment."""
    parts = []
    for number, (expr, kind) in enumerate(exprs):
        body = f"vector({expr}\n)" if kind is ExprType.SCALAR else f"({expr}\n)"
        parts.append(f'label_replace({body}, "{KEY_LABEL}", "{number}", "", "")')
    return " or ".join(parts)


class Blame(StrEnum):
    """Whose fault a problem is, and so what to do next."""

    QUERY = "query"  # of one of the expressions: ask each alone
    SERVER = "server"  # of all of them alike: asking each alone is useless


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """No usable matrix came back."""

    status: AnswerStatus
    detail: str
    blame: Blame
    again: bool = False  # worth one more try

    def answer(self, key: str) -> MetricAnswer:
        return MetricAnswer(key=key, status=self.status, detail=self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series as it came: labels, and (seconds, text) pairs, or None when it holds native histograms."""

    labels: Mapping[str, Any]
    values: Sequence[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    series: tuple[Series, ...]
    doubts: str  # warnings and the mark of a partial response; empty = the answer is whole


def read(answer: HttpReply | HttpFailure, system: str) -> Matrix | Problem:
    """What an answer of `/api/v1/query_range` says."""
    if isinstance(answer, HttpFailure):
        blame = Blame.QUERY if answer.kind in (FailureKind.LATE, FailureKind.TOO_LARGE) else Blame.SERVER
        again = answer.kind in (FailureKind.UNREACHABLE, FailureKind.CUT)
        return Problem(status=AnswerStatus.UNAVAILABLE, detail=answer.detail, blame=blame, again=again)
    try:
        envelope = answer.json()
    except ValueError:
        envelope = None
    said = f"{system} answered {answer.status}"
    if not isinstance(envelope, dict) or envelope.get("status") not in ("success", "error"):
        return Problem(
            status=AnswerStatus.UNAVAILABLE,
            detail=plain(f"{said}, which is no Prometheus answer: {answer.text()}", DETAIL_LIMIT),
            blame=Blame.SERVER,
            again=answer.status in (500, 502, 503, 504),
        )
    if answer.status != 200 or envelope["status"] == "error":
        return _refusal(answer.status, envelope, said)
    return _matrix(envelope) or Problem(
        status=AnswerStatus.UNAVAILABLE, detail=f"{said} in a shape that is not a matrix", blame=Blame.QUERY
    )


def clock_doubt(headers: Mapping[str, str], now: datetime, system: str) -> Problem | None:
    """A doubt about all that an answer says when its Date header (RFC 9110, 6.6.1) is later than `now`, our time once
    it had come: however long it took, it was written before. An earlier one says nothing, since a cache keeps that of
    the first answer; and of a clock of ours that is ahead the ages of samples tell by themselves."""
    try:
        said = email.utils.parsedate_to_datetime(headers.get("date", "")[:64])
        if said.tzinfo is None:  # it must say GMT; whose time would it be?
            return None
        said = said.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if said - now <= CLOCK_BEHIND:
        return None
    detail = (
        f"the clock here says {now:%Y-%m-%d %H:%M:%S} UTC while {system} says {said:%Y-%m-%d %H:%M:%S} UTC, so that "
        "samples are older than they look: set the clocks right"
    )
    return Problem(status=AnswerStatus.WARNED, detail=plain(detail, DETAIL_LIMIT), blame=Blame.SERVER)


def _refusal(status: int, envelope: Mapping[str, Any], said: str) -> Problem:
    kind = str(envelope.get("errorType", "unknown"))
    detail = plain(f"{said} ({kind}): {envelope.get('error', 'no reason given')}", DETAIL_LIMIT)
    if status in (400, 422) or (status == 200 and kind in ("bad_data", "execution")):
        return Problem(status=AnswerStatus.REFUSED, detail=detail, blame=Blame.QUERY)
    if status >= 499:  # 499 canceled, 500 internal, 503 timeout: of one evaluation, not of the server
        return Problem(status=AnswerStatus.UNAVAILABLE, detail=detail, blame=Blame.QUERY, again=status in (500, 503))
    return Problem(status=AnswerStatus.UNAVAILABLE, detail=detail, blame=Blame.SERVER)  # 401, 403, 404, 429 ...


def _matrix(envelope: Mapping[str, Any]) -> Matrix | None:
    data = envelope.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        return None
    result = data.get("result")
    if result is None:
        result = []
    if not isinstance(result, list) or not all(isinstance(item, dict) for item in result):
        return None
    series = []
    for item in result:
        labels, values = item.get("metric"), item.get("values", [])
        if not isinstance(labels, dict) or not isinstance(values, list):
            return None
        series.append(Series(labels=labels, values=None if "histograms" in item else values))
    warnings = envelope.get("warnings") or []  # `infos` are hints to the author, not doubts about the data
    doubts = [str(w) for w in warnings] if isinstance(warnings, list) else [str(warnings)]
    if envelope.get("isPartial"):  # VictoriaMetrics
        doubts.insert(0, "partial response")
    return Matrix(series=tuple(series), doubts=plain("; ".join(doubts), DETAIL_LIMIT))


def split(matrix: Matrix, count: int) -> list[list[Series]] | None:
    """The series of each of `count` joined expressions, or None when one carries no key of ours."""
    groups: list[list[Series]] = [[] for _ in range(count)]
    for series in matrix.series:
        key = str(series.labels.get(KEY_LABEL, ""))
        if not (key.isascii() and key.isdigit() and int(key) < count):
            return None
        groups[int(key)].append(series)
    return groups


def answer_of(key: str, series: Sequence[Series], doubts: str, grid: Grid, times: dict[Any, datetime]) -> MetricAnswer:
    """The answer to one query. `times` remembers the steps already read, as all series share them."""
    if doubts:
        return MetricAnswer(key=key, status=AnswerStatus.WARNED, detail=doubts)
    if len(series) > 1:
        detail = f"{len(series)} series came back: the query must aggregate to one"
        return MetricAnswer(key=key, status=AnswerStatus.AMBIGUOUS, detail=detail)
    if not series:
        return MetricAnswer(key=key, status=AnswerStatus.OK)
    values = series[0].values
    if values is None:
        detail = "a native histogram came back: the query must reduce it to a number"
        return MetricAnswer(key=key, status=AnswerStatus.UNAVAILABLE, detail=detail)
    points = []
    for pair in values:
        if not isinstance(pair, list) or len(pair) != 2:
            return _strange(key, pair)
        stamp, value = pair
        if not isinstance(stamp, (int, float)) or not isinstance(value, str):
            return _strange(key, pair)
        at = times.get(stamp)
        if at is None:
            at = grid.time_of(stamp)
            if at is None:
                return MetricAnswer(key=key, status=AnswerStatus.UNAVAILABLE, detail=_MOVED)
            times[stamp] = at
        points.append(Point(at=at, value=value))
    return MetricAnswer(key=key, status=AnswerStatus.OK, points=tuple(points))


_MOVED = (
    "the back end moved the steps away from the pinned times: set its parameter against it "
    "(VictoriaMetrics nocache=1; Thanos query-frontend --query-range.align-range-with-step=false)"
)


def _strange(key: str, pair: Any) -> MetricAnswer:
    detail = plain(f"a value that is no [time, text]: {pair!r}", DETAIL_LIMIT)
    return MetricAnswer(key=key, status=AnswerStatus.UNAVAILABLE, detail=detail)

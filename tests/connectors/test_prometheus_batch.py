"""Joining expressions and reading envelopes, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import promql_parser
import pytest

from firebreak.connectors.outcome import FailureKind, HttpFailure, HttpReply
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
from firebreak.domain.condition import AnswerStatus
from firebreak.domain.errors import ContractError

END = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)


def ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


@pytest.mark.parametrize(
    ("span", "step", "steps"),
    [(0, 1000, 0), (10_000, 1000, 10), (10_000, 3000, 4), (10_001, 1000, 11), (1, 15_000, 1), (7, 1, 7)],
)
def test_the_last_step_is_the_pinned_time_and_the_first_covers_the_start(span: int, step: int, steps: int) -> None:
    """Counted back from the end, so that it is always evaluated itself; one step more rather than one too few."""
    grid = Grid.pinned(END - ms(span), END, ms(step))
    end = grid.time_of(grid.end / 1000)
    assert end == END.replace(microsecond=123000)
    assert grid.start == grid.end - steps * step
    assert grid.time_of(grid.start / 1000) is not None
    assert grid.start <= (END - ms(span)).timestamp() * 1000


def test_a_pinned_time_is_cut_and_never_rounded_up() -> None:
    """Rounding up would ask for a moment that has not been yet."""
    at = datetime(2026, 11, 21, 8, 0, 0, 999_999, tzinfo=UTC)
    assert Grid.pinned(at, at, ms(1000)).form()["end"].endswith(".999")


def test_the_times_are_sent_exactly() -> None:
    """Decimal text: a float of Unix milliseconds could lose its last digit."""
    form = Grid.pinned(END - ms(1500), END, ms(500)).form()
    assert form == {"start": "1795247998.623", "end": "1795248000.123", "step": "0.500"}


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (END.replace(tzinfo=None), END, ms(1000)),
        (END, END.replace(tzinfo=None), ms(1000)),
        (END, END, timedelta(microseconds=999)),
        (END, END, timedelta(0)),
        (END, END, -ms(1000)),
        (END + ms(1), END, ms(1000)),
    ],
)
def test_times_that_cannot_be_asked_for_are_refused(start: datetime, end: datetime, step: timedelta) -> None:
    """A mistake of the caller is an error, not an answer."""
    with pytest.raises(ContractError):
        Grid.pinned(start, end, step)


@pytest.mark.parametrize(
    ("expr", "kind"),
    [
        ("foo", ExprType.VECTOR),
        ("sum(rate(foo[5m]))", ExprType.VECTOR),
        ("-foo", ExprType.VECTOR),
        ("(foo)", ExprType.VECTOR),
        ("foo > bool 1", ExprType.VECTOR),
        ("1 + foo", ExprType.VECTOR),
        ("vector(1)", ExprType.VECTOR),
        ("absent(foo)", ExprType.VECTOR),
        ("max_over_time(foo[5m:1m])", ExprType.VECTOR),
        ("1", ExprType.SCALAR),
        ("-1", ExprType.SCALAR),
        ("time()", ExprType.SCALAR),
        ("(1 + time())", ExprType.SCALAR),
        ("-time()", ExprType.SCALAR),
        ("1 > bool 2", ExprType.SCALAR),
        ("scalar(foo)", ExprType.SCALAR),
        ("foo[5m]", ExprType.OTHER),
        ("foo[5m:1m]", ExprType.OTHER),
        ('"text"', ExprType.OTHER),
        ("foo(", ExprType.OTHER),
        ("", ExprType.OTHER),
        ("1) or (2", ExprType.OTHER),
        ("no_such_function(foo)", ExprType.OTHER),
        ("1 > 2", ExprType.OTHER),
    ],
)
def test_the_type_of_an_expression_is_known(expr: str, kind: ExprType) -> None:
    """label_replace takes vectors only, and what does not parse alone must not be put beside others."""
    assert expr_type(expr) is kind


@pytest.mark.parametrize("expr", ["foo # a comment", "foo\n# a comment", "sum by (a) (foo)\n"])
def test_a_comment_ends_with_its_expression(expr: str) -> None:
    """Else it would swallow the closing bracket and all that follows."""
    text = joined(((expr, ExprType.VECTOR), ("1 # one", ExprType.SCALAR), ("bar", ExprType.VECTOR)))
    understood = promql_parser.parse(text).prettify()
    assert [f'"firebreak_key", "{n}"' in understood for n in range(3)] == [True] * 3, understood


def reply(body: Any, status: int = 200) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status=status, headers={}, body=raw)


def matrix(*series: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}, **more}


@pytest.mark.parametrize(
    ("answer", "status", "blame"),
    [
        (reply({"status": "error", "errorType": "bad_data", "error": "no"}, 400), AnswerStatus.REFUSED, Blame.QUERY),
        (reply({"status": "error", "errorType": "execution", "error": "no"}, 422), AnswerStatus.REFUSED, Blame.QUERY),
        (reply({"status": "error", "errorType": "timeout"}, 503), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (reply({"status": "error", "errorType": "internal"}, 500), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (reply({"status": "error", "errorType": "canceled"}, 499), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (reply({"status": "error", "errorType": "unauthorized"}, 401), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply({"status": "error", "errorType": "too_many"}, 429), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"Service Unavailable", 503), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"404 page not found", 404), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"<html>Sign in</html>"), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"<html>bad request</html>", 400), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b""), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"\xff\xfe"), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply(b"[" * 100_000), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply([1]), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (reply({"status": "success"}), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (reply({"status": "success", "data": {"resultType": "vector", "result": []}}), AnswerStatus.UNAVAILABLE, None),
        (reply(matrix({"values": []})), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (reply({"status": "success", "data": {"resultType": "matrix", "result": [1]}}), AnswerStatus.UNAVAILABLE, None),
        (HttpFailure(kind=FailureKind.UNREACHABLE, detail="x"), AnswerStatus.UNAVAILABLE, Blame.SERVER),
        (HttpFailure(kind=FailureKind.LATE, detail="x"), AnswerStatus.UNAVAILABLE, Blame.QUERY),
        (HttpFailure(kind=FailureKind.TOO_LARGE, detail="x"), AnswerStatus.UNAVAILABLE, Blame.QUERY),
    ],
)
def test_every_fault_has_a_status_and_one_to_blame(
    answer: HttpReply | HttpFailure, status: AnswerStatus, blame: Blame | None
) -> None:
    """One bad query is asked again alone; a server that is down is not asked thirty times."""
    problem = read(answer, "Prometheus")
    assert isinstance(problem, Problem)
    assert problem.status is status
    assert problem.detail
    assert blame is None or problem.blame is blame


@pytest.mark.parametrize(
    ("more", "doubts"),
    [
        ({}, ""),
        ({"infos": ["PromQL info: metric might not be a counter"]}, ""),
        ({"warnings": []}, ""),
        ({"warnings": None}, ""),
        ({"isPartial": False}, ""),
        ({"warnings": ["store gone"]}, "store gone"),
        ({"isPartial": True}, "partial response"),
        ({"isPartial": True, "warnings": ["a", "b"]}, "partial response; a; b"),
    ],
)
def test_warnings_and_partial_answers_are_doubts_and_infos_are_not(more: dict[str, Any], doubts: str) -> None:
    """A Thanos store or a VictoriaMetrics node that is missing must not look like health."""
    found = read(reply(matrix(**more)), "Prometheus")
    assert isinstance(found, Matrix)
    assert found.doubts == doubts


GRID = Grid.pinned(END - ms(2000), END, ms(1000))


def of(*series: dict[str, Any], doubts: str = "") -> Any:
    found = read(reply(matrix(*series)), "Prometheus")
    assert isinstance(found, Matrix)
    return answer_of("k", found.series, doubts, GRID, {})


def test_values_stay_prometheus_own_text() -> None:
    """NaN and infinities are no JSON numbers, and a float would round what was said."""
    texts = ["NaN", "+Inf", "0.30000000000000004"]
    stamps = [GRID.start / 1000 + n for n in range(3)]
    answer = of({"metric": {}, "values": [list(p) for p in zip(stamps, texts, strict=True)]})
    assert answer.status is AnswerStatus.OK
    assert [p.value for p in answer.points] == texts
    assert answer.points[-1].at == END.replace(microsecond=123000)


def test_no_series_is_an_empty_answer() -> None:
    """What absence means is the condition's business."""
    answer = of()
    assert (answer.status, answer.points) == (AnswerStatus.OK, ())


def test_two_series_are_ambiguous() -> None:
    """Taking the first would be taking one by luck."""
    answer = of({"metric": {"a": "1"}, "values": []}, {"metric": {"a": "2"}, "values": []})
    assert answer.status is AnswerStatus.AMBIGUOUS
    assert "2 series" in answer.detail


def test_doubts_go_before_all_else() -> None:
    """A partial answer with two series is first of all partial."""
    answer = of({"metric": {"a": "1"}, "values": []}, {"metric": {"a": "2"}, "values": []}, doubts="partial")
    assert (answer.status, answer.detail) == (AnswerStatus.WARNED, "partial")


@pytest.mark.parametrize(
    "series",
    [
        {"metric": {}, "histograms": [[1, {"count": "1"}]]},
        {"metric": {}, "values": [[GRID.end / 1000, 1.5]]},
        {"metric": {}, "values": [["x", "1"]]},
        {"metric": {}, "values": [[GRID.end / 1000]]},
        {"metric": {}, "values": [7]},
    ],
)
def test_what_is_no_number_as_text_is_unavailable(series: dict[str, Any]) -> None:
    """A native histogram, a number instead of text, a broken pair."""
    assert of(series).status is AnswerStatus.UNAVAILABLE


@pytest.mark.parametrize("off", [-0.123, 0.5, 1.0, -3.0, float("inf"), float("-inf"), float("nan")])
def test_a_back_end_that_moves_the_steps_is_not_believed(off: float) -> None:
    """VictoriaMetrics and Thanos' front end align steps unless told not to: the last one is not the pinned one then."""
    answer = of({"metric": {}, "values": [[GRID.end / 1000 + off, "1"]]})
    assert answer.status is AnswerStatus.UNAVAILABLE
    assert "nocache=1" in answer.detail


@pytest.mark.parametrize("key", ["2", "-1", "", "x", "²", "1 "])
def test_a_series_without_our_key_spoils_the_split(key: str) -> None:
    """Then nobody can say whose it is, and each query is asked alone."""
    found = read(reply(matrix({"metric": {"firebreak_key": key}, "values": []})), "Prometheus")
    assert isinstance(found, Matrix)
    assert split(found, 2) is None


NOW = datetime(2026, 11, 21, 8, 0, 0, 900_000, tzinfo=UTC)


@pytest.mark.parametrize("said", ["Sat, 21 Nov 2026 08:00:06 GMT", "Sat, 21 Nov 2026 08:05:00 GMT"])
def test_a_clock_of_ours_that_is_behind_is_a_doubt_with_both_times(said: str) -> None:
    """Samples that are minutes old would look fresh: an age is told from our own time."""
    doubt = clock_doubt({"date": said}, NOW, "Prometheus at here")
    assert doubt is not None
    assert (doubt.status, doubt.blame, doubt.again) == (AnswerStatus.WARNED, Blame.SERVER, False)
    assert "2026-11-21 08:00:00 UTC" in doubt.detail
    assert f"Prometheus at here says 2026-11-21 {said[17:25]} UTC" in doubt.detail
    assert "set the clocks right" in doubt.detail


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"date": ""},
        {"date": "soon"},
        {"date": "2026-11-21T09:00:00Z"},
        {"date": "Sat, 21 Nov 99999 09:00:00 GMT"},
        {"date": "Sat, 99 Nov 2026 99:00:00 GMT"},
        {"date": "Sat, 21 Nov 2026 09:00:00 -9999999999"},
        {"date": "Sat, 21 Nov 2026 09:00:00"},
        {"date": "Fri, 31 Dec 9999 23:59:59 -1200"},
        {"date": "Sat, 21 Nov 2026 10:00:00 +0200"},
        {"date": "\u0661" * 9_000},
        {"date": "Sat, 21 Nov 2026 08:00:00 GMT"},
        {"date": "Sat, 21 Nov 2026 08:00:05 GMT"},
        {"date": "Sat, 21 Nov 2026 07:00:00 GMT"},
        {"date": "Sat, 21 Nov 2026 07:00:00 GMT", "age": "3600"},
    ],
)
def test_no_date_an_odd_one_and_an_earlier_one_are_no_doubt(headers: dict[str, str]) -> None:
    """Proxies leave it out, and a cache keeps an old one. A clock of ours that is ahead makes samples look older."""
    assert clock_doubt(headers, NOW, "Prometheus") is None

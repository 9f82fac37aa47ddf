"""MetricsPort over Prometheus: against the real one, and against answers that the real one rarely gives."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from firebreak.connectors.prometheus import Prometheus
from firebreak.domain.condition import AnswerStatus, MetricAnswer, MetricQuery
from firebreak.domain.ports import MetricsPort
from firebreak.servers.prometheus import PrometheusServer

if TYPE_CHECKING:
    from tests.connectors.conftest import Capture, Heard

STEP = timedelta(seconds=1)


async def ask(
    metrics: MetricsPort,
    *exprs: str,
    end: datetime | None = None,
    steps: int = 0,
    step: timedelta = STEP,
    timeout: timedelta = timedelta(seconds=10),
) -> list[MetricAnswer]:
    end = end or datetime.now(UTC)
    queries = [MetricQuery(key=f"key {n}", expr=expr) for n, expr in enumerate(exprs)]
    answers = await metrics.range_batch(queries, start=end - steps * step, end=end, step=step, timeout=timeout)
    assert [a.key for a in answers] == [q.key for q in queries], "one answer each, in order"
    return list(answers)


def last(answer: MetricAnswer) -> str:
    assert answer.status is AnswerStatus.OK, answer
    return answer.points[-1].value


@pytest.fixture
async def real(prometheus: PrometheusServer) -> AsyncIterator[Prometheus]:
    async with Prometheus(prometheus.url) as metrics:
        yield metrics


@pytest.mark.servers
async def test_one_batch_answers_each_query_at_the_pinned_time(real: Prometheus) -> None:
    """All kinds of expressions side by side, each with its own answer; the last point is at the pinned time itself."""
    end = datetime.now(UTC)
    answers = await ask(
        real,
        'shop_value{version="v1", service="pay"}',
        'shop_other{version="v1", service="pay"}',  # the same labels, another name
        "sum(shop_value)",
        "sum(shop_value) > bool 100",
        "sum(shop_value) > 100",
        "no_such_metric",
        "42",
        "1 > bool 2",
        "max_over_time(shop_nan[2s:1s])",
        'label_replace(vector(5), "firebreak_key", "0", "", "")',  # our own label in a query
        "sum(shop_value) # with a comment",
        end=end,
    )
    assert [last(a) for n, a in enumerate(answers) if n not in (4, 5)] == [
        "7",
        "70",
        "19",
        "0",
        "42",
        "0",
        "NaN",
        "5",
        "19",
    ]
    for number in (4, 5):
        assert (answers[number].status, answers[number].points) == (AnswerStatus.OK, ())
    pinned = end.replace(microsecond=end.microsecond // 1000 * 1000)
    assert {p.at for a in answers for p in a.points} == {pinned}


@pytest.mark.servers
async def test_time_itself_says_that_each_step_is_where_it_is_said_to_be(real: Prometheus) -> None:
    """The server's `time()` at each step equals the step that the answer claims, for an end with odd milliseconds and
    a step that does not divide the span."""
    end = datetime.now(UTC).replace(microsecond=777_999)
    (answer,) = await ask(real, "time()", end=end, steps=7, step=timedelta(milliseconds=333))
    assert len(answer.points) == 8
    for point in answer.points:
        assert abs(float(point.value) - point.at.timestamp()) < 1e-6
    assert answer.points[-1].at.microsecond == 777_000


@pytest.mark.servers
async def test_points_are_oldest_first_and_one_step_apart(real: Prometheus) -> None:
    """That a condition held is read from them."""
    answers = await ask(real, "vector(1)", "time()", steps=5)
    for answer in answers:
        times = [p.at for p in answer.points]
        assert times == sorted(times)
        assert {b - a for a, b in pairwise(times)} == {STEP}


@pytest.mark.servers
async def test_one_bad_query_does_not_blind_the_others(real: Prometheus) -> None:
    """A syntax error, a type error, one that fails when evaluated, a warning, a native histogram and an ambiguous
    one: each is told by itself, and the good ones are answered."""
    answers = await ask(
        real,
        "sum(shop_value)",
        "sum(shop_value",
        "shop_value[5m]",
        "shop_value + on(version) shop_other * 0 + on(service) shop_value",
        "quantile(2, shop_value)",
        "shop_latency",
        "shop_value",
        "sum(shop_other)",
        "1) or (1",
    )
    assert [a.status.name for a in answers] == [
        "OK",
        "REFUSED",
        "REFUSED",
        "REFUSED",
        "WARNED",
        "UNAVAILABLE",
        "AMBIGUOUS",
        "OK",
        "REFUSED",
    ]
    assert (last(answers[0]), last(answers[7])) == ("19", "70")
    assert "quantile" in answers[4].detail
    assert "histogram" in answers[5].detail
    assert "multiple matches" in answers[3].detail
    assert "parse error" in answers[1].detail


@pytest.mark.servers
async def test_nan_is_an_answer_as_text(real: Prometheus) -> None:
    """Nothing divided by nothing; what it means is judged elsewhere."""
    answers = await ask(real, "sum(shop_nan)", "0 * sum(shop_value) / 0")
    assert [last(a) for a in answers] == ["NaN", "NaN"]


@pytest.mark.servers
@pytest.mark.faults
async def test_a_prometheus_that_hangs_costs_the_time_limit(
    prometheus: PrometheusServer, real: Prometheus, halt: Any
) -> None:
    """SIGSTOP: the connection stands, nothing is answered; all queries are unavailable, and later it works again."""
    loop = asyncio.get_running_loop()
    assert last((await ask(real, "vector(1)"))[0]) == "1"
    await halt(prometheus.process)
    try:
        began = loop.time()
        answers = await ask(real, "vector(1)", "vector(2)", "nonsense(", timeout=timedelta(milliseconds=600))
        took = loop.time() - began
    finally:
        prometheus.process.signal(signal.SIGCONT)
    assert {a.status for a in answers} == {AnswerStatus.UNAVAILABLE}
    assert 0.5 < took < 3
    assert [last(a) for a in await ask(real, "vector(1)", "vector(2)")] == ["1", "2"]


# --- answers of our own making --------------------------------------------------------------------------------


def evaluated(heard: Heard, values: dict[str, str], **more: Any) -> dict[str, Any]:
    """A matrix with one point at the pinned end for each joined expression whose text holds a key of `values`."""
    query, end = heard.form["query"], float(heard.form["end"])
    parts = query.split(" or label_replace") if "firebreak_key" in query else [query]
    result = []
    for number, part in enumerate(parts):
        labels = {"firebreak_key": str(number)} if "firebreak_key" in query else {}
        result += [
            {"metric": labels, "values": [[end, value]]} for name, value in values.items() if f"{name}\n" in part + "\n"
        ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}


GOOD = {"good_a": "1", "good_b": "2", "bad": "3"}


def when_bad(capture: Capture, fault: Any) -> Callable[[Heard], Any]:
    """Everything is fine, but `fault` is the answer to whatever holds the expression `bad`."""
    return lambda heard: fault if "bad\n" in heard.form["query"] + "\n" else capture.said(200, evaluated(heard, GOOD))


async def test_a_batch_is_one_request_with_all_parameters(capture: Capture) -> None:
    """Form-encoded in the body, with the source's own parameters and headers on it."""
    capture.say(lambda heard: capture.said(200, evaluated(heard, GOOD)))
    headers = {"x-scope-orgid": "shop"}
    async with Prometheus(f"{capture.url}/prefix/", headers=headers, params={"partial_response": "false"}) as metrics:
        answers = await ask(metrics, "good_a", "good_b", "good_a")
    assert [last(a) for a in answers] == ["1", "2", "1"]
    (heard,) = capture.heard
    assert (heard.method, heard.path, heard.query) == ("POST", "/prefix/api/v1/query_range", {})
    assert heard.headers["content-type"] == "application/x-www-form-urlencoded"
    assert heard.headers["x-scope-orgid"] == "shop"
    assert heard.form["partial_response"] == "false"
    assert heard.form["query"].count("good_a") == 1, "the same expression is evaluated once"
    assert 0 < float(heard.form["timeout"]) <= 10


async def test_no_queries_ask_nothing(capture: Capture) -> None:
    """An empty batch is answered without a word."""
    async with Prometheus(capture.url) as metrics:
        assert await ask(metrics) == []
    assert capture.heard == []


async def test_a_single_query_is_asked_as_it_is_written(capture: Capture) -> None:
    """So that an error speaks of what the author wrote."""
    capture.say(lambda heard: capture.said(200, evaluated(heard, GOOD)))
    async with Prometheus(capture.url) as metrics:
        await ask(metrics, "good_a")
    assert capture.heard[0].form["query"] == "good_a"


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        ((400, {"status": "error", "errorType": "bad_data", "error": "why"}), AnswerStatus.REFUSED, "why"),
        ((422, {"status": "error", "errorType": "execution", "error": "why"}), AnswerStatus.REFUSED, "why"),
        ((503, {"status": "error", "errorType": "timeout", "error": "why"}), AnswerStatus.UNAVAILABLE, "why"),
        ((500, {"status": "error", "errorType": "internal", "error": "why"}), AnswerStatus.UNAVAILABLE, "why"),
        ((200, {"status": "success", "data": {"resultType": "string"}}), AnswerStatus.UNAVAILABLE, "matrix"),
        ((200, b'{"status": "success", "data": "' + b"x" * 9_000_000 + b'"}'), AnswerStatus.UNAVAILABLE, "bytes"),
    ],
)
async def test_a_fault_of_one_query_is_isolated(
    capture: Capture, fault: tuple[int, Any], status: AnswerStatus, word: str
) -> None:
    """The batch fails because of `bad`; asked alone, only `bad` does. Nothing is asked more than twice."""
    capture.say(when_bad(capture, capture.said(*fault)))
    async with Prometheus(capture.url) as metrics:
        first, bad, second = await ask(metrics, "good_a", "bad", "good_b")
    assert (last(first), last(second)) == ("1", "2")
    assert bad.status is status
    assert word in bad.detail
    assert len(capture.heard) == 4


@pytest.mark.parametrize("mark", [{"warnings": ["a store is missing"]}, {"isPartial": True}])
async def test_a_warning_is_pinned_to_its_query(capture: Capture, mark: dict[str, Any]) -> None:
    """A batch's warning names no query, so each is asked alone, and only the one that is warned about is distrusted."""

    def answer(heard: Heard) -> Any:
        more = mark if "bad\n" in heard.form["query"] + "\n" else {}
        return capture.said(200, evaluated(heard, GOOD, **more))

    capture.say(answer)
    async with Prometheus(capture.url) as metrics:
        first, bad = await ask(metrics, "good_a", "bad")
    assert last(first) == "1"
    assert bad.status is AnswerStatus.WARNED
    assert bad.points == ()


async def test_a_query_that_takes_too_long_leaves_time_for_the_others(capture: Capture) -> None:
    """The batch gets a share of the limit, so that the rest can still be asked one by one."""
    capture.say(when_bad(capture, capture.said(hang=True)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with Prometheus(capture.url) as metrics:
        first, bad, second = await ask(metrics, "good_a", "bad", "good_b", timeout=timedelta(milliseconds=800))
    assert (last(first), last(second)) == ("1", "2")
    assert bad.status is AnswerStatus.UNAVAILABLE
    assert loop.time() - began < 3


@pytest.mark.parametrize(
    ("answers", "requests", "status"),
    [
        ([(503, b"Service Unavailable"), None], 2, AnswerStatus.OK),
        ([(503, b"Service Unavailable")], 2, AnswerStatus.UNAVAILABLE),
        ([(502, b"<html>")], 2, AnswerStatus.UNAVAILABLE),
        (["cut", None], 2, AnswerStatus.OK),
        (["cut"], 2, AnswerStatus.UNAVAILABLE),
        ([(200, b"<html>Sign in</html>")], 1, AnswerStatus.UNAVAILABLE),
        ([(401, b"no")], 1, AnswerStatus.UNAVAILABLE),
        ([(302, b"")], 1, AnswerStatus.UNAVAILABLE),
        ([(404, b"404 page not found")], 1, AnswerStatus.UNAVAILABLE),
        ([(429, {"status": "error", "errorType": "too_many", "error": "x"})], 1, AnswerStatus.UNAVAILABLE),
    ],
)
async def test_a_server_that_is_down_is_asked_again_once_at_most(
    capture: Capture, answers: list[Any], requests: int, status: AnswerStatus
) -> None:
    """Asking each query alone would only add load; what cannot pass is not repeated at all."""

    def said(answer: Any) -> Any:
        if answer is None:
            return lambda heard: capture.said(200, evaluated(heard, GOOD))
        return capture.said(cut=True) if answer == "cut" else capture.said(*answer)

    capture.say(*(said(answer) for answer in answers))
    async with Prometheus(capture.url) as metrics:
        found = await ask(metrics, "good_a", "good_b")
    assert {a.status for a in found} == {status}
    assert len(capture.heard) == requests


@pytest.mark.parametrize("exprs", [("good_a", "good_b"), ("good_a",)])
async def test_answers_of_a_server_whose_clock_is_ahead_are_all_in_doubt(
    capture: Capture, exprs: tuple[str, ...]
) -> None:
    """Asked once: it is no query's fault. Within seconds they are taken as they are."""
    now = datetime(2026, 11, 21, 8, tzinfo=UTC)
    for date, status in (("08:03:00", AnswerStatus.WARNED), ("08:00:04", AnswerStatus.OK)):
        headers = {"Date": f"Sat, 21 Nov 2026 {date} GMT"}
        capture.heard.clear()
        capture.say(lambda heard, said=headers: capture.said(200, evaluated(heard, GOOD), headers=said))
        async with Prometheus(capture.url, now=lambda: now) as metrics:
            answers = await ask(metrics, *exprs, end=now)
        assert {answer.status for answer in answers} == {status}
        assert len(capture.heard) == 1


@pytest.mark.parametrize("code", [400, 422])
async def test_a_refused_query_is_never_repeated(capture: Capture, code: int) -> None:
    """It can only be refused again."""
    capture.say(capture.said(code, {"status": "error", "errorType": "bad_data", "error": "x"}))
    async with Prometheus(capture.url) as metrics:
        (answer,) = await ask(metrics, "good_a")
    assert answer.status is AnswerStatus.REFUSED
    assert len(capture.heard) == 1


async def test_an_unreachable_server_is_an_answer(unused_tcp_port: int) -> None:
    """Never an exception: the verdict says inconclusive and why."""
    async with Prometheus(f"http://127.0.0.1:{unused_tcp_port}") as metrics:
        answers = await ask(metrics, "good_a", "good_b", "nonsense(")
    assert {a.status for a in answers} == {AnswerStatus.UNAVAILABLE}
    assert all("cannot be reached" in a.detail for a in answers)


async def test_no_time_left_is_an_answer(capture: Capture) -> None:
    """A limit of nothing asks nothing."""
    async with Prometheus(capture.url) as metrics:
        answers = await ask(metrics, "good_a", "good_b", timeout=timedelta(0))
    assert {a.status for a in answers} == {AnswerStatus.UNAVAILABLE}
    assert capture.heard == []


async def test_few_are_asked_alone_at_once(capture: Capture) -> None:
    """A Prometheus in trouble evaluates twenty queries at once by default: ours are not to fill it."""
    capture.delay = 0.01
    capture.say(capture.said(400, {"status": "error", "errorType": "bad_data", "error": "x"}))
    async with Prometheus(capture.url, parallel=3) as metrics:
        await ask(metrics, *(f"good_{n}" for n in range(30)))
    assert len(capture.heard) == 31
    assert capture.most_at_once == 3


async def test_a_crowd_that_is_late_does_not_ask_again_one_by_one(capture: Capture) -> None:
    """Late while many look at once means that Prometheus is busy: asking each query alone would finish it off."""
    capture.say(capture.said(hang=True))
    async with Prometheus(capture.url, parallel=2) as metrics:
        looks = [ask(metrics, "good_a", "good_b", timeout=timedelta(milliseconds=400)) for _ in range(4)]
        found = await asyncio.gather(*looks)
    assert {answer.status for answers in found for answer in answers} == {AnswerStatus.UNAVAILABLE}
    joined = [heard for heard in capture.heard if " or " in heard.form["query"]]
    assert len(joined) == 4
    assert len(capture.heard) - len(joined) <= 2 * 2, "only those that are few may still ask alone"

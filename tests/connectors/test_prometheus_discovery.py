"""Metric and label discovery, against a server of ours that answers what Prometheus and its look-alikes answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import typer
from typer.testing import CliRunner

from firebreak.cli import lint
from firebreak.connectors.prometheus_discovery import PrometheusDiscovery
from firebreak.documents.conditions import STANDARD_BINDINGS, Rendering
from firebreak.domain.errors import ContractError, FirebreakError, PermanentError, PermissionDenied, TransientError
from firebreak.locator import runbooks_dir
from firebreak.plans.parts import queries_of
from firebreak.plans.rules import sample_rendering
from firebreak.plans.runbook import load_runbook
from firebreak.servers.prometheus import PrometheusServer
from firebreak.triage.tree import load_severity

SHIPPED = sorted(path for folder in ("catalog", "severity") for path in (runbooks_dir() / folder).glob("*.yaml"))
Answer = tuple[int, str]


class Backend:
    """Answers every request with `answer`; keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = (200, '{"status": "success", "data": []}')
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.release = threading.Event()
        self.hang = False
        self.answered = 0
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                backend.asked.append((parts.path, parse_qs(parts.query), dict(self.headers)))
                if backend.hang:
                    backend.release.wait()
                backend.answered += 1
                status, text = backend.answer
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who has given up is gone
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.stop()


@pytest.fixture
def discovery(backend: Backend) -> Iterator[PrometheusDiscovery]:
    with PrometheusDiscovery(backend.url, timeout=timedelta(seconds=5)) as made:
        yield made


def success(data: object, **more: object) -> Answer:
    return 200, json.dumps({"status": "success", "data": data, **more})


def test_metric_names_are_what_the_back_end_lists(backend: Backend, discovery: PrometheusDiscovery) -> None:
    """One request for the values of the name label."""
    backend.answer = success(["up", "http_requests_total"])
    assert discovery.metric_names() == {"up", "http_requests_total"}
    assert [path for path, _, _ in backend.asked] == ["/api/v1/label/__name__/values"]


def test_label_names_are_asked_for_one_metric_and_quoted(backend: Backend, discovery: PrometheusDiscovery) -> None:
    """A metric's name reaches the back end as a quoted string, never as PromQL text."""
    backend.answer = success(["__name__", "service"])
    assert discovery.label_names('a"b\\c') == {"__name__", "service"}
    ((path, query, _),) = backend.asked
    assert path == "/api/v1/labels"
    assert query == {"match[]": ['{__name__="a\\"b\\\\c"}']}


def test_prefix_headers_and_parameters_go_with_every_request(backend: Backend) -> None:
    """Mimir's prefix and tenant, Thanos' partial_response: as settings say."""
    backend.answer = success(["x"])
    with PrometheusDiscovery(
        f"{backend.url}/prometheus/", headers={"X-Scope-OrgID": "shop"}, params={"partial_response": "false"}
    ) as discovery:
        discovery.metric_names()
        discovery.label_names("x")
    for path, query, headers in backend.asked:
        assert path.startswith("/prometheus/api/v1/")
        assert query["partial_response"] == ["false"]
        assert headers["X-Scope-OrgID"] == "shop"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((503, "Service Unavailable"), TransientError),
        ((429, "slow down"), TransientError),
        ((500, '{"status": "error"}'), TransientError),
        ((404, "404 page not found"), PermanentError),
        ((400, '{"status": "error", "errorType": "bad_data"}'), PermanentError),
        ((401, "who are you"), PermissionDenied),
        ((403, "no"), PermissionDenied),
        ((200, "<html>a login page</html>"), PermanentError),
        ((200, "[1, 2]"), PermanentError),
        ((200, '{"status": "success"}'), PermanentError),
        ((200, '{"status": "success", "data": null}'), PermanentError),
        ((200, '{"status": "success", "data": [1]}'), PermanentError),
    ],
)
def test_every_wrong_answer_is_an_error_of_ours_after_one_request(
    backend: Backend, discovery: PrometheusDiscovery, answer: Answer, error: type[FirebreakError]
) -> None:
    """No vendor error leaks, nothing is asked again, and the sentence says what to do."""
    backend.answer = answer
    for ask in (discovery.metric_names, lambda: discovery.label_names("up"), lambda: discovery.refusal("up")):
        backend.asked.clear()
        with pytest.raises(error) as caught:
            ask()
        assert type(caught.value) is error
        assert caught.value.next_step()
        assert "tried again" not in caught.value.next_step(), "the linter does not"
        assert len(backend.asked) == 1


def test_a_partial_answer_is_no_answer(backend: Backend, discovery: PrometheusDiscovery) -> None:
    """A store that is missing would make its metrics look as if they did not exist."""
    backend.answer = success(["up"], warnings=["store 10.0.0.7 is unreachable"])
    with pytest.raises(TransientError, match=r"store 10\.0\.0\.7"):
        discovery.metric_names()


def test_warnings_of_one_answer_do_not_taint_the_next(backend: Backend, discovery: PrometheusDiscovery) -> None:
    """Each answer is judged by itself."""
    backend.answer = success(["up"], warnings=["half"])
    with pytest.raises(TransientError):
        discovery.metric_names()
    backend.answer = success(["up"])
    assert discovery.metric_names() == {"up"}


@pytest.mark.timeout(30)  # a limit for the hang itself, that of the client is 0.2 s
def test_a_back_end_that_hangs_is_given_up(backend: Backend) -> None:
    """While it still says nothing, after one question; the package itself would wait for ever."""
    backend.hang = True
    with (
        PrometheusDiscovery(backend.url, timeout=timedelta(milliseconds=200)) as discovery,
        pytest.raises(TransientError, match="cannot be asked"),
    ):
        discovery.metric_names()
    assert backend.answered == 0
    assert len(backend.asked) == 1


def test_nobody_listening_is_a_transient_error() -> None:
    """A refused connection names the address, not a vendor's traceback."""
    backend = Backend()
    backend.stop()
    with PrometheusDiscovery(backend.url) as discovery, pytest.raises(TransientError, match=r"127\.0\.0\.1"):
        discovery.metric_names()


@pytest.mark.parametrize("url", ["", "localhost:9090", "file:///etc/passwd", "http://"])
def test_what_is_no_http_url_is_refused_before_anything_is_sent(url: str) -> None:
    """A wrong URL is bad input at an edge."""
    with pytest.raises(ContractError, match="URL"):
        PrometheusDiscovery(url)


def test_a_password_in_the_url_is_never_shown() -> None:
    """Error texts name the server without its credentials."""
    backend = Backend()
    backend.stop()
    url = backend.url.replace("http://", "http://me:hunter2@") + "?token=hunter3"
    asks: list[Callable[[PrometheusDiscovery], object]] = [lambda d: d.metric_names(), lambda d: d.label_names("up")]
    for ask in asks:
        with PrometheusDiscovery(url) as discovery, pytest.raises(TransientError) as caught:
            ask(discovery)
        assert "hunter" not in str(caught.value)


# --- the real server ------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_real_prometheus_tells_its_names(prometheus: PrometheusServer) -> None:
    """Metrics that were scraped, and the labels of each; a metric that is not there has none."""
    with PrometheusDiscovery(prometheus.url) as discovery:
        assert {"shop_value", "shop_other", "shop_nan"} <= discovery.metric_names()
        assert {"__name__", "service", "version"} <= discovery.label_names("shop_value")
        assert "service" not in discovery.label_names("shop_nan")
        assert discovery.label_names("shop_nothing") == frozenset()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("sum(shop_value)", ""),
        ("shop_value{pod=''} and up", ""),
        ("sum(limitk(1, shop_value))", "must be enabled"),
        ('label_replace(shop_value, "a", "$1", "b", "(")', "invalid regular expression"),
        ("shop_value{", "parse error"),
    ],
)
def test_a_real_prometheus_says_which_queries_it_does_not_take(
    prometheus: PrometheusServer, query: str, why: str
) -> None:
    """In its own words: experimental functions that it was not started with, and what only fails when it runs."""
    with PrometheusDiscovery(prometheus.url) as discovery:
        assert why in (found := discovery.refusal(query))
        assert bool(found) is bool(why)


@pytest.mark.servers
def test_the_linter_names_what_a_real_prometheus_does_not_take(prometheus: PrometheusServer, tmp_path: Path) -> None:
    """At the query's place: our parser knows each function, and that server was not started with it."""
    path = tmp_path / "r.yaml"
    path.write_text(
        """{kind: runbook, name: r, summary: s, match: {severity: P1}, durations: {stale_after: 30s}, conditions: {
  a: {dimension: health, query: 'sum(limitk(1, shop_value))', op: '==', threshold: 1, inputs: ['shop_value # all']}},
hold: 1s, recovery: [a], tiers: [{name: page, steps: [{id: call, action: page}]}]}"""
    )
    app = typer.Typer()
    lint.register(app)
    result = CliRunner().invoke(app, [str(path), "--prometheus", prometheus.url])
    told, count = result.output.splitlines()
    assert told.startswith(f"{path}:2:33: it is not taken there: ")
    assert "limitk" in told
    assert count == "1 document, 1 problem"
    assert result.exit_code == 1


@pytest.mark.servers
def test_the_linter_names_what_a_real_prometheus_does_not_have(prometheus: PrometheusServer, tmp_path: Path) -> None:
    """`firebreak lint --prometheus URL`: the missing metric and the missing label, each at its place, nothing else."""
    path = tmp_path / "r.yaml"
    path.write_text(
        """{kind: runbook, name: r, summary: s, match: {severity: P1}, durations: {stale_after: 30s}, conditions: {
  a: {dimension: health, query: 'sum(shop_value{service=$service})', op: '==', threshold: 1, inputs: [shop_value]},
  b: {dimension: health, query: 'sum(shop_valeu)', op: '==', threshold: 1, inputs: ['shop_value{pod="x"}']}},
hold: 1s, recovery: [a, b], tiers: [{name: page, steps: [{id: call, action: page}]}]}"""
    )
    app = typer.Typer()
    lint.register(app)
    result = CliRunner().invoke(app, [str(path), "--prometheus", prometheus.url])
    assert result.output.splitlines() == [
        f"{path}:3:38: metric 'shop_valeu' does not exist there; did you mean 'shop_value'?",
        f"{path}:3:97: shop_value has no label 'pod' there",
        "1 document, 2 problems",
    ]
    assert result.exit_code == 1


TREE = """\
kind: severity
name: s
params: [zone]
durations: {window: 1m, step: 1s, stale_after: 30s, recheck: 1s, quiet: 1s, watch: 1m, doubt: 1s}
thresholds: {least: 1}
conditions:
  slow:
    dimension: latency
    query: sum(shop_value{service=$service, version=$zone} >= $least)
    op: ">"
    threshold: $least
    inputs: [shop_value]
  failing:
    dimension: errors
    query: sum(rate(shop_valeu[$window]))
    op: ">"
    threshold: 1
    inputs: ['shop_value{pod="x"}']
tree: {any: [slow, failing]}
may_act: {dimensions: 2}
"""


@pytest.mark.servers
def test_the_linter_asks_a_real_prometheus_about_a_severity_tree_too(
    prometheus: PrometheusServer, tmp_path: Path
) -> None:
    """The same of its conditions, the standing names and its own parameters filled in."""
    path = tmp_path / "s.yaml"
    path.write_text(TREE)
    app = typer.Typer()
    lint.register(app)
    result = CliRunner().invoke(app, [str(path), "--prometheus", prometheus.url])
    assert result.output.splitlines() == [
        f"{path}:15:21: metric 'shop_valeu' does not exist there; did you mean 'shop_value'?",
        f"{path}:18:26: shop_value has no label 'pod' there",
        "1 document, 2 problems",
    ]
    assert result.exit_code == 1


def _asked(path: Path) -> Iterator[tuple[str, str]]:
    """Each condition's name and query of a shipped document, names filled in as the linter does."""
    if path.parent.name == "catalog":
        model = load_runbook(path.read_bytes(), path.name).model
        conditions, rendering = model.conditions, sample_rendering(model)
    else:
        tree = load_severity(path.read_bytes(), path.name)
        bindings = {name: f"${name}" for name in (*STANDARD_BINDINGS, *tree.params)}
        rendering = Rendering(durations=tree.durations, thresholds=tree.thresholds, bindings=bindings)
        conditions = dict(tree.conditions)
    for name, block in conditions.items():
        for _, template in queries_of(block):
            yield name, rendering.query(template)


@pytest.mark.servers
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_query_of_the_shipped_documents_is_promql_to_a_real_prometheus(
    path: Path, prometheus: PrometheusServer
) -> None:
    """The parser that the linter uses is another program: the server itself has the last word."""
    asked = list(_asked(path))
    assert len(asked) > 5
    for name, query in asked:
        answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query}, timeout=10)
        assert answer.status_code == 200, (name, query, answer.text)
        assert answer.json()["data"]["resultType"] in ("vector", "scalar"), name

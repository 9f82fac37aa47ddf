"""What a query reads and a Prometheus does not have."""

from __future__ import annotations

import pytest

from firebreak.domain.errors import Problem, TransientError
from firebreak.plans.existence import missing
from firebreak.plans.rules import sample_rendering
from firebreak.plans.runbook import load_runbook


class Known:
    """A Prometheus with two metrics."""

    def __init__(self, **series: set[str]) -> None:
        self.series = {name: frozenset(labels | {"__name__"}) for name, labels in series.items()}

    def metric_names(self) -> frozenset[str]:
        return frozenset(self.series)

    def label_names(self, metric: str) -> frozenset[str]:
        return self.series[metric]

    def refusal(self, query: str) -> str:
        if "limitk(" in query:
            raise TransientError("503: query timed out")
        return "unknown function" if "info(" in query else ""


KNOWN = Known(errors_total={"service", "code"}, probe_success={"service", "version"})


def found(text: str, known: Known = KNOWN) -> tuple[Problem, ...]:
    runbook = load_runbook(text.encode(), "r.yaml")
    return missing(runbook.document, runbook.model.conditions, sample_rendering(runbook.model), known)


def test_what_exists_is_no_problem(text: str) -> None:
    """Both metrics and their labels are there."""
    assert found(text) == ()


def test_a_missing_metric_is_named_where_it_is_written(text: str) -> None:
    """In the query and in the inputs, with line and column of the name, and what may have been meant."""
    odd = text.replace("errors_total", "error_total")
    problems = found(odd)
    assert len(problems) == 2
    for problem in problems:
        assert "metric 'error_total' does not exist there; did you mean 'errors_total'?" in problem.message
        line = odd.splitlines()[problem.line - 1]
        assert line[problem.column - 1 :].startswith("error_total")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("min(probe_success{servce=$service})", "probe_success has no label 'servce' there; did you mean 'service'?"),
        ('min(probe_success{pod!=""})', "probe_success has no label 'pod'"),
        ("min(min by (verson) (probe_success))", "no metric of this query has the label 'verson'"),
        ('min(probe_success) + min({__name__="nothing"})', "metric 'nothing' does not exist"),
        ("min(probe_success offset 7d) - min(gone)", "metric 'gone' does not exist"),
    ],
)
def test_a_missing_label_or_metric_is_named(query: str, sentence: str, text: str) -> None:
    """Matchers, groupings, names written as matchers, and what is read of the past."""
    problems = found(text.replace("query: min(probe_success{service=$service})", f"query: '{query}'"))
    assert [p for p in problems if sentence in p.message], problems


def test_a_query_that_is_not_taken_is_named(text: str) -> None:
    """The linter's parser is another program: it takes what this Prometheus was not started with."""
    (problem,) = found(text.replace("query: min(probe_success{service=$service})", "query: min(info(probe_success))"))
    assert problem.message == "it is not taken there: unknown function"


def test_a_query_that_gets_no_answer_hides_nothing_else(text: str) -> None:
    """It is named, and so is the metric that another one lacks."""
    odd = text.replace("query: min(probe_success{service=$service})", "query: min(limitk(1, probe_success))")
    messages = [problem.message for problem in found(odd.replace("errors_total", "gone"))]
    assert "it could not be tried there: 503: query timed out" in messages
    assert sum("'gone'" in message for message in messages) == 2


@pytest.mark.parametrize("query", ['min(probe_success{pod=""})', 'min({__name__=~"probe_.*", pod="x"})', "vector(1)"])
def test_what_cannot_be_known_is_not_complained_about(query: str, text: str) -> None:
    """A label that must be absent, a pattern of metrics, and a query that reads nothing."""
    assert found(text.replace("query: min(probe_success{service=$service})", f"query: '{query}'")) == ()

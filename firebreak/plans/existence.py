"""Whether a real Prometheus takes a document's queries and has the metrics and labels that they read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Protocol

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.conditions import Rendering
from firebreak.documents.promql import grouping_labels, selectors
from firebreak.documents.yaml_file import Finding, YamlDocument
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.errors import Problem, TransientError
from firebreak.plans.parts import queries_of


class KnownSeries(Protocol):
    """What one Prometheus has."""

    def metric_names(self) -> frozenset[str]: ...

    def label_names(self, metric: str) -> frozenset[str]: ...

    def refusal(self, query: str) -> str: ...


def missing(
    document: YamlDocument, conditions: Mapping[str, ConditionBlock], rendering: Rendering, known: KnownSeries
) -> tuple[Problem, ...]:
    """Every query that `known` does not take, and every metric, matcher label and grouping label that it does not have,
    at its place in the file.

    A label that the query asks to be absent (`x=""`) may be missing. Raises what `known` raises."""
    findings: list[Finding] = []
    for name, block in conditions.items():
        for path, template in queries_of(block):
            findings += _missing(("conditions", name, *path), rendering.query(template), known)
    return document.problems(findings)


def _missing(path: NodePath, query: str, known: KnownSeries) -> Iterator[Finding]:
    metrics = known.metric_names()
    try:  # of an input only the number: it may have a hundred thousand series
        why = known.refusal(f"count({query}\n)" if path[2] == "inputs" else query)
    except TransientError as error:  # too slow, or too large: it would be at night, too, and hides nothing else
        yield Finding(path, f"it could not be tried there: {error}")
    else:
        if why:
            yield Finding(path, f"it is not taken there: {why}")
    carried: set[str] = set()
    for selector in selectors(query):
        metric = selector.named
        if not metric:
            continue
        if metric not in metrics:
            yield Finding(path, f"metric {metric!r} does not exist there{_near(metric, metrics)}", token=metric)
            continue
        labels = known.label_names(metric)
        carried |= labels
        for matcher in selector.matchers:
            absent_is_meant = matcher.op == "=" and not matcher.value
            if matcher.name not in labels and not absent_is_meant:
                near = _near(matcher.name, labels)
                yield Finding(path, f"{metric} has no label {matcher.name!r} there{near}", token=matcher.name)
    for label in grouping_labels(query):
        if carried and label not in carried:
            yield Finding(
                path, f"no metric of this query has the label {label!r} there{_near(label, carried)}", token=label
            )


def _near(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""

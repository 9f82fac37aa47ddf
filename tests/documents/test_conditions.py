"""The condition block: what it may say, and what it becomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.conditions import (
    KnownNames,
    Rendering,
    check_condition,
    render_condition,
    too_many_points,
)
from firebreak.documents.yaml_file import findings_of, load_yaml
from firebreak.domain.condition import Absence, Comparison, Condition, ConditionKind, Dimension, VolumeFloor
from firebreak.domain.errors import RunbookInvalid

KNOWN = KnownNames(
    durations=frozenset({"window", "held", "stale_after"}), thresholds=frozenset({"limit", "calls", "heavy"})
)
RENDERING = Rendering(
    durations={
        "window": timedelta(minutes=2),
        "held": timedelta(seconds=90),
        "stale_after": timedelta(seconds=30),
        "step": timedelta(seconds=5),
    },
    thresholds={"limit": 0.05, "calls": 20.0, "heavy": 0.7},
    bindings={"service": 'p"ay'},
    baseline=" @ 17",
)
METRIC: dict[str, Any] = {
    "title": "share of calls that fail",
    "dimension": "errors",
    "query": "sum(rate(a{service=$service}[$window])) / sum(rate(b[$window]$baseline))",
    "op": ">=",
    "threshold": "$limit",
    "unit": "ratio",
    "for": "$held",
    "inputs": ["b{service=$service}"],
    "volume": {"query": "sum(increase(b[$window]))", "at_least": "$calls"},
    "absent": "zero",
}
FLOW: dict[str, Any] = {"weight": "$heavy", "success": "sum(a) / sum(b)", "volume_ratio": "sum(b) / sum(c$baseline)"}
SCORE: dict[str, Any] = {"dimension": "business", "op": "<=", "threshold": 70, "score": {"flows": {"pay": FLOW}}}
LABEL: dict[str, Any] = {"dimension": "business", "label": "business_impact", "in": ["blocked"]}


def test_a_metric_block_becomes_a_condition_with_everything_filled_in() -> None:
    """Durations, thresholds, quoted bindings and the baseline; every field of the condition."""
    assert render_condition("errors", ConditionBlock.model_validate(METRIC), RENDERING) == Condition(
        name="errors",
        kind=ConditionKind.METRIC,
        dimension=Dimension.ERRORS,
        title="share of calls that fail",
        unit="ratio",
        query='sum(rate(a{service="p\\"ay"}[2m])) / sum(rate(b[2m] @ 17))',
        comparison=Comparison.GE,
        threshold=0.05,
        held_for=timedelta(seconds=90),
        inputs=('b{service="p\\"ay"}',),
        stale_after=timedelta(seconds=30),
        own=True,  # it asks about $service
        sample_step=timedelta(seconds=5),
        volume=VolumeFloor(query="sum(increase(b[2m]))", at_least=20),
        absence=Absence.ZERO,
    )


def test_literals_and_defaults_are_taken_as_they_are() -> None:
    """A number, a duration, no `for`; inconclusive where nothing is said about absence."""
    block = {k: v for k, v in METRIC.items() if k not in ("for", "absent", "volume")} | {"threshold": 3, "op": "<"}
    condition = render_condition("x", ConditionBlock.model_validate(block), RENDERING)
    assert (condition.threshold, condition.held_for, condition.absence) == (3.0, timedelta(0), Absence.INCONCLUSIVE)


def test_a_comment_behind_an_input_does_not_swallow_what_is_put_around_it() -> None:
    """The newest sample of an input is asked for in brackets: the linter had taken it, Prometheus would not."""
    block = ConditionBlock.model_validate({**METRIC, "inputs": ['up{path="#"} # of all']})
    assert render_condition("errors", block, RENDERING).inputs == ('up{path="#"}',)


def test_a_score_asks_for_the_age_of_what_it_reads_now() -> None:
    """Its unshifted selectors are its inputs where it names none: the baseline's are old on purpose."""
    condition = render_condition("health", ConditionBlock.model_validate(SCORE), RENDERING)
    assert condition.kind is ConditionKind.SCORE
    assert condition.inputs == ("a", "b")
    assert condition.flows[0].weight == 0.7
    assert condition.flows[0].volume_ratio_query == "sum(b) / sum(c @ 17)"


def test_a_label_block_needs_no_numbers() -> None:
    """Label, values and dimension are all."""
    condition = render_condition("blocked", ConditionBlock.model_validate(LABEL), RENDERING)
    assert (condition.kind, condition.label, condition.label_values) == (
        ConditionKind.LABEL,
        "business_impact",
        ("blocked",),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "x"}, "exactly one of"),
        ({"query": None}, "exactly one of"),
        ({"inputs": []}, "at least one selector"),
        ({"op": None}, "`op` and `threshold`"),
        ({"threshold": None}, "`op` and `threshold`"),
        ({"threshold": "0.05"}, "neither a number nor"),
        ({"threshold": True}, "neither a number nor"),
        ({"for": "5x"}, "not a duration"),
        ({"for": 5}, "not a duration"),
        ({"op": "=>"}, "'>', '>='"),
        ({"dimension": "speed"}, "'latency', 'errors'"),
        ({"in": ["x"]}, "belongs to label"),
        ({"absent": "ok"}, "'zero'"),
        ({"thresold": 1}, "unknown key"),
    ],
)
def test_a_block_that_means_nothing_is_refused(change: dict[str, Any], words: str) -> None:
    """Shape mistakes are found before any name is looked up."""
    data = METRIC | change
    with pytest.raises(ValidationError) as caught:
        ConditionBlock.model_validate(data)
    assert words in " ".join(finding.message for finding in findings_of(caught.value, data))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (LABEL | {"op": ">"}, "a label condition has no op"),
        (LABEL | {"in": []}, "at least one value"),
        (SCORE | {"volume": METRIC["volume"]}, "a score has no `volume`"),
        (SCORE | {"score": {"flows": {}}}, "at least 1"),
    ],
)
def test_a_kind_has_only_its_own_keys(block: dict[str, Any], words: str) -> None:
    """A key that would be ignored is a mistake."""
    with pytest.raises(ValidationError, match=words):
        ConditionBlock.model_validate(block)


@pytest.mark.parametrize(
    ("change", "path", "token"),
    [
        ({"query": "a{s=$srvice}"}, ("query",), "$srvice"),
        ({"query": "sum(a"}, ("query",), ""),
        ({"threshold": "$limmit"}, ("threshold",), "$limmit"),
        ({"for": "$hold"}, ("for",), "$hold"),
        ({"stale_after": "$old"}, ("stale_after",), "$old"),
        ({"inputs": ["a", "sum(a)"]}, ("inputs", 1), ""),
        ({"volume": {"query": "a[5m]", "at_least": 1}}, ("volume", "query"), ""),
        ({"volume": {"query": "a", "at_least": "$cals"}}, ("volume", "at_least"), "$cals"),
    ],
)
def test_unknown_names_and_bad_queries_are_found_where_they_stand(
    change: dict[str, Any], path: tuple[str | int, ...], token: str
) -> None:
    """One finding, with its path and the word that is meant."""
    (found,) = check_condition("c", ConditionBlock.model_validate(METRIC | change), KNOWN)
    assert (found.path, found.token) == (path, token)
    assert found.under(("conditions", "c")).path == ("conditions", "c", *path)


@pytest.mark.parametrize(
    ("flow", "key"),
    [
        ({"weight": -1}, "weight"),
        ({"volume_weight": 1.5}, "volume_weight"),
        ({"weight": "$havy"}, "weight"),
        ({"success": "sum("}, "success"),
    ],
)
def test_a_score_is_checked_flow_by_flow(flow: dict[str, Any], key: str) -> None:
    """Weights out of range and bad queries are found at their flow."""
    block = SCORE | {"score": {"flows": {"pay": FLOW, "order": FLOW | flow}}}
    (found,) = check_condition("c", ConditionBlock.model_validate(block), KNOWN)
    assert found.path == ("score", "flows", "order", key)


@pytest.mark.parametrize(
    ("held_for", "step", "found"), [(90, 0.01, False), (90, 0.005, True), (172_800, 15, True), (86_400, 15, False)]
)
def test_a_range_query_has_so_many_points(held_for: float, step: float, found: bool) -> None:
    """Prometheus would refuse more with the whole batch that they are in, and every alert would page."""
    assert bool(too_many_points(timedelta(seconds=held_for), timedelta(seconds=step))) is found


def test_a_range_query_of_too_many_points_is_not_rendered() -> None:
    """A policy may have shortened the step."""
    fine = replace(RENDERING, durations={**RENDERING.durations, "step": timedelta(milliseconds=1)})
    with pytest.raises(RunbookInvalid, match="90000 points"):
        render_condition("errors", ConditionBlock.model_validate({**METRIC, "for": "$held"}), fine)


def test_a_good_block_has_no_finding() -> None:
    """All three kinds."""
    for block in (METRIC, SCORE, LABEL):
        assert check_condition("c", ConditionBlock.model_validate(block), KNOWN) == ()


@pytest.mark.parametrize("service", [None, "\ud800"])
def test_a_name_without_a_usable_value_stops_the_rendering(service: str | None) -> None:
    """The error names condition and reason; nothing half filled comes out."""
    bindings = {} if service is None else {"service": service}
    rendering = Rendering(durations=RENDERING.durations, thresholds=RENDERING.thresholds, bindings=bindings)
    with pytest.raises(RunbookInvalid, match="condition 'errors' cannot be rendered"):
        render_condition("errors", ConditionBlock.model_validate(METRIC), rendering)


def test_a_finding_in_a_file_has_line_and_column() -> None:
    """From block to `file:line:column`."""
    text = b"conditions:\n  c:\n    query: sum(a{s=$srvice})\n"
    document = load_yaml(text, "p1.yaml")
    (found,) = check_condition("c", ConditionBlock.model_validate(METRIC | {"query": "sum(a{s=$srvice})"}), KNOWN)
    assert str(document.problem(found.under(("conditions", "c")))).startswith("p1.yaml:3:20: unknown placeholder")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sum(rate(m{a=$service}[$window])) / sum(rate(m{a=$serv}[$window]))", ["$serv}"]),
        ("sum(rate(m{a=$service}[$window])) / sum(rate(m{a=$service}[$win]))", ["$win]"]),
        ("sum(rate(m{a=$service}[$window])) * $ 2", ["$ 2"]),
        ("sum(rate(m{a=$service}[$window])) * $window", ["$window"]),
        ("sum(m{a=$service}) + sum(m{a=~$service})", ["$service})"]),
        ("sum(m{a=$sevice}) + sum(m{a=$sevice})", ["$sevice}) +", "$sevice})"]),
        ('sum(m{a=$service, b="$service"})', ['$service"']),
        ('sum(m{a=$service, b="${service}"})', ["${"]),
    ],
)
@pytest.mark.parametrize("style", ["q: {0}\n", "q: '{0}'\n", "q: >-\n  {0}\n", "q: |\n    {0}\n"])
def test_a_wrong_placeholder_is_shown_where_it_stands_and_not_at_a_right_one(
    query: str, wrong: list[str], style: str
) -> None:
    """The same text, or a longer name that begins with it, may stand before it; each wrong one is shown."""
    text = style.format(query)
    document = load_yaml(text.encode(), "f")
    block = ConditionBlock.model_validate({**METRIC, "query": document.data["q"]})
    findings = [f for f in check_condition("c", block, KNOWN) if f.path == ("query",)]
    places = [document.problem(replace(f, path=("q",))) for f in findings]
    line = text.splitlines()[-1]
    expected = [(text.count("\n"), (line.index(w) if w.endswith("+") else line.rindex(w)) + 1) for w in wrong]
    assert [(p.line, p.column) for p in places] == expected

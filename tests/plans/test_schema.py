"""The editors' schema and the linter are of one mind: what one takes the other takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jsonschema_rs
import pytest

from firebreak.documents.yaml_file import load_yaml
from firebreak.domain.action import ActionSpec
from firebreak.domain.errors import RunbookInvalid
from firebreak.plans.lint import lint_runbook
from firebreak.plans.runbook import load_runbook
from firebreak.plans.schema import runbook_schema

QUERY = "    query: sum(rate(errors_total{service=$service}[$window]))\n"
INPUTS = "    inputs: ['errors_total{service=$service}']\n"
NUMBERS = '    op: "<"\n    threshold: $errors\n'
RESTORE = "        restore: {conditions: [probed], hold: $hold, within: $far, poll: $poll}\n"
WHY = "        undo: none\n        undo_reason: nothing to put back\n"
SHIFT = "{route: $route, away_from: $workload}\n"
CALL = "      - id: call\n        action: page\n"
BY_LABEL = "    dimension: business\n    label: impact\n    in: [blocked]\n"
CHECKED = (
    "        action: restart_workload\n        check: action",
    "        action: restart_workload\n        check: [said]",
)


def by_label(block: str) -> tuple[tuple[str, str], ...]:
    """A further condition, which the first step's check names."""
    return (("conditions:\n", f"conditions:\n  said:\n{block}"), CHECKED)


def by_score(block: str) -> tuple[tuple[str, str], ...]:
    flow = "{weight: 1, success: 'ok{service=$service}', volume_ratio: 'calls{service=$service}'}"
    return (
        (
            "conditions:\n",
            f"conditions:\n  scored:\n    dimension: business\n    score: {{flows: {{pay: {flow}}}}}\n{block}",
        ),
        (CHECKED[0], CHECKED[1].replace("said", "scored")),
    )


GOOD: dict[str, tuple[tuple[str, str], ...]] = {
    "as it is": (),
    "a for time": ((INPUTS, INPUTS + "    for: 5s\n"),),
    "a label condition": by_label(BY_LABEL),
    "a score": by_score("    op: '>'\n    threshold: 80\n"),
    "keys without a value": ((QUERY, QUERY + "    label:\n    score:\n    volume:\n"),),
    "an undo that is left out with a reason": (
        ("        undo: action\n", "        undo: none\n        undo_reason: it may stay\n"),
        (RESTORE, ""),
    ),
    "an approval of a step that writes": ((SHIFT, SHIFT + "        approval: on-call\n"),),
    "empty words": ((CALL, CALL + "        approval: ''\n        undo_reason: ''\n        verify:\n"),),
    "a target that fits": ((WHY, WHY + "        target: {namespace: shop, kind: Deployment, name: pay}\n"),),
}
BAD: dict[str, tuple[tuple[str, str], ...]] = {
    "for_": ((INPUTS, INPUTS + "    for_: 5s\n"),),
    "in_": by_label(BY_LABEL.replace("in:", "in_:")),
    "no kind of condition": ((QUERY, ""),),
    "two kinds of condition": ((QUERY, QUERY + "    label: impact\n"),),
    "a query without inputs": ((INPUTS, ""),),
    "a query with empty inputs": ((INPUTS, "    inputs: []\n"),),
    "a query that is compared with nothing": ((NUMBERS, ""),),
    "a query with a label's values": ((INPUTS, INPUTS + "    in: []\n"),),
    "a score that is compared with nothing": by_score(""),
    "a score with a volume": by_score(
        "    op: '>'\n    threshold: 80\n    volume: {query: 'calls{service=$service}', at_least: 20}\n"
    ),
    "a label with a threshold": by_label(BY_LABEL + "    threshold: 1\n"),
    "a label without values": by_label(BY_LABEL.replace("    in: [blocked]\n", "")),
    "a label with empty values": by_label(BY_LABEL.replace("[blocked]", "[]")),
    "a label without a name": by_label(BY_LABEL.replace("impact", "''")),
    "undo none without a reason": ((WHY, "        undo: none\n"),),
    "undo none with an empty reason": ((WHY, "        undo: none\n        undo_reason: ' '\n"),),
    "undo of what cannot be undone": ((WHY, "        undo: action\n"),),
    "restore of what cannot be undone": ((WHY, WHY + RESTORE),),
    "a reason for an undo": ((RESTORE, RESTORE + "        undo_reason: why not\n"),),
    "a lasting change without restore": ((RESTORE, ""),),
    "a lasting change with an empty restore": ((RESTORE, "        restore:\n"),),
    "an approval of a page": ((CALL, CALL + "        approval: on-call\n"),),
    "a reason of a page": ((CALL, CALL + "        undo_reason: nothing to undo\n"),),
    "a target that does not fit": ((WHY, WHY + "        target: {namespace: shop, kind: ConfigMap, name: pay}\n"),),
    "a priority in quotes": (("summary: for tests\n", "summary: for tests\npriority: '5'\n"),),
    "a priority that is a switch": (("summary: for tests\n", "summary: for tests\npriority: true\n"),),
}


def taken_by(text: str, specs: Mapping[str, ActionSpec]) -> list[str]:
    takes = []
    try:
        if not lint_runbook(load_runbook(text.encode(), "small.yaml"), specs):
            takes.append("linter")
    except RunbookInvalid:
        pass
    if jsonschema_rs.validator_for(runbook_schema(specs)).is_valid(load_yaml(text.encode(), "small.yaml").data):
        takes.append("schema")
    return takes


@pytest.mark.parametrize("case", GOOD)
def test_what_is_right_is_taken_by_both(edited: Callable[..., str], specs: Mapping[str, ActionSpec], case: str) -> None:
    """The editor underlines nothing that the engine would take."""
    assert taken_by(edited(*GOOD[case]), specs) == ["linter", "schema"]


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_refused_by_both(
    edited: Callable[..., str], specs: Mapping[str, ActionSpec], case: str
) -> None:
    """The editor shows it while one types, and the linter before it is in force."""
    assert taken_by(edited(*BAD[case]), specs) == []

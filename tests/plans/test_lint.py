"""The rules that need the actions: a step that writes says check, verify and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from firebreak.documents.policy import load_policy
from firebreak.domain.action import ActionSpec
from firebreak.domain.errors import Problem
from firebreak.plans.lint import lint_runbook
from firebreak.plans.runbook import Runbook, load_runbook

Specs = Mapping[str, ActionSpec]
RESTORE = "        restore: {conditions: [probed], hold: $hold, within: $far, poll: $poll}\n"
VERIFY = "        verify: {conditions: [few_errors], hold: $hold, within: $within, poll: $poll}\n"

# (what is replaced, by what, where the mistake is shown, a part of the sentence)
MISTAKES = {
    "an unknown action": (
        "action: shift_traffic",
        "action: shift_trafic",
        "shift_trafic",
        "did you mean 'shift_traffic'?",
    ),
    "an action like no other": ("action: shift_traffic", "action: reboot", "reboot", "known: page, restart_workload"),
    "a missing parameter": (", away_from: $workload", "", "params", "needs the parameter 'away_from'"),
    "an unknown parameter": ("route: $route", "rute: x, route: $route", "rute", "has no parameter 'rute'"),
    "a wrong value": ("route: $route", "route: ''", "route: ''", "must not be empty"),
    "a target of a kind that the action cannot change": (
        "        check: action\n",
        "        check: action\n        target: {namespace: shop, kind: ConfigMap, name: flags}\n",
        "ConfigMap",
        "cannot be aimed at a ConfigMap: only at a Deployment",
    ),
    "no check": ("        check: action\n", "", "id: restart", "has no `check`"),
    "no verify": (VERIFY, "", "id: shift", "has no `verify`"),
    "no undo": ("        undo: action\n", "", "id: shift", "has no `undo`"),
    "no reason for no undo": ("        undo_reason: nothing to put back\n", "", "none", "needs an undo_reason"),
    "a blank reason": ("undo_reason: nothing to put back", "undo_reason: '  '", "none", "needs an undo_reason"),
    "a reason for an undo that is there": (
        "undo: action",
        "undo: action\n        undo_reason: because",
        "undo_reason: because",
        "belongs to `undo: none`",
    ),
    "no restore": (RESTORE, "", "id: shift", "has no `restore`"),
    "an undo of what cannot be undone": ("undo: none", "undo: action", "action\n        undo_reason", "it is gone"),
    "a restore of what cannot be taken back": (
        "        undo_reason: nothing to put back\n",
        "        undo_reason: nothing to put back\n" + RESTORE,
        "restore: {conditions: [probed], hold: $hold, within: $far, poll: $poll}\n  - name: reroute",
        "cannot be taken back",
    ),
    "a verified page": (
        "action: page\n",
        "action: page\n" + VERIFY,
        "verify: {conditions: [few_errors], hold: $hold, within: $within, poll: $poll}\n",
        "writes nothing: it has no `verify`",
    ),
    "an approved page": (
        "action: page\n",
        "action: page\n        approval: team\n",
        "approval",
        "it has no `approval`",
    ),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_each_mistake_is_named_at_its_line_and_column(claim: str, edited: Callable[..., str], specs: Specs) -> None:
    """One mistake, one problem, at its place."""
    old, new, at, sentence = MISTAKES[claim]
    text = edited((old, new))
    problems = lint_runbook(load_runbook(text.encode(), "r.yaml"), specs)
    assert [p for p in problems if sentence in p.message], problems
    index = text.rindex(at)
    expected = text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
    assert expected in [(p.line, p.column) for p in problems if sentence in p.message]


def test_a_right_runbook_has_no_problems(runbook: Runbook, specs: Specs) -> None:
    """The linter is quiet about what is right."""
    assert lint_runbook(runbook, specs) == ()


def test_a_reversible_step_may_stay_for_good_with_a_reason(edited: Callable[..., str], specs: Specs) -> None:
    """`undo: none` with a reason needs no restore: nothing is going to be taken back."""
    text = edited(("        undo: action\n", "        undo: none\n        undo_reason: v1 is retired\n"), (RESTORE, ""))
    assert lint_runbook(load_runbook(text.encode(), "r.yaml"), specs) == ()


def test_a_fixed_target_of_the_right_kind_has_no_problems(edited: Callable[..., str], specs: Specs) -> None:
    """Where the action takes only the namespace from it, any kind is right."""
    restart = "        check: action\n        target: {namespace: shop, kind: Deployment, name: db}\n"
    shift = "        check: [probed]\n        target: {namespace: shop, kind: ConfigMap, name: db}\n"
    text = edited(("        check: action\n", restart), ("        check: [probed]\n", shift))
    assert lint_runbook(load_runbook(text.encode(), "r.yaml"), specs) == ()


def test_times_are_judged_as_the_policy_makes_them(runbook: Runbook, specs: Specs) -> None:
    """A policy that shortens `within` below `hold` would make every verification fail: both files are named."""

    def found(durations: str) -> tuple[Problem, ...]:
        policy = load_policy(f"kind: policy\nname: p\ndurations: {durations}\n".encode(), "p.yaml")
        return lint_runbook(runbook, specs, policy=policy)

    assert found("{within: 2m}") == ()
    assert found("{quiet: 1ms, fa: 1ms}") == ()  # names of other documents
    problems = found("{within: 10s}")
    assert len(problems) == 2
    assert all(p.file == "small.yaml" and "with the durations of policy p.yaml" in p.message for p in problems)

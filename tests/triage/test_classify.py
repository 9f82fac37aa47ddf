"""The tree's logic, and when the engine may act."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firebreak.documents.policy import TrustedLabel
from firebreak.domain.codec import to_data
from firebreak.domain.condition import Absence, AnswerStatus, ConditionKind, Dimension, MetricAnswer, ScoreFlow, Truth
from firebreak.domain.errors import ContractError
from firebreak.domain.verdict import Facts, Severity, Verdict
from firebreak.triage.classify import classify, could_decide_at, is_known_well, without_waiting
from firebreak.triage.tree import SeverityTree, TreeNode

Make = Callable[..., Any]
T, P, F, N, X = Truth.TRUE, Truth.PENDING, Truth.FALSE, Truth.NOT_APPLICABLE, Truth.INCONCLUSIVE
LETTERS = {"T": T, "P": P, "F": F, "N": N, "X": X}

NAN = "the value is NaN: neither true nor false"
NO_VALUE = "the query gives no value: it does not apply here"
DIMENSIONS = {"l": Dimension.LATENCY, "e": Dimension.ERRORS, "b": Dimension.BUSINESS}


@pytest.fixture
def world(answer: Make, fresh: Make, condition: Make, pinned: datetime, step: timedelta) -> Make:
    """`world("any", {"l1": "T", "e1": "P3"})`: a tree over conditions that come out so. The first letter of a name is
    its dimension; `P3` could hold 3 s from now."""

    def make(operator: str | tuple[TreeNode, ...], states: dict[str, str], **change: Any) -> tuple[Facts, SeverityTree]:
        conditions, answers = [], [fresh("m")]
        for name, state in states.items():
            letter, later = state[0], int(state[1:] or 4)
            values: tuple[str | None, ...] = {
                "T": ("1",) * 7,
                "P": ("0",) + ("1",) * (6 - later),
                "F": ("0",) * 7,
                "N": (),
                "X": ("NaN",),
            }[letter]
            absence = Absence.NOT_APPLICABLE if letter == "N" else Absence.INCONCLUSIVE
            conditions.append(condition(name=name, query=name, dimension=DIMENSIONS[name[0]], absence=absence))
            answers.append(answer(name, *values))
        nodes = operator if isinstance(operator, tuple) else _flat(operator, tuple(states))
        tree = SeverityTree(
            name="p1",
            service="pay",
            step=step,
            conditions=tuple(conditions),
            nodes=nodes,
            may_act_dimensions=2,
            trusted_labels=(TrustedLabel(label="business_impact", values=("blocked",)),),
            source_digest="s",
            policy="default",
            policy_digest="p",
            digest="d",
        )
        facts = Facts(
            pinned_at=pinned,
            step=step,
            labels={"alertname": "a"},
            service="pay",
            tree_digest="d",
            bindings={},
            answers=tuple(answers),
        )
        return replace(facts, **change), tree

    return make


def _flat(operator: str, names: tuple[str, ...]) -> tuple[TreeNode, ...]:
    kind, _, count = operator.partition(":")
    needed = {"any": 1, "all": len(names)}.get(kind) or int(count)
    leaves = tuple(TreeNode(operator="condition", depth=1, condition=name) for name in names)
    return (TreeNode(operator=kind, depth=0, at_least=needed), *leaves)


@pytest.mark.parametrize(
    ("operator", "states", "expected"),
    [
        ("any", "F F", F),
        ("any", "F T", T),
        ("any", "X T", T),
        ("any", "P T", T),
        ("any", "F P", P),
        ("any", "X P", P),
        ("any", "F X", X),
        ("any", "N X", X),
        ("any", "N N", N),
        ("any", "N F", F),
        ("all", "T T", T),
        ("all", "T F", F),
        ("all", "T N", F),
        ("all", "T P", P),
        ("all", "P P", P),
        ("all", "T X", X),
        ("all", "P X", X),
        ("all", "F X", F),
        ("all", "F P", F),
        ("all", "N N", N),
        ("at_least:2", "T F T", T),
        ("at_least:2", "T F F", F),
        ("at_least:2", "T P F", P),
        ("at_least:2", "T X F", X),
        ("at_least:2", "P X F", X),
        ("at_least:2", "P P X", P),
        ("at_least:2", "X F F", F),
        ("at_least:2", "X N F", F),
    ],
)
def test_a_node_is_what_its_children_can_make_it(world: Make, operator: str, states: str, expected: Truth) -> None:
    """True decides at once; then what could still hold; then what could not be judged and would decide."""
    named = {f"e{index}": state for index, state in enumerate(states.split())}
    verdict = classify(*world(operator, named))
    assert verdict.truth is expected
    assert verdict.severity is (Severity.P1 if expected is T else Severity.NONE)
    assert verdict.nodes[0].operator == operator
    assert (verdict.holds_at is not None) is (expected is P)


@pytest.mark.parametrize(
    ("operator", "states", "seconds"),
    [
        ("any", {"e1": "P4", "e2": "P2"}, 2),
        ("all", {"e1": "P4", "e2": "P2"}, 4),
        ("all", {"e1": "T", "e2": "P3"}, 3),
        ("at_least:2", {"e1": "P4", "e2": "P2", "e3": "P3"}, 3),
        ("at_least:2", {"e1": "T", "e2": "P4", "e3": "P3"}, 3),
    ],
)
def test_pending_looks_again_when_the_root_could_become_true(
    world: Make, pinned: datetime, operator: str, states: dict[str, str], seconds: int
) -> None:
    """`any` waits for the first, `all` for the last, `at_least` for as many as are missing."""
    assert classify(*world(operator, states)).holds_at == pinned + timedelta(seconds=seconds)


def test_nested_nodes_come_out_in_order_with_their_depth(world: Make) -> None:
    """For the printed tree: preorder, leaves by name."""
    nodes = (
        TreeNode(operator="all", depth=0, at_least=2),
        TreeNode(operator="condition", depth=1, condition="l1"),
        TreeNode(operator="any", depth=1, at_least=1),
        TreeNode(operator="condition", depth=2, condition="e1"),
        TreeNode(operator="condition", depth=2, condition="e2"),
    )
    verdict = classify(*world(nodes, {"l1": "T", "e1": "F", "e2": "P2"}))
    told = [(n.operator, n.condition, n.depth, n.truth) for n in verdict.nodes]
    assert told == [
        ("all", "", 0, P),
        ("condition", "l1", 1, T),
        ("any", "", 1, P),
        ("condition", "e1", 2, F),
        ("condition", "e2", 2, P),
    ]


def test_two_independent_dimensions_may_act(world: Make) -> None:
    """Row A1: acting without a person needs two."""
    verdict = classify(*world("any", {"e1": "T", "b1": "T"}))
    assert (verdict.may_act, verdict.dimensions) == (True, (Dimension.ERRORS, Dimension.BUSINESS))
    assert verdict.act_reason == "2 independent dimensions hold: errors and business"


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"e1": "T", "e2": "T"}, "1 of 2 dimensions hold (errors), and no further one is about to"),
        ({"e1": "T", "b1": "F"}, "no further one is about to"),
        ({"e1": "T", "b1": "X"}, "business could not be judged"),
        ({"e1": "T", "e2": "P3"}, "no further one is about to"),
    ],
)
def test_one_dimension_classifies_but_does_not_act(world: Make, states: dict[str, str], words: str) -> None:
    """However many conditions of it hold: it pages, and says what is missing."""
    verdict = classify(*world("any", states))
    assert (verdict.severity, verdict.may_act, verdict.holds_at) == (Severity.P1, False, None)
    assert words in verdict.act_reason


def test_a_second_dimension_that_is_about_to_hold_is_waited_for(world: Make, pinned: datetime) -> None:
    """Rules fire at once and dimensions hold at different times: look again before only paging."""
    verdict = classify(*world("any", {"e1": "T", "e2": "P1", "b1": "P4", "b2": "P2", "l1": "P3"}))
    assert (verdict.truth, verdict.may_act) == (T, False)
    assert verdict.holds_at == pinned + timedelta(seconds=2)
    assert "business could hold at 08:36:22" in verdict.act_reason


def test_a_trusted_label_acts_on_one_dimension(world: Make) -> None:
    """The policy's word, by label and value."""
    labels = {"business_impact": "blocked"}
    verdict = classify(*world("any", {"e1": "T"}, labels=labels))
    assert verdict.may_act
    assert "policy default trusts the label business_impact=blocked" in verdict.act_reason
    assert not classify(*world("any", {"e1": "T"}, labels={"business_impact": "some"})).may_act
    assert not classify(*world("any", {"e1": "F"}, labels=labels)).may_act


def test_an_untrusted_label_is_no_dimension(world: Make, condition: Make) -> None:
    """A label is written into a rule beforehand: with one measured dimension it does not make two."""
    facts, tree = world("any", {"e1": "T"}, labels={"impact": "high"})
    leaf = condition(name="said", kind=ConditionKind.LABEL, dimension=Dimension.BUSINESS, label="impact")
    tree = replace(
        tree,
        conditions=(*tree.conditions, replace(leaf, label_values=("high",))),
        nodes=(*tree.nodes, TreeNode(operator="condition", depth=1, condition="said")),
    )
    verdict = classify(facts, tree)
    assert (verdict.truth, verdict.may_act, verdict.dimensions) == (T, False, (Dimension.ERRORS,))


@pytest.mark.parametrize("labels", [{}, {"business_impact": "blocked"}])
def test_a_truncated_group_is_never_acted_on(world: Make, labels: dict[str, str]) -> None:
    """What the source left out may say something else."""
    verdict = classify(*world("any", {"e1": "T", "b1": "T"}, truncated=2, labels=labels))
    assert (verdict.severity, verdict.may_act) == (Severity.P1, False)
    assert "left out 2 alerts" in verdict.act_reason


def test_a_persons_score_is_told_and_counts_for_business(world: Make, condition: Make) -> None:
    """Row A2: a person may set it; with errors it makes two dimensions."""
    facts, tree = world("any", {"e1": "T"}, human_score=40.0)
    flow = ScoreFlow(name="pay", weight=1, success_query="s", volume_ratio_query="v", volume_weight=0)
    leaf = condition(
        name="health",
        kind=ConditionKind.SCORE,
        dimension=Dimension.BUSINESS,
        flows=(flow,),
        threshold=70.0,
        comparison="<=",
    )
    tree = replace(
        tree,
        conditions=(*tree.conditions, leaf),
        nodes=(*tree.nodes, TreeNode(operator="condition", depth=1, condition="health")),
    )
    verdict = classify(facts, tree)
    assert (verdict.may_act, verdict.health_score) == (True, 40.0)


def test_facts_of_another_tree_are_refused(world: Make) -> None:
    """A verdict from mixed records would prove nothing."""
    facts, tree = world("any", {"e1": "T"})
    with pytest.raises(ContractError, match="gathered for tree"):
        classify(facts, replace(tree, digest="other"))


def test_a_condition_outside_the_tree_decides_nothing(world: Make) -> None:
    """It is shown, and neither its dimension nor its pending counts."""
    facts, tree = world("any", {"e1": "T", "b1": "T"})
    verdict = classify(facts, replace(tree, nodes=tree.nodes[:2]))
    assert (verdict.dimensions, verdict.may_act) == ((Dimension.ERRORS,), False)
    assert len(verdict.conditions) == 2


STATES = st.lists(st.sampled_from(["T", "P2", "P4", "F", "N", "X"]), min_size=1, max_size=5)


@given(states=STATES, operator=st.sampled_from(["any", "all", "at_least:1"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_facts_give_the_same_verdict_byte_for_byte(world: Make, states: list[str], operator: str) -> None:
    """Classifying is a function of its arguments alone, whatever the order in which answers came."""
    named = {f"{'leb'[index % 3]}{index}": state for index, state in enumerate(states)}
    facts, tree = world(operator, named)

    def stored(verdict: Verdict) -> str:
        return json.dumps(to_data(verdict), sort_keys=True)

    turned = replace(facts, answers=facts.answers[::-1])
    assert stored(classify(facts, tree)) == stored(classify(facts, tree)) == stored(classify(turned, tree))


@given(states=STATES, operator=st.sampled_from(["any", "all", "at_least:1"]), spoilt=st.integers(0, 4))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_doubt_and_health_never_make_it_worse(world: Make, states: list[str], operator: str, spoilt: int) -> None:
    """Making one answer untrusted, or healthy, never makes a verdict true and never lets the engine act."""
    named = {f"{'leb'[index % 3]}{index}": state for index, state in enumerate(states)}
    before = classify(*world(operator, named))
    name = list(named)[spoilt % len(named)]
    for instead in ("X", "F"):
        after = classify(*world(operator, named | {name: instead}))
        assert before.truth is T or after.truth is not T
        assert before.may_act or not after.may_act


def test_without_prometheus_nothing_is_true(world: Make) -> None:
    """Every answer unavailable: inconclusive, no severity, no action, and the cause is told once for all of them."""
    facts, tree = world("any", {"e1": "T", "b1": "T"})
    dead = tuple(MetricAnswer(key=a.key, status=AnswerStatus.UNAVAILABLE, detail="timeout") for a in facts.answers)
    verdict = classify(replace(facts, answers=dead), tree)
    assert (verdict.truth, verdict.severity, verdict.may_act) == (X, Severity.NONE, False)
    assert verdict.reason.count("Prometheus did not answer: timeout") == 1
    assert "e1, b1 (" in verdict.reason


def test_a_bystander_is_not_acted_upon(world: Make) -> None:
    """Global signals make a P1; without one of its own the service that the alert names is left alone."""
    facts, tree = world("any", {"e1": "T", "b1": "T"})
    tree = replace(tree, conditions=tuple(replace(c, own=False) for c in tree.conditions))
    verdict = classify(facts, tree)
    assert (verdict.severity, verdict.may_act) == (Severity.P1, False)
    assert "nothing measured about" in verdict.act_reason
    one = replace(tree, conditions=(replace(tree.conditions[0], own=True), *tree.conditions[1:]))
    assert classify(facts, one).may_act


IN_DOUBT = "is measured about pay itself could not be judged"
ELSEWHERE = "nothing measured about pay itself holds: the cause is likely another one"


@pytest.mark.parametrize(
    ("l1", "l2", "words"),
    [
        ("F", "F", ELSEWHERE),
        ("F", "N", ELSEWHERE),
        ("F", "P3", f"{ELSEWHERE}; it could hold at 08:36:23"),
        ("P3", "N", "nothing measured about pay itself holds; it could hold at 08:36:23"),
        ("N", "N", f"nothing measured about pay itself holds: l1, l2 ({NO_VALUE})"),
        ("X", "X", f"what {IN_DOUBT}: l1, l2 ({NAN})"),
        ("X", "F", f"part of what {IN_DOUBT}: l1 ({NAN})"),
        ("X", "P3", f"part of what {IN_DOUBT}: l1 ({NAN}); it could hold at 08:36:23"),
    ],
)
def test_only_a_service_that_was_measured_as_good_is_called_a_bystander(
    world: Make, l1: str, l2: str, words: str
) -> None:
    """What hides its state is told instead: a dead service may have no samples, and nobody who calls it."""
    facts, tree = world("any", {"e1": "T", "b1": "T", "l1": l1, "l2": l2})
    tree = replace(tree, conditions=tuple(replace(c, own=c.name in ("l1", "l2")) for c in tree.conditions))
    verdict = classify(facts, tree)
    assert (verdict.severity, verdict.may_act, verdict.act_reason) == (Severity.P1, False, words)


@pytest.mark.parametrize(
    ("states", "known"), [("T N", False), ("N N", False), ("X N", False), ("P N", False), ("F N", True), ("T F", True)]
)
def test_only_what_was_measured_as_good_is_known_to_be_well(world: Make, states: str, known: bool) -> None:
    """A condition that is true says the contrary, also where the tree asks for more than one."""
    facts, tree = world("all", dict(zip(("e1", "e2"), states.split(), strict=True)))
    assert is_known_well(classify(facts, tree), tree) is known


@pytest.mark.parametrize(("state", "known"), [("N", False), ("X", False), ("T", False), ("F", True)])
def test_a_label_that_no_alert_says_is_no_health(world: Make, condition: Make, state: str, known: bool) -> None:
    """Also where no condition asks about the service itself, and all that is measured counts."""
    facts, tree = world("all", {"e1": state})
    said = condition(name="said", kind=ConditionKind.LABEL, label="impact", label_values=("high",), own=False)
    tree = replace(
        tree,
        conditions=(*(replace(c, own=False) for c in tree.conditions), said),
        nodes=(*tree.nodes, TreeNode(operator="condition", depth=1, condition="said")),
    )
    verdict = classify(facts, tree)
    assert verdict.conditions[-1].truth is F
    assert is_known_well(verdict, tree) is known


RECHECK = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("operator", "states", "quick", "seconds"),
    [
        ("any", {"e1": "P4", "l1": "F"}, "", 4),  # its own time would end later
        ("any", {"e1": "P4", "l1": "F"}, "l1", 1),
        ("any", {"e1": "P4", "l1": "N"}, "l1", 1),
        ("any", {"e1": "P4", "l1": "X"}, "", 1),
        ("at_least:2", {"e1": "P4", "l1": "F", "b1": "T"}, "l1", 1),
        ("at_least:2", {"e1": "P4", "l1": "P3", "b1": "F"}, "b1", 3),  # the sooner one of two is still missing
        ("all", {"e1": "P4", "l1": "P2"}, "", 4),
        ("any", {"e1": "T", "l1": "P4", "b1": "F"}, "b1", 1),  # a P1 that waits for its second dimension
        ("any", {"e1": "T", "l1": "P4", "e2": "F"}, "e2", 4),  # the same dimension again helps nothing
    ],
)
def test_a_wait_ends_when_another_condition_could_decide(
    world: Make, pinned: datetime, operator: str, states: dict[str, str], quick: str, seconds: int
) -> None:
    """One with a short `for` time, or one that could not be judged, is not slept over for the sake of a slow one."""
    facts, tree = world(operator, states)
    changed: dict[str, dict[str, Any]] = {
        quick: {"held_for": timedelta(0)},
        "e2": {"own": False, "held_for": timedelta(0)},
    }
    tree = replace(tree, conditions=tuple(replace(c, **changed.get(c.name, {})) for c in tree.conditions))
    verdict = classify(facts, tree)
    assert verdict.holds_at is not None
    assert could_decide_at(verdict, tree, RECHECK) == pinned + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("operator", "states", "expected"),
    [
        ("any", {"e1": "P4", "l1": "X"}, X),
        ("any", {"e1": "P4", "l1": "F"}, P),
        ("all", {"e1": "P4", "l1": "T"}, P),
        ("any", {"e1": "F", "l1": "X"}, X),
        ("any", {"e1": "T", "l1": "X"}, T),
    ],
)
def test_once_nothing_is_waited_for_a_doubt_decides(
    world: Make, operator: str, states: dict[str, str], expected: Truth
) -> None:
    """What was only pending does not hide what could not be judged."""
    facts, tree = world(operator, states)
    verdict = without_waiting(classify(facts, tree), tree)
    assert verdict.truth is expected
    if expected is X:
        assert verdict.reason == f"could not be judged: l1 ({NAN})"

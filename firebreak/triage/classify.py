"""From facts and tree to a verdict: pure, so that the same record always gives the same verdict, byte for byte.

Every node counts its children: it is TRUE when enough are TRUE; PENDING when those that only have to hold longer
could make it true; INCONCLUSIVE when those that could not be judged could; else FALSE. NOT_APPLICABLE counts as not
true. So an inconclusive condition never makes anything true, and it is told exactly where it decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from firebreak.domain.condition import Condition, ConditionKind, ConditionResult, Dimension, Truth
from firebreak.domain.errors import ContractError
from firebreak.domain.verdict import Facts, NodeResult, Severity, Verdict
from firebreak.triage.evaluate import evaluate
from firebreak.triage.queries import whole_steps
from firebreak.triage.tree import SeverityTree, TreeNode

JUDGED_BY = 5
"""Version of the rules by which facts become a verdict: all of `classify`, with `evaluate` and `score` below it. Raise
it with every change after which the same facts and tree could give another verdict, the words of a reason included: a
record says by which rules it was judged, and only by the same ones must the same verdict come out again."""


def classify(facts: Facts, tree: SeverityTree) -> Verdict:
    """The verdict on `facts`. ContractError when they were gathered for another tree.

    `holds_at`: with PENDING the earliest time at which the tree could become true; with TRUE and too few dimensions
    the earliest time at which a further one could hold, so that the engine looks again before it only pages."""
    if facts.tree_digest != tree.digest:
        raise ContractError(
            f"the facts were gathered for tree {facts.tree_digest[:12]}, not for {tree.digest[:12]}",
            advice="Recompute with the tree that is kept with the incident.",
        )
    results = tuple(
        evaluate(
            condition,
            facts.answers,
            facts.pinned_at,
            facts.step,
            labels=facts.labels,
            human_score=facts.human_score,
        )
        for condition in tree.conditions
    )
    by_name = {result.name: result for result in results}
    nodes, root = _walk(tree.nodes, {result.name: _Outcome(result.truth, result.holds_at) for result in results})
    used = [by_name[name] for name in dict.fromkeys(n.condition for n in tree.nodes if n.condition)]
    acting = _acting(facts, tree, root, used)
    return Verdict(
        severity=Severity.P1 if root.truth is Truth.TRUE else Severity.NONE,
        truth=root.truth,
        may_act=acting.may,
        act_reason=acting.reason,
        reason=_reason(root.truth, used),
        pinned_at=facts.pinned_at,
        tree=tree.name,
        tree_digest=tree.digest,
        dimensions=acting.dimensions,
        conditions=results,
        nodes=nodes,
        holds_at=acting.holds_at if root.truth is Truth.TRUE else root.holds_at,
        health_score=_health(facts, tree, by_name),
        labels=facts.labels,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    truth: Truth
    holds_at: datetime | None = None


def _walk(nodes: Sequence[TreeNode], results: Mapping[str, _Outcome]) -> tuple[tuple[NodeResult, ...], _Outcome]:
    told: list[NodeResult | None] = [None] * len(nodes)

    def visit(index: int) -> tuple[_Outcome, int]:
        node = nodes[index]
        if node.operator == "condition":
            outcome = results[node.condition]
            told[index] = NodeResult(
                operator="condition", truth=outcome.truth, condition=node.condition, depth=node.depth
            )
            return outcome, index + 1
        children: list[_Outcome] = []
        after = index + 1
        while after < len(nodes) and nodes[after].depth > node.depth:
            child, after = visit(after)
            children.append(child)
        outcome = _count(children, node.at_least)
        operator = f"at_least:{node.at_least}" if node.operator == "at_least" else node.operator
        told[index] = NodeResult(operator=operator, truth=outcome.truth, depth=node.depth)
        return outcome, after

    root, _ = visit(0)
    return tuple(n for n in told if n is not None), root


def _count(children: Sequence[_Outcome], needed: int) -> _Outcome:
    def of(truth: Truth) -> int:
        return sum(child.truth is truth for child in children)

    missing = needed - of(Truth.TRUE)
    if missing <= 0:
        return _Outcome(Truth.TRUE)
    waiting = sorted(c.holds_at for c in children if c.truth is Truth.PENDING and c.holds_at is not None)
    if len(waiting) >= missing:
        return _Outcome(Truth.PENDING, waiting[missing - 1])
    if len(waiting) + of(Truth.INCONCLUSIVE) >= missing:
        return _Outcome(Truth.INCONCLUSIVE)
    if children and of(Truth.NOT_APPLICABLE) == len(children):
        return _Outcome(Truth.NOT_APPLICABLE)
    return _Outcome(Truth.FALSE)


@dataclass(frozen=True, slots=True)
class _Acting:
    may: bool
    reason: str
    dimensions: tuple[Dimension, ...]
    holds_at: datetime | None = None


def _acting(facts: Facts, tree: SeverityTree, root: _Outcome, used: Sequence[ConditionResult]) -> _Acting:
    """Whether the engine may act without a person (row A1), and what is missing if not.

    A label condition brings no dimension of its own: a label is written into a rule beforehand and is no measurement.
    It lets the engine act only where the policy trusts it."""
    conditions = {condition.name: condition for condition in tree.conditions}
    held = _dimensions(used, conditions, Truth.TRUE)
    told = tuple(d for d in Dimension if d in held)
    if root.truth is not Truth.TRUE:
        return _Acting(False, "no P1: nothing is done", told)
    if facts.truncated > 0:
        return _Acting(
            False, f"the source left out {facts.truncated} alerts of the group: what they say is not known", told
        )
    for trusted in tree.trusted_labels:
        value = facts.labels.get(trusted.label)
        if value is not None and value in trusted.values:
            return _Acting(True, f"policy {tree.policy} trusts the label {trusted.label}={value}", told)
    names = " and ".join(told) or "none"
    needed = tree.may_act_dimensions
    own = [result for result in used if conditions[result.name].own]
    if len(held) >= needed and not any(result.truth is Truth.TRUE for result in own):
        return _nothing_of_its_own(facts, own, told)
    if len(held) >= needed:
        return _Acting(True, f"{len(held)} independent dimensions hold: {names}", told)
    waiting = _dimensions(used, conditions, Truth.PENDING)
    later = sorted((at, d) for d, at in waiting.items() if d not in held and at is not None)
    doubtful = sorted(d for d in _dimensions(used, conditions, Truth.INCONCLUSIVE) if d not in held)
    reason = f"{len(held)} of {needed} dimensions hold ({names})"
    missing = needed - len(held)
    if len(later) >= missing:
        at, dimension = later[missing - 1]
        return _Acting(False, f"{reason}; {dimension} could hold at {at:%H:%M:%S}", told, at)
    if doubtful:
        return _Acting(False, f"{reason}; {' and '.join(doubtful)} could not be judged", told)
    return _Acting(False, f"{reason}, and no further one is about to", told)


def _nothing_of_its_own(facts: Facts, own: Sequence[ConditionResult], told: tuple[Dimension, ...]) -> _Acting:
    """Nothing measured about this very service is true: global signals hold for a bystander, too. Yet only a service of
    which something was measured as good, and nothing is in doubt, is taken for one."""
    service = facts.service or "this service"
    truths = {result.truth for result in own}
    what = f"nothing measured about {service} itself holds"
    if doubtful := [result for result in own if result.truth is Truth.INCONCLUSIVE]:
        part = "part of " if len(doubtful) < len(own) else ""
        what = f"{part}what is measured about {service} itself could not be judged: {_list(doubtful)}"
    elif Truth.FALSE in truths:
        what += ": the cause is likely another one"
    elif not own:
        what += ": the tree asks for nothing of it"
    elif Truth.PENDING not in truths:
        what += f": {_list(own)}"
    waiting = [result.holds_at for result in own if result.truth is Truth.PENDING and result.holds_at]
    if waiting:
        return _Acting(False, f"{what}; it could hold at {min(waiting):%H:%M:%S}", told, min(waiting))
    return _Acting(False, what, told)


def _dimensions(
    used: Sequence[ConditionResult], conditions: Mapping[str, Condition], truth: Truth
) -> dict[Dimension, datetime | None]:
    """Dimensions in which a measured condition came out so, with the earliest `holds_at` of each."""
    found: dict[Dimension, datetime | None] = {}
    for result in used:
        if result.truth is not truth or result.dimension is Dimension.HEALTH:
            continue
        if conditions[result.name].kind is ConditionKind.LABEL:
            continue
        known = found.get(result.dimension)
        found[result.dimension] = min((at for at in (known, result.holds_at) if at is not None), default=None)
    return found


def _reason(truth: Truth, used: Sequence[ConditionResult]) -> str:
    told = [result for result in used if result.truth is truth]
    match truth:
        case Truth.TRUE:
            return f"P1: {_list(told)}"
        case Truth.PENDING:
            return f"true but not held yet: {_list(told)}"
        case Truth.INCONCLUSIVE:
            return f"could not be judged: {_list(told)}"
        case Truth.NOT_APPLICABLE:
            return f"no condition applies: {_list(used)}"
        case Truth.FALSE:
            return f"nothing confirms a P1: {_list(used)}"


def _list(results: Sequence[ConditionResult]) -> str:
    return "; ".join(_clauses(results))


def _clauses(results: Sequence[ConditionResult]) -> Iterator[str]:
    """What several conditions have in common (a Prometheus that is down) is told once."""
    names: dict[str, list[str]] = {}
    for result in results:
        names.setdefault(result.reason, []).append(result.name)
    for reason, those in names.items():
        yield f"{', '.join(those)} ({reason})"


def _health(facts: Facts, tree: SeverityTree, results: Mapping[str, ConditionResult]) -> float | None:
    if facts.human_score is not None:
        return facts.human_score
    for condition in tree.conditions:
        if condition.kind is ConditionKind.SCORE and results[condition.name].value:
            return float(results[condition.name].value)
    return None


def without_waiting(verdict: Verdict, tree: SeverityTree) -> Verdict:
    """The verdict where nothing is waited for any more (the alert has resolved): what is pending counts as not true, so
    that a doubt which would then decide does."""
    if verdict.truth is not Truth.PENDING:
        return verdict
    counted = {
        r.name: _Outcome(Truth.FALSE if r.truth is Truth.PENDING else r.truth, r.holds_at) for r in verdict.conditions
    }
    truth = _walk(tree.nodes, counted)[1].truth
    if truth is not Truth.INCONCLUSIVE:
        return verdict
    used = {node.condition for node in tree.nodes}
    reason = _reason(truth, [result for result in verdict.conditions if result.name in used])
    return replace(verdict, truth=truth, reason=reason, holds_at=None)


def could_decide_at(verdict: Verdict, tree: SeverityTree, recheck: timedelta) -> datetime | None:
    """When `verdict` waits for something to hold (`holds_at`): the earliest time at which it may be decided, which is
    earlier where a condition that is not true now has a shorter `for` time, or one could not be judged: whatever that
    one is, a `recheck` from now it may be seen. None when it waits for nothing. What an alert's label says is not
    measured, and not foreseen."""
    if verdict.holds_at is None:
        return None
    conditions = {condition.name: condition for condition in tree.conditions}
    soonest: dict[str, _Outcome] = {}
    for result in verdict.conditions:
        condition = conditions[result.name]
        soonest[result.name] = _Outcome(result.truth, result.holds_at)
        if result.truth in (Truth.TRUE, Truth.PENDING) or condition.kind is ConditionKind.LABEL:
            continue
        held = whole_steps(condition.held_for, tree.step) * tree.step
        wait = recheck if result.truth is Truth.INCONCLUSIVE else max(recheck, held)
        soonest[result.name] = _Outcome(Truth.PENDING, verdict.pinned_at + wait)
    if verdict.truth is Truth.PENDING:
        at = _walk(tree.nodes, soonest)[1].holds_at
    else:  # a P1 that may not be acted upon yet: any further dimension lets it
        used = {node.condition for node in tree.nodes}
        further = [c for c in tree.conditions if c.name in used and (c.own or c.dimension not in verdict.dimensions)]
        at = min((when for c in further if (when := soonest[c.name].holds_at) is not None), default=None)
    return verdict.holds_at if at is None else min(at, verdict.holds_at)


def is_known_well(verdict: Verdict, tree: SeverityTree) -> bool:
    """Whether something of the service itself (where the tree asks about it) was measured as good: a service that
    nobody calls any more has no bad calls either, and one condition that is true may be too few for the tree. A label
    that the alert does not say is no measurement."""
    measured = [c for c in tree.conditions if c.kind is not ConditionKind.LABEL]
    own = {c.name for c in measured if c.own} or {c.name for c in measured}
    return any(result.truth is Truth.FALSE for result in verdict.conditions if result.name in own)

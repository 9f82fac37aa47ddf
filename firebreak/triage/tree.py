"""The severity tree: a document, and the tree of one incident with every name filled in.

A tree is data (row A5). `render_tree` makes a frozen `SeverityTree`; its bytes are kept with the incident, and from
these bytes and the facts alone anyone can reach the verdict again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.conditions import (
    DEFAULT_STEP,
    STANDARD_BINDINGS,
    KnownNames,
    Rendering,
    check_condition,
    is_own,
    render_condition,
    too_many_points,
)
from firebreak.documents.policy import Policy, TrustedLabel
from firebreak.documents.promql import BASELINE
from firebreak.documents.services import Service
from firebreak.documents.weights import weight_faults
from firebreak.documents.yaml_file import Finding, YamlDocument, load_yaml, refuse, validate
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Condition, Dimension
from firebreak.domain.errors import PolicyInvalid, RunbookInvalid
from firebreak.triage.severity_model import NodeBlock, SeverityModel

NEEDED_DURATIONS = ("window", "step", "stale_after", "recheck", "quiet", "watch", "doubt")
"""Named durations that every severity document gives: the engine itself reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNode:
    """One node; a tree is its nodes in preorder with their depth. `at_least` true children make it true: 1 for
    `any`, all of them for `all`."""

    operator: str  # all | any | at_least | condition
    depth: int
    condition: str = ""
    at_least: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityDocument:
    """A checked document. `digest` is the SHA-256 (hex) of the file's bytes."""

    name: str
    source: str
    digest: str
    durations: Mapping[str, timedelta]
    thresholds: Mapping[str, float]
    conditions: Mapping[str, ConditionBlock]
    params: tuple[str, ...]
    nodes: tuple[TreeNode, ...]
    may_act_dimensions: int
    document: YamlDocument = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityTree:
    """The tree of one incident. `source_digest` and `policy_digest` are of the files that it was made from (row A5),
    `digest` of `tree_bytes`."""

    name: str
    service: str
    step: timedelta
    conditions: tuple[Condition, ...]
    nodes: tuple[TreeNode, ...]
    may_act_dimensions: int
    trusted_labels: tuple[TrustedLabel, ...]
    source_digest: str
    policy: str
    policy_digest: str
    digest: str = ""


def load_severity(data: bytes, source: str) -> SeverityDocument:
    """RunbookInvalid with file, line and column of everything wrong."""
    document = load_yaml(data, source)
    model = validate(document, SeverityModel)
    nodes = tuple(_flatten(model.tree, 0))
    if findings := tuple(_wrong(model, nodes)):
        raise refuse(document.problems(findings))
    return SeverityDocument(
        name=model.name,
        source=source,
        digest=document.digest,
        durations=dict(model.durations),
        thresholds=dict(model.thresholds),
        conditions=dict(model.conditions),
        params=model.params,
        nodes=nodes,
        may_act_dimensions=model.may_act.dimensions,
        document=document,
    )


def _flatten(node: str | NodeBlock, depth: int) -> Iterator[TreeNode]:
    if isinstance(node, str):
        yield TreeNode(operator="condition", depth=depth, condition=node)
        return
    operator = "all" if node.all else "any" if node.any else "at_least"
    children = node.all or node.any or node.of or ()
    needed = len(children) if node.all else node.at_least or 1
    yield TreeNode(operator=operator, depth=depth, at_least=needed)
    for child in children:
        yield from _flatten(child, depth + 1)


def _wrong(model: SeverityModel, nodes: tuple[TreeNode, ...]) -> Iterator[Finding]:
    for name in NEEDED_DURATIONS:
        if name not in model.durations:
            yield Finding(("durations",), f"duration {name!r} is missing here", on_key=True)
    for name, span in model.durations.items():
        path: NodePath = ("durations", name)
        if span <= timedelta(0):
            yield Finding(path, "a duration must be longer than nothing")
        if name in STANDARD_BINDINGS or name == BASELINE or name in model.params:
            yield Finding(path, f"{name!r} means something else in queries", on_key=True)
    known = KnownNames(
        durations=frozenset(model.durations),
        thresholds=frozenset(model.thresholds),
        bindings=STANDARD_BINDINGS | frozenset(model.params),
    )
    used = {node.condition for node in nodes}
    for name, block in model.conditions.items():
        for finding in check_condition(name, block, known):
            yield finding.under(("conditions", name))
        held_for = model.durations.get(block.for_[1:]) if isinstance(block.for_, str) else block.for_
        if held_for is not None and (why := too_many_points(held_for, model.durations.get("step", DEFAULT_STEP))):
            yield Finding(("conditions", name, "for"), why)
        if name not in used:
            yield Finding(("conditions", name), f"condition {name!r} is not in the tree", on_key=True)
        if block.dimension is Dimension.HEALTH:
            yield Finding(
                ("conditions", name, "dimension"),
                "dimension health belongs to verifications: it never counts for a severity",
            )
    yield from _wrong_leaves(model.tree, ("tree",), frozenset(model.conditions))
    if model.may_act.dimensions > 1:
        yield from _counted_twice(model)


def _counted_twice(model: SeverityModel) -> Iterator[Finding]:
    """Dimensions that one and the same measurement would make true: they are not independent (row A1)."""
    asked: dict[str, str] = {}
    for name, block in model.conditions.items():
        if block.query is None:
            continue
        other = asked.setdefault(" ".join(block.query.split()), name)
        if model.conditions[other].dimension is not block.dimension:
            told = f"{name!r} asks what {other!r} asks, in another dimension: one measurement would count as two"
            yield Finding(("conditions", name, "query"), told)


def _wrong_leaves(node: str | NodeBlock, path: NodePath, known: frozenset[str]) -> Iterator[Finding]:
    if isinstance(node, str):
        if node not in known:
            yield Finding(path, f"unknown condition {node!r}; known here: {', '.join(sorted(known))}")
        return
    for index, child in enumerate(node.of or ()):
        if isinstance(child, str) and child in (node.of or ())[:index]:
            yield Finding((*path, "of", index), f"{child!r} counts once: it stands in this list already")
    for key in ("all", "any", "of"):
        for index, child in enumerate(getattr(node, key) or ()):
            yield from _wrong_leaves(child, (*path, key, index), known)


def render_tree(
    document: SeverityDocument, policy: Policy, service: Service | None, bindings: Mapping[str, str]
) -> SeverityTree:
    """The tree for one incident: names of the document, overridden by the policy, overridden by the service.

    A condition that uses a binding which this incident does not have is kept with its `fault`: it is inconclusive, so
    that an alert that leads to no target still gets its verdict. PolicyInvalid where a weight of a score cannot be."""
    return rendered_tree(document, policy, service, bindings)[0]


def rendered_tree(
    document: SeverityDocument,
    policy: Policy,
    service: Service | None,
    bindings: Mapping[str, str],
    *,
    fault: str = "",
) -> tuple[SeverityTree, bytes]:
    """As `render_tree`, with the bytes that the digest is of. `fault`: why nothing may be judged for this incident,
    whatever is measured. Each condition is kept with it then, so that none is asked and all are inconclusive."""
    nearest = {**document.thresholds, **policy.thresholds, **(service.thresholds if service else {})}
    rendering = Rendering(
        # Only names of the document itself: one that a runbook has could hide a binding.
        durations={name: policy.durations.get(name, span) for name, span in document.durations.items()},
        thresholds={name: nearest[name] for name in document.thresholds},
        bindings=bindings,
        baseline=policy.baseline,
    )
    for name, block in document.conditions.items():
        for wrong in weight_faults(block, rendering.thresholds):
            named = f" or service {service.name!r}" if service else ""
            raise PolicyInvalid(
                f"with the weights of policy {policy.source}{named}, condition {name!r}: {wrong.message}"
            )
    conditions = tuple(_rendered(name, block, rendering, fault) for name, block in document.conditions.items())
    tree = SeverityTree(
        name=document.name,
        service=service.name if service else "",
        step=rendering.step,
        conditions=conditions,
        nodes=document.nodes,
        may_act_dimensions=document.may_act_dimensions,
        trusted_labels=policy.trusted_labels,
        source_digest=document.digest,
        policy=policy.name,
        policy_digest=policy.digest,
    )
    data = tree_bytes(tree)
    return replace(tree, digest=hashlib.sha256(data).hexdigest()), data


def _rendered(name: str, block: ConditionBlock, rendering: Rendering, fault: str) -> Condition:
    if not fault:
        try:
            return render_condition(name, block, rendering)
        except RunbookInvalid as broken:
            fault = str(broken)
    return Condition(
        name=name,
        kind=block.kind,
        dimension=block.dimension,
        title=block.title,
        unit=block.unit,
        sample_step=rendering.step,
        own=is_own(block),
        fault=fault,
    )


def tree_bytes(tree: SeverityTree) -> bytes:
    """Canonical JSON (sorted keys, no spaces, UTF-8) of all fields but `digest`, which is its SHA-256 (hex)."""
    data = to_data(tree)
    del data["digest"]
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def tree_from_bytes(data: bytes) -> SeverityTree:
    """Inverse of `tree_bytes`, with `digest`. ContractError's RunbookInvalid for bytes that are no tree."""
    try:
        tree = from_data(SeverityTree, json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError) as broken:
        raise RunbookInvalid(f"the kept bytes are no severity tree: {broken}") from None
    return replace(tree, digest=hashlib.sha256(data).hexdigest())

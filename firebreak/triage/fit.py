"""What a severity tree becomes under one policy, for each service: found when documents are read, not at night."""

from __future__ import annotations

from firebreak.documents.conditions import (
    DEFAULT_STEP,
    STANDARD_BINDINGS,
    too_many_points,
)
from firebreak.documents.policy import Policy
from firebreak.documents.services import Services
from firebreak.documents.weights import weight_problems
from firebreak.documents.yaml_file import Finding
from firebreak.domain.errors import Problem
from firebreak.triage.tree import SeverityDocument, render_tree


def tree_problems(document: SeverityDocument, policy: Policy, services: Services | None) -> tuple[Problem, ...]:
    """What would make a condition useless or the tree impossible: for each service, and for the alert of none, which
    is judged by the policy's numbers alone. A parameter that a service does not give is not among it: what
    the alert gives is not known, and such a condition is inconclusive for that service."""
    found: set[Problem] = set()
    durations = {**document.durations, **policy.durations}
    for name, block in document.conditions.items():
        held_for = durations[block.for_[1:]] if isinstance(block.for_, str) else block.for_
        if why := too_many_points(held_for, durations.get("step", DEFAULT_STEP)):
            told = f"with the durations of policy {policy.source}, {why}"
            found.add(document.document.problem(Finding(("conditions", name, "for"), told)))
    if found:  # every service's tree has them
        return tuple(sorted(found))
    samples = {name: f"${name}" for name in (*STANDARD_BINDINGS, *document.params)}
    for service in (None, *(services.services.values() if services else ())):
        wrong = tuple(
            weight_problems(
                document.document,
                document.conditions,
                document.thresholds,
                policy=policy,
                services=services,
                service=service,
            )
        )
        found.update(wrong)
        if wrong:
            continue  # it cannot be rendered
        bindings = {**samples, **service.params, "service": service.name} if service else samples
        for condition in render_tree(document, policy, service, bindings).conditions:
            if condition.fault:
                told = f"for service {service.name!r}, {condition.fault}" if service else condition.fault
                found.add(document.document.problem(Finding(("conditions", condition.name), told)))
    return tuple(sorted(found))

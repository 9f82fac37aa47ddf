"""What a severity tree becomes under one policy, for each service: found when documents are read, not at night."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.conditions import (
    DEFAULT_STEP,
    STANDARD_BINDINGS,
    Rendering,
    render_condition,
    too_many_points,
)
from firebreak.documents.policy import Policy
from firebreak.documents.services import Service, Services
from firebreak.documents.weights import weight_problems
from firebreak.documents.yaml_file import Finding
from firebreak.domain.errors import Problem, RunbookInvalid
from firebreak.triage.tree import SeverityDocument, render_tree

_MOST_NAMES = 5  # services that a sentence names


def tree_problems(document: SeverityDocument, policy: Policy, services: Services | None) -> tuple[Problem, ...]:
    """What would make a condition useless or the tree impossible: for each service, and for the alert of none, which
    is judged by the policy's numbers alone. A parameter that a service does not give is not among it
    (`lacking_params`): what the alert gives is not known, and such a condition is inconclusive for that service."""
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


def lacking_params(document: SeverityDocument, services: Collection[Service]) -> tuple[Problem, ...]:
    """Parameters that the document asks for and a service does not give: what reads them is inconclusive for it in
    every incident. For the linter: the engine takes such documents, since another service may well give them."""
    findings = []
    for index, param in enumerate(document.params):
        without = [service.name for service in services if param not in service.params]
        reading = [name for name, block in document.conditions.items() if _reads(name, block, param, document)]
        if not without or (not reading and len(without) < len(services)):
            continue
        told = f"parameter {param!r} is missing from {_listed(without)}"
        if len(without) == len(services):
            told = f"no service has the parameter {param!r}"
        if reading:
            told += f": {', '.join(reading)} is inconclusive there in every incident"
        findings.append(Finding(("params", index), told))
    return document.document.problems(findings)


def without_workload(document: SeverityDocument, services: Collection[Service]) -> tuple[Problem, ...]:
    """Conditions that ask for `$workload`, with the services whose alerts name a pod: which workload it belongs to is
    found out while the conditions are asked, so they are inconclusive in every incident of these. For the linter."""
    names = [service.name for service in services if service.target.pod is not None]
    if not names:
        return ()
    told = f"$workload has no value for {_listed(names)}, whose target is a pod: inconclusive there in every incident"
    return document.document.problems(
        Finding(("conditions", name), told, on_key=True)
        for name, block in document.conditions.items()
        if _reads(name, block, "workload", document)
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


def _reads(name: str, block: ConditionBlock, param: str, document: SeverityDocument) -> bool:
    bindings = {n: n for n in (*STANDARD_BINDINGS, *document.params) if n != param}
    values = Rendering(durations=document.durations, thresholds=document.thresholds, bindings=bindings)
    try:
        render_condition(name, block, values)
    except RunbookInvalid:
        return True
    return False

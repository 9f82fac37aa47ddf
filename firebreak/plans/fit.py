"""What each service's runbooks become with its own parameters and numbers: found when documents are read, since in the
incident the whole plan would be refused, with the steps that are right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from firebreak.documents.conditions import STANDARD_BINDINGS, Rendering, render_condition
from firebreak.documents.policy import Policy
from firebreak.documents.services import Service, Services
from firebreak.documents.weights import weight_problems
from firebreak.documents.yaml_file import Finding
from firebreak.domain.action import ActionSpec
from firebreak.domain.errors import Problem, RunbookInvalid
from firebreak.plans.choose import candidates
from firebreak.plans.params import filled, placeholders
from firebreak.plans.parts import steps_of
from firebreak.plans.pin import values_for
from firebreak.plans.rules import hint, leans_on_services, symptoms
from firebreak.plans.runbook import Runbook


def plan_problems(
    runbooks: Collection[Runbook], policy: Policy, services: Services | None, specs: Mapping[str, ActionSpec]
) -> tuple[Problem, ...]:
    """For each service, what is wrong with the plans that its P1s may get. Without services: with the policy's numbers
    alone. The rules that need no service (`lint_runbook`) are taken to be kept; what they name is not named again."""
    found: set[Problem] = set()
    if services is None:
        for runbook in runbooks:
            model = runbook.model
            found.update(weight_problems(runbook.document, model.conditions, model.thresholds, policy=policy))
        return tuple(sorted(found))
    leaning = {runbook.source for runbook in runbooks if leans_on_services(runbook.model)}
    for service in services.services.values():
        for runbook in candidates(runbooks, service):
            values = _values(runbook, policy, service)
            found.update(_for_service(runbook, policy, services, service, values, specs))
            if runbook.source in leaning:
                found.update(_said_of(service, runbook, symptoms(runbook.model, values)))
    return tuple(sorted(found))


def _for_service(
    runbook: Runbook,
    policy: Policy,
    services: Services,
    service: Service,
    values: Rendering,
    specs: Mapping[str, ActionSpec],
) -> Iterator[Problem]:
    model = runbook.model
    yield from weight_problems(
        runbook.document, model.conditions, model.thresholds, policy=policy, services=services, service=service
    )
    for finding in _params(runbook, service, values.bindings, specs):
        yield services.document.problem(finding)
    yield from _said_of(service, runbook, _conditions(runbook, values))


def _values(runbook: Runbook, policy: Policy, service: Service) -> Rendering:
    """As in an incident; what the alert will give (all of the standard bindings but the service) stays a `$name`."""
    alert = {name: f"${name}" for name in STANDARD_BINDINGS}
    given = {name: service.params[name] for name in runbook.match.params}
    bindings = {**alert, **given, "service": service.name}
    return values_for(runbook, bindings=bindings, policy=policy, service_thresholds=service.thresholds)


def _said_of(service: Service, runbook: Runbook, findings: Iterable[Finding]) -> Iterator[Problem]:
    for finding in findings:
        yield runbook.document.problem(replace(finding, message=f"for service {service.name!r}, {finding.message}"))


def _params(
    runbook: Runbook, service: Service, bindings: Mapping[str, str], specs: Mapping[str, ActionSpec]
) -> Iterator[Finding]:
    """Values of the service that an action refuses. What the alert gives is not known yet, and not judged."""
    for _, step in steps_of(runbook.model):
        spec = specs.get(step.action)
        if spec is None:
            continue
        named: dict[object, set[str]] = {}
        for path, name in placeholders(step.params):
            named.setdefault(path[0], set()).add(name)
        everything = {name for names in named.values() for name in names}
        as_written = spec.validate(step.params)
        for problem in spec.validate(filled(step.params, bindings)):
            names = named.get(problem.path[0], set()) if problem.path else everything
            if problem in as_written or not names or names & (STANDARD_BINDINGS - {"service"}):
                continue
            where = f"runbook {runbook.name}, step {step.id!r}"
            at = ".".join(map(str, problem.path))
            told = f"{where}: {at}: {problem.message}" if at else f"{where}: {problem.message}"
            given = sorted(names & service.params.keys())
            path = ("services", service.name, "params", given[0]) if given else ("services", service.name)
            yield Finding(path, told, on_key=not given)


def _conditions(runbook: Runbook, values: Rendering) -> Iterator[Finding]:
    for name, block in runbook.model.conditions.items():
        try:
            render_condition(name, block, values)
        except RunbookInvalid as broken:
            yield Finding(("conditions", name), str(broken), on_key=True)


def never_chosen(runbooks: Iterable[Runbook], services: Collection[Service]) -> tuple[Problem, ...]:
    """Runbooks that ask for what no service is or has: most often a slip of the pen. For the linter, which sees them
    before they are missed."""
    names = {service.name for service in services}
    given = {param for service in services for param, value in service.params.items() if value}
    found: list[Problem] = []
    for runbook in runbooks:
        match = runbook.match
        findings = [
            Finding(("match", "services", index), f"there is no service {name!r}{hint(name, names)}")
            for index, name in enumerate(match.services)
            if name not in names
        ]
        findings += [
            Finding(("match", "params", index), f"no service has the parameter {param!r}{hint(param, given)}")
            for index, param in enumerate(match.params)
            if param not in given
        ]
        if not findings and not any(candidates([runbook], service) for service in services):
            told = "no service is and has all that is asked for here: the runbook is never chosen"
            findings.append(Finding(("match",), told, on_key=True))
        found += runbook.document.problems(findings)
    return tuple(found)

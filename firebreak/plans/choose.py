"""Which runbook an incident gets: the same documents and the same incident always give the same one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firebreak.documents.services import Service
from firebreak.domain.verdict import Severity
from firebreak.plans.runbook import Runbook


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`runbook` None = none fits; `reason` is always a sentence."""

    runbook: Runbook | None
    reason: str


def choose(
    runbooks: Iterable[Runbook],
    *,
    service: str,
    severity: Severity,
    labels: Mapping[str, str],
    bindings: Mapping[str, str],
) -> Choice:
    """Of all that match: the highest priority, then the one that asks for most, then the first by name.

    `labels` are those of the alert that opened the incident, `bindings` the incident's (the service's parameters among
    them)."""
    unfit: list[str] = []
    fit: list[Runbook] = []
    for runbook in _in_order(runbooks):
        objection = _objection(runbook, service, severity, labels, bindings)
        if objection:
            unfit.append(f"{runbook.name} {objection}")
        else:
            fit.append(runbook)
    if not fit:
        return Choice(runbook=None, reason=f"no runbook fits {service!r}: {'; '.join(unfit) or 'there is none at all'}")
    best = fit[0]
    others = ", ".join(r.name for r in fit[1:])
    why = f"priority {best.model.priority}, {_demands(best)} demands met"
    return Choice(
        runbook=best,
        reason=f"runbook {best.name} is "
        + (f"chosen before {others} ({why})" if others else f"the one that fits ({why})"),
    )


def candidates(runbooks: Iterable[Runbook], service: Service) -> tuple[Runbook, ...]:
    """Those that some P1 of the service may get, in the order of choice. Its alerts carry the labels of its `match`,
    and may carry any other."""
    found: list[Runbook] = []
    for runbook in _in_order(runbooks):
        labels = {**runbook.match.labels, **service.match}
        if _objection(runbook, service.name, Severity.P1, labels, service.params):
            continue
        found.append(runbook)
        if runbook.match.labels.items() <= service.match.items():
            break  # it fits all of them: what comes later never has a turn
    return tuple(found)


def _in_order(runbooks: Iterable[Runbook]) -> list[Runbook]:
    return sorted(runbooks, key=lambda r: (-r.model.priority, -_demands(r), r.name, r.source))


def _demands(runbook: Runbook) -> int:
    """How much a runbook asks for: a named service counts as one, each label and each parameter, too."""
    return bool(runbook.match.services) + len(runbook.match.labels) + len(set(runbook.match.params))


def _objection(
    runbook: Runbook, service: str, severity: Severity, labels: Mapping[str, str], bindings: Mapping[str, str]
) -> str:
    match = runbook.match
    if match.severity != severity.value:
        return f"is for {match.severity}"
    if match.services and service not in match.services:
        return f"is for {', '.join(match.services)}"
    wrong = [f"{name}={value}" for name, value in sorted(match.labels.items()) if labels.get(name) != value]
    if wrong:
        return f"wants of the alert that opened it the labels {', '.join(wrong)}"
    missing = [param for param in match.params if not bindings.get(param)]
    return f"wants the service parameters {', '.join(missing)}" if missing else ""

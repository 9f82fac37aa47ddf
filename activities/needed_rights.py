"""What the documents in force need the engine's account to be allowed to do, namespace by namespace. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from activities.rulebook import Rules
from activities.workloads import WORKLOAD_KINDS
from firebreak.documents.conditions import STANDARD_BINDINGS
from firebreak.documents.services import FromLabel, Service
from firebreak.domain.access import Right, rights
from firebreak.domain.incident import Mode
from firebreak.domain.target import ResourceKind
from firebreak.plans.choose import candidates
from firebreak.plans.model import StepBlock
from firebreak.plans.params import filled
from firebreak.plans.parts import steps_of

EVIDENCE = (
    *rights(ResourceKind.POD, "list"),
    *rights(ResourceKind.POD, "get", subresource="log"),
    *rights(ResourceKind.EVENT, "list"),
    *rights(ResourceKind.CONFIG_MAP, "list"),
    *rights(ResourceKind.REPLICASET, "list"),
    *rights(ResourceKind.CONTROLLER_REVISION, "list"),
    *rights(ResourceKind.DEPLOYMENT, "list"),
)
"""What is kept of an incident, in each namespace with targets; beside it the target itself."""

EVIDENCE_ELSEWHERE = (
    ("", rights(ResourceKind.NODE, "list")),
    ("default", rights(ResourceKind.EVENT, "list")),
)
"""(namespace, rights) beyond those: nodes that came or went, and their events, which are kept in `default`."""

WALK = (
    *rights(ResourceKind.POD, "get"),
    *rights(ResourceKind.REPLICASET, "get"),
    *(right for kind in sorted(WORKLOAD_KINDS) for right in rights(kind, "get")),
)
"""From a pod that an alert names up to its workload."""

FOR_EVIDENCE, FOR_TARGET = "evidence", "finding the workload"

UNKNOWN = "\0"  # in the place of what only an alert will tell


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Need:
    """`right` in `namespace` (empty = of the whole cluster), on the object `name` where it is needed on one alone.
    `purpose`: FOR_EVIDENCE, FOR_TARGET or the action's name."""

    namespace: str
    purpose: str
    right: Right
    name: str = ""


def needs(rules: Rules, namespaces: Collection[str], mode: Mode) -> tuple[Need, ...]:
    """All of them, in order. `namespaces`: where services are whose namespace an alert names. In mode observe nothing
    is written, so that no right to write is among them; nor is one on an object that only an alert will name."""
    found = {Need(namespace=there, purpose=FOR_EVIDENCE, right=r) for there, of in EVIDENCE_ELSEWHERE for r in of}
    for service in rules.services.services.values():
        for there in namespaces_of(service) or sorted(namespaces):
            kind = service.target.kind
            way = WALK if kind is None else rights(kind, "get")
            name = _target_name(service)
            found.update(Need(namespace=there, purpose=FOR_TARGET, right=right, name=name) for right in way)
            found.update(Need(namespace=there, purpose=FOR_EVIDENCE, right=right) for right in EVIDENCE)
            for runbook in candidates(rules.runbooks, service):
                for _, step in steps_of(runbook.model):
                    found.update(_of_step(rules, service, step, there))
    return tuple(sorted(need for need in found if mode is Mode.ACT or need.right.verb != "patch"))


def namespaces_of(service: Service) -> tuple[str, ...]:
    """The one that its target is in; empty where an alert's label names it."""
    return () if isinstance(service.target.namespace, FromLabel) else (service.target.namespace,)


def _target_name(service: Service) -> str:
    """Of a target that the document names; empty where an alert does."""
    name = service.target.name
    return name if isinstance(name, str) else ""


def _of_step(rules: Rules, service: Service, step: StepBlock, target_in: str) -> Iterator[Need]:
    spec = rules.specs.get(step.action)
    if spec is None:
        return
    params = filled(
        step.params, {**dict.fromkeys(STANDARD_BINDINGS, UNKNOWN), **service.params, "service": service.name}
    )
    there = params.get("namespace") or target_in
    kind = service.target.kind
    for right in spec.rights:
        if kind and right.kind in spec.target_kinds - {kind} and right.verb != "list":
            continue  # its targets are of another kind
        name = params.get(right.named_by, UNKNOWN) if right.named_by else ""
        if right.kind is kind and kind in spec.target_kinds and right.verb != "list":
            name = _target_name(service)
        if UNKNOWN not in (name, there):
            yield Need(namespace=there, purpose=spec.name, right=right, name=name)

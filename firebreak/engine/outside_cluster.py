"""The Kubernetes API server, tried as an incident would use it: credentials, rights, what documents name in full."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Collection, Sequence
from datetime import timedelta
from typing import TypeVar

from activities.needed_rights import FOR_EVIDENCE, Need, namespaces_of, needs
from activities.rulebook import Rules
from activities.workloads import WORKLOAD_KINDS
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.kubernetes_access import account, allowed
from firebreak.documents.services import FromLabel, Service
from firebreak.domain.access import Right
from firebreak.domain.errors import FirebreakError, PermissionDenied, TargetNotFound
from firebreak.domain.incident import Mode
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.findings import FEW, Findings, listed
from firebreak.settings import Settings

CALL = timedelta(seconds=5)
"""For one call."""

FIRST = timedelta(seconds=15)
"""For the first one: an exec plugin may have to fetch a token. The engine gives a plugin 30 s, over several calls."""

AT_ONCE = 16
"""Calls under way, so that each has its whole time: hundreds of rights are asked for, over any distance."""

Answer = TypeVar("Answer")


async def try_cluster(found: Findings, settings: Settings, rules: Rules | None, namespaces: Collection[str]) -> None:
    """`namespaces`: of services whose namespace an alert names."""
    async with KubernetesCluster(settings.cluster, kubeconfig=settings.kubeconfig) as cluster:
        who = await account(cluster, timeout=FIRST)
        found.ok(f"{cluster.address} is cluster {cluster.name}{f', as {who}' if who else ''}")
        if rules is None:
            return
        services = rules.services.services.values()
        _namespaces_asked(found, services, namespaces)
        gate = asyncio.Semaphore(AT_ONCE)

        async def in_turn(call: Awaitable[Answer]) -> Answer:
            async with gate:
                return await call

        wanted = [
            need
            for need in needs(rules, namespaces, settings.mode)
            if settings.evidence_capture or need.purpose != FOR_EVIDENCE
        ]
        answers = await asyncio.gather(
            *(in_turn(allowed(cluster, need.right, need.namespace, need.name, timeout=CALL)) for need in wanted)
        )
        having = [need for need, may in zip(wanted, answers, strict=True) if may]
        _denied(found, [need for need, may in zip(wanted, answers, strict=True) if not may])
        asked = sorted({need.namespace for need in wanted} - {""})
        there = (
            *(_namespace(found, cluster, name) for name in asked),
            *(_target(found, cluster, service) for service in services),
            *(_object(found, cluster, ref, purpose) for ref, purpose in _named(cluster, having).items()),
        )
        await asyncio.gather(*(in_turn(look) for look in there))
        if len(having) == len(wanted):
            found.ok(f"it may do all that the documents need in {listed(asked, FEW)} ({len(wanted)} rights)")
        if settings.mode is not Mode.ACT:
            found.note("mode observe writes nothing: whether the engine may write was not asked")


def _namespaces_asked(found: Findings, services: Collection[Service], namespaces: Collection[str]) -> None:
    unnamed = [service.name for service in services if not namespaces_of(service)]
    if unnamed and not namespaces:
        found.note(
            f"alerts name the namespace of {listed(unnamed, FEW)}: what may be done there was not asked",
            "Name those namespaces: firebreak check --namespace shop --namespace ...",
        )
    known = {name for service in services for name in namespaces_of(service)}
    if not unnamed and (beside := sorted(set(namespaces) - known)):
        found.note(f"no service has targets in {listed(beside)} (--namespace): what may be done there was not asked")


async def _namespace(found: Findings, cluster: KubernetesCluster, name: str) -> None:
    """An account of the whole cluster may do all in one that is not there. The README's may not ask."""
    ref = TargetRef(cluster=cluster.name, namespace="", kind=ResourceKind.NAMESPACE, name=name)
    try:
        await cluster.get(ref, timeout=CALL)
    except TargetNotFound:
        found.problem(
            f"there is no namespace {name}", "Correct it in services.yaml, in the runbook, or in --namespace."
        )
    except FirebreakError:
        return


async def _target(found: Findings, cluster: KubernetesCluster, service: Service) -> None:
    """A target that the document names in full is there."""
    rule = service.target
    if rule.kind is None or isinstance(rule.name, FromLabel) or isinstance(rule.namespace, FromLabel):
        return
    assert rule.name is not None
    ref = TargetRef(cluster=cluster.name, namespace=rule.namespace, kind=rule.kind, name=rule.name)
    try:
        await cluster.get(ref, timeout=CALL)
    except PermissionDenied:
        return  # one of the rights that are told
    except FirebreakError as error:
        found.failed(error, f"the target of service {service.name}: ")


def _named(cluster: KubernetesCluster, having: Sequence[Need]) -> dict[TargetRef, str]:
    """Objects beside the targets that steps name and may read, with what reads them."""
    return {
        TargetRef(cluster=cluster.name, namespace=need.namespace, kind=need.right.kind, name=need.name): need.purpose
        for need in having
        if need.name and need.right.verb == "get" and need.right.kind not in WORKLOAD_KINDS
    }


async def _object(found: Findings, cluster: KubernetesCluster, ref: TargetRef, purpose: str) -> None:
    try:
        await cluster.get(ref, timeout=CALL)
    except TargetNotFound as error:
        found.problem(
            f"{purpose} would be refused: {error}",
            "Correct the name in the service's params, or in the runbook's step.",
        )


def _denied(found: Findings, needs: Sequence[Need]) -> None:
    """One sentence for each purpose, with all namespaces in which the same is missing."""
    by_place: dict[tuple[str, str], list[Need]] = defaultdict(list)
    for need in needs:
        by_place[need.purpose, need.namespace].append(need)
    alike: dict[tuple[str, tuple[Right, ...]], list[Need]] = defaultdict(list)
    for (purpose, _), of in by_place.items():
        alike[purpose, tuple(dict.fromkeys(need.right for need in of))].extend(of)
    for (purpose, missing), of in alike.items():
        place, many = _places(sorted({need.namespace for need in of}))
        lacks = listed([_with_names(right, of) for right in missing])
        advice = "Grant what the README's Role for the engine says."
        if any(need.right.kind in WORKLOAD_KINDS and need.right.verb != "list" and not need.name for need in of):
            advice += " A grant by resourceNames is not seen here: alerts name the targets."
        if purpose == FOR_EVIDENCE:
            found.note(f"{place} evidence would be missing: it may not {lacks}{many}", advice)
        else:
            found.problem(f"{place} {purpose} would be refused: it may not {lacks}{many}", advice)


def _places(namespaces: Sequence[str]) -> tuple[str, str]:
    """Where, and what is told at the end: of many namespaces their names."""
    if namespaces == [""]:
        return "in the whole cluster", ""
    if len(namespaces) > FEW:  # what is missing comes first
        return f"in {len(namespaces)} namespaces", f"; these are {listed(namespaces)}"
    return f"in namespace{'s' if len(namespaces) > 1 else ''} {listed(namespaces)}", ""


def _with_names(right: Right, needs: Sequence[Need]) -> str:
    names = sorted({need.name for need in needs if need.right == right and need.name})
    if len(names) > 1:
        return f"{right.text} ({listed(names, FEW)})"
    return " ".join((right.text, *names))

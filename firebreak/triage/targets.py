"""From an alert's labels to the object that an action may be aimed at. The mapping is data (services.yaml).

Rules, all of them refusing rather than guessing:
- the service with the most matching labels wins; a tie is refused, an alert that matches none is refused;
- the cluster must be ours. The alert says so in the label that the document names; without it the alert is refused.
  `cluster_label: ""` = one cluster, alerts carry no label; yet one that says another `cluster` is refused. What is
  refused for that is of an incident of its own, which nothing that is measured in our cluster says anything about;
- namespace and name come from the document, or from the very label that it names, never from an exporter's own
  `namespace` and `pod`; they must be DNS-1123 names, so wildcards and empty values are refused; so are the system's
  namespaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from firebreak.documents.names import is_object_name, refuse_namespace
from firebreak.documents.services import FromLabel, Service, Services
from firebreak.domain.target import ResourceKind, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Where an alert leads. Exactly one of `target`, `pod` (its owners are still to be walked up) and `refusal` is
    set. `service` is known also where the target is refused, so that the right people are paged. `cluster` is the one
    that the alert is of, by its own word; `elsewhere` says why that is not known to be ours (then there is a `refusal`,
    too). `bindings` fill the placeholders of documents; `workload` is among them once the workload is known."""

    cluster: str
    elsewhere: str = ""
    service: str = ""
    target: TargetRef | None = None
    pod: TargetRef | None = None
    refusal: str = ""
    bindings: Mapping[str, str] = field(default_factory=dict)


class _Refused(Exception):
    """The sentence says why."""


def resolve(labels: Mapping[str, str], services: Services, cluster: str) -> Resolution:
    """Never raises: what leads nowhere is a refusal with a sentence. `cluster` is our own cluster's name."""
    said, elsewhere = _cluster(labels, services.cluster_label, cluster)
    try:
        service = _service(labels, services)
    except _Refused as refused:
        refusal = f"{elsewhere}; {refused}" if elsewhere else str(refused)
        return Resolution(cluster=said, elsewhere=elsewhere, refusal=refusal, bindings=_plain(labels, said))
    bindings = {**service.params, "service": service.name, "cluster": said}
    try:
        if elsewhere:
            raise _Refused(elsewhere)
        namespace = _read(service.target.namespace, labels, "namespace")
        if refusal := refuse_namespace(namespace):
            raise _Refused(refusal)
        bindings["namespace"] = namespace
        target, pod = _object(service, namespace, labels, cluster)
    except _Refused as refused:
        return Resolution(
            cluster=said,
            elsewhere=elsewhere,
            service=service.name,
            refusal=f"service {service.name}: {refused}",
            bindings=bindings,
        )
    if target is not None:
        bindings["workload"] = target.name
    return Resolution(cluster=said, service=service.name, target=target, pod=pod, bindings=bindings)


def _service(labels: Mapping[str, str], services: Services) -> Service:
    fitting = services.matching(labels)
    if not fitting:
        said = f"service={_shown(labels['service'])}" if "service" in labels else "no label service"
        raise _Refused(f"no service of {services.source} matches the alert ({said})")
    most = max(len(service.match) for service in fitting)
    best = [service for service in fitting if len(service.match) == most]
    if len(best) > 1:
        raise _Refused(f"several services match the alert equally well: {', '.join(s.name for s in best)}")
    return best[0]


def _plain(labels: Mapping[str, str], cluster: str) -> Mapping[str, str]:
    """An unknown service may still be looked at under its own name; nothing can be aimed at it."""
    service = labels.get("service", "")
    return {"cluster": cluster, "service": service} if is_object_name(service) else {"cluster": cluster}


def _cluster(labels: Mapping[str, str], label: str, cluster: str) -> tuple[str, str]:
    """The cluster that the alert is of (empty: it does not say), and why that is not known to be ours."""
    said = labels.get(label or "cluster", "")
    if said == cluster or (not label and not said):
        return cluster, ""
    if not said:
        return "", f"the alert has no label {label}: it may be of another cluster than {cluster}"
    return said, f"the alert is of cluster {_shown(said)}, this engine acts on {cluster}"


def _object(
    service: Service, namespace: str, labels: Mapping[str, str], cluster: str
) -> tuple[TargetRef | None, TargetRef | None]:
    rule = service.target
    if rule.pod is not None:
        name, kind = _read(rule.pod, labels, "pod"), ResourceKind.POD
    elif rule.name is not None and rule.kind is not None:
        name, kind = _read(rule.name, labels, rule.kind.kind), rule.kind
    else:
        raise _Refused("services.yaml names no target")
    if not is_object_name(name):
        raise _Refused(f"{_shown(name)} is not the name of a {kind.kind} (DNS-1123)")
    ref = TargetRef(cluster=cluster, namespace=namespace, kind=kind, name=name)
    return (None, ref) if kind is ResourceKind.POD else (ref, None)


def _read(source: str | FromLabel, labels: Mapping[str, str], what: str) -> str:
    if isinstance(source, str):
        return source
    value = labels.get(source.label, "")
    if not value:
        raise _Refused(f"the alert has no label {source.label}, which should say the {what}")
    return value


def _shown(value: str) -> str:
    """A label's value in a sentence: quoted, escaped and short."""
    return ascii(value if len(value) <= 80 else value[:77] + "...")

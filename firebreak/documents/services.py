"""The services document: what differs by service, and how an alert's labels lead to a target.

    kind: services
    cluster_label: cluster              # "" = alerts carry none, there is one cluster
    services:
      pay:
        match: {service: pay}           # default
        team: payments
        chat_channel: C0123456789
        pager_key: R0123...
        target: {namespace: shop, kind: Deployment, name: {label: deployment}}
        thresholds: {p99_ms: 800}       # override those of policy and documents, for this service
        weights: {pay_weight: 0.7}      # the same for the weights of the health score
        params: {route: pay}            # further placeholders, and values for runbooks' parameters

Only labels that the document names are read: an exporter's own `namespace` and `pod` labels say where the exporter
runs, not what is broken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from firebreak.documents.conditions import STANDARD_BINDINGS
from firebreak.documents.fields import Block, Name, Number
from firebreak.documents.names import is_object_name, refuse_namespace
from firebreak.documents.promql import BASELINE
from firebreak.documents.yaml_file import Finding, YamlDocument, load_yaml, refuse, validate
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.message import Route
from firebreak.domain.target import ResourceKind, resource_kind

Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class FromLabel(Block):
    """A value read from one label of the alert."""

    label: Text


def _literal_or_label(value: Any) -> Any:
    if isinstance(value, FromLabel) or (isinstance(value, str) and value):
        return value
    if isinstance(value, Mapping) and set(value) == {"label"} and isinstance(value["label"], str) and value["label"]:
        return FromLabel(label=value["label"])
    raise ValueError("write a name, or {label: LABEL} to read it from the alert")


LiteralOrLabel: TypeAlias = Annotated[
    str | FromLabel,
    BeforeValidator(_literal_or_label),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {"label": {"type": "string", "minLength": 1}},
                    "required": ["label"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class TargetBlock(Block):
    """The workload by `kind` and `name`, or a `pod` whose owners are walked up to it. Exactly one of both."""

    namespace: LiteralOrLabel
    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] | None = None
    name: LiteralOrLabel | None = None
    pod: FromLabel | None = None

    @model_validator(mode="after")
    def _one_way(self) -> TargetBlock:
        if (self.pod is None) == (self.name is None) or (self.name is None) != (self.kind is None):
            raise ValueError("a target has either `kind` and `name`, or `pod`")
        return self


class ServiceBlock(Block):
    """One service as it is written."""

    match: dict[Text, str] = Field(default_factory=dict)
    team: str = ""
    chat_channel: str = ""
    pager_key: str = Field(default="", repr=False)
    target: TargetBlock
    thresholds: dict[Name, Number] = Field(default_factory=dict)
    weights: dict[Name, Number] = Field(default_factory=dict)
    params: dict[Name, str] = Field(default_factory=dict)


class ServicesModel(Block):
    """A services document as it is written."""

    kind: Literal["services"]
    summary: str = ""
    cluster_label: str = "cluster"
    services: dict[Text, ServiceBlock] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRule:
    """How labels lead to a target. `name` and `kind`, or `pod`: one of both is None."""

    namespace: str | FromLabel
    kind: ResourceKind | None
    name: str | FromLabel | None
    pod: FromLabel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service ready for use. `thresholds` holds its weights too: one name space, checked to be free of clashes."""

    name: str
    match: Mapping[str, str]
    team: str
    chat_channel: str
    pager_key: str = field(repr=False)
    target: TargetRule
    thresholds: Mapping[str, float]
    params: Mapping[str, str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(label) == value for label, value in self.match.items())

    @property
    def route(self) -> Route:
        return Route(team=self.team, chat_channel=self.chat_channel, pager_key=self.pager_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services. Implements `RoutesPort`."""

    source: str
    digest: str
    cluster_label: str
    services: Mapping[str, Service]
    document: YamlDocument = field(repr=False, compare=False)
    _by_label: Mapping[tuple[str, str], tuple[tuple[int, Service], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_label", _by_rarest_label(self.services.values()))

    def matching(self, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """All services whose every `match` label is among `labels`, in the document's order. Only those are looked at
        that share a pair with `labels`: of each service's, the one that the fewest others have."""
        found = [one for pair in labels.items() for one in self._by_label.get(pair, ()) if one[1].matches(labels)]
        return tuple(service for _, service in sorted(found, key=lambda one: one[0]))

    def route(self, service: str) -> Route:
        """Where messages of a service go; an empty route for a service that is not listed."""
        found = self.services.get(service)
        return found.route if found else Route()


def _by_rarest_label(services: Collection[Service]) -> dict[tuple[str, str], tuple[tuple[int, Service], ...]]:
    """Each service, with its place in the document, under that pair of its `match` which the fewest others have."""
    common = Counter(pair for service in services for pair in service.match.items())
    found: defaultdict[tuple[str, str], list[tuple[int, Service]]] = defaultdict(list)
    for place, service in enumerate(services):
        found[min(service.match.items(), key=lambda pair: common[pair])].append((place, service))
    return {pair: tuple(of_pair) for pair, of_pair in found.items()}


def load_services(data: bytes, source: str) -> Services:
    """RunbookInvalid with file, line and column of everything wrong."""
    document = load_yaml(data, source)
    model = validate(document, ServicesModel)
    findings = [
        finding.under(("services", name)) for name, block in model.services.items() for finding in _wrong(name, block)
    ]
    findings += _matched_twice(model.services)
    if findings:
        raise refuse(document.problems(findings))
    return Services(
        source=source,
        digest=document.digest,
        cluster_label=model.cluster_label,
        services={name: _service(name, block) for name, block in model.services.items()},
        document=document,
    )


def _wrong(name: str, block: ServiceBlock) -> Iterator[Finding]:
    if not is_object_name(name):
        yield Finding((), f"{name!r} is not a service name: lower case letters, digits, - and .", on_key=True)
    for label, value in block.match.items():
        if not value:
            yield Finding(("match", label), "an empty value would match every alert that lacks the label")
    namespace, target_name = block.target.namespace, block.target.name
    if isinstance(namespace, str) and (refusal := refuse_namespace(namespace)):
        yield Finding(("target", "namespace"), refusal)
    if isinstance(target_name, str) and not is_object_name(target_name):
        yield Finding(("target", "name"), f"{target_name!r} is not the name of an object (DNS-1123)")
    reserved = STANDARD_BINDINGS | {BASELINE}
    for param in block.params:
        if param in reserved:
            path: NodePath = ("params", param)
            yield Finding(path, f"{param!r} is filled in by the engine and cannot be a parameter", on_key=True)
    for both in block.thresholds.keys() & block.weights.keys():
        yield Finding(("weights", both), f"{both!r} is among the thresholds already", on_key=True)


def _matched_twice(services: Mapping[str, ServiceBlock]) -> Iterator[Finding]:
    """Two services that match the same alerts: each of these would be refused, since none of both is the nearer one."""
    first: dict[frozenset[tuple[str, str]], str] = {}
    for name, block in services.items():
        other = first.setdefault(frozenset(_match(name, block).items()), name)
        if other != name:
            path: NodePath = ("services", name, "match") if block.match else ("services", name)
            yield Finding(path, f"service {other!r} matches the same alerts: which of both is meant?", on_key=True)


def _match(name: str, block: ServiceBlock) -> Mapping[str, str]:
    return dict(block.match) or {"service": name}


def _service(name: str, block: ServiceBlock) -> Service:
    target = block.target
    return Service(
        name=name,
        match=_match(name, block),
        team=block.team,
        chat_channel=block.chat_channel,
        pager_key=block.pager_key,
        target=TargetRule(
            namespace=target.namespace,
            kind=resource_kind(target.kind) if target.kind else None,
            name=target.name,
            pod=target.pod,
        ),
        thresholds={**block.thresholds, **block.weights},
        params=dict(block.params),
    )

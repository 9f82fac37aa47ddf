"""Weights of a health score once every name has its number: none may turn the score around or switch it off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.policy import Policy
from firebreak.documents.services import Service, Services
from firebreak.documents.yaml_file import Finding, YamlDocument
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFault:
    """`path` starts at the block; `names` are the thresholds that the numbers come from."""

    path: NodePath
    names: tuple[str, ...]
    message: str


def weight_faults(block: ConditionBlock, numbers: Mapping[str, float]) -> Iterator[WeightFault]:
    """What is wrong with the weights of a score when its `$names` have these numbers."""

    def number(value: float | str) -> float:
        return numbers[value[1:]] if isinstance(value, str) else value

    flows = block.score.flows if block.score else {}
    for name, flow in flows.items():
        limits = (("weight", flow.weight, float("inf")), ("volume_weight", flow.volume_weight, 1.0))
        for key, written, most in limits:
            if not 0 <= (value := number(written)) <= most:
                told = f"{key} of flow {name!r} is {value:g}, which is out of range: at least 0"
                told += "" if most == float("inf") else f", at most {most:g}"
                yield WeightFault(path=("score", "flows", name, key), names=_names(written), message=told)
    if flows and all(number(flow.weight) == 0 for flow in flows.values()):
        names = tuple(name for flow in flows.values() for name in _names(flow.weight))
        told = "every flow has a weight of 0, so that the score says nothing: one must be above 0"
        yield WeightFault(path=("score", "flows"), names=names, message=told)


def _names(written: float | str) -> tuple[str, ...]:
    return (written[1:],) if isinstance(written, str) else ()


def weight_problems(
    document: YamlDocument,
    conditions: Mapping[str, ConditionBlock],
    thresholds: Mapping[str, float],
    *,
    policy: Policy,
    services: Services | None = None,
    service: Service | None = None,
) -> Iterator[Problem]:
    """The same for all conditions of a document with its own `thresholds`, overridden by the policy and then by the
    service; each in the file that sets the number."""
    numbers = {**thresholds, **policy.thresholds, **(service.thresholds if service else {})}
    for condition, block in conditions.items():
        for fault in weight_faults(block, numbers):
            told = f"condition {condition!r}: {fault.message}"
            if services and service and (own := [n for n in fault.names if n in service.thresholds]):
                block_of = services.document.data["services"][service.name]
                table = "weights" if own[0] in (block_of.get("weights") or {}) else "thresholds"
                yield services.document.problem(Finding(("services", service.name, table, own[0]), told))
            elif overridden := [n for n in fault.names if n in policy.thresholds]:
                yield policy.document.problem(Finding(("thresholds", overridden[0]), told))
            elif fault.names:
                yield document.problem(Finding(("thresholds", fault.names[0]), told))
            else:
                yield document.problem(Finding(("conditions", condition, *fault.path), told))

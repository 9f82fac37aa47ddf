"""The documents that the lab writes for an engine: policy and services, from templates of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files

from firebreak.domain.errors import ContractError
from firebreak.lab.shape import FLAGS_CONFIG_MAP, NAMESPACE, RECOMMEND_FLAG, SERVICES


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = files("firebreak.lab").joinpath("data", name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    if "@" in text:
        raise ContractError(f"the lab's template {name} has a mark that nothing fills")
    return text


def policy_text(baseline_at: float) -> str:
    """The lab's policy: production tree, short times, the baseline at `baseline_at` (Unix seconds)."""
    at = datetime.fromtimestamp(int(baseline_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _filled("policy.yaml", {"BASELINE_AT": at})


def services_text() -> str:
    """The lab's services: route, flags, channel, routing key (quoted: it may look like a number), P99 in ms of each."""
    values = {"NAMESPACE": NAMESPACE, "FLAGS": FLAGS_CONFIG_MAP, "RECOMMEND_FLAG": RECOMMEND_FLAG}
    for shape in SERVICES.values():
        upper = shape.name.upper()
        values[f"{upper}_CHANNEL"] = shape.chat_channel
        values[f"{upper}_KEY"] = f'"{shape.pager_key}"'
        values[f"{upper}_P99_MS"] = f"{shape.objective * 1000:g}"
    return _filled("services.yaml", values)

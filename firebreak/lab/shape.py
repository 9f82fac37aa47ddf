"""What the shop is made of: services, versions, flows, objectives. One table for cluster, shop and alert rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CLUSTER = "lab"
NAMESPACE = "shop"
FLAGS_CONFIG_MAP = "shop-flags"
GATEWAY = "shop"

RECOMMEND_FLAG = "recommend.enabled"

FLAGS: Mapping[str, str] = MappingProxyType({RECOMMEND_FLAG: "true"})
"""The flags' baseline, as the ConfigMap has them."""

REPLICAS = 3
GOOD_TAG = "2.0.4"
BAD_TAG = "2.1.0"


@dataclass(frozen=True, slots=True)
class ServiceShape:
    """One service: its `versions`, the bounds of its own work in seconds, and `objective`, the P99 in seconds that its
    latency alert and its threshold in services.yaml use. `pager_key` is what a real integration key looks like."""

    name: str
    versions: tuple[str, ...]
    work: tuple[float, float]
    objective: float
    chat_channel: str
    pager_key: str

    def deployment(self, version: str) -> str:
        """`pay`, `v1` -> `pay-v1`: name of the Deployment, of its Service and of its PodDisruptionBudget."""
        return f"{self.name}-{version}"

    @property
    def baseline_weights(self) -> Mapping[str, int]:
        """All traffic on the first version."""
        return {version: 100 if version == self.versions[0] else 0 for version in self.versions}


# Objectives leave room for what a callee may cost: a slow pay (0.75 s at most) must not make order alert, and order's
# wait for a dead recommend (1.3 s) must not make edge alert. So the alert names the culprit.
SERVICES: Mapping[str, ServiceShape] = MappingProxyType(
    {
        shape.name: shape
        for shape in (
            ServiceShape("edge", ("v1",), (0.001, 0.003), 2.5, "C0LABEDGE01", "e0" * 16),
            ServiceShape("order", ("v1", "v2"), (0.003, 0.008), 1.25, "C0LABORDER1", "a1" * 16),
            ServiceShape("pay", ("v1", "v2"), (0.006, 0.015), 0.5, "C0LABPAY001", "b2" * 16),
            ServiceShape("recommend", ("v1",), (0.004, 0.010), 0.5, "C0LABRECOM1", "c3" * 16),
        )
    }
)

FALLBACK_PAGER_KEY = "f9" * 16
FALLBACK_CHANNEL = "C0LABFALLB1"

FLOWS = ("order", "pay")
"""order: edge -> order -> recommend (while its flag is on). pay: edge -> order -> pay."""

FLOW_RATE = 20.0
"""Calls per second of each flow, evenly spaced and open loop: a slow shop is asked as often as a quick one."""

RECOMMEND_PATIENCE = 1.3
"""Seconds that order waits for recommend before it fails the call: its bug, for recommend is optional."""

PATIENCE = 4.0
"""Seconds that any other caller waits."""

FLAG_DELAY = 1.0
"""Seconds until a changed ConfigMap reaches the pods (a kubelet takes up to a minute)."""

READY_DELAY = 1.0
"""Seconds until a fresh pod is ready."""


def callees(service: str, flow: str, flags: Mapping[str, str]) -> tuple[str, ...]:
    """Whom a pod of `service` calls for one call of `flow`, in order."""
    if service == "edge":
        return ("order",)
    if service == "order" and flow == "pay":
        return ("pay",)
    if service == "order" and flags.get(RECOMMEND_FLAG) == "true":
        return ("recommend",)
    return ()

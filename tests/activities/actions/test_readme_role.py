"""The Role of the README, word for word, on the real API server: what it grants is what the actions need."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from activities.actions import build
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.action import CheckOutcome, StepContext
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock
from firebreak.lab.control import until

pytestmark = pytest.mark.servers

README = Path(__file__).parents[3] / "README.md"
RBAC = "rbac.authorization.k8s.io"
NOBODY = "nobody"  # an account of the control plane that may do nothing
STEPS = {
    "restart_workload": {},
    "shift_traffic": {"route": "pay", "away_from": "pay-v2"},
    "set_flag": {"config_map": "shop-flags", "key": "recommend.enabled", "value": "false"},
}


def _role() -> dict[str, Any]:
    """The one for a namespace with targets."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    documents = [d for b in blocks if "kind: Role" in b for d in YAML(typ="safe").load_all(b)]
    (role,) = (d for d in documents if d["kind"] == "Role" and d["metadata"]["namespace"] == "shop")
    return dict(role)


async def test_the_readmes_role_lets_every_action_be_checked(
    real_world: Any, context: Callable[[TargetRef], StepContext]
) -> None:
    """Each check ends with READY, the dry run of its write included."""
    plane, namespace = real_world.plane, real_world.namespace
    role = _role()
    role["metadata"]["namespace"] = namespace
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "firebreak", "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "firebreak"},
        "subjects": [{"kind": "User", "name": NOBODY, "apiGroup": RBAC}],
    }
    for kind, document in (("roles", role), ("rolebindings", binding)):
        path = f"/apis/{RBAC}/v1/namespaces/{namespace}/{kind}/firebreak"
        await plane.apply(path, json.dumps(document).encode())
    for name in ("pay-v1", "pay-v2"):
        await real_world.service(name)
    backends = [{"name": "pay-v1", "port": 80, "weight": 0}, {"name": "pay-v2", "port": 80, "weight": 100}]
    route = {"metadata": {"name": "pay"}, "spec": {"rules": [{"backendRefs": backends}]}}
    await real_world.create(ResourceKind.HTTP_ROUTE, route)
    flags = {"metadata": {"name": "shop-flags"}, "data": {"recommend.enabled": "true"}}
    await real_world.create(ResourceKind.CONFIG_MAP, flags)
    budget = {"metadata": {"name": "all"}, "spec": {"maxUnavailable": 1, "selector": {}}}
    shared = await real_world.create(ResourceKind.POD_DISRUPTION_BUDGET, budget)
    await real_world.until(shared, lambda obj: obj.get("status", {}).get("expectedPods") == 4)
    target = TargetRef(cluster="lab", namespace=namespace, kind=ResourceKind.DEPLOYMENT, name="pay-v2")
    async with KubernetesCluster("lab", kubeconfig=plane.kubeconfigs[NOBODY]) as cluster:
        actions, said = build(cluster, clock=SystemClock()), dict[str, str]()

        async def ready() -> bool:
            """The API server takes up a binding some time after it was written."""
            checks = {name: await actions[name].check(params, context(target)) for name, params in STEPS.items()}
            said.update({name: check.reason for name, check in checks.items()})
            return {check.outcome for check in checks.values()} == {CheckOutcome.READY}

        try:
            await until(ready, timedelta(seconds=20), "every action to be ready")
        except Exception as late:
            raise AssertionError(said) from late

"""From a pod up to the workload that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from activities.workloads import owner_of
from firebreak.domain.errors import PreconditionFailed, TargetChanged, TargetNotFound
from firebreak.domain.target import ResourceKind, TargetRef

if TYPE_CHECKING:
    from tests.activities.conftest import FakeCluster, RealWorld

SECOND = timedelta(seconds=1)
POD = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.POD, name="pay-1-a")


def owner(kind: str, name: str, uid: str, api: str = "apps/v1", **more: Any) -> Mapping[str, Any]:
    return {"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": True, **more}


def put(fake: FakeCluster, kind: ResourceKind, name: str, uid: str, *owners: Mapping[str, Any]) -> TargetRef:
    return fake.put(kind, {"metadata": {"name": name, "uid": uid, "ownerReferences": list(owners)}})


async def test_a_pod_leads_through_its_replica_set_to_the_deployment(fake: FakeCluster) -> None:
    """Only the controlling owner counts."""
    bystander = owner("ConfigMap", "x", "u9", "v1", controller=False)
    put(fake, ResourceKind.POD, "pay-1-a", "u1", bystander, owner("ReplicaSet", "pay-1", "u2"))
    put(fake, ResourceKind.REPLICASET, "pay-1", "u2", owner("Deployment", "pay", "u3"))
    deployment = put(fake, ResourceKind.DEPLOYMENT, "pay", "u3")
    assert await owner_of(fake, POD, timeout=SECOND) == deployment


@pytest.mark.parametrize("kind", [ResourceKind.STATEFULSET, ResourceKind.DAEMONSET])
async def test_other_workloads_own_their_pods_themselves(kind: ResourceKind, fake: FakeCluster) -> None:
    """One step up."""
    put(fake, ResourceKind.POD, "pay-1-a", "u1", owner(kind.kind, "pay", "u2"))
    workload = put(fake, kind, "pay", "u2")
    assert await owner_of(fake, POD, timeout=SECOND) == workload


@pytest.mark.parametrize(
    ("of_pod", "of_set", "sentence"),
    [
        ([], [], "belongs to no workload: Pod pay-1-a"),
        ([owner("ReplicaSet", "pay-1", "u2")], [], "belongs to no workload: ReplicaSet pay-1"),
        ([owner("Job", "j", "u2", "batch/v1")], [], "does not act on"),
        ([owner("ReplicaSet", "pay-1", "u2")], [owner("Rollout", "r", "u3", "argoproj.io/v1alpha1")], "Rollout"),
        ([owner("ReplicaSet", "pay-1", "u2", "example.com/v1")], [], "does not act on"),
        ([owner("Node", "n", "u2", "v1")], [], "does not exist"),
        ([owner("ReplicaSet", "pay-1", "u2")], [owner("Pod", "pay-1-a", "u1", "v1")], "circle"),
    ],
)
async def test_a_pod_without_a_workload_is_refused_with_a_sentence(
    of_pod: list[Any], of_set: list[Any], sentence: str, fake: FakeCluster
) -> None:
    """Bare pods, jobs, other controllers' pods, static pods, and owners that own each other."""
    put(fake, ResourceKind.POD, "pay-1-a", "u1", *of_pod)
    put(fake, ResourceKind.REPLICASET, "pay-1", "u2", *of_set)
    with pytest.raises((PreconditionFailed, TargetNotFound), match=sentence):
        await owner_of(fake, POD, timeout=SECOND)


async def test_an_owner_that_was_replaced_is_another_object(fake: FakeCluster) -> None:
    """The same name with another UID is not the owner."""
    put(fake, ResourceKind.POD, "pay-1-a", "u1", owner("ReplicaSet", "pay-1", "u2"))
    put(fake, ResourceKind.REPLICASET, "pay-1", "other")
    with pytest.raises(TargetChanged, match="replaced"):
        await owner_of(fake, POD, timeout=SECOND)


async def test_a_long_line_of_owners_ends(fake: FakeCluster) -> None:
    """Whatever an object claims."""
    put(fake, ResourceKind.POD, "pay-1-a", "u0", owner("ReplicaSet", "s1", "u1"))
    for n in range(1, 20):
        put(fake, ResourceKind.REPLICASET, f"s{n}", f"u{n}", owner("ReplicaSet", f"s{n + 1}", f"u{n + 1}"))
    with pytest.raises(PreconditionFailed, match="above each other"):
        await owner_of(fake, POD, timeout=SECOND)


@pytest.mark.servers
@pytest.mark.parametrize("kind", [ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET, ResourceKind.DAEMONSET])
async def test_a_real_pod_leads_to_its_workload(kind: ResourceKind, real_world: RealWorld) -> None:
    """With the ownerReferences that the controllers write."""
    workload = await real_world.workload("web", replicas=2, kind=kind)
    found = await real_world.cluster.list(ResourceKind.POD, workload.namespace, timeout=5 * SECOND)
    for pod in found:
        ref = TargetRef(
            cluster="lab", namespace=workload.namespace, kind=ResourceKind.POD, name=pod["metadata"]["name"]
        )
        assert await owner_of(real_world.cluster, ref, timeout=5 * SECOND) == workload

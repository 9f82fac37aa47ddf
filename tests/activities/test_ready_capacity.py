"""How much stands behind a Service, also in the midst of a roll-out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from activities.ready_capacity import Capacity, capacity_of
from firebreak.domain.target import ResourceKind, TargetRef

LIMIT = timedelta(seconds=1)
LABELS = {"app": "pay", "version": "v1"}


def put_service(cluster: Any, *, endpoints: list[bool], replicas: int) -> TargetRef:
    meta = {"name": "pay-v1", "labels": {"kubernetes.io/service-name": "pay-v1"}}
    states = [
        {"addresses": [f"10.0.0.{n}"], "targetRef": {"uid": f"u{n}"}, "conditions": {"ready": ready}}
        for n, ready in enumerate(endpoints)
    ]
    cluster.put(ResourceKind.ENDPOINT_SLICE, {"metadata": meta, "endpoints": states})
    template = {"metadata": {"labels": LABELS}}
    cluster.put(
        ResourceKind.DEPLOYMENT, {"metadata": {"name": "pay-v1"}, "spec": {"replicas": replicas, "template": template}}
    )
    return TargetRef(
        cluster="lab",
        namespace="shop",
        kind=cluster.put(ResourceKind.SERVICE, {"metadata": {"name": "pay-v1"}, "spec": {"selector": LABELS}}).kind,
        name="pay-v1",
    )


@pytest.mark.parametrize(
    ("endpoints", "replicas", "expected"),
    [
        ([True, True, True], 3, (3, 3)),
        ([True, True, True, False], 3, (3, 3)),  # the surge pod of a roll-out is no more load
        ([False, False, False], 3, (0, 3)),  # dead pods were carrying it before
        ([True, False], 5, (1, 2)),
    ],
)
async def test_the_surge_of_a_rollout_does_not_count_as_load(
    fake: Any, endpoints: list[bool], replicas: int, expected: tuple[int, int]
) -> None:
    """A stuck restart must not keep the next tier from moving traffic away."""
    service = put_service(fake, endpoints=endpoints, replicas=replicas)
    assert await capacity_of(fake, service, timeout=LIMIT) == Capacity(
        service="pay-v1", ready=expected[0], present=expected[1]
    )

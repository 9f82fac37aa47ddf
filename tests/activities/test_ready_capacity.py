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
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}}}
    cluster.put(ResourceKind.DEPLOYMENT, {"metadata": {"name": "pay-v1"}, "spec": spec})
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
        ([True, False], 5, (1, 5)),  # a node was lost: where three are to start nobody knows
        ([], 4, (0, 4)),  # none can be placed; a slice without endpoints
        ([True], 0, (1, 1)),  # not the workload's any more
    ],
)
async def test_the_load_is_what_the_workload_wants(
    fake: Any, endpoints: list[bool], replicas: int, expected: tuple[int, int]
) -> None:
    """A stuck restart must not keep the next tier from moving traffic away, and pods that are gone carried it, too."""
    service = put_service(fake, endpoints=endpoints, replicas=replicas)
    assert await capacity_of(fake, service, timeout=LIMIT) == Capacity(
        service="pay-v1", ready=expected[0], present=expected[1]
    )


async def test_pods_of_nobody_known_are_load_too(fake: Any) -> None:
    """Behind one Service stand a Deployment of two and what another controller runs: neither hides the other."""
    service = put_service(fake, endpoints=[True] * 5, replicas=2)
    fake.objects[ResourceKind.DEPLOYMENT, "shop", "pay-v1"]["spec"]["selector"] = {"matchLabels": {"by": "deployment"}}
    for n in range(6):
        labels = {**LABELS, "by": "deployment" if n < 2 else "another"}
        gone = {"deletionTimestamp": "2026-11-21T08:36:44Z"} if n == 4 else {}
        status = {"phase": "Failed" if n == 5 else "Running"}
        fake.put(ResourceKind.POD, {"metadata": {"name": f"pay-{n}", "labels": labels, **gone}, "status": status})
    assert (await capacity_of(fake, service, timeout=LIMIT)).present == 4


HTTP, ADMIN = {"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81, "targetPort": "admin"}


@pytest.mark.parametrize(
    ("asked", "served", "ready"),
    [
        (80, [{"name": "http", "port": 8080}], 2),
        (82, [{"name": "http", "port": 8080}], 0),  # the Service has no such port
        (81, [{"name": "http", "port": 8080}], 0),  # its pods have none of that name
        (80, None, 0),
        (None, None, 2),  # of a backend that names no port
    ],
)
async def test_pods_are_ready_only_at_ports_that_they_serve(fake: Any, asked: Any, served: Any, ready: int) -> None:
    """A gateway that is sent to any other one has nobody to ask."""
    service = put_service(fake, endpoints=[True, True], replicas=2)
    fake.change(service, {"spec": {"ports": [HTTP, ADMIN]}})
    fake.objects[ResourceKind.ENDPOINT_SLICE, "shop", "pay-v1"]["ports"] = served
    found = await capacity_of(fake, service, port=asked, timeout=LIMIT)
    assert (found.ready, found.present) == (ready, 2)


async def test_an_address_that_is_published_before_its_pod_is_ready_is_not_ready(fake: Any) -> None:
    """`publishNotReadyAddresses` makes `ready` true of every pod; `serving` says how it is."""
    service = put_service(fake, endpoints=[True, True], replicas=2)
    (first, _) = fake.objects[ResourceKind.ENDPOINT_SLICE, "shop", "pay-v1"]["endpoints"]
    first["conditions"]["serving"] = False
    assert (await capacity_of(fake, service, timeout=LIMIT)).ready == 1


async def test_a_pod_is_ready_by_the_slice_that_serves_the_port(fake: Any) -> None:
    """Slices that mirror hand-kept Endpoints have one for each port, with the same addresses in both; and the same port
    number may be there by UDP."""
    ports = [{"name": "quic", "port": 80, "protocol": "UDP"}, HTTP, ADMIN]
    service = fake.put(ResourceKind.SERVICE, {"metadata": {"name": "ext"}, "spec": {"ports": ports}})
    for name in ("http", "admin"):
        meta = {"name": f"ext-{name}", "labels": {"kubernetes.io/service-name": "ext"}}
        endpoints = [{"addresses": [a], "conditions": {"ready": True}} for a in ("10.9.0.1", "10.9.0.2")]
        fake.put(ResourceKind.ENDPOINT_SLICE, {"metadata": meta, "ports": [{"name": name}], "endpoints": endpoints})
    found = await capacity_of(fake, service, port=80, timeout=LIMIT)
    assert (found.ready, found.present, found.flaw) == (2, 2, "")

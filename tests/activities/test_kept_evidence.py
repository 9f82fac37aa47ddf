"""What a restart would destroy is kept in time, in bounds, and with what is missing."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from activities.kept_evidence import LOG_LINES, MOST_BYTES, keep
from activities.shared_lists import SharedLists
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.codec import from_data, parse_time, to_data
from firebreak.domain.errors import PermanentError, PermissionDenied, PreconditionFailed
from firebreak.domain.evidence import ChangeKind, KeptEvidence
from firebreak.domain.target import ResourceKind, TargetRef

if TYPE_CHECKING:
    from tests.activities.conftest import FakeCluster, FakeWorld, RealWorld

NOW = datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PATIENT = 20 * SECOND  # for real servers on a busy machine: what is late would be missing


class Fixed:
    def __init__(self, at: datetime = NOW) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at


class Wall:
    def now(self) -> datetime:
        return datetime.now(UTC)


def ago(minutes: float) -> str:
    return (NOW - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def owned_by(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "controller": True, "apiVersion": "apps/v1", "uid": "u"}]


def replica_set(revision: int, image: str, minutes: float, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"pay-v2-{revision}",
            "creationTimestamp": ago(minutes),
            "annotations": {"deployment.kubernetes.io/revision": str(revision), **more.pop("annotations", {})},
            "ownerReferences": owned_by("Deployment", "pay-v2"),
            **more,
        },
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}},
    }


def event(kind: str, name: str, reason: str, minutes: float = 1, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{reason}", "namespace": more.pop("namespace", "shop")},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "lastTimestamp": ago(minutes),
        **more,
    }


CRASHED = {
    "name": "main",
    "image": "pay:2",
    "ready": False,
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
    "lastState": {
        "terminated": {"reason": "OOMKilled", "exitCode": 137, "startedAt": ago(3), "finishedAt": ago(2)},
    },
}


def pod(name: str, *statuses: Mapping[str, Any], ready: bool = False) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready), "reason": "ContainersNotReady"}
    return {
        "metadata": {"name": name, "labels": {"app": "pay-v2"}, "creationTimestamp": ago(30)},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "conditions": [condition], "containerStatuses": list(statuses)},
    }


@pytest.fixture
async def target(fake_world: FakeWorld) -> TargetRef:
    return await crashed(fake_world)


async def crashed(fake_world: FakeWorld) -> TargetRef:
    """A workload with one crashed pod."""
    ref = await fake_world.workload("pay-v2")
    fake_world.fake.put(ResourceKind.POD, pod("pay-v2-1-abcde", CRASHED))
    fake_world.fake.log_texts["pay-v2-1-abcde", "main"] = "\n".join(f"line {n}" for n in range(90))
    return ref


async def kept(fake_world: FakeWorld, target: TargetRef, budget: timedelta = SECOND) -> KeptEvidence:
    return await keep(fake_world.cluster, target, budget=budget, clock=Fixed(), lists=SharedLists(fake_world.cluster))


def about(evidence: KeptEvidence, kind: ChangeKind) -> list[tuple[str, str]]:
    return [(c.about, c.what) for c in evidence.changes if c.kind is kind]


async def test_the_pods_are_had_without_waiting_for_a_quiet_server(fake_world: FakeWorld, target: TargetRef) -> None:
    """The first write waits for them. Whole collections come in pages, and so not from the cache."""
    await kept(fake_world, target)
    assert fake_world.fake.cached == [ResourceKind.POD]


async def test_pods_that_the_cache_cannot_give_in_one_piece_come_in_pages(
    fake_world: FakeWorld, target: TargetRef
) -> None:
    """Some thousands are more than one answer may hold."""
    fake_world.fake.fail["list pods"] = [PermanentError("the answer is too large")]
    assert [pod.name for pod in (await kept(fake_world, target)).pods] == ["pay-v2-1-abcde"]


async def test_pods_containers_and_last_terminations_are_kept(fake_world: FakeWorld, target: TargetRef) -> None:
    """The sickest pods first."""
    running = {"name": "main", "ready": True, "state": {"running": {"startedAt": ago(30)}}}
    fake_world.fake.put(ResourceKind.POD, pod("pay-v2-1-aaaaa", running, ready=True))
    evidence = await kept(fake_world, target)
    sick, well = evidence.pods
    assert (sick.name, sick.ready, sick.node, well.ready) == ("pay-v2-1-abcde", False, "node-1", True)
    assert "ContainersNotReady" in sick.problems[0]
    (container,) = sick.containers
    assert container.state == "waiting: CrashLoopBackOff back-off 40s"
    assert container.restarts == 4
    assert container.last_termination is not None
    assert (container.last_termination.reason, container.last_termination.exit_code) == ("OOMKilled", 137)
    assert container.last_termination.finished_at == NOW - timedelta(minutes=2)


async def test_previous_logs_are_kept_to_their_last_lines(fake_world: FakeWorld, target: TargetRef) -> None:
    """A restart would delete them with the pod."""
    (log,) = (await kept(fake_world, target)).previous_logs
    assert log.lines[-1] == "line 89"
    assert len(log.lines) == LOG_LINES


async def test_events_of_the_workload_its_sets_and_its_pods_are_kept(fake_world: FakeWorld, target: TargetRef) -> None:
    """Also of a pod that is gone; not those of a namesake."""
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(1, "pay:1", 90))
    mine = [
        event("Pod", "pay-v2-1-abcde", "BackOff", 1, type="Warning", count=7),
        event("ReplicaSet", "pay-v2-1", "SuccessfulCreate", 2),
        event("Pod", "pay-v2-1-gone1", "Killing", 3),
        event("Deployment", "pay-v2", "ScalingReplicaSet", 4),
    ]
    others = [event("Pod", "pay-v2-canary-1-abcde", "BackOff"), event("Deployment", "pay", "ScalingReplicaSet")]
    for e in mine + others:
        fake_world.fake.put(ResourceKind.EVENT, e)
    found = (await kept(fake_world, target)).events
    assert [e.about for e in found] == [
        "Pod/pay-v2-1-abcde",
        "ReplicaSet/pay-v2-1",
        "Pod/pay-v2-1-gone1",
        "Deployment/pay-v2",
    ]
    assert found[0].warning
    assert found[0].count == 7


@pytest.mark.parametrize(
    ("image", "what"),
    [("pay:3", "revision 3: images main: pay:2 -> pay:3"), ("pay:2", "revision 3: a restart (same template)")],
)
async def test_a_roll_out_is_told_with_its_images(
    image: str, what: str, fake_world: FakeWorld, target: TargetRef
) -> None:
    """Against the revision before it; older ones are no news."""
    for item in (replica_set(1, "pay:1", 500), replica_set(2, "pay:2", 61), replica_set(3, image, 59)):
        fake_world.fake.put(ResourceKind.REPLICASET, item)
    assert about(await kept(fake_world, target), ChangeKind.ROLLOUT) == [("Deployment/pay-v2", what)]


async def test_a_roll_back_is_told(fake_world: FakeWorld, target: TargetRef) -> None:
    """It makes no new ReplicaSet: the old one gets the newest number."""
    notes = {"deployment.kubernetes.io/revision-history": "1"}
    written = [{"manager": "kube-controller-manager", "time": ago(5)}]
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(2, "pay:2", 300))
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(3, "pay:1", 600, annotations=notes, managedFields=written))
    ((_, what),) = about(await kept(fake_world, target), ChangeKind.ROLLOUT)
    assert what == "back to an earlier template, now revision 3 (main: pay:1)"


async def test_a_controller_revision_is_a_roll_out(fake_world: FakeWorld, target: TargetRef) -> None:
    """Of a StatefulSet or DaemonSet."""
    for number, image in ((1, "db:1"), (2, "db:2")):
        template = {"spec": {"containers": [{"name": "db", "image": image}]}}
        meta = {
            "name": f"db-{number}",
            "creationTimestamp": ago(100 - 50 * (number - 1)),
            "ownerReferences": owned_by("StatefulSet", "db"),
        }
        obj = {"metadata": meta, "revision": number, "data": {"spec": {"template": template}}}
        fake_world.fake.put(ResourceKind.CONTROLLER_REVISION, obj)
    found = about(await kept(fake_world, target), ChangeKind.ROLLOUT)
    assert found == [("StatefulSet/db", "revision 2: images db: db:1 -> db:2")]


async def test_a_written_config_map_is_told_without_its_values(fake_world: FakeWorld, target: TargetRef) -> None:
    """Who and which keys; what is in them may be secret."""
    fields: dict[str, Any] = {"f:data": {".": {}, "f:timeout": {}}}
    writes = [
        {"manager": "helm", "time": ago(500), "fieldsV1": fields},
        {"manager": "kubectl-edit", "time": ago(10), "fieldsV1": fields},
    ]
    meta = {"name": "pay", "creationTimestamp": ago(900), "managedFields": writes}
    fake_world.fake.put(ResourceKind.CONFIG_MAP, {"metadata": meta, "data": {"timeout": "s3cret"}})
    fresh = {"name": "new", "creationTimestamp": ago(3), "managedFields": [{"manager": "x", "time": ago(3)}]}
    fake_world.fake.put(ResourceKind.CONFIG_MAP, {"metadata": fresh})
    evidence = await kept(fake_world, target)
    assert about(evidence, ChangeKind.CONFIG) == [
        ("ConfigMap/new", "created"),
        ("ConfigMap/pay", "written by kubectl-edit, which owns timeout"),
    ]
    assert "s3cret" not in json.dumps(to_data(evidence))


async def test_scaling_is_told_apart_from_a_roll_out(fake_world: FakeWorld, target: TargetRef) -> None:
    """By the autoscaler's event, and by replica counts that moved while nothing rolled out."""
    scaled = [{"manager": "kubectl", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    await fake_world.edit(target, {"metadata": {"managedFields": scaled}})
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(2, "pay:2", 20))
    for name, minutes, message in (("pay-v2", 20, "up"), ("pay-v2", 19.5, "more"), ("pay-v2", 10, "2 to 5")):
        made = event("Deployment", name, "ScalingReplicaSet", minutes, message=message)
        made["metadata"]["name"] += message
        fake_world.fake.put(ResourceKind.EVENT, made)
    fake_world.fake.put(ResourceKind.EVENT, event("Deployment", "order", "ScalingReplicaSet", 8, message="5 to 2"))
    fake_world.fake.put(ResourceKind.EVENT, event("Deployment", "edge", "ScalingReplicaSet", 61, message="long ago"))
    hpa = event("HorizontalPodAutoscaler", "edge", "SuccessfulRescale", 9, message="New size: 3")
    fake_world.fake.put(ResourceKind.EVENT, hpa)
    assert about(await kept(fake_world, target), ChangeKind.SCALING) == [
        ("Deployment/order", "5 to 2"),
        ("HorizontalPodAutoscaler/edge", "New size: 3"),
        ("Deployment/pay-v2", "2 to 5 (replicas last set by kubectl)"),
    ]


async def test_nodes_that_came_went_or_changed_are_told(fake_world: FakeWorld, target: TargetRef) -> None:
    """New, cordoned, NotReady, gone; a node that was always well is no news."""

    def node(name: str, created: float, ready: str = "True", since: float = 900, **more: Any) -> None:
        conditions = [
            {"type": "Ready", "status": ready, "reason": "KubeletReady", "lastTransitionTime": ago(since)},
            {"type": "DiskPressure", "status": "False", "reason": "Enough", "lastTransitionTime": ago(created)},
        ]
        meta = {"name": name, "creationTimestamp": ago(created), **more.pop("metadata", {})}
        fake_world.fake.put(ResourceKind.NODE, {"metadata": meta, "status": {"conditions": conditions}, **more})

    node("old", 900)
    node("new", 20, since=19)
    node("sick", 900, ready="Unknown", since=4)
    fields: dict[str, Any] = {"f:spec": {"f:unschedulable": {}}}
    cordon = {"managedFields": [{"manager": "kubectl-cordon", "time": ago(3), "fieldsV1": fields}]}
    node("cordoned", 900, spec={"unschedulable": True}, metadata=cordon)
    fake_world.fake.put(ResourceKind.EVENT, event("Node", "gone", "RemovingNode", 2, namespace="default"))
    assert about(await kept(fake_world, target), ChangeKind.NODE) == [
        ("Node/gone", "left the cluster"),
        ("Node/cordoned", "cordoned: takes no new pods"),
        ("Node/sick", "Ready became Unknown (KubeletReady)"),
        ("Node/new", "joined the cluster"),
    ]


class _NoWaiting(selectors.SelectSelector):
    """Where a loop would wait for its next timer, it is that time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            self.now += timeout or 0.0
        return ready


class HastyLoop(asyncio.SelectorEventLoop):
    """Its clock jumps from timer to timer: how long something takes is exact, whatever the machine has to do."""

    def __init__(self) -> None:
        self._jumps = _NoWaiting()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


def test_what_hangs_is_missing_and_the_rest_is_kept_in_time(fake_world: FakeWorld) -> None:
    """One slow list must not cost the budget of the others, nor the budget itself: what is left of it is for putting
    all together."""
    fake_world.fake.hanging = {ResourceKind.EVENT, ResourceKind.NODE}

    async def keep_all() -> KeptEvidence:
        return await kept(fake_world, await crashed(fake_world), timedelta(milliseconds=200))

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        evidence = runner.run(keep_all())
    assert evidence.took == timedelta(milliseconds=190)
    assert evidence.pods
    assert {m.what for m in evidence.missing} >= {"events", "changes of nodes", "events of nodes"}
    assert all("time limit" in m.reason for m in evidence.missing)


async def test_what_is_refused_is_missing_with_its_reason(fake_world: FakeWorld, target: TargetRef) -> None:
    """A 403 on one kind, a log that is not there: recorded, and nothing is raised."""
    fake_world.fake.fail = {
        "list nodes": [PermissionDenied("list nodes: answered 403: forbidden")],
        "logs": [PreconditionFailed("previous terminated container not found")],
    }
    evidence = await kept(fake_world, target)
    missing = {m.what: m.reason for m in evidence.missing}
    assert "403" in missing["changes of nodes"]
    assert "not found" in missing["previous log of pay-v2-1-abcde/main"]
    assert evidence.pods


async def test_what_is_missing_names_the_sections_that_lack_it(fake_world: FakeWorld, target: TargetRef) -> None:
    """That no change was found is said elsewhere only where none could be missed: events tell of scaling, too. What was
    left out for its size was found."""
    fake_world.fake.fail = {"list nodes": [PermissionDenied("403")], "list events": [PermissionDenied("403")] * 2}
    evidence = await kept(fake_world, target)
    assert evidence.sections == ("pods", "events", "previous_logs", "changes")
    assert {m.what: m.sections for m in evidence.missing} == {
        "events": ("events", "changes"),
        "events of nodes": ("changes",),
        "changes of nodes": ("changes",),
    }


async def test_changes_alone_are_told_by_events_too(fake_world: FakeWorld, target: TargetRef) -> None:
    """An autoscaler's decision is an event, whether or not the runbook keeps events."""
    scaled = event("HorizontalPodAutoscaler", "pay-v2", "SuccessfulRescale", message="New size: 3")
    fake_world.fake.put(ResourceKind.EVENT, scaled)
    evidence = await keep(
        fake_world.cluster,
        target,
        budget=SECOND,
        clock=Fixed(),
        lists=SharedLists(fake_world.cluster),
        sections=("changes",),
    )
    assert about(evidence, ChangeKind.SCALING)
    assert (evidence.events, evidence.pods, evidence.sections) == ((), (), ("changes",))


async def test_a_workload_that_is_gone_leaves_the_changes(fake_world: FakeWorld, target: TargetRef) -> None:
    """Then most of it is missing, and what changed is the best hint there is."""
    del fake_world.fake.objects[target.kind, target.namespace, target.name]
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(1, "pay:1", 5))
    evidence = await kept(fake_world, target)
    assert not evidence.pods
    assert {"the workload", "pods"} <= {m.what for m in evidence.missing}
    assert about(evidence, ChangeKind.ROLLOUT)


def crowd(fake: FakeCluster) -> None:
    """A hundred crashed pods with long logs and hostile messages, and thousands of events."""
    text = "\n".join("\x1b[31m\u2028💥<!channel>" * 200 for _ in range(200))
    for n in range(100):
        crashed = {**CRASHED, "state": {"waiting": {"reason": "Error", "message": "💥" * 5000}}}
        fake.put(ResourceKind.POD, pod(f"pay-v2-1-{n:05}", *[{**crashed, "name": f"c{c}"} for c in range(3)]))
        for c in range(3):
            fake.log_texts[f"pay-v2-1-{n:05}", f"c{c}"] = text
        for m in range(20):
            fake.put(ResourceKind.EVENT, event("Pod", f"pay-v2-1-{n:05}", f"BackOff{m}", message="💥" * 2000))


async def test_the_size_is_bounded_and_what_was_left_out_is_said(fake_world: FakeWorld, target: TargetRef) -> None:
    """It becomes one entry of the timeline, whatever pods print."""
    crowd(fake_world.fake)
    evidence = await kept(fake_world, target, 10 * SECOND)
    assert len(json.dumps(to_data(evidence), ensure_ascii=False).encode()) <= MOST_BYTES + 1000  # the notes on it
    left_out = {m.what for m in evidence.missing}
    assert {"pods", "events", "previous logs"} <= left_out
    assert evidence.pods
    assert evidence.events
    assert evidence.previous_logs


async def test_it_is_the_same_after_a_round_trip(fake_world: FakeWorld, target: TargetRef) -> None:
    """It is kept as JSON."""
    fake_world.fake.put(ResourceKind.REPLICASET, replica_set(1, "pay:1", 5))
    evidence = await kept(fake_world, target)
    assert from_data(KeptEvidence, json.loads(json.dumps(to_data(evidence)))) == evidence


async def test_a_target_without_pods_is_no_error(fake_world: FakeWorld) -> None:
    """A route has none."""
    ref = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.HTTP_ROUTE, name="pay")
    evidence = await kept(fake_world, ref)
    assert [m.what for m in evidence.missing] == ["pods"]


@pytest.mark.servers
async def test_a_real_clusters_evidence_is_kept(real_world: RealWorld) -> None:
    """Pods, events, and every kind of change, from objects as the real controllers write them."""
    target = await real_world.workload("pay", replicas=2)
    images = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example/pay:2"}]}}}}
    await real_world.edit(target, images)
    await real_world.until(target, lambda o: o["status"].get("observedGeneration") == 2)
    await real_world.until(target, lambda o: o["status"].get("replicas") == o["status"].get("updatedReplicas") == 2)
    flags = await real_world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "flags"}, "data": {"a": "1"}})
    await real_world.edit(flags, {"data": {"a": "2"}})
    evidence = await keep(
        real_world.cluster, target, budget=PATIENT, clock=Wall(), lists=SharedLists(real_world.cluster)
    )
    assert len(evidence.pods) == 2
    assert all(p.ready and p.node.startswith("node-") for p in evidence.pods)
    assert "Deployment/pay" in {e.about for e in evidence.events}
    roll_outs = about(evidence, ChangeKind.ROLLOUT)
    assert ("Deployment/pay", "revision 2: images main: registry.example/pay:1 -> registry.example/pay:2") in roll_outs
    assert ("ConfigMap/flags", "created") in about(evidence, ChangeKind.CONFIG)
    assert ("Node/node-0", "joined the cluster") in about(evidence, ChangeKind.NODE)
    assert [m.what for m in evidence.missing] == ["previous logs"]


@pytest.mark.servers
async def test_a_real_scaling_is_told_with_who_did_it(real_world: RealWorld) -> None:
    """Looked at an hour later, when the creation is out of the window and the scaling is just within."""
    target = await real_world.workload("pay", replicas=1)
    created = max(await born(real_world, ResourceKind.REPLICASET, target), Wall().now().replace(microsecond=0))
    till_then = created + 1.1 * SECOND - Wall().now()  # time stamps of objects are whole seconds
    await asyncio.sleep(max(0.0, till_then.total_seconds()))
    scale = real_world.path(target.kind, target.name) + "/scale?fieldManager=somebody"
    await real_world.call("PATCH", scale, {"spec": {"replicas": 3}}, "application/merge-patch+json")
    await real_world.until(target, lambda o: o["status"].get("readyReplicas") == 3)
    clock = Fixed(created + timedelta(hours=1, seconds=1))
    evidence = await keep(
        real_world.cluster, target, budget=PATIENT, clock=clock, lists=SharedLists(real_world.cluster)
    )
    ((about_what, what),) = about(evidence, ChangeKind.SCALING)
    assert about_what == "Deployment/pay"
    assert what.endswith("from 1 to 3 (replicas last set by somebody)")


async def born(world: RealWorld, kind: ResourceKind, target: TargetRef) -> datetime:
    found = await world.cluster.list(kind, target.namespace, timeout=5 * SECOND)
    return max(parse_time(o["metadata"]["creationTimestamp"]) for o in found)


@pytest.mark.servers
async def test_without_permissions_everything_is_missing_with_the_verb(real_world: RealWorld) -> None:
    """403 for all of it is still an answer."""
    target = await real_world.workload("pay", replicas=1)
    async with KubernetesCluster("lab", kubeconfig=real_world.plane.kubeconfigs["nobody"]) as cluster:
        evidence = await keep(cluster, target, budget=PATIENT, clock=Wall(), lists=SharedLists(cluster))
    assert not evidence.pods
    assert not evidence.changes
    assert sum("403" in m.reason for m in evidence.missing) == 8

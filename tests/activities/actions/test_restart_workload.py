"""Restart: what it refuses, and how it tells a roll-out that works from one that never will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from activities.actions.restart_workload import OWN_DEADLINE, RestartWorkload
from activities.disruption_budgets import max_unavailable, scaled
from firebreak.domain.action import CheckOutcome, CheckResult, Intent, Progress, ProgressState, StepContext
from firebreak.domain.codec import format_time
from firebreak.domain.errors import PreconditionFailed
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from datetime import datetime

    from tests.activities.conftest import FakeWorld, RealWorld

    MakeContext = Callable[[TargetRef], StepContext]

DEPLOYMENT, STATEFULSET, DAEMONSET = ResourceKind.DEPLOYMENT, ResourceKind.STATEFULSET, ResourceKind.DAEMONSET
KINDS = (DEPLOYMENT, STATEFULSET, DAEMONSET)


class At:
    """A clock that stands still."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


@pytest.fixture
def check(fake_world: FakeWorld, context: MakeContext) -> Callable[[TargetRef], Any]:
    async def run(ref: TargetRef) -> CheckResult:
        return await RestartWorkload(fake_world.cluster, clock=SystemClock()).check({}, context(ref))

    return run


def put_pods(fake_world: FakeWorld, app: str, ready: Iterable[bool]) -> None:
    """Pods `app`-0, -1, ... of that workload, ready or not."""
    for number, well in enumerate(ready):
        meta = {"name": f"{app}-{number}", "labels": {"app": app}}
        status = {"conditions": [{"type": "Ready", "status": str(well)}]}
        fake_world.fake.put(ResourceKind.POD, {"metadata": meta, "status": status})


def rolling_update(**limits: Any) -> dict[str, Any]:
    return {"strategy": {"type": "RollingUpdate", "rollingUpdate": limits}}


@pytest.mark.parametrize(
    ("kind", "replicas", "limits", "allowed"),
    [
        (DEPLOYMENT, 4, {"maxUnavailable": "100%"}, False),
        (DEPLOYMENT, 4, {"maxUnavailable": 9, "maxSurge": 2}, False),
        (DEPLOYMENT, 4, {"maxUnavailable": 3}, True),
        (DEPLOYMENT, 2, {"maxUnavailable": "99%"}, True),  # 1.98 down to 1
        (DEPLOYMENT, 1, {"maxUnavailable": 1}, True),  # no other could stay
        (STATEFULSET, 1, {}, True),
        (DAEMONSET, 3, {"maxUnavailable": "100%"}, False),
        (DAEMONSET, 3, {"maxUnavailable": "70%"}, False),  # 2.1 up to 3
        (DAEMONSET, 3, {"maxSurge": "100%", "maxUnavailable": 0}, True),
    ],
)
async def test_all_pods_are_never_down_at_once(
    kind: ResourceKind,
    replicas: int,
    limits: Mapping[str, Any],
    allowed: bool,
    fake_world: FakeWorld,
    check: Callable[[TargetRef], Any],
) -> None:
    """A roll-out that may do that is Recreate by another name, also where no budget forbids it."""
    field = "strategy" if kind is DEPLOYMENT else "updateStrategy"
    strategy = {field: {"type": "RollingUpdate", "rollingUpdate": limits}}
    result = await check(await fake_world.workload("web", replicas=replicas, kind=kind, **strategy))
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason
    assert allowed or "no pod need stay" in result.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_workload_can_be_restarted(
    kind: ResourceKind, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """The stamp is the plan's, to the microsecond: two restarts in one second are two."""
    result = await check(await fake_world.workload("web", replicas=4, kind=kind))
    assert result.outcome is CheckOutcome.READY
    assert [c.after for c in result.changes] == ['"2026-11-21T08:36:44.123456Z"']
    assert result.changes[0].before == "null"


@pytest.mark.parametrize(
    ("kind", "spec", "status", "reason"),
    [
        (DEPLOYMENT, {"paused": True}, {}, "paused"),
        (DEPLOYMENT, {"strategy": {"type": "Recreate"}}, {}, "Recreate"),
        (STATEFULSET, {"updateStrategy": {"type": "OnDelete"}}, {}, "OnDelete"),
        (DAEMONSET, {"updateStrategy": {"type": "OnDelete"}}, {}, "OnDelete"),
        (STATEFULSET, {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, {}, "partition"),
        (DEPLOYMENT, {"replicas": 0}, {}, "no pods"),
        (DEPLOYMENT, {"selector": None}, {}, "selector"),
        (DEPLOYMENT, {}, {"observedGeneration": 0}, "already rolling"),
        (DEPLOYMENT, {}, {"updatedReplicas": 3}, "already rolling: 3 of 4 pods are new"),
        (DEPLOYMENT, {}, {"replicas": 5}, "already rolling: 1 old pods"),
        (STATEFULSET, {}, {"updateRevision": "web-2"}, "already rolling"),
        (DAEMONSET, {}, {"updatedNumberScheduled": 1}, "already rolling"),
        (STATEFULSET, {}, {"readyReplicas": 3}, "3 of 4 pods are available"),  # in order: none would be replaced
        (STATEFULSET, {}, {"availableReplicas": 0}, "replaces none before all are"),
    ],
)
async def test_what_must_not_be_restarted_is_refused(
    kind: ResourceKind,
    spec: Mapping[str, Any],
    status: Mapping[str, Any],
    reason: str,
    fake_world: FakeWorld,
    check: Callable[[TargetRef], Any],
) -> None:
    """Each refusal is a sentence that names what stands in the way."""
    ref = await fake_world.workload("web", replicas=4, kind=kind)
    await fake_world.edit(ref, {"spec": spec, "status": status})
    result = await check(ref)
    assert result.outcome is CheckOutcome.REFUSED
    assert reason in result.reason
    assert result.target is not None


async def test_wedged_pods_are_no_roll_out(fake_world: FakeWorld, check: Callable[[TargetRef], Any]) -> None:
    """Unready pods of the newest template are what a restart is for, although no budget allows a disruption now."""
    ref = await fake_world.workload("web", replicas=4)
    await fake_world.edit(ref, {"status": {"readyReplicas": 0, "availableReplicas": 0}})
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}}
    status = {"expectedPods": 4, "disruptionsAllowed": 0, "currentHealthy": 0}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {**budget, "status": status})
    assert (await check(ref)).outcome is CheckOutcome.READY


@pytest.mark.parametrize(
    ("replicas", "limits", "budget", "allowed"),
    [
        (5, {"maxUnavailable": "100%"}, {"minAvailable": 4}, False),
        (5, {"maxUnavailable": 1}, {"minAvailable": 4}, True),
        (5, {"maxUnavailable": 2}, {"minAvailable": 4}, False),
        (5, {"maxUnavailable": "39%"}, {"minAvailable": 4}, True),  # 1.95 down to 1
        (5, {"maxUnavailable": "40%"}, {"minAvailable": 4}, False),
        (5, {}, {"minAvailable": "80%"}, True),  # default 25 % of 5 is 1
        (5, {}, {"minAvailable": "81%"}, False),  # 4.05 up to 5
        (5, {"maxUnavailable": 2}, {"maxUnavailable": "21%"}, True),  # 1.05 up to 2
        (5, {"maxUnavailable": 2}, {"maxUnavailable": 1}, False),
        (1, {}, {"minAvailable": 1}, True),  # 0 down, 1 more
        (1, {"maxUnavailable": 0, "maxSurge": 0}, {"minAvailable": 1}, False),  # then the controller takes 1
        (2, {"maxUnavailable": 1}, {"maxUnavailable": 0}, False),
    ],
)
async def test_a_budget_binds_a_restart(
    replicas: int,
    limits: Mapping[str, Any],
    budget: Mapping[str, Any],
    allowed: bool,
    fake_world: FakeWorld,
    check: Callable[[TargetRef], Any],
) -> None:
    """Kubernetes does not ask PodDisruptionBudgets in a roll-out, so we do, with its own rounding."""
    ref = await fake_world.workload("web", replicas=replicas, **rolling_update(**limits))
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}
    await fake_world.create(
        ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "keep"}, "spec": {**budget, "selector": selector}}
    )
    result = await check(ref)
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason
    assert allowed or "keep" in result.reason


@pytest.mark.parametrize(
    "selector",
    [
        None,
        {"matchLabels": {"app": "other"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
        {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
    ],
)
async def test_a_budget_of_others_does_not_bind(
    selector: Any, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """matchLabels and matchExpressions both count; a missing selector selects nothing."""
    ref = await fake_world.workload("web", replicas=3, **rolling_update(maxUnavailable=2))
    spec = {"minAvailable": 2, "selector": selector}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "other"}, "spec": spec})
    assert (await check(ref)).outcome is CheckOutcome.READY


@pytest.mark.parametrize(("others_ready", "allowed"), [(2, True), (1, False)])
async def test_a_budget_over_several_workloads_counts_the_ready_pods_of_the_others(
    others_ready: int, allowed: bool, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """What another version already lacks cannot be taken from this one."""
    ref = await fake_world.workload("web", replicas=2, **rolling_update(maxUnavailable=1))
    put_pods(fake_world, "api", (number < others_ready for number in range(2)))
    body = {"metadata": {"name": "both"}, "spec": {"minAvailable": 3, "selector": {}}, "status": {"expectedPods": 4}}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, body)
    assert ((await check(ref)).outcome is CheckOutcome.READY) is allowed


@pytest.mark.parametrize(("covered", "allowed"), [({}, False), ({"matchLabels": {"app": "web"}}, True)])
@pytest.mark.parametrize("kind", KINDS)
async def test_workloads_under_one_budget_are_restarted_one_after_the_other(
    kind: ResourceKind, covered: Any, allowed: bool, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """All pods of the other are ready between two waves of its roll-out; the next takes some down beside these."""
    ref = await fake_world.workload("web", replicas=4, **rolling_update(maxUnavailable=1))
    other = await fake_world.workload("api", replicas=4, kind=kind)
    put_pods(fake_world, "api", (True,) * 4)
    spec, status = {"minAvailable": 3, "selector": covered}, {"expectedPods": 4 if allowed else 8}
    body = {"metadata": {"name": "both"}, "spec": spec, "status": status}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, body)
    alone = await check(ref)
    assert alone.outcome is CheckOutcome.READY
    assert [held.text for held in alone.beside] == ([] if allowed else ["lab/shop/PodDisruptionBudget/both"])
    await fake_world.edit(other, {"spec": {"template": {"metadata": {"annotations": {"somebody": "rolls it"}}}}})
    result = await check(ref)
    assert (result.outcome is CheckOutcome.READY) is allowed
    assert allowed or f"PodDisruptionBudget both covers {kind.kind} api, too, which is rolling" in result.reason


@pytest.mark.parametrize(
    ("kind", "more", "rolls"),
    [
        (DEPLOYMENT, {"paused": True}, False),
        (STATEFULSET, {"updateStrategy": {"type": "OnDelete"}}, False),
        (DAEMONSET, {"updateStrategy": {"type": "OnDelete"}}, False),
        (STATEFULSET, {"updateStrategy": {"rollingUpdate": {"partition": 3}}}, False),  # 1 of 4 is new, and 1 was to be
        (STATEFULSET, {"updateStrategy": {"rollingUpdate": {"partition": 2}}}, True),
        (STATEFULSET, {}, True),
        (STATEFULSET, {"replicas": 1}, False),  # new, and not ready: its revision is not yet the current one
        (STATEFULSET, {"replicas": 1, "there": 2}, True),  # the new one is about to go
        (STATEFULSET, {"updateStrategy": {"rollingUpdate": {"partition": 2}}, "there": 3}, True),  # one may be kept
        (STATEFULSET, {"there": 1}, False),  # no other is there to be replaced
    ],
)
async def test_a_roll_out_that_goes_no_further_by_itself_is_not_waited_for(
    kind: ResourceKind, more: Mapping[str, Any], rolls: bool, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """It may stay so for weeks, and takes no pod down beside those of a restart."""
    ref = await fake_world.workload("web", replicas=4, **rolling_update(maxUnavailable=1))
    spec = {"replicas": 4, "kind": kind, **more}
    there = spec.pop("there", spec["replicas"])
    other = await fake_world.workload("api", **spec)
    put_pods(fake_world, "api", (True,) * 4)
    body = {"metadata": {"name": "both"}, "spec": {"minAvailable": 3, "selector": {}}, "status": {"expectedPods": 8}}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, body)
    halfway = {"replicas": there, "updatedReplicas": 1, "updatedNumberScheduled": 1, "updateRevision": "api-2"}
    await fake_world.edit(other, {"status": halfway})
    assert ((await check(ref)).outcome is CheckOutcome.REFUSED) is rolls


UP, DOWN = True, False


@pytest.mark.parametrize(
    ("pods", "budget", "allowed"),
    [
        ((UP, UP, UP), {"maxUnavailable": 1}, True),
        ((DOWN, UP, UP), {"maxUnavailable": 1}, False),
        ((DOWN, UP, UP), {"maxUnavailable": 2}, True),
        ((UP, UP, DOWN), {"maxUnavailable": 1}, True),  # the first to go, and waited for
        ((DOWN, DOWN, DOWN), {"maxUnavailable": 1}, True),  # nothing to lose
        ((UP, DOWN, DOWN), {"maxUnavailable": 1}, True),  # the ready one goes last
        ((DOWN, DOWN, UP), {"maxUnavailable": "100%"}, False),  # the only one that answers would go first
        ((DOWN, UP), {"maxUnavailable": "100%"}, False),
    ],
)
async def test_a_parallel_stateful_set_loses_no_pod_beside_those_that_are_down(
    pods: tuple[bool, ...],
    budget: Mapping[str, Any],
    allowed: bool,
    fake_world: FakeWorld,
    check: Callable[[TargetRef], Any],
) -> None:
    """Its roll-out goes from the highest ordinal down and does not wait for the pods below."""
    ref = await fake_world.workload("web", replicas=len(pods), kind=STATEFULSET, podManagementPolicy="Parallel")
    put_pods(fake_world, "web", pods)
    for other in ("web-backup-29190-abcde", "web-backup-7"):  # jobs that are over, with its labels
        meta = {"name": other, "labels": {"app": "web"}}
        fake_world.fake.put(ResourceKind.POD, {"metadata": meta, "status": {"phase": "Succeeded"}})
    spec = {**budget, "selector": {"matchLabels": {"app": "web"}}}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "keep"}, "spec": spec})
    result = await check(ref)
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason
    assert allowed or "not ready already" in result.reason


@pytest.mark.parametrize(
    ("kind", "limits", "down"),
    [
        (DAEMONSET, {}, 1),
        (DAEMONSET, {"maxUnavailable": "26%"}, 2),
        (DAEMONSET, {"maxUnavailable": 0, "maxSurge": 1}, 0),
        (STATEFULSET, {}, 1),
        (STATEFULSET, {"maxUnavailable": "26%"}, 2),
    ],
)
def test_each_kind_rounds_in_its_own_way(kind: ResourceKind, limits: Mapping[str, Any], down: int) -> None:
    """Of four pods."""
    obj = {
        "spec": {"replicas": 4, "updateStrategy": {"rollingUpdate": limits}},
        "status": {"desiredNumberScheduled": 4},
    }
    assert max_unavailable(obj, kind) == down


@pytest.mark.parametrize("value", ["x", "10", 1.5, True, "-5%"])
def test_a_limit_that_is_neither_number_nor_percentage_is_refused(value: Any) -> None:
    """Nothing is guessed about how many pods may go."""
    with pytest.raises(PreconditionFailed):
        scaled(value, 4, up=True)


Progressing = Callable[..., Any]


@pytest.fixture
def progress(fake_world: FakeWorld, context: MakeContext) -> Progressing:
    """Progress of a restart of four pods whose status has come to `status`, with these pods, that long after."""

    async def run(
        kind: ResourceKind,
        status: Mapping[str, Any],
        pods: tuple[Mapping[str, Any], ...] = (),
        *,
        after: timedelta = timedelta(seconds=1),
    ) -> Progress:
        ref = await fake_world.workload("web", replicas=4, kind=kind)
        given = context(ref)
        action = RestartWorkload(fake_world.cluster, clock=At(given.stamp + after))
        check = await action.check({}, given)
        assert check.target is not None
        intent = Intent(
            step_key=given.step_key,
            action=action.name,
            params={},
            target=check.target,
            changes=check.changes,
            stamp=given.stamp,
        )
        effect = await action.apply(intent)
        await fake_world.edit(ref, {"status": {"observedGeneration": 2, **status}})
        for pod in pods:
            fake_world.fake.put(ResourceKind.POD, pod)
        return await action.progress(effect)

    return run


def pod(status: Mapping[str, Any], restarted_at: str, name: str = "web-new-abcde") -> dict[str, Any]:
    notes = {"kubectl.kubernetes.io/restartedAt": restarted_at}
    meta = {"name": name, "labels": {"app": "web"}, "annotations": notes}
    return {"metadata": meta, "status": {"containerStatuses": [{"name": "main", **status}]}}


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        (DEPLOYMENT, {}, ProgressState.DONE),
        (DEPLOYMENT, {"observedGeneration": 1}, ProgressState.RUNNING),
        (DEPLOYMENT, {"updatedReplicas": 2}, ProgressState.RUNNING),
        (DEPLOYMENT, {"replicas": 5}, ProgressState.RUNNING),
        (DEPLOYMENT, {"availableReplicas": 3}, ProgressState.RUNNING),
        (STATEFULSET, {}, ProgressState.DONE),
        (STATEFULSET, {"updateRevision": "web-2", "updatedReplicas": 2}, ProgressState.RUNNING),
        (STATEFULSET, {"readyReplicas": 3}, ProgressState.RUNNING),
        (DAEMONSET, {}, ProgressState.DONE),
        (DAEMONSET, {"updatedNumberScheduled": 3}, ProgressState.RUNNING),
        (DAEMONSET, {"numberAvailable": 3}, ProgressState.RUNNING),
    ],
)
async def test_roll_out_status_is_read_for_each_kind(
    kind: ResourceKind, status: Mapping[str, Any], state: ProgressState, progress: Progressing
) -> None:
    """Done is: seen, all new, none old, all available."""
    found = await progress(kind, status)
    assert found.state is state, found.reason
    assert "wanted: 4" in found.details


async def test_a_passed_progress_deadline_is_a_failure(progress: Progressing) -> None:
    """A stuck roll-out is a failure, with the controller's own words."""
    stuck = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": 'ReplicaSet "web-2" timed out'}
    found = await progress(DEPLOYMENT, {"updatedReplicas": 1, "conditions": [stuck]})
    assert found.state is ProgressState.FAILED
    assert "timed out" in found.reason


@pytest.mark.parametrize("kind", [STATEFULSET, DAEMONSET])
async def test_kinds_without_a_deadline_get_ours(kind: ResourceKind, progress: Progressing) -> None:
    """Kubernetes would wait for ever."""
    waiting = {"updateRevision": "web-2", "updatedReplicas": 1, "updatedNumberScheduled": 1}
    assert (await progress(kind, waiting, after=OWN_DEADLINE)).state is ProgressState.RUNNING
    late = await progress(kind, waiting, after=OWN_DEADLINE + timedelta(seconds=1))
    assert late.state is ProgressState.FAILED


@pytest.mark.parametrize(
    "status",
    [
        {"state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
        {"state": {"waiting": {"reason": "CreateContainerConfigError"}}},
        {"state": {"terminated": {"reason": "OOMKilled"}}},
        {"state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}},
    ],
)
async def test_a_new_pod_that_cannot_run_fails_early(
    status: Mapping[str, Any], progress: Progressing, context: MakeContext, fake_world: FakeWorld
) -> None:
    """Container and reason are named; nobody waits for the deadline."""
    stamp = format_time(context(await fake_world.workload("web")).stamp)
    found = await progress(DEPLOYMENT, {"updatedReplicas": 1}, (pod(status, stamp),))
    assert found.state is ProgressState.FAILED
    assert "container main of pod web-new-abcde" in found.reason


async def test_an_old_pod_that_cannot_run_is_no_failure(progress: Progressing) -> None:
    """It is why we restart; only new pods speak of the restart."""
    crashing = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    found = await progress(DEPLOYMENT, {"updatedReplicas": 1}, (pod(crashing, "2026-11-20T00:00:00Z"),))
    assert found.state is ProgressState.RUNNING


@pytest.mark.servers
@pytest.mark.parametrize("kind", KINDS)
async def test_a_real_restart_replaces_every_pod(
    kind: ResourceKind, real_world: RealWorld, context: MakeContext
) -> None:
    """Through the real controllers, to the end, under a real budget that allows it."""
    ref = await real_world.workload("web", replicas=2, kind=kind)
    given = context(ref)
    action = RestartWorkload(real_world.cluster, clock=At(given.stamp))
    seconds = timedelta(seconds=5)

    async def pods() -> set[str]:
        found = await real_world.cluster.list(ResourceKind.POD, ref.namespace, timeout=seconds)
        return {p["metadata"]["uid"] for p in found if not p["metadata"].get("deletionTimestamp")}

    before = await pods()
    check = await action.check({}, given)
    assert check.outcome is CheckOutcome.READY, check.reason
    assert check.target is not None
    intent = Intent(
        step_key=given.step_key,
        action=action.name,
        params={},
        target=check.target,
        changes=check.changes,
        stamp=given.stamp,
    )
    effect = await action.apply(intent)
    await real_world.settled(lambda: action.progress(effect))
    assert len(await pods()) == len(before)
    assert not await pods() & before


@pytest.mark.servers
@pytest.mark.parametrize("policy", ["Parallel", "OrderedReady"])
async def test_a_real_stateful_set_with_a_pod_down_is_refused(
    policy: str, real_world: RealWorld, context: MakeContext
) -> None:
    """Written, the one would have two of three pods down under a budget of one, and the other would wait for ever."""
    ref = await real_world.workload("web", replicas=3, kind=STATEFULSET, podManagementPolicy=policy)
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    await real_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "keep"}, "spec": spec})
    action = RestartWorkload(real_world.cluster, clock=SystemClock())
    assert (await action.check({}, context(ref))).outcome is CheckOutcome.READY
    path = real_world.path(ResourceKind.POD, "web-0")
    status = {"conditions": [{"type": "Ready", "status": "False"}]}
    await real_world.call("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")
    await real_world.until(ref, lambda obj: obj["status"]["availableReplicas"] == 2)
    result = await action.check({}, context(ref))
    assert result.outcome is CheckOutcome.REFUSED
    assert ("beside the 1 that are not ready" if policy == "Parallel" else "2 of 3 pods are available") in result.reason


@pytest.mark.servers
async def test_of_two_real_workloads_under_one_budget_the_second_waits_for_the_first(
    real_world: RealWorld, context: MakeContext
) -> None:
    """Also after the first was written, while no pod is down yet: no new one may come, so that it stays so."""
    first, second = await real_world.workload("web", replicas=3), await real_world.workload("api", replicas=3)
    spec = {"maxUnavailable": 1, "selector": {}}
    budget = await real_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "both"}, "spec": spec})
    await real_world.until(budget, lambda obj: obj.get("status", {}).get("expectedPods") == 6)
    given = context(first)
    action = RestartWorkload(real_world.cluster, clock=At(given.stamp))
    seen = await action.check({}, given)
    assert seen.target is not None
    assert (await action.check({}, context(second))).outcome is CheckOutcome.READY
    release = await real_world.full()
    effect = await action.apply(
        Intent(
            step_key=given.step_key,
            action=action.name,
            params={},
            target=seen.target,
            changes=seen.changes,
            stamp=given.stamp,
        )
    )
    refused = await action.check({}, context(second))
    assert refused.outcome is CheckOutcome.REFUSED
    assert "Deployment web, too, which is rolling" in refused.reason
    await release()
    await real_world.settled(lambda: action.progress(effect))
    assert (await action.check({}, context(second))).outcome is CheckOutcome.READY


@pytest.mark.parametrize(("others_ready", "allowed"), [(3, True), (2, False)])
async def test_a_jobs_ready_pod_stands_for_no_other(
    others_ready: int, allowed: bool, fake_world: FakeWorld, check: Callable[[TargetRef], Any]
) -> None:
    """Where it keeps a budget from being counted it is none of those that are wanted, nor one of the healthy."""
    ref = await fake_world.workload("web", replicas=4, **rolling_update(maxUnavailable=1))
    put_pods(fake_world, "web", (True,) * 4)
    put_pods(fake_world, "api", (number < others_ready for number in range(3)))
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    meta = {"name": "report-x", "ownerReferences": [{"kind": "Job", "name": "report", "controller": True}]}
    fake_world.fake.put(ResourceKind.POD, {"metadata": meta, "status": ready})
    status = {"observedGeneration": 1, "conditions": [{"type": "DisruptionAllowed", "reason": "SyncFailed"}]}
    body = {"metadata": {"name": "all"}, "spec": {"maxUnavailable": 1, "selector": {}}, "status": status}
    await fake_world.create(ResourceKind.POD_DISRUPTION_BUDGET, body)
    result = await check(ref)
    assert (result.outcome is CheckOutcome.READY) is allowed
    assert allowed or "PodDisruptionBudget all wants 6 of 7 healthy" in result.reason


@pytest.mark.servers
@pytest.mark.parametrize(("beside", "shared"), [("DaemonSet", True), ("Job", False)])
async def test_pods_that_a_real_budget_cannot_count_are_counted(
    beside: str, shared: bool, real_world: RealWorld, context: MakeContext
) -> None:
    """Its controller gives up at a DaemonSet or a Job, and says 0 pods: they would look like the workload's own."""
    ref = await real_world.workload("web", replicas=3)
    template = {
        "metadata": {"labels": {"app": "beside"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always" if shared else "Never"},
    }
    labels = {"selector": {"matchLabels": {"app": "beside"}}} if shared else {}
    group = "apps" if shared else "batch"
    await real_world.call(
        "POST",
        f"/apis/{group}/v1/namespaces/{real_world.namespace}/{beside.lower()}s",
        {
            "apiVersion": f"{group}/v1",
            "kind": beside,
            "metadata": {"name": "one"},
            "spec": {"template": template} | labels,
        },
    )

    async def there() -> bool:
        pods = await real_world.cluster.list(
            ResourceKind.POD, real_world.namespace, labels={"app": "beside"}, timeout=timedelta(seconds=5)
        )
        return bool(pods)

    await real_world.eventually(there)
    spec = {"maxUnavailable": 1, "selector": {}}
    budget = await real_world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "all"}, "spec": spec})
    await real_world.until(budget, lambda obj: bool(obj.get("status", {}).get("conditions")))
    seen = await RestartWorkload(real_world.cluster, clock=SystemClock()).check({}, context(ref))
    assert (seen.outcome, seen.beside) == (CheckOutcome.READY, (budget,) if shared else ())

"""Shifting traffic: which weights move, what is refused, and when the gateways have followed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from activities.actions.shift_traffic import ShiftTraffic, planned_weights
from activities.fields import inverse, is_guard, merge_patch
from firebreak.domain.action import CheckOutcome, CheckResult, EffectOutcome, Intent, ProgressState, StepContext
from firebreak.domain.errors import PreconditionFailed, TargetChanged
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeWorld, RealWorld

    MakeContext = Callable[[TargetRef], StepContext]

TARGET = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v2")
Rules = list[dict[str, Any]]


def rule(**weights: int | None) -> dict[str, Any]:
    """Backends by name (`_` for `-`); None = no weight is written."""
    backends = [{"name": n.replace("_", "-"), **({} if w is None else {"weight": w})} for n, w in weights.items()]
    return {"backendRefs": backends}


def weights(obj: Mapping[str, Any]) -> list[dict[str, int]]:
    return [{b["name"]: b.get("weight") for b in r["backendRefs"]} for r in obj["spec"]["rules"]]


def at(path: str, given: dict[str, Any], **more: Any) -> dict[str, Any]:
    """That rule for calls to `path`."""
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}}], **copy.deepcopy(given), **more}


CONTAINERS = {"containers": [{"name": "main", "image": "registry.example/pay:2"}]}
SHIFTED = rule(pay_v1=100, pay_v2=0)
AS_PLANNED_ON = rule(pay_v1=0, pay_v2=100)


class Route:
    """The route `pay` of the shop, and a check of it."""

    def __init__(self, world: FakeWorld, context: StepContext) -> None:
        self.world, self.context = world, context
        self.action = ShiftTraffic(world.cluster, clock=SystemClock())
        self.ref = replace(TARGET, kind=ResourceKind.HTTP_ROUTE, name="pay")

    async def has(self, *rules: dict[str, Any], **more: Any) -> None:
        self.ref = await self.world.create(
            ResourceKind.HTTP_ROUTE, {"metadata": {"name": "pay"}, "spec": {"rules": list(rules)}, **more}
        )

    async def check(self, **params: Any) -> CheckResult:
        return await self.action.check({"route": "pay", "away_from": "pay-v2", **params}, self.context)

    async def shift(self, **params: Any) -> Intent:
        check = await self.check(**params)
        assert check.outcome is CheckOutcome.READY, check.reason
        assert check.target is not None
        return Intent(
            step_key=self.context.step_key,
            action="shift_traffic",
            params={"route": "pay", "away_from": "pay-v2", **params},
            target=check.target,
            changes=check.changes,
            stamp=self.context.stamp,
        )

    def weights(self) -> list[dict[str, int]]:
        return weights(self._object())

    def rules(self) -> Any:
        return self._object()["spec"]["rules"]

    def _object(self) -> dict[str, Any]:
        return self.world.fake.objects[self.ref.kind, self.ref.namespace, self.ref.name]


@pytest.fixture
async def route(fake_world: FakeWorld, context: MakeContext) -> Route:
    """Three versions with three ready pods each."""
    for name in ("pay-v1", "pay-v2", "pay-v3"):
        await fake_world.service(name, pods=3)
    return Route(fake_world, context(TARGET))


@pytest.mark.parametrize(
    ("before", "params", "after"),
    [
        ([rule(pay_v1=0, pay_v2=100)], {}, [{"pay-v1": 100, "pay-v2": 0}]),
        ([rule(pay_v1=None, pay_v2=None)], {"min_ready_share": 0.5}, [{"pay-v1": 2, "pay-v2": 0}]),
        (
            [rule(pay_v1=90, pay_v2=10), rule(pay_v1=100), rule(pay_v2=5, pay_v1=0)],
            {"min_ready_share": 0.5},
            [{"pay-v1": 100, "pay-v2": 0}, {"pay-v1": 100}, {"pay-v2": 0, "pay-v1": 5}],
        ),
        (
            [rule(pay_v1=60, pay_v2=10, pay_v3=30)],
            {"min_ready_share": 0.5},
            [{"pay-v1": 67, "pay-v2": 0, "pay-v3": 33}],
        ),
        ([rule(pay_v1=0, pay_v2=100, pay_v3=0)], {"to": "pay-v3"}, [{"pay-v1": 0, "pay-v2": 0, "pay-v3": 100}]),
    ],
)
async def test_all_weight_moves_and_nothing_else(
    before: Rules, params: Mapping[str, Any], after: Any, route: Route
) -> None:
    """Over all rules of the route; the sum of each rule's weights stays."""
    await route.has(*before)
    await route.action.apply(await route.shift(**params))
    assert route.weights() == after


def test_the_sum_of_weights_is_kept_whatever_they_are() -> None:
    """Random rules; the seed is in the failure."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    for _ in range(200):
        given = {f"v{n}": dice.choice((0, 1, 7, 100, 999_983)) for n in range(dice.randint(2, 5))}
        obj = {"spec": {"rules": [rule(**given)]}}
        params = ShiftTraffic.Params(route="r", away_from="v0")
        try:
            changes = planned_weights(obj, params)
        except PreconditionFailed:
            assert sum(given.values()) == 0 or len(given) > 2, seed
            continue
        spec = merge_patch(obj, changes).get("spec") or obj["spec"]
        after = weights({"spec": spec})[0]
        assert sum(after.values()) == sum(given.values()), seed
        assert after["v0"] == 0, seed
        assert all(after[n] >= given[n] for n in given if n != "v0"), seed


@pytest.mark.parametrize(
    ("rules", "params", "reason"),
    [
        ([rule(pay_v1=100)], {}, "has no backend pay-v2"),
        ([rule(pay_v2=100)], {}, "no other backend"),
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v2=1)], {}, "rule 1 has no other backend"),
        ([rule(pay_v1=0, pay_v2=100, pay_v3=0)], {}, "say which one"),
        ([rule(pay_v1=0, pay_v2=100)], {"to": "pay-v3"}, "no backend pay-v3"),
        ([rule(pay_v1=0, pay_v2=0)], {}, "nothing to move"),
        ([rule(pay_v1=0, pay_v2=100)], {"to": "pay-v2"}, "same backend"),
        ([{"backendRefs": [*rule(pay_v1=0, pay_v2=1)["backendRefs"], {"name": "pay-v2"}]}], {}, "twice"),
        ([{"backendRefs": [{"name": "pay-v2"}, {"name": "b", "kind": "Bucket", "group": "x.io"}]}], {}, "is a Bucket"),
    ],
)
async def test_what_cannot_be_shifted_is_refused(
    rules: Rules, params: Mapping[str, Any], reason: str, route: Route
) -> None:
    """Each with a sentence; nothing is guessed."""
    await route.has(*rules)
    result = await route.check(**params)
    assert result.outcome is CheckOutcome.REFUSED
    assert reason in result.reason


async def test_a_route_that_sends_nothing_there_is_already_so(route: Route) -> None:
    """Nothing to write is no failure: the step goes on to verify."""
    await route.has(rule(pay_v1=100, pay_v2=0))
    result = await route.check()
    assert result.outcome is CheckOutcome.ALREADY_SO
    assert result.target is not None


async def test_a_route_that_its_gateway_rejects_is_refused(route: Route) -> None:
    """Weights of a route that is not in effect change nothing."""
    accepted = {"type": "Accepted", "status": "False", "message": "no such listener"}
    parents = [{"parentRef": {"name": "edge"}, "conditions": [accepted]}]
    await route.has(rule(pay_v1=0, pay_v2=100), status={"parents": parents})
    assert "no such listener" in (await route.check()).reason


@pytest.mark.parametrize(
    ("ready", "params", "allowed"),
    [
        (3, {}, True),
        (2, {}, False),
        (2, {"min_ready_share": 0.6}, True),  # 1.8 up to 2
        (1, {"min_ready_share": 0.6}, False),
        (0, {"min_ready_share": 0.01}, False),
    ],
)
async def test_the_receiving_side_must_have_ready_capacity(
    ready: int, params: Mapping[str, Any], allowed: bool, route: Route
) -> None:
    """As many ready pods as carry the load now, or what the runbook says of it; never none."""
    endpoints = [{"addresses": [f"10.1.0.{n}"], "conditions": {"ready": n < ready}} for n in range(3)]
    await route.world.edit(
        replace(TARGET, kind=ResourceKind.ENDPOINT_SLICE, name="pay-v1-abcde"), {"endpoints": endpoints}
    )
    await route.has(rule(pay_v1=0, pay_v2=100))
    result = await route.check(**params)
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason
    assert allowed or f"{ready} ready pods" in result.reason


@pytest.mark.parametrize(
    ("given", "share", "needs"),
    [
        (rule(pay_v1=99, pay_v2=1), 0.8, ""),  # three carry 99 of 100: 3.03 for all
        (rule(pay_v1=99, pay_v2=1), 1.0, "needs 4 (100% of the 3.03 that carry rule 0 now, by its own weight of 99"),
        (rule(pay_v1=80, pay_v2=20), 0.8, ""),
        (rule(pay_v1=79, pay_v2=21), 0.8, "needs 4"),
        (rule(pay_v1=50, pay_v2=50), 0.8, "needs 5"),
        (rule(pay_v1=1, pay_v2=99), 0.8, "needs 5 (80% of the 6 that carry rule 0 now)"),
        (rule(pay_v1=50, pay_v2=1, pay_v3=49), 0.8, ""),
    ],
)
async def test_a_canary_counts_by_its_weight(given: Any, share: float, needs: str, route: Route) -> None:
    """Of full size, and with one call in a hundred, it is what most often must be left: the others hardly feel it."""
    await route.has(given)
    result = await route.check(min_ready_share=share)
    assert (result.outcome is CheckOutcome.READY) is (needs == ""), result.reason
    assert needs in result.reason


async def test_dead_pods_count_as_load(route: Route) -> None:
    """Three crashed pods were carrying what three must carry now."""
    dead = [{"addresses": [f"10.1.0.{n}"], "conditions": {"ready": False}} for n in range(4)]
    slices = replace(TARGET, kind=ResourceKind.ENDPOINT_SLICE, name="pay-v2-abcde")
    await route.world.edit(slices, {"endpoints": dead})
    await route.has(rule(pay_v1=0, pay_v2=100))
    assert "needs 4" in (await route.check()).reason


@pytest.mark.parametrize(
    ("rules", "share", "needs"),
    [
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v1=100)], 1.0, "pay-v1 has 3 ready pods and needs 6"),
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v1=100)], 0.5, ""),
        ([rule(pay_v1=100), rule(pay_v1=0, pay_v2=1), rule(pay_v1=9, pay_v3=1)], 1.0, "needs 6"),  # its pods count once
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v3=100)], 1.0, ""),  # that one is in nobody's way
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v1=0, pay_v3=1)], 1.0, ""),
        ([rule(pay_v1=0, pay_v2=100), rule(pay_v1=0, pay_v2=7)], 1.0, ""),  # the same pods carry both
    ],
)
async def test_what_the_receiving_side_carries_of_other_rules_counts(
    rules: Rules, share: float, needs: str, route: Route
) -> None:
    """It has the pods for its own calls, and for none beside them."""
    await route.has(*rules)
    result = await route.check(min_ready_share=share)
    assert (result.outcome is CheckOutcome.READY) is (needs == ""), result.reason
    assert needs in result.reason


async def test_traffic_goes_back_beside_what_a_backend_carries_by_then(route: Route) -> None:
    """Since the shift somebody has given it a rule of its own: its three pods are for that one."""
    await route.has(at("/", AS_PLANNED_ON))
    intent = await route.shift()
    effect = await route.action.apply(intent)
    await route.world.edit(route.ref, {"spec": {"rules": [at("/", SHIFTED), at("/own", rule(pay_v2=1))]}})
    back = await route.action.prepare_undo(intent, effect, step_key="back", stamp=intent.stamp)
    assert back.outcome is CheckOutcome.REFUSED
    assert "needs 6 (100% of the 3 that carry rule 0 now, and of the 3 of pay-v2 that carry other rules)" in back.reason


@pytest.mark.servers
async def test_pods_that_could_not_be_placed_count_as_load(real_world: RealWorld, context: MakeContext) -> None:
    """No node takes the pods of the bad release: the load is that of four, though it has no endpoint."""
    await real_world.service("pay-v1", pods=1)
    template = {"metadata": {"labels": {"app": "pay-v2"}}, "spec": {"nodeSelector": {"disk": "none"}, **CONTAINERS}}
    spec = {"replicas": 4, "selector": {"matchLabels": {"app": "pay-v2"}}, "template": template}
    await real_world.create(ResourceKind.DEPLOYMENT, {"metadata": {"name": "pay-v2"}, "spec": spec})
    ports = [{"port": 80, "name": "http"}]
    service = {"metadata": {"name": "pay-v2"}, "spec": {"selector": {"app": "pay-v2"}, "ports": ports}}
    await real_world.create(ResourceKind.SERVICE, service)
    backends = [{"name": n, "port": 80, "weight": w} for n, w in (("pay-v1", 0), ("pay-v2", 100))]
    spec = {"rules": [{"backendRefs": backends}]}
    ref = await real_world.create(ResourceKind.HTTP_ROUTE, {"metadata": {"name": "pay"}, "spec": spec})
    action = ShiftTraffic(real_world.cluster, clock=SystemClock())
    check = await action.check({"route": "pay", "away_from": "pay-v2"}, context(ref))
    assert "pay-v1 has 1 ready pods and needs 4" in check.reason


@pytest.mark.servers
@pytest.mark.parametrize(
    ("service", "port", "refused"),
    [
        ({}, 80, ""),
        ({}, 81, "Service pay-v1 has no port 81"),
        (
            {"ports": [{"name": "http", "port": 80, "targetPort": "none"}]},
            80,
            "no pod of Service pay-v1 serves its port",
        ),
        ({"publishNotReadyAddresses": True, "selector": {"app": "dead"}}, 80, "pay-v1 has 0 ready pods"),
    ],
)
async def test_traffic_goes_to_no_backend_that_cannot_be_reached(
    service: Mapping[str, Any], port: int, refused: str, real_world: RealWorld, context: MakeContext
) -> None:
    """A port that its Service or its pods do not have, and pods that are published before they are ready."""
    for name in ("pay-v1", "pay-v2", "dead"):
        await real_world.service(name, pods=1)
    for pod in await real_world.cluster.list(
        ResourceKind.POD, real_world.namespace, labels={"app": "dead"}, timeout=timedelta(seconds=5)
    ):
        path = real_world.path(ResourceKind.POD, pod["metadata"]["name"])
        status = {"conditions": [{"type": "Ready", "status": "False"}]}
        await real_world.call("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")
    services = replace(TARGET, namespace=real_world.namespace, kind=ResourceKind.SERVICE, name="pay-v1")
    await real_world.edit(services, {"spec": service})
    backends = [{"name": "pay-v1", "port": port, "weight": 0}, {"name": "pay-v2", "port": 80, "weight": 100}]
    spec = {"rules": [{"backendRefs": backends}]}
    ref = await real_world.create(ResourceKind.HTTP_ROUTE, {"metadata": {"name": "pay"}, "spec": spec})
    action = ShiftTraffic(real_world.cluster, clock=SystemClock())

    async def judged() -> bool:
        check = await action.check({"route": "pay", "away_from": "pay-v2"}, context(ref))
        return refused in check.reason if refused else check.outcome is CheckOutcome.READY

    await real_world.eventually(judged)


@pytest.mark.parametrize("weight", [0, 10])
@pytest.mark.parametrize(("reason", "allowed"), [("BackendNotFound", True), ("RefNotPermitted", False)])
async def test_traffic_goes_to_no_namespace_that_grants_no_reference(
    reason: str, allowed: bool, weight: int, route: Route
) -> None:
    """Its pods are ready, and a gateway answers 500 for them: it has said so of the route, and of no other backend."""
    for (kind, namespace, name), obj in list(route.world.fake.objects.items()):
        if name.startswith("pay-v1"):
            del route.world.fake.objects[kind, namespace, name]
            obj["metadata"]["namespace"] = "elsewhere"
            route.world.fake.put(kind, obj)
    given = rule(pay_v1=weight, pay_v2=100 - weight)
    given["backendRefs"][0]["namespace"] = "elsewhere"
    conditions = [{"type": "ResolvedRefs", "status": "False", "reason": reason}]
    await route.has(given, status={"parents": [{"parentRef": {"name": "edge"}, "conditions": conditions}]})
    result = await route.check(min_ready_share=0.5)
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason
    assert allowed or "may not send to some backend of another namespace, as elsewhere is" in result.reason


async def test_a_namespace_that_is_said_to_grant_nothing_gets_its_load_back(route: Route) -> None:
    """It had that load, so that the status is about some other backend: it names none."""
    for (kind, namespace, name), obj in list(route.world.fake.objects.items()):
        if name.startswith("pay-v2"):
            del route.world.fake.objects[kind, namespace, name]
            obj["metadata"]["namespace"] = "elsewhere"
            route.world.fake.put(kind, obj)
    given = rule(pay_v1=0, pay_v2=100)
    given["backendRefs"][1]["namespace"] = "elsewhere"
    conditions = [{"type": "ResolvedRefs", "status": "False", "reason": "RefNotPermitted"}]
    await route.has(given, status={"parents": [{"parentRef": {"name": "edge"}, "conditions": conditions}]})
    intent = await route.shift()
    await route.action.apply(intent)
    back = replace(intent, undo=True, changes=inverse(intent.changes))
    assert await route.action.objection(back, route._object(), least=True) == ""


@pytest.mark.parametrize(
    ("weights", "allowed"),
    [((1, 20, 79), False), ((1, 79, 20), False), ((80, 20, 0), True), ((50, 1, 49), True)],
)
async def test_one_backend_that_gets_all_of_it_beside_others_must_have_the_pods(
    weights: tuple[int, int, int], allowed: bool, fake_world: FakeWorld, context: MakeContext
) -> None:
    """By its weight of 1 its one pod would get 21 parts of 100, or 80; the other side's pods are no help to it. What
    half of the calls are to its pods now, they carry with one part more."""
    pods_of_all = (10, 10, 10) if weights[1] == 1 else (1, 10, 20)
    for name, pods in zip(("pay-v1", "pay-v2", "pay-v3"), pods_of_all, strict=True):
        await fake_world.service(name, pods=pods)
    route = Route(fake_world, context(TARGET))
    await route.has(rule(pay_v1=weights[0], pay_v2=weights[1], pay_v3=weights[2]))
    result = await route.check(to="pay-v1", min_ready_share=0.8)
    assert (result.outcome is CheckOutcome.READY) is allowed, result.reason


async def test_a_write_of_which_admission_took_a_backend_off_is_told_as_written(
    route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the dry run, so the API server's answer is the first to show it; never is it told as a refusal."""
    await route.has(AS_PLANNED_ON)
    intent = await route.shift()
    real = route.world.fake.patch

    async def admitting(ref: TargetRef, body: Mapping[str, Any], **how: Any) -> Any:
        admitted = json.loads(json.dumps(body))
        (given,) = admitted["spec"]["rules"]
        given["backendRefs"] = [b for b in given["backendRefs"] if b["weight"] > 0]
        return await real(ref, admitted, **how)

    monkeypatch.setattr(route.world.fake, "patch", admitting)
    effect = await route.action.apply(intent)
    assert (effect.outcome, route.world.fake.writes) == (EffectOutcome.APPLIED, 1)
    assert "wrote something else" in effect.reason
    assert (await route.action.progress(effect)).state is ProgressState.CHANGED


async def test_a_pod_counts_once_and_a_leaving_one_not_at_all(route: Route) -> None:
    """Dual-stack Services list each pod in two slices."""
    meta = {"name": "pay-v1-ipv6", "labels": {"kubernetes.io/service-name": "pay-v1"}}
    same = [{"addresses": [f"fd00::{n}"], "conditions": {}, "targetRef": {"uid": f"pay-v1-{n}"}} for n in range(3)]
    leaving = {"addresses": ["fd00::9"], "conditions": {"ready": True, "terminating": True}, "targetRef": {"uid": "x"}}
    await route.world.create(ResourceKind.ENDPOINT_SLICE, {"metadata": meta, "endpoints": [*same, leaving]})
    await route.has(rule(pay_v1=100, pay_v2=0))
    result = await route.check(away_from="pay-v1", to="pay-v2")
    assert result.outcome is CheckOutcome.READY, result.reason


async def test_without_endpoint_slices_the_services_pods_count(route: Route) -> None:
    """And a backend that does not exist at all is refused."""
    for (kind, namespace, name), _ in list(route.world.fake.objects.items()):
        if kind is ResourceKind.ENDPOINT_SLICE:
            del route.world.fake.objects[kind, namespace, name]
    for number in range(2):
        meta = {"name": f"pay-v1-{number}", "labels": {"app": "pay-v1"}}
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await route.world.create(ResourceKind.POD, {"metadata": meta, "status": ready})
    await route.has(rule(pay_v1=0, pay_v2=100))
    assert (await route.check()).outcome is CheckOutcome.READY
    await route.has(rule(pay_v9=0, pay_v2=100))
    missing = await route.check()
    assert missing.outcome is CheckOutcome.REFUSED
    assert "pay-v9 does not exist" in missing.reason


async def test_a_rule_added_after_the_check_stops_the_write(route: Route) -> None:
    """Else the new rule would go on sending traffic to the bad backend."""
    await route.has(rule(pay_v1=0, pay_v2=100))
    intent = await route.shift()
    rules = [rule(pay_v1=0, pay_v2=100), rule(pay_v1=0, pay_v2=100)]
    await route.world.edit(route.ref, {"spec": {"rules": rules}})
    with pytest.raises(TargetChanged, match="rules"):
        await route.action.apply(intent)


async def test_undo_finds_the_backend_by_name_and_keeps_other_edits(route: Route) -> None:
    """An edit of another field since is kept, also when it moved the backends within the rule."""
    await route.has({**rule(pay_v1=5, pay_v2=95), "timeouts": {"request": "1s"}})
    intent = await route.shift(min_ready_share=0.5)
    effect = await route.action.apply(intent)
    moved = {**rule(pay_v2=0, pay_v1=100), "timeouts": {"request": "9s"}}
    await route.world.edit(route.ref, {"spec": {"rules": [moved]}})
    key = f"{intent.step_key}/undo"
    prepared = await route.action.prepare_undo(intent, effect, step_key=key, stamp=intent.stamp)
    assert prepared.outcome is CheckOutcome.READY, prepared.reason
    await route.action.apply(replace(intent, step_key=key, changes=prepared.changes, undo=True))
    obj = await route.world.cluster.get(route.ref, timeout=route.action.call_timeout)
    assert obj["spec"]["rules"] == [{**rule(pay_v2=95, pay_v1=5), "timeouts": {"request": "9s"}}]


@pytest.mark.parametrize(
    ("first", "since"),
    [
        ([at("/", AS_PLANNED_ON)], [at("/beta", SHIFTED), at("/", SHIFTED)]),
        ([at("/", AS_PLANNED_ON)], [at("/beta", AS_PLANNED_ON), at("/", SHIFTED)]),  # looks as before, and is not
        ([at("/", AS_PLANNED_ON)], [at("/beta", SHIFTED)]),
        ([at("/", AS_PLANNED_ON)], [at("/", SHIFTED), at("/", SHIFTED)]),  # one of both is somebody's own
        ([at("/", AS_PLANNED_ON)], [at("/", AS_PLANNED_ON), at("/", SHIFTED)]),
        ([at("/a", AS_PLANNED_ON), at("/b", AS_PLANNED_ON)], [at("/b", SHIFTED), at("/a", SHIFTED)]),
        ([at("/a", AS_PLANNED_ON), at("/b", AS_PLANNED_ON)], [at("/a", SHIFTED)]),
        ([at("/", AS_PLANNED_ON, name="pay")], [at("/", SHIFTED, name="beta"), at("/", SHIFTED, name="pay")]),
        ([at("/", AS_PLANNED_ON, name="pay")], [at("/", SHIFTED, name="beta")]),
        ([AS_PLANNED_ON], [at("/beta", SHIFTED), SHIFTED]),
    ],
)
async def test_undo_never_writes_a_rule_that_is_not_ours(first: Rules, since: Rules, route: Route) -> None:
    """Neither in its check nor in a write that was prepared before the rules moved."""
    await route.has(*first)
    intent = await route.shift()
    effect = await route.action.apply(intent)
    key = f"{intent.step_key}/undo"
    early = await route.action.prepare_undo(intent, effect, step_key=key, stamp=intent.stamp)
    await route.world.edit(route.ref, {"spec": {"rules": since}})
    late = await route.action.prepare_undo(intent, effect, step_key=f"{key}2", stamp=intent.stamp)
    assert late.outcome is CheckOutcome.REFUSED, late.reason
    assert early.outcome is CheckOutcome.READY, early.reason
    with pytest.raises(TargetChanged):
        await route.action.apply(replace(intent, step_key=key, changes=early.changes, undo=True))
    assert route.rules() == since


async def test_a_rule_of_its_own_at_the_end_does_not_stop_an_undo(route: Route) -> None:
    """Ours still stands where it stood, and alone matches what it matches."""
    await route.has(at("/", AS_PLANNED_ON))
    intent = await route.shift()
    effect = await route.action.apply(intent)
    await route.world.edit(route.ref, {"spec": {"rules": [at("/", SHIFTED), at("/beta", SHIFTED)]}})
    key = f"{intent.step_key}/undo"
    prepared = await route.action.prepare_undo(intent, effect, step_key=key, stamp=intent.stamp)
    assert prepared.outcome is CheckOutcome.READY, prepared.reason
    await route.action.apply(replace(intent, step_key=key, changes=prepared.changes, undo=True))
    assert route.rules() == [at("/", AS_PLANNED_ON), at("/beta", SHIFTED)]
    again = await route.action.prepare_undo(intent, effect, step_key=f"{key}2", stamp=intent.stamp)
    assert again.outcome is CheckOutcome.ALREADY_SO


async def test_rules_that_match_the_same_are_shifted_and_put_back(route: Route) -> None:
    """They are odd but legal: their places tell them apart as long as there are as many of them."""
    rules = [at("/", AS_PLANNED_ON), at("/", rule(pay_v1=7, pay_v3=3)), at("/", rule(pay_v1=1, pay_v2=0))]
    await route.has(*rules)
    intent = await route.shift(min_ready_share=0.5)
    effect = await route.action.apply(intent)
    key = f"{intent.step_key}/undo"
    prepared = await route.action.prepare_undo(intent, effect, step_key=key, stamp=intent.stamp)
    assert prepared.outcome is CheckOutcome.READY, prepared.reason
    await route.action.apply(replace(intent, step_key=key, changes=prepared.changes, undo=True))
    assert route.rules() == rules


@pytest.mark.parametrize("since", [[at("/beta", AS_PLANNED_ON)], [at("/", AS_PLANNED_ON, name="beta")]])
async def test_another_rule_in_the_place_of_ours_stops_the_write(since: Rules, route: Route) -> None:
    """With the very same weights: they are not what was judged, since other calls take that way."""
    await route.has(at("/", AS_PLANNED_ON, name="pay"))
    intent = await route.shift()
    await route.world.edit(route.ref, {"spec": {"rules": since}})
    with pytest.raises(TargetChanged, match="somebody else"):
        await route.action.apply(intent)
    assert route.rules() == since


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({}, ProgressState.RUNNING),
        ({"Accepted": ("True", 2)}, ProgressState.RUNNING),
        ({"Accepted": ("True", 1), "ResolvedRefs": ("True", 2)}, ProgressState.RUNNING),
        ({"Accepted": ("Unknown", 2), "ResolvedRefs": ("True", 2)}, ProgressState.RUNNING),
        ({"Accepted": ("True", 2), "ResolvedRefs": ("True", 2)}, ProgressState.DONE),
        ({"Accepted": ("True", 2), "ResolvedRefs": ("False", 2)}, ProgressState.FAILED),
        ({"Accepted": ("False", 2), "ResolvedRefs": ("True", 2)}, ProgressState.FAILED),
        ({"Accepted": ("False", 1), "ResolvedRefs": ("True", 1)}, ProgressState.RUNNING),
    ],
)
async def test_progress_is_what_every_gateway_says_of_this_generation(
    conditions: Mapping[str, tuple[str, int]], state: ProgressState, route: Route
) -> None:
    """An old verdict says nothing about the new weights."""
    await route.has(rule(pay_v1=0, pay_v2=100))
    effect = await route.action.apply(await route.shift())
    good = [{"type": t, "status": "True", "observedGeneration": 2} for t in ("Accepted", "ResolvedRefs")]
    told = [{"type": t, "status": s, "observedGeneration": g} for t, (s, g) in conditions.items()]
    parents = [{"parentRef": {"name": "a"}, "conditions": good}, {"parentRef": {"name": "b"}, "conditions": told}]
    await route.world.edit(route.ref, {"status": {"parents": parents}})
    found = await route.action.progress(effect)
    assert found.state is state, found.reason
    assert state is ProgressState.DONE or "gateway b" in found.reason


async def test_a_route_that_nobody_serves_says_so(route: Route) -> None:
    """Running for ever without a reason would be a riddle."""
    await route.has(rule(pay_v1=0, pay_v2=100))
    effect = await route.action.apply(await route.shift())
    found = await route.action.progress(effect)
    assert found.state is ProgressState.RUNNING
    assert "no gateway has set a status" in found.reason


async def test_changes_can_be_read_by_a_person(route: Route) -> None:
    """The timeline shows them as they are; what they are bound to changes nothing and stands behind them."""
    await route.has(at("/", rule(pay_v1=0, pay_v2=100), name="pay"))
    check = await route.check()
    changes = {c.path: (json.loads(c.before), json.loads(c.after)) for c in check.changes if not is_guard(c)}
    guards = {c.path: json.loads(c.before) for c in check.changes[2:]}
    assert guards == {"spec.rules[0].matches": at("/", {})["matches"], "spec.rules[0].name": "pay"}
    assert changes == {
        'spec.rules[0].backendRefs[name="pay-v1"].weight': (0, 100),
        'spec.rules[0].backendRefs[name="pay-v2"].weight': (100, 0),
    }

"""What a write needs beside its target is judged of each object that is written, and of each undo."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from activities.actions import build
from activities.actions.base import Action
from firebreak.domain.action import CheckOutcome, CheckResult, EffectOutcome, HeldBackCheck, Intent, StepContext
from firebreak.domain.errors import NotYet, TransientError
from firebreak.domain.ports import KubeObject
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeWorld, RealWorld

    World = FakeWorld | RealWorld
    MakeContext = Callable[[TargetRef], StepContext]

NAMES = ("restart_workload", "shift_traffic")
SERVICE = {"group": "", "kind": "Service", "port": 80}


@dataclass
class Stage:
    """An action that may be done now, and what somebody does so that it may not."""

    world: World
    action: Action
    ref: TargetRef
    params: dict[str, Any]
    context: StepContext
    spoil: Callable[[], Awaitable[None]]

    async def intent(self) -> Intent:
        return self.recorded(await self.action.check(self.params, self.context))

    def recorded(self, check: CheckResult, **more: Any) -> Intent:
        assert check.outcome is CheckOutcome.READY, check.reason
        assert check.target is not None
        intent = Intent(
            step_key=self.context.step_key,
            action=self.action.name,
            params=self.params,
            target=check.target,
            changes=check.changes,
            stamp=self.context.stamp,
        )
        return replace(intent, **more)

    async def prepared(self, intent: Intent, key: str) -> CheckResult:
        """What would take back what the world shows of `intent`."""
        effect = await self.action.read_back(intent)
        return await self.action.prepare_undo(intent, effect, step_key=key, stamp=intent.stamp)

    async def object(self) -> KubeObject:
        return await self.world.cluster.get(self.ref, timeout=self.action.call_timeout)

    async def weights(self) -> list[int]:
        rules = (await self.object())["spec"]["rules"]
        return [b["weight"] for b in rules[0]["backendRefs"]]


async def shift(world: World, context: MakeContext, *, v1: int = 0, v2: int = 100, pods: int = 2, **more: Any) -> Stage:
    """Traffic leaves pay-v2 for pay-v1, which is about to lose its pods but one."""
    for name in ("pay-v1", "pay-v2"):
        await world.service(name, pods=pods)
    backends = [{**SERVICE, "name": "pay-v1", "weight": v1}, {**SERVICE, "name": "pay-v2", "weight": v2}]
    ref = await world.create(
        ResourceKind.HTTP_ROUTE, {"metadata": {"name": "pay"}, "spec": {"rules": [{"backendRefs": backends}]}}
    )
    params = {"route": "pay", "away_from": "pay-v2", **more}
    action = build(world.cluster, clock=SystemClock())["shift_traffic"]
    return Stage(world, action, ref, params, context(ref), lambda: world.scale("pay-v1", 1))


async def restart(world: World, context: MakeContext) -> Stage:
    """One pod of four at a time, of which a budget wants three; the budget is about to want all."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    ref = await world.workload("web", replicas=4, strategy=rolling)
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}
    budget = await world.create(ResourceKind.POD_DISRUPTION_BUDGET, {"metadata": {"name": "web"}, "spec": spec})
    action = build(world.cluster, clock=SystemClock())["restart_workload"]
    return Stage(world, action, ref, {}, context(ref), lambda: world.edit(budget, {"spec": {"minAvailable": 4}}))


SCENES = {"restart_workload": restart, "shift_traffic": shift}
MakeStage = Callable[[str], Awaitable[Stage]]


@pytest.fixture
def stage(world: World, context: MakeContext) -> MakeStage:
    return lambda name: SCENES[name](world, context)


class Overtaken:
    """A ClusterPort before whose first write somebody is quicker."""

    def __init__(self, inner: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._meanwhile = inner, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def patch(self, ref: TargetRef, body: Any, *, dry_run: bool = False, **how: Any) -> KubeObject:
        if self._meanwhile and not dry_run:
            await self._meanwhile.pop()()
        answer: KubeObject = await self._inner.patch(ref, body, dry_run=dry_run, **how)
        return answer


@pytest.mark.parametrize("name", NAMES)
async def test_after_a_conflict_it_is_judged_again(name: str, stage: MakeStage) -> None:
    """A 409 is a new reading: what the check found of budgets and ready pods no longer counts."""
    play = await stage(name)

    async def meanwhile() -> None:
        await play.spoil()
        await play.world.edit(play.ref, {"metadata": {"labels": {"seen-by": "somebody"}}})

    play.action.cluster = Overtaken(play.world.cluster, meanwhile)
    intent = await play.intent()
    with pytest.raises(NotYet, match="is not written"):
        await play.action.apply(intent)
    assert (await play.action.read_back(intent)).outcome is EffectOutcome.NOT_APPLIED


@pytest.mark.parametrize("name", NAMES)
async def test_after_a_crash_it_is_judged_again(name: str, stage: MakeStage) -> None:
    """A new process has an intent, and not the object of its check."""
    play = await stage(name)
    intent = await play.intent()
    await play.spoil()
    with pytest.raises(NotYet, match="is not written"):
        await build(play.world.cluster, clock=SystemClock())[name].apply(intent)
    assert (await play.action.read_back(intent)).outcome is EffectOutcome.NOT_APPLIED


async def test_a_roll_out_that_may_take_more_down_since_the_check_is_refused(
    fake_world: FakeWorld, context: MakeContext
) -> None:
    """The budget is as it was; the workload's own limit was loosened under the write."""
    play = await restart(fake_world, context)
    intent = await play.intent()

    async def loosen() -> None:
        spec = {"strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}
        await fake_world.edit(play.ref, {"spec": spec, "status": {"observedGeneration": 2}})

    fake_world.fake.before_patch = [loosen]
    with pytest.raises(NotYet, match="may take down 4 of 4 pods at once"):
        await play.action.apply(intent)
    assert fake_world.fake.writes == 0


@pytest.mark.parametrize("name", NAMES)
async def test_the_object_of_the_check_is_written_without_another_call(
    name: str, fake_world: FakeWorld, context: MakeContext
) -> None:
    """A quiet target costs one PATCH: nothing is read, nothing is listed."""
    play = await SCENES[name](fake_world, context)
    intent = await play.intent()
    asked = {"get": [TransientError("asked")], "list": [TransientError("asked")]}
    fake_world.fake.fail = {call: list(errors) for call, errors in asked.items()}
    assert (await play.action.apply(intent)).outcome is EffectOutcome.APPLIED
    assert fake_world.fake.fail.keys() == asked.keys()
    assert all(fake_world.fake.fail.values())


async def test_traffic_goes_back_only_to_a_side_that_can_carry_it(world: World, context: MakeContext) -> None:
    """Without load its autoscaler left one pod: all traffic on that one is an outage. With its pods it gets it."""
    play = await shift(world, context)
    intent = await play.intent()
    await play.action.apply(intent)
    await world.scale("pay-v2", 1)
    alone = await play.prepared(intent, "early")
    assert alone.outcome is CheckOutcome.REFUSED
    assert "pay-v2 has 1 ready pods and needs 2" in alone.reason
    assert "more ready pods" in alone.reason, "it says what to do"
    await world.scale("pay-v2", 2)
    ready = await play.prepared(intent, "late")
    await play.action.apply(play.recorded(ready, step_key="late", undo=True))
    assert await play.weights() == [0, 100]


@pytest.mark.parametrize(
    ("v1", "v2", "share", "ready", "allowed"),
    [
        (0, 100, 1.0, 9, False),
        (0, 100, 1.0, 10, True),
        (0, 100, 0.5, 5, True),
        (60, 40, 0.5, 1, False),  # 10 carry all of it: 4 carry 40 of 100, and half of those are asked for
        (60, 40, 0.5, 2, True),
        (95, 5, 0.5, 1, True),
        (95, 5, 0.5, 0, False),
    ],
)
async def test_who_gets_a_part_of_the_load_back_must_carry_that_part(
    v1: int, v2: int, share: float, ready: int, allowed: bool, fake_world: FakeWorld, context: MakeContext
) -> None:
    """As the way there, by the pods that carry it now; what the other side keeps is not asked for. Never none."""
    play = await shift(fake_world, context, v1=v1, v2=v2, pods=10, min_ready_share=share)
    intent = await play.intent()
    await play.action.apply(intent)
    await fake_world.scale("pay-v2", ready)
    back = await play.prepared(intent, "back")
    assert (back.outcome is CheckOutcome.READY) is allowed, back.reason
    assert isinstance(back, HeldBackCheck) is not allowed


async def test_a_refusal_that_lasts_is_not_held_back(fake_world: FakeWorld, context: MakeContext) -> None:
    """It is another object by now: ready pods would not help."""
    play = await shift(fake_world, context)
    intent = await play.intent()
    await play.action.apply(intent)
    effect = await play.action.read_back(intent)
    await fake_world.scale("pay-v2", 1)
    await fake_world.replace(play.ref)
    gone = await play.action.prepare_undo(intent, effect, step_key="back", stamp=intent.stamp)
    assert gone.outcome is CheckOutcome.REFUSED
    assert not isinstance(gone, HeldBackCheck)


async def test_what_is_gone_leaves_nothing_to_take_back(fake_world: FakeWorld, context: MakeContext) -> None:
    """Whoever deleted the route since is no error of services.yaml."""
    play = await shift(fake_world, context)
    intent = await play.intent()
    await play.action.apply(intent)
    effect = await play.action.read_back(intent)
    del fake_world.fake.objects[play.ref.kind, play.ref.namespace, play.ref.name]
    gone = await play.action.prepare_undo(intent, effect, step_key="back", stamp=intent.stamp)
    assert gone.outcome is CheckOutcome.REFUSED
    assert gone.reason == f"{play.ref.text} is gone: there is nothing of ours to take back"


async def test_an_undo_that_is_overtaken_is_judged_again(fake_world: FakeWorld, context: MakeContext) -> None:
    """It was prepared while the pods were there, and they went before its write."""
    play = await shift(fake_world, context)
    intent = await play.intent()
    await play.action.apply(intent)
    undo = play.recorded(await play.prepared(intent, "back"), step_key="back", undo=True)

    async def meanwhile() -> None:
        await fake_world.scale("pay-v2", 1)
        await fake_world.edit(play.ref, {"metadata": {"labels": {"seen-by": "somebody"}}})

    fake_world.fake.before_patch = [meanwhile]
    with pytest.raises(NotYet, match="pay-v2 has 1 ready pods"):
        await play.action.apply(undo)
    assert await play.weights() == [100, 0]

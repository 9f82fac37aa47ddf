"""The contract that every action keeps, in memory and against the real API server with its controllers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from activities.actions import build, discover, specs
from activities.actions.base import Action
from activities.fields import inverse, moved_fields
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.action import CheckOutcome, CheckResult, EffectOutcome, Intent, ProgressState, StepContext
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.errors import PermissionDenied, PreconditionFailed, TargetChanged, TargetNotFound, TransientError
from firebreak.domain.ids import step_annotation
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeWorld, RealWorld

    World = FakeWorld | RealWorld

TIMEOUT = timedelta(seconds=5)
KEY = "inc-20261121-083644-1f0a9c3e/0.0"


@dataclass(frozen=True)
class Scene:
    """One action on stage: the object it writes, its parameters, and a foreign write to what it touches."""

    target: TargetRef
    default_target: TargetRef
    params: Mapping[str, Any]
    meddle: Mapping[str, Any]


async def restart(world: World) -> Scene:
    ref = await world.workload("pay", replicas=2)
    notes = {"kubectl.kubernetes.io/restartedAt": "2026-11-21T07:00:00Z"}
    return Scene(ref, ref, {}, {"spec": {"template": {"metadata": {"annotations": notes}}}})


async def shift(world: World) -> Scene:
    for name in ("pay-v1", "pay-v2"):
        await world.service(name)

    def rules(v1: int, v2: int) -> list[dict[str, Any]]:
        weights = {"pay-v1": v1, "pay-v2": v2}
        backends = [{"group": "", "kind": "Service", "name": n, "port": 80, "weight": w} for n, w in weights.items()]
        return [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}]

    route = {"metadata": {"name": "pay"}, "spec": {"parentRefs": [{"name": "edge"}], "rules": rules(0, 100)}}
    ref = await world.create(ResourceKind.HTTP_ROUTE, route)
    target = replace(ref, kind=ResourceKind.DEPLOYMENT, name="pay-v2")
    return Scene(ref, target, {"route": "pay", "away_from": "pay-v2"}, {"spec": {"rules": rules(10, 90)}})


async def flag(world: World) -> Scene:
    data = {"recommend.enabled": "true", "other": "1"}
    ref = await world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "shop-flags"}, "data": data})
    target = replace(ref, kind=ResourceKind.DEPLOYMENT, name="order")
    params = {"config_map": "shop-flags", "key": "recommend.enabled", "value": "false"}
    return Scene(ref, target, params, {"data": {"recommend.enabled": "maybe"}})


SCENES: Mapping[str, Callable[[World], Awaitable[Scene]]] = {
    "restart_workload": restart,
    "shift_traffic": shift,
    "set_flag": flag,
}
every_mutating_action = pytest.mark.parametrize("name", sorted(SCENES))


class Between:
    """A ClusterPort with an accident in it: something happens before a write, its reply is lost, or
    it is altered on the way."""

    def __init__(self, inner: ClusterPort) -> None:
        self.inner = inner
        self.name = inner.name
        self.before_write: list[Callable[[], Awaitable[None]]] = []
        self.lose_reply = False
        self.admit: Callable[[KubeObject], KubeObject] = lambda answer: answer
        self.writes_sent = 0
        self.asked: set[tuple[str, ResourceKind]] = set()

    async def get(self, ref: TargetRef, *, timeout: timedelta) -> KubeObject:
        self.asked.add(("get", ref.kind))
        return await self.inner.get(ref, timeout=timeout)

    async def list(
        self,
        kind: ResourceKind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        cached: bool = False,
        timeout: timedelta,
    ) -> tuple[KubeObject, ...]:
        assert not cached, "what guards a write is asked of the newest state"
        self.asked.add(("list", kind))
        return await self.inner.list(kind, namespace, labels=labels, timeout=timeout)

    async def patch(
        self, ref: TargetRef, body: Mapping[str, Any], *, dry_run: bool = False, timeout: timedelta
    ) -> KubeObject:
        self.asked.add(("patch", ref.kind))
        if not dry_run:
            self.writes_sent += 1
            if self.before_write:
                await self.before_write.pop(0)()
        answer = await self.inner.patch(ref, body, dry_run=dry_run, timeout=timeout)
        if self.lose_reply and not dry_run:
            raise TransientError("the connection broke after the request was sent")
        return self.admit(answer)

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, timeout: timedelta
    ) -> str:
        return await self.inner.logs(
            namespace, pod, container, previous=previous, tail_lines=tail_lines, timeout=timeout
        )


class Stage:
    """An action before its scene."""

    def __init__(self, name: str, world: World, scene: Scene, context: StepContext) -> None:
        self.port = Between(world.cluster)
        self.action: Action = build(self.port, clock=SystemClock())[name]
        self.world, self.scene, self.context = world, scene, context

    async def check(self) -> CheckResult:
        return await self.action.check(self.scene.params, self.context)

    async def intent(self) -> Intent:
        """The intent of a check that is ready, as the caller writes it into the ledger and reads it again."""
        return self.recorded(await self.check(), KEY)

    def recorded(self, check: CheckResult, step_key: str, *, undo: bool = False) -> Intent:
        assert check.outcome is CheckOutcome.READY, check.reason
        assert check.target is not None
        intent = Intent(
            step_key=step_key,
            action=self.action.name,
            params=self.scene.params,
            target=check.target,
            changes=check.changes,
            stamp=self.context.stamp,
            undo=undo,
        )
        return from_data(Intent, json.loads(json.dumps(to_data(intent))))

    async def object(self) -> KubeObject:
        return await self.world.cluster.get(self.scene.target, timeout=TIMEOUT)

    async def substance(self) -> Any:
        """What the object says, without server-set fields, status and our own annotations."""
        obj = await self.object()
        notes = obj["metadata"].get("annotations") or {}
        return {
            **{k: v for k, v in obj.items() if k not in ("metadata", "status")},
            "labels": obj["metadata"].get("labels"),
            "annotations": {
                k: v for k, v in notes.items() if not k.startswith(("firebreak.dev/", "deployment.kubernetes.io/"))
            },
        }

    async def mentions_us(self) -> bool:
        return step_annotation(KEY) in ((await self.object())["metadata"].get("annotations") or {})


MakeStage = Callable[[str], Awaitable[Stage]]


@pytest.fixture
def stage(world: World, context: Callable[[TargetRef], StepContext]) -> MakeStage:
    async def make(name: str) -> Stage:
        scene = await SCENES[name](world)
        return Stage(name, world, scene, context(scene.default_target))

    return make


def test_every_action_has_a_scene_here_and_a_test_file() -> None:
    """A new action cannot be added without being put to the contract."""
    actions = discover()
    assert {n for n, a in actions.items() if a.mutates} == set(SCENES)
    here = Path(__file__).parent
    assert [n for n in actions if not (here / f"test_{n}.py").is_file()] == []


def test_every_action_says_when_to_use_it() -> None:
    """The docstring is what a person reads in the editor; its first line is the summary."""
    for spec in specs().values():
        assert spec.summary.endswith((".", "there."))
        assert len(discover()[spec.name].description().splitlines()) > 1
        assert spec.reversible or spec.irreversible_reason


def test_every_parameter_is_described() -> None:
    """Editors show the description while a runbook is written."""
    for spec in specs().values():
        assert all(p.get("description") for p in spec.params_schema["properties"].values())


@every_mutating_action
async def test_a_check_changes_nothing(name: str, stage: MakeStage) -> None:
    """Nothing is written before the intent is recorded: the dry run leaves no trace."""
    play = await stage(name)
    before = await play.substance()
    check = await play.check()
    assert check.outcome is CheckOutcome.READY
    assert check.changes
    assert await play.substance() == before
    assert not await play.mentions_us()
    assert play.port.writes_sent == 0


@every_mutating_action
async def test_an_action_asks_for_no_more_than_its_rights(name: str, stage: MakeStage) -> None:
    """`firebreak check` asks the API server for these: one that is not declared would be missed in the incident."""
    play = await stage(name)
    spec = {"maxUnavailable": "100%", "selector": {}}
    shared = {"metadata": {"name": "shared"}, "spec": spec, "status": {"expectedPods": 9}}
    await play.world.create(ResourceKind.POD_DISRUPTION_BUDGET, shared)
    intent = await play.intent()
    effect = await play.action.apply(intent)
    await play.action.progress(effect)
    declared = {(right.verb, right.kind) for right in play.action.rights}
    assert play.port.asked <= declared
    assert {right for right in declared if right[0] == "patch"} & play.port.asked


@every_mutating_action
async def test_what_was_planned_is_what_is_written(name: str, stage: MakeStage) -> None:
    """The effect, read from the API server's answer, shows the very changes of the check, and the step's mark."""
    play = await stage(name)
    intent = await play.intent()
    effect = await play.action.apply(intent)
    assert effect.outcome is EffectOutcome.APPLIED
    assert effect.changes == intent.changes
    assert effect.target.uid == intent.target.uid
    assert await play.mentions_us()
    assert moved_fields(await play.object(), inverse(intent.changes)) == ()


@every_mutating_action
async def test_a_repeat_changes_nothing(name: str, stage: MakeStage) -> None:
    """The second apply of one intent finds the mark and sends no write at all."""
    play = await stage(name)
    intent = await play.intent()
    await play.action.apply(intent)
    before = await play.substance()
    again = await play.action.apply(intent)
    assert again.outcome is EffectOutcome.ALREADY_APPLIED
    assert again.changes == intent.changes
    assert play.port.writes_sent == 1
    assert await play.substance() == before
    assert (await play.check()).outcome in (CheckOutcome.ALREADY_SO, CheckOutcome.REFUSED)


@every_mutating_action
async def test_another_uid_is_refused(name: str, stage: MakeStage) -> None:
    """A plan binds the object itself, not a later one of the same name."""
    play = await stage(name)
    intent = await play.intent()
    await play.world.replace(play.scene.target)
    with pytest.raises(TargetChanged, match="another object"):
        await play.action.apply(intent)
    with pytest.raises(TargetChanged, match="another object"):
        await play.action.read_back(intent)
    assert not await play.mentions_us()  # the API server refused our resourceVersion, or nothing was sent at all


@every_mutating_action
async def test_a_changed_touched_field_is_refused(name: str, stage: MakeStage) -> None:
    """Somebody else's write to the same field between check and write wins."""
    play = await stage(name)
    intent = await play.intent()
    await play.world.edit(play.scene.target, play.scene.meddle)
    with pytest.raises(TargetChanged, match="somebody else"):
        await play.action.apply(intent)
    assert not await play.mentions_us()


@every_mutating_action
async def test_an_unrelated_change_is_no_obstacle(name: str, stage: MakeStage) -> None:
    """The resourceVersion moves all the time; only UID and touched fields bind."""
    play = await stage(name)
    intent = await play.intent()
    await play.world.edit(play.scene.target, {"metadata": {"labels": {"seen-by": "somebody"}}})
    assert (await play.action.apply(intent)).outcome is EffectOutcome.APPLIED


@every_mutating_action
async def test_an_unrelated_change_under_the_write_is_tried_again(name: str, stage: MakeStage) -> None:
    """A 409 leads to a new look, and to one write in the end that keeps the other's change."""
    play = await stage(name)
    intent = await play.intent()
    play.port.before_write = [
        lambda: play.world.edit(play.scene.target, {"metadata": {"labels": {"n": "1"}}}),
        lambda: play.world.edit(play.scene.target, {"metadata": {"labels": {"n": "2"}}}),
    ]
    assert (await play.action.apply(intent)).outcome is EffectOutcome.APPLIED
    assert play.port.writes_sent == 3
    assert (await play.object())["metadata"]["labels"]["n"] == "2"


@every_mutating_action
async def test_a_touched_field_changed_under_the_write_is_refused(name: str, stage: MakeStage) -> None:
    """The resourceVersion in the patch stops the write, and the new look stops the action."""
    play = await stage(name)
    intent = await play.intent()
    play.port.before_write = [lambda: play.world.edit(play.scene.target, play.scene.meddle)]
    with pytest.raises(TargetChanged, match="somebody else"):
        await play.action.apply(intent)
    assert not await play.mentions_us()


@every_mutating_action
async def test_two_writers_of_one_intent_write_once(name: str, stage: MakeStage) -> None:
    """A slow first attempt that lands under the second one is found, not repeated."""
    play = await stage(name)
    intent = await play.intent()
    other = build(play.world.cluster, clock=SystemClock())[name]

    async def land() -> None:
        assert (await other.apply(intent)).outcome is EffectOutcome.APPLIED

    play.port.before_write = [land]
    assert (await play.action.apply(intent)).outcome is EffectOutcome.ALREADY_APPLIED


@every_mutating_action
async def test_read_back_tells_applied_from_not_applied(name: str, stage: MakeStage) -> None:
    """After a lost reply the world says what happened, and a further apply finds it done."""
    play = await stage(name)
    intent = await play.intent()
    assert (await play.action.read_back(intent)).outcome is EffectOutcome.NOT_APPLIED
    play.port.lose_reply = True
    with pytest.raises(TransientError):
        await play.action.apply(intent)
    found = await play.action.read_back(intent)
    assert found.outcome is EffectOutcome.APPLIED
    assert found.changes == intent.changes
    assert (await play.action.apply(intent)).outcome is EffectOutcome.ALREADY_APPLIED
    assert play.port.writes_sent == 1


@every_mutating_action
async def test_what_was_written_is_in_force_until_somebody_changes_it(name: str, stage: MakeStage) -> None:
    """By its touched fields, and by its UID: a later restart, or weights that were put back, are not our work."""
    play = await stage(name)
    effect = await play.action.apply(await play.intent())
    assert (await play.action.progress(effect)).state is not ProgressState.CHANGED
    await play.world.edit(play.scene.target, play.scene.meddle)
    found = await play.action.progress(effect)
    assert (found.state, "changed by somebody else" in found.reason) == (ProgressState.CHANGED, True)
    await play.world.replace(play.scene.target)
    found = await play.action.progress(effect)
    assert (found.state, "another object" in found.reason) == (ProgressState.CHANGED, True)


@every_mutating_action
async def test_undo_leaves_no_difference(name: str, stage: MakeStage) -> None:
    """Undo is an intent of its own through the same path; what cannot be undone says why."""
    play = await stage(name)
    before = await play.substance()
    intent = await play.intent()
    effect = await play.action.apply(intent)
    prepared = await play.action.prepare_undo(intent, effect, step_key=f"{KEY}/undo", stamp=play.context.stamp)
    if not play.action.reversible:
        assert prepared.outcome is CheckOutcome.REFUSED
        assert prepared.reason == play.action.irreversible_reason
        return
    undo = play.recorded(prepared, f"{KEY}/undo", undo=True)
    assert (await play.action.apply(undo)).outcome is EffectOutcome.APPLIED
    assert (await play.action.apply(undo)).outcome is EffectOutcome.ALREADY_APPLIED
    assert play.port.writes_sent == 2
    assert await play.substance() == before
    again = await play.action.prepare_undo(intent, effect, step_key=f"{KEY}/undo2", stamp=play.context.stamp)
    assert again.outcome is CheckOutcome.ALREADY_SO


@pytest.mark.parametrize("name", sorted(n for n, a in discover().items() if a.mutates and a.reversible))
async def test_undo_leaves_somebody_elses_change_alone(name: str, stage: MakeStage) -> None:
    """What was changed after our write is not ours to put back."""
    play = await stage(name)
    intent = await play.intent()
    effect = await play.action.apply(intent)
    await play.world.edit(play.scene.target, play.scene.meddle)
    for known in (effect, await play.action.read_back(intent)):
        prepared = await play.action.prepare_undo(intent, known, step_key=f"{KEY}/undo", stamp=play.context.stamp)
        assert prepared.outcome is CheckOutcome.REFUSED
        assert "somebody else" in prepared.reason


async def beta_before_ours(play: Stage) -> list[dict[str, Any]]:
    """Somebody puts a rule `/beta`, which looks as ours is to look, before it. The rules as they are then."""
    rules = (await play.object())["spec"]["rules"]
    backends = [{**b, "weight": w} for b, w in zip(rules[0]["backendRefs"], (100, 0), strict=True)]
    matches = [{"path": {"type": "PathPrefix", "value": "/beta"}}]
    await play.world.edit(
        play.scene.target, {"spec": {"rules": [{"matches": matches, "backendRefs": backends}, *rules]}}
    )
    return list((await play.object())["spec"]["rules"])


async def test_a_rule_put_before_ours_is_never_written_by_an_undo(stage: MakeStage) -> None:
    """Neither by one that is prepared after it, nor by one whose write it overtakes."""
    play = await stage("shift_traffic")
    intent = await play.intent()
    effect = await play.action.apply(intent)
    early = await play.action.prepare_undo(intent, effect, step_key=f"{KEY}/undo", stamp=play.context.stamp)
    undo = play.recorded(early, f"{KEY}/undo", undo=True)
    moved: list[Any] = []

    async def overtake() -> None:
        moved.extend(await beta_before_ours(play))

    play.port.before_write = [overtake]
    with pytest.raises(TargetChanged, match="somebody else"):
        await play.action.apply(undo)
    late = await play.action.prepare_undo(intent, effect, step_key=f"{KEY}/undo2", stamp=play.context.stamp)
    assert late.outcome is CheckOutcome.REFUSED
    assert "somebody else" in late.reason
    assert moved
    assert (await play.object())["spec"]["rules"] == moved


async def test_a_rule_put_before_ours_under_the_write_is_never_written(stage: MakeStage) -> None:
    """The plan was made for the rule that stood there, whatever its weights."""
    play = await stage("shift_traffic")
    intent = await play.intent()
    moved: list[Any] = []

    async def overtake() -> None:
        moved.extend(await beta_before_ours(play))

    play.port.before_write = [overtake]
    with pytest.raises(TargetChanged, match="somebody else"):
        await play.action.apply(intent)
    assert moved
    assert (await play.object())["spec"]["rules"] == moved
    assert not await play.mentions_us()


@every_mutating_action
async def test_a_target_that_is_not_there_is_refused(name: str, stage: MakeStage) -> None:
    """A check refuses with the reason; a write whose target vanished raises TargetNotFound."""
    play = await stage(name)
    intent = await play.intent()
    elsewhere = replace(intent.target.ref, namespace="elsewhere")
    with pytest.raises(TargetNotFound):
        await play.action.apply(replace(intent, target=replace(intent.target, ref=elsewhere)))
    away = replace(play.context, default_target=replace(play.context.default_target, namespace="elsewhere"))
    missing = await play.action.check(play.scene.params, away)
    assert missing.outcome is CheckOutcome.REFUSED
    assert "elsewhere" in missing.reason


@every_mutating_action
@pytest.mark.parametrize(("namespace", "cluster"), [("kube-system", "lab"), ("shop", "production")])
async def test_system_namespaces_and_other_clusters_are_never_written(
    name: str, namespace: str, cluster: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """Whatever a document or an intent says."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = await play.intent()
    target = replace(intent.target, ref=replace(intent.target.ref, namespace=namespace, cluster=cluster))
    with pytest.raises(PreconditionFailed):
        await play.action.apply(replace(intent, target=target))
    for (kind, _, n), obj in list(fake_world.fake.objects.items()):
        fake_world.fake.objects[kind, namespace, n] = obj
    away = replace(play.context, default_target=replace(scene.default_target, namespace=namespace, cluster=cluster))
    refusal = await play.action.check(scene.params, away)
    assert refusal.outcome is CheckOutcome.REFUSED
    assert fake_world.fake.writes == 0


@every_mutating_action
@pytest.mark.servers
async def test_a_missing_permission_is_refused_with_the_verb_that_is_missing(
    name: str, real_world: RealWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """403 is told from other errors, by the check already, and names what to grant."""
    scene = await SCENES[name](real_world)
    play = Stage(name, real_world, scene, context(scene.default_target))
    intent = await play.intent()
    async with KubernetesCluster("lab", kubeconfig=real_world.plane.kubeconfigs["nobody"]) as cluster:
        powerless = build(cluster, clock=SystemClock())[name]
        refusal = await powerless.check(scene.params, play.context)
        assert refusal.outcome is CheckOutcome.REFUSED
        assert "Grant the engine's account" in refusal.reason
        with pytest.raises(PermissionDenied):
            await powerless.apply(intent)


@every_mutating_action
async def test_a_busy_server_is_a_transient_error(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """A time-out is neither a refusal nor a success, and nothing is tried again behind the caller's back."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = await play.intent()
    for call in ("get", "dry run"):
        fake_world.fake.fail = {call: [TransientError("no answer within 2 s")]}
        with pytest.raises(TransientError):
            await play.check()
    fake_world.fake.fail = {"patch": [TransientError("no answer within 2 s")]}
    with pytest.raises(TransientError):
        await play.action.apply(intent)
    assert play.port.writes_sent == 1


@every_mutating_action
async def test_an_object_that_never_stands_still_is_given_up(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """A few tries, then a sentence that names the object; nothing was written."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = await play.intent()
    count = iter(range(100))

    async def jostle() -> None:
        await fake_world.edit(scene.target, {"metadata": {"labels": {"n": str(next(count))}}})

    play.port.before_write = [jostle] * 100
    with pytest.raises(PreconditionFailed, match="nothing was written"):
        await play.action.apply(intent)
    assert fake_world.fake.writes == 0


@every_mutating_action
async def test_admission_that_would_write_something_else_is_refused(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """The plan's changes must be the write's: a webhook that alters or denies it is met in the check."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    before = await play.object()
    play.port.admit = lambda _: before
    altered = await play.check()
    assert altered.outcome is CheckOutcome.REFUSED
    assert "something else" in altered.reason
    fake_world.fake.fail = {"dry run": [PreconditionFailed("admission webhook denied the request")]}
    denied = await play.check()
    assert denied.outcome is CheckOutcome.REFUSED
    assert "webhook denied" in denied.reason


@every_mutating_action
async def test_admission_that_would_write_more_than_was_planned_is_refused(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """A restart with another image is no restart: fields beside the touched ones must stay as they are, too."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    part = "data" if name == "set_flag" else "spec"
    play.port.admit = lambda answer: {**answer, part: {**answer[part], "more": {"image": "other:2"}}}
    altered = await play.check()
    assert altered.outcome is CheckOutcome.REFUSED
    assert f'something else: {part}.more.image: "other:2" instead of null' in altered.reason


@every_mutating_action
async def test_admission_that_alters_the_write_alone_is_told(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """It let the dry run pass: what it made of the write stands in the effect."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = await play.intent()
    part = "data" if name == "set_flag" else "spec"
    play.port.admit = lambda answer: {**answer, part: {**answer[part], "more": "1"}}
    effect = await play.action.apply(intent)
    assert effect.outcome is EffectOutcome.APPLIED
    assert f'wrote something else: {part}.more: "1" instead of null' in effect.reason


@every_mutating_action
async def test_admission_that_would_not_keep_the_mark_is_refused(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """Without it a write whose reply was lost could not be told from somebody else's."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    play.port.admit = lambda answer: {**answer, "metadata": {**answer["metadata"], "annotations": {}}}
    stripped = await play.check()
    assert stripped.outcome is CheckOutcome.REFUSED
    assert "would not keep this step's mark" in stripped.reason


@every_mutating_action
async def test_what_is_being_deleted_is_not_written(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """A finalizer keeps it for a while: neither planned, nor written when it was deleted since, nor put back."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = await play.intent()
    await fake_world.edit(scene.target, {"metadata": {"deletionTimestamp": "2026-11-21T08:36:45Z"}})
    check = await play.check()
    assert (check.outcome, "is being deleted" in check.reason) == (CheckOutcome.REFUSED, True)
    with pytest.raises(TargetChanged, match="being deleted"):
        await play.action.apply(intent)
    assert fake_world.fake.writes == 0


@every_mutating_action
async def test_a_write_takes_marks_along_that_have_had_their_time(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """Of a month ago; younger ones, and what only looks like ours, stay."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    old = {step_annotation(f"inc-old/{n}"): "2026-10-22T08:36:44.123455Z" for n in range(3)}
    kept = {
        step_annotation("inc-young/0"): "2026-10-22T08:36:44.123457Z",
        step_annotation("inc-odd/0"): "yesterday",
        step_annotation("inc-odd/1"): "0001-01-01T00:00:00+14:00",
        "firebreak.dev/step-mine": "2020-01-01T00:00:00Z",
        "example.org/step-0123456789abcdef": "2020-01-01T00:00:00Z",
    }
    await play.world.edit(play.scene.target, {"metadata": {"annotations": {**old, **kept}}})
    await play.action.apply(await play.intent())
    found = (await play.object())["metadata"]["annotations"]
    assert kept.items() <= found.items()
    assert not old.keys() & found.keys()
    assert step_annotation(KEY) in found


@every_mutating_action
async def test_the_dry_run_can_be_switched_off(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """One call less, where speed counts more than knowing early."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    with_it = await play.check()
    assert fake_world.fake.dry_runs == 1
    without = await build(fake_world.cluster, clock=SystemClock(), dry_run_first=False)[name].check(
        scene.params, play.context
    )
    assert fake_world.fake.dry_runs == 1
    assert without == with_it


@every_mutating_action
async def test_an_intent_without_changes_writes_nothing(
    name: str, fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """What was already so at the check stays unwritten, also when a crash makes the caller apply its intent."""
    scene = await SCENES[name](fake_world)
    play = Stage(name, fake_world, scene, context(scene.default_target))
    intent = replace(await play.intent(), changes=(), undo=True)
    assert (await play.action.apply(intent)).outcome is EffectOutcome.NOT_APPLIED
    assert play.port.writes_sent == 0

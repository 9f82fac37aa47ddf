"""Setting a flag: one key, the others untouched, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from activities.actions.set_flag import LONGEST_VALUE, SetFlag
from firebreak.domain.action import CheckOutcome, Intent, ProgressState, StepContext
from firebreak.domain.ids import step_annotation
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeWorld, RealWorld

    MakeContext = Callable[[TargetRef], StepContext]

OFF = {"config_map": "flags", "key": "recommend.enabled", "value": "false"}


def aimed_at(namespace: str) -> TargetRef:
    return TargetRef(cluster="lab", namespace=namespace, kind=ResourceKind.DEPLOYMENT, name="order")


@pytest.mark.parametrize(
    ("obj", "params", "outcome", "reason"),
    [
        ({"data": {"recommend.enabled": "true"}}, {}, CheckOutcome.READY, "becomes 'false'"),
        ({"data": {"recommend.enabled": "false"}}, {}, CheckOutcome.ALREADY_SO, "already"),
        ({"data": {"recommend.enabled": "true"}, "immutable": True}, {}, CheckOutcome.REFUSED, "immutable"),
        ({"data": {"other": "1"}}, {}, CheckOutcome.REFUSED, "no key"),
        ({}, {}, CheckOutcome.REFUSED, "no key"),
        ({}, {"allow_create": True}, CheckOutcome.READY, "becomes"),
        ({"binaryData": {"recommend.enabled": "AA=="}}, {"allow_create": True}, CheckOutcome.REFUSED, "binary"),
        ({"data": {"recommend.enabled": "x" * (LONGEST_VALUE + 1)}}, {}, CheckOutcome.REFUSED, "whole file"),
        ({"data": {"recommend.enabled": "true"}}, {"config_map": "gone"}, CheckOutcome.REFUSED, "does not exist"),
        ({"data": {"recommend.enabled": "true"}}, {"value": True}, CheckOutcome.REFUSED, "cannot be used"),
        ({"data": {"recommend.enabled": "true"}}, {"key": "a/b"}, CheckOutcome.REFUSED, "cannot be used"),
        ({"data": {"recommend.enabled": "true"}}, {"namespace": "kube-system"}, CheckOutcome.REFUSED, "kube-system"),
    ],
)
async def test_a_flag_is_set_only_where_it_is_one(
    obj: Mapping[str, Any],
    params: Mapping[str, Any],
    outcome: CheckOutcome,
    reason: str,
    fake_world: FakeWorld,
    context: MakeContext,
) -> None:
    """A missing key is a typing mistake unless the runbook says otherwise."""
    await fake_world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "flags"}, **obj})
    found = await SetFlag(fake_world.cluster, clock=SystemClock()).check({**OFF, **params}, context(aimed_at("shop")))
    assert found.outcome is outcome
    assert reason in found.reason


async def test_hostile_text_is_a_value_like_any_other(fake_world: FakeWorld, context: MakeContext) -> None:
    """Quotes, braces, template text and control characters arrive as they are."""
    value = 'a"b\\c}{{ x }}\n\x00é\u2028$(rm)'
    ref = await fake_world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "flags"}, "data": {"k": "1"}})
    action, given = SetFlag(fake_world.cluster, clock=SystemClock()), context(aimed_at("shop"))
    params = {"config_map": "flags", "key": "k", "value": value}
    check = await action.check(params, given)
    assert check.target is not None
    await action.apply(
        Intent(
            step_key=given.step_key,
            action="set_flag",
            params=params,
            target=check.target,
            changes=check.changes,
            stamp=given.stamp,
        )
    )
    assert fake_world.fake.objects[ref.kind, ref.namespace, ref.name]["data"] == {"k": value}


@pytest.mark.servers
async def test_undo_of_a_created_key_removes_it(real_world: RealWorld, context: MakeContext) -> None:
    """On the real API server: the other keys stay, and so does a ConfigMap that had no data at all."""
    ref = await real_world.create(ResourceKind.CONFIG_MAP, {"metadata": {"name": "flags"}})
    action, given = SetFlag(real_world.cluster, clock=SystemClock()), context(aimed_at(real_world.namespace))
    params = {**OFF, "allow_create": True}
    check = await action.check(params, given)
    assert check.target is not None, check.reason
    intent = Intent(
        step_key=given.step_key,
        action="set_flag",
        params=params,
        target=check.target,
        changes=check.changes,
        stamp=given.stamp,
    )
    effect = await action.apply(intent)
    assert (await action.progress(effect)).state is ProgressState.DONE
    await real_world.edit(ref, {"data": {"other": "1"}})
    assert (await action.progress(effect)).state is ProgressState.DONE, "what somebody did beside it changes nothing"
    undo_key = f"{given.step_key}/undo"
    back = await action.prepare_undo(intent, effect, step_key=undo_key, stamp=given.stamp)
    assert back.outcome is CheckOutcome.READY, back.reason
    await action.apply(replace(intent, step_key=undo_key, changes=back.changes, undo=True))
    found = await real_world.cluster.get(ref, timeout=action.call_timeout)
    assert found["data"] == {"other": "1"}


@pytest.mark.servers
async def test_a_config_map_full_of_old_marks_is_still_written(real_world: RealWorld, context: MakeContext) -> None:
    """The API server takes 256 KiB of annotations; years of incidents must not end in a flag that nobody can set."""
    marks = {step_annotation(f"inc-{n}/0.0"): "2025-01-01T00:00:00.000000Z" for n in range(4_228)}
    meta = {"name": "flags", "annotations": marks}
    assert 256 * 1024 - sum(len(key) + len(value) for key, value in marks.items()) < 62, (
        "there is no place for one more"
    )
    await real_world.create(ResourceKind.CONFIG_MAP, {"metadata": meta, "data": {"recommend.enabled": "true"}})
    action = SetFlag(real_world.cluster, clock=SystemClock())
    check = await action.check(OFF, context(aimed_at(real_world.namespace)))
    assert check.outcome is CheckOutcome.READY, check.reason

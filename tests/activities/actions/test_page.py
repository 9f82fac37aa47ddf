"""Calling a person writes nothing to the cluster and cannot be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activities.actions.page import Page
from firebreak.domain.action import CheckOutcome, EffectOutcome, Intent, StepContext
from firebreak.domain.errors import TransientError
from firebreak.domain.target import BoundTarget, ResourceKind, TargetRef
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeWorld

TARGET = TargetRef(cluster="elsewhere", namespace="kube-system", kind=ResourceKind.DEPLOYMENT, name="dns")


async def test_a_page_needs_nothing_from_the_cluster(
    fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]
) -> None:
    """A dead API server, a system namespace, another cluster: a person is called all the same."""
    fake_world.fake.fail = {call: [TransientError("down")] * 9 for call in ("get", "list", "patch", "dry run")}
    page = Page(fake_world.cluster, clock=SystemClock())
    check = await page.check({}, context(TARGET))
    assert check.outcome is CheckOutcome.READY
    assert check.changes == ()
    target = BoundTarget(ref=TARGET, uid="", resource_version="")
    given = context(TARGET)
    intent = Intent(step_key=given.step_key, action="page", params={}, target=target, changes=(), stamp=given.stamp)
    for effect in (await page.apply(intent), await page.read_back(intent)):
        assert effect.outcome is EffectOutcome.APPLIED
        assert "person" in effect.reason
        undo = await page.prepare_undo(intent, effect, step_key=f"{given.step_key}/undo", stamp=given.stamp)
        assert undo.outcome is CheckOutcome.REFUSED
    assert fake_world.fake.writes == 0


async def test_a_parameter_is_refused(fake_world: FakeWorld, context: Callable[[TargetRef], StepContext]) -> None:
    """Who is called is in services.yaml: a runbook that says it elsewhere is mistaken."""
    check = await Page(fake_world.cluster, clock=SystemClock()).check({"to": "alice"}, context(TARGET))
    assert check.outcome is CheckOutcome.REFUSED

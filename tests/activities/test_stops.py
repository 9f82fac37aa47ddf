"""What is said of an intent that is let go."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from activities.stops import let_go
from firebreak.domain.action import EffectOutcome, Intent
from firebreak.domain.target import BoundTarget, ResourceKind, TargetRef

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("why", ["one pod is ready", "One pod is ready. Wait for more."])
def test_the_doubt_follows_the_reason_after_one_full_stop(why: str) -> None:
    """Reasons come with theirs or without it."""
    ref = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v1")
    target = BoundTarget(ref=ref, uid="u", resource_version="1")
    intent = Intent(step_key="k", action="set_flag", params={}, target=target, changes=(), stamp=NOW)
    effect = let_go(intent, why, NOW)
    assert effect.outcome is EffectOutcome.UNKNOWN
    assert effect.reason.startswith(f"{why.removesuffix('.')}. An earlier attempt")

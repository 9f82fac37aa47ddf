"""A cluster that refuses or lacks: recorded, paged, nothing wrong done. One that hangs: tests/faults."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.servers


async def refusal(chain: Any) -> str:
    """The alert is acted on, refused by the cluster, and ends as a page; returns the recorded reason."""
    assert (await chain.post(chain.labels)).status_code == 200
    page = await chain.paged()
    assert page.status == "triggered"
    timeline = await chain.timeline()
    assert "intent.recorded" not in [kind for kind, _ in timeline]
    (reason,) = [body["reason"] for kind, body in timeline if kind == "step.refused"]
    return str(reason)


async def test_an_unknown_namespace_is_a_refusal_and_a_page(chain: Any) -> None:
    """The labels lead to what does not exist there: said, with what to look at."""
    await chain.start()
    chain.labels["namespace"] = "nowhere"
    reason = await refusal(chain)
    assert "nowhere" in reason
    assert "services.yaml" in reason
    assert not await chain.wrote()


async def test_a_system_namespace_is_no_target(chain: Any) -> None:
    """Whatever a label says: refused before anything is asked of the cluster, and a person is called."""
    await chain.start()
    chain.labels["namespace"] = "kube-system"
    assert (await chain.post(chain.labels)).status_code == 200
    await chain.paged()
    incident = await chain.store.incident(await chain.incident())
    assert incident.target is None
    assert "kube-system" in incident.refusal


async def test_no_permission_is_a_refusal_and_a_page(chain: Any) -> None:
    """403: who may not do what, and what to grant; nothing is intended, nothing written."""
    await chain.start(kubeconfig=chain.plane.kubeconfigs["nobody"])
    reason = await refusal(chain)
    assert "nobody" in reason
    assert "Grant" in reason
    assert not await chain.wrote()

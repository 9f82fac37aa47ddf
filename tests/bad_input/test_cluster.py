"""A cluster that refuses, lacks or does not answer: recorded, paged, nothing wrong done."""

from __future__ import annotations

import signal
from datetime import timedelta
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


async def test_an_api_server_that_hangs_does_not_hold_up_the_page(chain: Any) -> None:
    """SIGSTOP: the healing waits, the deadline does not; when it answers again, the step is done at most once."""
    await chain.start(page_deadline=timedelta(seconds=3))
    server = chain.plane.processes["kube-apiserver"]
    server.signal(signal.SIGSTOP)
    try:
        assert (await chain.post(chain.labels)).status_code == 200
        page = await chain.paged()
        assert page.status == "triggered"
        assert "effect.recorded" not in [kind for kind, _ in await chain.timeline()]
    finally:
        server.signal(signal.SIGCONT)

    async def goes_on() -> bool:
        kinds = [kind for kind, _ in await chain.timeline()]
        return "effect.recorded" in kinds or "person.called" in kinds

    await chain.until(goes_on)
    kinds = [kind for kind, _ in await chain.timeline()]
    assert kinds.count("intent.recorded") <= 1
    assert kinds.count("effect.recorded") <= 1

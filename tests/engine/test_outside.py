"""`firebreak check` against systems that answer what they should not: a sentence for each, one that can be followed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from firebreak.domain.incident import Mode
from firebreak.engine.findings import FEW, Finding, State
from firebreak.engine.outside import AT_ONCE, try_all
from firebreak.engine.outside_cluster import AT_ONCE as CALLS_AT_ONCE
from firebreak.settings import Settings

FORGED = "\x1b[31mred\x1b[0m\r\nPagerDuty   ok\u202e"
SERVICE = """
  svc{number}:
    chat_channel: C0CHANNEL{number}
    pager_key: "{number:032}"
    target: {{namespace: team-{place}, kind: Deployment, name: {{label: deployment}}}}
    params: {{route: svc{number}, flow: pay, flags: shop-flags, flag_key: on, dependency: recommend}}
"""

Say = Callable[[str, str], Any]
Found = dict[str, list[Finding]]


class World:
    """All systems behind one port. `say` answers (system, last part of the path) with JSON, a text or a response."""

    def __init__(self) -> None:
        self.say: Say = lambda system, what: {}
        self.calls: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.form: dict[str, str] = {}
        self._now: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        system = request.match_info["system"]
        self.calls[system] += 1
        if system == "metrics":
            self.form = {name: str(value) for name, value in (await request.post()).items()}
        self._now[system] += 1
        self.peak[system] = max(self.peak[system], self._now[system])
        await asyncio.sleep(0.001)
        self._now[system] -= 1
        said = self.say(system, request.match_info["rest"].rpartition("/")[2])
        if isinstance(said, web.StreamResponse):
            return said
        if isinstance(said, str):
            return web.Response(text=said, content_type="text/html")
        return web.json_response(said, status=202 if system == "pager" else 200)


@pytest.fixture
async def world() -> AsyncIterator[tuple[World, str]]:
    world, app = World(), web.Application()
    app.router.add_route("*", "/{system}/{rest:.*}", world.answer)
    async with TestServer(app) as server:
        yield world, str(server.make_url("/"))


@pytest.fixture
def checked(world: tuple[World, str], tmp_path: Path) -> Callable[..., Awaitable[Found]]:
    async def check(say: Say, **more: Any) -> Found:
        world[0].say = say
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": world[1] + "kube"}}],
            "users": [{"name": "u", "user": {"token": "s3cret-token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        given: dict[str, Any] = {
            "kubeconfig": tmp_path / "kubeconfig",
            "prometheus_url": world[1].replace("http://", "http://me:s3cret-word@") + "metrics",
            "slack_url": world[1] + "chat/",
            "slack_token": SecretStr("xoxb-s3cret"),
            "pagerduty_url": world[1] + "pager",
            "fallback_pager_key": SecretStr("s3cret-key"),
            "mode": Mode.ACT,
        }
        findings: Found = {}
        for finding in await try_all(Settings(**given | more), ()):
            findings.setdefault(finding.system, []).append(finding)
        told = str(findings)
        assert "s3cret" not in told
        assert all(text.replace("\n", "").isprintable() for of in findings.values() for f in of for text in (f.text,))
        assert not any(word in told for word in ("firebreak show", "a page follows")), "there is no incident"
        assert all(f.advice for of in findings.values() for f in of if f.state is State.PROBLEM)
        return findings

    return check


def good(system: str, what: str) -> Any:
    match system, what:
        case "kube", "selfsubjectreviews":
            return {"status": {"userInfo": {"username": FORGED}}}
        case "kube", "selfsubjectaccessreviews":
            return {"status": {"allowed": False}}
        case "metrics", _:
            return {"status": "success", "data": {"resultType": "matrix", "result": []}}
        case "chat", _:
            return {"ok": True, "user": FORGED, "team": "shop"}
    return {"status": "success"}


def services(path: Path, count: int, places: int) -> Path:
    of = "".join(SERVICE.format(number=number, place=number % places) for number in range(count))
    path.write_text(f"kind: services\nservices:{of}")
    return path


async def test_who_the_account_is_is_told_on_one_line(checked: Any) -> None:
    """A name with control characters would be a line of its own, or another colour."""
    found = await checked(good)
    assert found["Kubernetes"][0].text.endswith("is cluster default, as \ufffd[31mred\ufffd[0m PagerDuty ok\ufffd")


async def test_what_a_document_says_is_told_on_one_line(checked: Any, tmp_path: Path) -> None:
    """A channel is any text."""
    path = services(tmp_path / "services.yaml", 1, 1)
    path.write_text(path.read_text().replace("C0CHANNEL0", '"#\\e[31m\\rSlack"'))
    found = await checked(good, services=path)
    assert "channel #\ufffd[31m Slack of svc0: it is no id" in found["Slack"][1].text


async def test_a_back_end_without_a_value_for_a_constant_is_named(checked: Any) -> None:
    """Whatever answers so has nothing to judge by; and the password in its address is not told."""
    (found,) = (await checked(good))["Prometheus"]
    assert found.state is State.PROBLEM
    assert "has no value even for absent(firebreak_check)" in found.text


async def test_a_querier_whose_store_is_away_is_named(checked: Any, world: tuple[World, str]) -> None:
    """Thanos warns of it where a selector is asked for, and not for a constant (seen on 0.36)."""

    def thanos(system: str, what: str) -> Any:
        values = [[float(world[0].form["end"]), "1"]] if system == "metrics" else []
        found = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
        missing = [] if "vector(" in world[0].form.get("query", "") else ["fetch series: code = Unavailable"]
        return {"status": "success", "data": found, "warnings": missing}

    (found,) = (await checked(thanos))["Prometheus"]
    assert (found.state, "Unavailable" in found.text) == (State.PROBLEM, True)


@pytest.mark.parametrize(
    "said", [{"status": "ok"}, {"status": {"userInfo": ["x"], "allowed": "yes"}}, {}, [1], None, "<html>log in", FORGED]
)
async def test_what_is_no_answer_of_that_system_is_a_sentence(checked: Any, said: Any) -> None:
    """A portal or another server behind the address: never a traceback."""
    found = await checked(lambda system, what: said)
    assert found["Kubernetes"][-1].state is State.PROBLEM
    assert found["Prometheus"][-1].state is State.PROBLEM


async def test_an_account_that_may_not_ask_is_told_so(checked: Any) -> None:
    """It is neither a target that is missing in services.yaml, nor a right that the README's Role has."""
    for status in (403, 404):
        status_body = {"kind": "Status", "message": "no", "code": status}

        def say(system: str, what: str, body: Any = status_body) -> Any:
            return web.json_response(body, status=body["code"]) if system == "kube" and what != "readyz" else "ok"

        problem = (await checked(say))["Kubernetes"][-1]
        assert problem.state is State.PROBLEM
        assert "system:basic-user" in problem.advice
        assert "services.yaml" not in problem.advice


async def test_hundreds_of_services_are_asked_in_turn_and_told_in_few_lines(
    checked: Any, world: tuple[World, str], tmp_path: Path
) -> None:
    """Each call has its whole time, and what is the same for all of them is one sentence."""
    found = await checked(good, services=services(tmp_path / "services.yaml", 200, 50))
    peak = world[0].peak
    assert (peak["kube"] <= CALLS_AT_ONCE, peak["chat"] <= AT_ONCE, peak["pager"] <= AT_ONCE) == (True, True, True)
    denied = [f.text for f in found["Kubernetes"] if f.state is State.PROBLEM]
    assert len(denied) == 4, "finding the workload, and three actions"
    assert all(text.startswith("in 50 namespaces ") and "team-49" in text for text in denied)
    assert [f.text for f in found["Slack"][1:]] == ["the app is in 200 channels, and may read there"]
    (taken,) = found["PagerDuty"]
    assert taken.text.endswith(f"and {201 - FEW} more are taken")


@pytest.mark.parametrize(("subtype", "state"), [("channel_archive", State.PROBLEM), ("channel_unarchive", State.OK)])
async def test_an_archived_channel_is_named(checked: Any, subtype: str, state: State) -> None:
    """Its history is read as ever, and the incident's message refused."""

    def say(system: str, what: str) -> Any:
        message = {"type": "message", "subtype": subtype, "ts": "1361482916.000003"}
        older = {"type": "message", "subtype": "channel_archive", "ts": "1361482915.000003"}
        return good(system, what) | ({"messages": [message, older]} if system == "chat" else {})

    assert (await checked(say))["Slack"][1].state is state


async def test_evidence_that_is_not_kept_is_not_missed(checked: Any) -> None:
    """FIREBREAK_EVIDENCE_CAPTURE is off: its rights are no matter."""
    notes = [
        [f.text for f in (await checked(good, evidence_capture=kept))["Kubernetes"] if f.state is State.NOTE]
        for kept in (True, False)
    ]
    assert any("list nodes" in text for text in notes[0])
    assert notes[1] == []


async def test_what_is_away_is_said_once_for_all_keys(checked: Any, world: tuple[World, str], tmp_path: Path) -> None:
    """Nor is each of two hundred keys waited for in vain."""

    def say(system: str, what: str) -> Any:
        return web.Response(status=500) if system == "pager" else good(system, what)

    (found,) = (await checked(say, services=services(tmp_path / "services.yaml", 200, 1)))["PagerDuty"]
    assert world[0].calls["pager"] <= AT_ONCE
    assert found.text.startswith("the routing keys of svc0, svc1")
    assert "svc199, all others: PagerDuty did not take the event, status 500" in found.text
    assert "FIREBREAK_PAGERDUTY_URL" in found.advice

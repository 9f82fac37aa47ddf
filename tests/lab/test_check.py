"""`firebreak check` on the lab: what is well is silent, and each thing that is wrong is named before an incident is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from firebreak.engine.findings import Finding, State
from firebreak.engine.outside import try_all
from firebreak.lab.shape import SERVICES
from firebreak.lab.state import LabState
from firebreak.settings import Settings, load_settings

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture
def settings(lab: LabState, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in lab.engine.items():
        monkeypatch.setenv(name, value)
    return load_settings()


async def found(settings: Settings, *namespaces: str) -> dict[str, list[Finding]]:
    by_system: dict[str, list[Finding]] = {}
    for finding in await try_all(settings, namespaces):
        by_system.setdefault(finding.system, []).append(finding)
    return by_system


def bad(findings: dict[str, list[Finding]]) -> dict[str, str]:
    """System -> its problems; every one of them says what to do."""
    problems = {name: [f for f in of if f.state is State.PROBLEM] for name, of in findings.items()}
    assert all(finding.advice for of in problems.values() for finding in of)
    return {name: "; ".join(f.text for f in of) for name, of in problems.items() if of}


async def seen(lab: LabState) -> dict[str, Any]:
    """What both stand-ins show: messages and alerts."""
    urls = {
        "messages": lab.engine["FIREBREAK_SLACK_URL"].removesuffix("/api/") + "/log",
        "alerts": f"{lab.engine['FIREBREAK_PAGERDUTY_URL']}/alerts",
    }
    told: dict[str, Any] = {}
    async with aiohttp.ClientSession() as session:
        for name, url in urls.items():
            async with session.get(url) as answer:
                told[name] = await answer.json()
    told["messages"] = [call for call in told["messages"]["calls"] if call["method"].startswith("chat.")]
    return told


async def access(lab: LabState, **wanted: list[str]) -> None:
    url = lab.engine["FIREBREAK_SLACK_URL"].removesuffix("/api/") + "/access"
    async with aiohttp.ClientSession() as session, session.post(url, json=wanted) as answer:
        assert answer.status == 200, await answer.text()


async def test_where_all_is_well_there_is_no_problem_and_no_note(lab: LabState, settings: Settings) -> None:
    """Every system is named; and nothing is left behind: no message, no page, no record."""
    findings = await found(settings)
    assert {f.state for of in findings.values() for f in of} == {State.OK}, findings
    assert set(findings) == {"documents", "Temporal", "Kubernetes", "Prometheus", "Slack", "PagerDuty"}
    assert "as firebreak-engine" in findings["Kubernetes"][0].text
    assert await seen(lab) == {"messages": [], "alerts": []}
    assert not settings.data_dir.exists()


async def test_credentials_that_are_not_known_are_named(settings: Settings, tmp_path: Path) -> None:
    """A token of yesterday, in each of the three places; none of them is told."""
    assert settings.kubeconfig is not None
    config = json.loads(settings.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "of-yesterday"}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    wrong = {
        "kubeconfig": tmp_path / "kubeconfig",
        "slack_token": SecretStr("xoxb-of-yesterday"),
        "fallback_pager_key": SecretStr("0" * 32),
    }
    findings = await found(settings.model_copy(update=wrong))
    problems = bad(findings)
    assert set(problems) == {"Kubernetes", "Slack", "PagerDuty"}
    assert "401" in problems["Kubernetes"]
    assert "invalid_auth" in problems["Slack"]
    assert "the routing key of all others" in problems["PagerDuty"]
    told = str(findings)
    assert not any(secret in told for secret in ("of-yesterday", "0" * 32, settings.slack_token.get_secret_value()))


async def test_a_password_in_an_address_is_not_told(settings: Settings) -> None:
    """Also where all is well: what is printed is pasted into tickets."""
    with_password = settings.prometheus_url.replace("http://", "http://me:s3cret-word@")
    (said,) = (await found(settings.model_copy(update={"prometheus_url": with_password})))["Prometheus"]
    assert said.state is State.OK
    assert said.text.startswith(f"{settings.prometheus_url} answers")


async def test_systems_that_do_not_answer_are_named(settings: Settings, tmp_path: Path) -> None:
    """Each by itself: one that is away hides no other."""
    assert settings.kubeconfig is not None
    config = json.loads(settings.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    nowhere = {
        "kubeconfig": tmp_path / "kubeconfig",
        "prometheus_url": "http://127.0.0.1:9",
        "slack_url": "http://127.0.0.1:9/api/",
        "pagerduty_url": "http://127.0.0.1:9",
        "temporal_address": "127.0.0.1:9",
    }
    problems = bad(await found(settings.model_copy(update=nowhere)))
    assert set(problems) == {"Temporal", "Kubernetes", "Prometheus", "Slack", "PagerDuty"}


async def test_an_account_that_may_not_act_is_named_with_what_it_lacks(lab: LabState, settings: Settings) -> None:
    """The shop's own account may read pods: each action says what it misses, and evidence is a note."""
    assert settings.kubeconfig is not None
    other = settings.model_copy(update={"kubeconfig": settings.kubeconfig.with_name("firebreak-shop.yaml")})
    findings = (await found(other))["Kubernetes"]
    problems = bad({"Kubernetes": findings})["Kubernetes"]
    assert "in namespace shop restart_workload would be refused: it may not get deployments.apps" in problems
    assert "set_flag would be refused: it may not patch configmaps shop-flags" in problems
    notes = " | ".join(f.text for f in findings if f.state is State.NOTE)
    assert "in the whole cluster evidence would be missing: it may not list nodes" in notes
    assert "list events" in notes


async def test_a_channel_without_the_app_and_an_app_without_scopes_are_named(lab: LabState, settings: Settings) -> None:
    """What it can do without is a note: without the history a message may come twice."""
    scopes = ["chat:write", "channels:history"]
    channel = SERVICES["pay"].chat_channel
    try:
        await access(lab, scopes=["channels:history"])
        assert "chat:write" in bad(await found(settings))["Slack"]
        await access(lab, scopes=["chat:write"])
        (slack,) = [of for name, of in (await found(settings)).items() if name == "Slack"]
        assert {f.state for f in slack} == {State.OK, State.NOTE}
        assert "may come twice" in slack[-1].text
        await access(lab, scopes=scopes, outside=[channel])
        assert bad(await found(settings)) == {
            "Slack": f"channel {channel} of pay: Slack refused conversations.history: not_in_channel"
        }
    finally:
        await access(lab, scopes=scopes, outside=[])


async def test_channels_that_slack_lets_nobody_count_are_a_note(settings: Settings) -> None:
    """It allows some fifty such calls a minute; more channels than that are no fault of anybody's."""
    asked: list[str] = []

    async def slack(request: web.Request) -> web.Response:
        asked.append(request.match_info["method"])
        if len(asked) > 3:
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": "30"})
        return web.json_response({"ok": True, "user": "bot", "team": "shop"})

    app = web.Application()
    app.router.add_route("*", "/api/{method}", slack)
    async with TestServer(app) as server:
        busy = settings.model_copy(update={"slack_url": str(server.make_url("/api/"))})
        (said,) = [of for name, of in (await found(busy)).items() if name == "Slack"]
    assert asked[0] == "auth.test"
    assert [finding.state for finding in said] == [State.OK, State.NOTE, State.OK]
    assert "2 channels were not looked at" in said[1].text
    assert "the app is in 2 channels" in said[2].text


async def test_documents_that_cannot_be_used_hide_no_system(settings: Settings, tmp_path: Path) -> None:
    """What needs no document is tried all the same."""
    (tmp_path / "services.yaml").write_text("kind: services\nservices: []\n")
    findings = await found(settings.model_copy(update={"services": tmp_path / "services.yaml"}))
    assert set(bad(findings)) == {"documents"}
    assert [f.state for f in findings["Kubernetes"]] == [State.OK]
    assert "as firebreak in lab" in [f.text for f in findings["Slack"]]


async def test_a_target_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    """A name that was mistyped would be met in the incident."""
    assert settings.services is not None
    text = settings.services.read_text().replace("name: {label: deployment}", "name: pay-v9", 1)
    (tmp_path / "services.yaml").write_text(text)
    problems = bad(await found(settings.model_copy(update={"services": tmp_path / "services.yaml"})))
    assert set(problems) == {"Kubernetes"}
    assert "the target of service edge" in problems["Kubernetes"]
    assert "pay-v9" in problems["Kubernetes"]


async def test_a_route_or_a_flag_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    """It is first met in the incident's second or third tier."""
    assert settings.services is not None
    text = settings.services.read_text().replace("route: pay,", "route: pay-old,")
    (tmp_path / "services.yaml").write_text(text)
    problems = bad(await found(settings.model_copy(update={"services": tmp_path / "services.yaml"})))
    assert set(problems) == {"Kubernetes"}
    assert problems["Kubernetes"].startswith("shift_traffic would be refused: get httproutes.gateway.networking.k8s.io")
    assert '"pay-old" not found' in problems["Kubernetes"]


async def test_a_channel_by_its_name_is_a_note(settings: Settings, tmp_path: Path) -> None:
    """Slack posts by a name, too, and finds no history by it."""
    assert settings.services is not None
    text = settings.services.read_text().replace(SERVICES["pay"].chat_channel, '"#pay"')
    (tmp_path / "services.yaml").write_text(text)
    findings = await found(settings.model_copy(update={"services": tmp_path / "services.yaml"}))
    assert bad(findings) == {}
    assert "channel #pay of pay: it is no id" in findings["Slack"][1].text


async def test_a_namespace_that_alerts_name_is_looked_at_when_it_is_named(settings: Settings, tmp_path: Path) -> None:
    """Without it nobody can know; with it, the account's rights there are asked for."""
    assert settings.services is not None
    text = settings.services.read_text().replace("namespace: shop", "namespace: {label: namespace}")
    assert text != settings.services.read_text()
    (tmp_path / "services.yaml").write_text(text)
    changed = settings.model_copy(update={"services": tmp_path / "services.yaml"})
    unknown = await found(changed)
    assert bad(unknown) == {}
    assert "alerts name the namespace of edge, order, pay, recommend" in unknown["Kubernetes"][1].text
    assert bad(await found(changed, "shop")) == {}
    assert "no service has targets in other" in (await found(settings, "other"))["Kubernetes"][1].text
    assert (
        "in namespace default restart_workload would be refused" in bad(await found(changed, "default"))["Kubernetes"]
    )

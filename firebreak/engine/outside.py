"""Each system that the engine leans on, tried once as an incident would use it. Nothing is kept anywhere: not in the
record, not in the cluster, no message is posted and nobody paged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

from temporalio.service import RPCError

from activities.rulebook import Rules
from firebreak.connectors.prometheus import Prometheus
from firebreak.connectors.wording import plain
from firebreak.domain.condition import AnswerStatus, MetricQuery
from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.domain.message import NoticeText, PagerAction
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import build_chat, build_pager, build_rulebook
from firebreak.engine.findings import FEW, Finding, Findings, ask_each, listed
from firebreak.engine.outside_cluster import try_cluster
from firebreak.engine.temporal import connect
from firebreak.servers.find import require
from firebreak.settings import Settings

CALL = timedelta(seconds=5)
"""For one call to Prometheus; people wait for it."""

CONNECT = 10.0
"""Seconds for Temporal."""

WHOLE = 60.0
"""Seconds for all of one system."""

AT_ONCE = 8
"""Channels, or routing keys, under way."""

QUESTION = "absent(firebreak_check)"
"""Always 1; and a selector, so that a querier asks every store behind it: one that is missing is told of."""

PAGER_RECORD = "firebreak-check"
"""Whose pages are ended to try a routing key: there never are any."""

_PROXY = "the way there (FIREBREAK_PROXY_URL)"

Trial = Callable[[Findings], Awaitable[None]]


async def try_all(settings: Settings, namespaces: Collection[str]) -> tuple[Finding, ...]:
    """Every system's findings, in a fixed order. `namespaces`: of services whose namespace an alert names. Never
    raises for what is wrong with a system."""
    documents = Findings("documents")
    rules: Rules | None = None
    try:
        rules = (await asyncio.to_thread(build_rulebook, settings)).current()
        documents.ok(f"{len(rules.services.services)} services, {len(rules.runbooks)} runbooks")
    except FirebreakError as error:
        documents.failed(error)
    server = "the server in the kubeconfig, the way there, and the user's exec plugin"
    tried = await asyncio.gather(
        _tried(Findings("Temporal"), lambda found: _temporal(found, settings)),
        _tried(Findings("Kubernetes", server), lambda found: try_cluster(found, settings, rules, namespaces)),
        _tried(Findings("Prometheus"), lambda found: _prometheus(found, settings)),
        _tried(Findings("Slack", f"FIREBREAK_SLACK_URL and {_PROXY}"), lambda found: _chat(found, settings, rules)),
        _tried(
            Findings("PagerDuty", f"FIREBREAK_PAGERDUTY_URL and {_PROXY}"),
            lambda found: _pager(found, settings, rules),
        ),
    )
    return (*documents.all, *(finding for found in tried for finding in found))


async def _tried(found: Findings, trial: Trial) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(WHOLE):
            await trial(found)
    except FirebreakError as error:
        found.failed(error)
    except TimeoutError:
        found.problem(f"not all of it answered within {WHOLE:g} s", "Look whether it is overloaded, and try again.")
    return found.all


async def _temporal(found: Findings, settings: Settings) -> None:
    if not settings.temporal_address:
        await asyncio.to_thread(require, "temporal")
        found.ok("the embedded server is installed; `firebreak up` starts it")
        return
    try:
        async with asyncio.timeout(CONNECT):
            await connect(settings)
    except (RPCError, RuntimeError, OSError) as error:  # a TimeoutError is an OSError
        told = f"it did not answer within {CONNECT:g} s" if isinstance(error, TimeoutError) else plain(str(error), 400)
        raise TransientError(
            f"{settings.temporal_address} cannot be used: {told}",
            advice="Look whether Temporal answers there, with TLS and key as the settings say.",
        ) from None
    found.ok(f"{settings.temporal_address} answers, namespace {settings.temporal_namespace}")


async def _prometheus(found: Findings, settings: Settings) -> None:
    clock = SystemClock()
    headers = {name: value.get_secret_value() for name, value in settings.prometheus_headers.items()}
    metrics = Prometheus(settings.prometheus_url, headers=headers, params=settings.prometheus_params, now=clock.now)
    async with metrics:
        now = clock.now()
        query = MetricQuery(key="one", expr=QUESTION)
        (answer,) = await metrics.range_batch(
            [query], start=now - timedelta(minutes=1), end=now, step=timedelta(seconds=15), timeout=CALL
        )
    if answer.status is not AnswerStatus.OK or not answer.points:
        found.problem(
            f"nothing could be judged by it: {answer.detail or f'{metrics.address} has no value even for {QUESTION}'}",
            "Check FIREBREAK_PROMETHEUS_URL, _HEADERS and _PARAMS, and its clock and ours.",
        )
        return
    found.ok(
        f"{metrics.address} answers; whether it has what the documents ask for, `firebreak lint --prometheus URL` says"
    )


async def _chat(found: Findings, settings: Settings, rules: Rules | None) -> None:
    slack = build_chat(settings)
    if slack is None:
        found.note("FIREBREAK_SLACK_TOKEN is not set: nothing is told there")
        return
    async with slack:
        found.ok(f"as {await slack.account()}")
        channels: dict[str, list[str]] = defaultdict(list)
        for service in () if rules is None else rules.services.services.values():
            channels[service.chat_channel].append(service.name)
        if unnamed := channels.pop("", []):
            found.note(f"{listed(unnamed)}: no chat_channel, so that nothing is told there")
        answers = await ask_each(channels, slack.look_into, at_once=AT_ONCE)
    same: dict[str, list[str]] = defaultdict(list)
    for channel, said in answers.items():
        same[str(said)].append(f"{channel} of {listed(channels[channel])}")
    told: set[str] = set()
    for said in answers.values():
        if isinstance(said, TransientError) or not said or str(said) in told:
            continue
        told.add(str(said))
        of = same[str(said)]
        about = f"channel{'s' if len(of) > 1 else ''} {listed(of)}: "
        if isinstance(said, str):
            found.note(about + said)
        else:
            found.failed(said, about)
    if away := [said for said in answers.values() if isinstance(said, TransientError)]:
        missed = len(away) + sum(said is None for said in answers.values())  # Slack counts such calls by the minute
        found.note(f"{missed} channels were not looked at: {away[0]}", "Try again in a minute.")
    if good := sum(said == "" for said in answers.values()):
        found.ok(f"the app is in {good} channel{'s' if good > 1 else ''}, and may read there")


async def _pager(found: Findings, settings: Settings, rules: Rules | None) -> None:
    fallback = settings.fallback_pager_key.get_secret_value()
    keys: dict[str, list[str]] = defaultdict(list)
    for service in () if rules is None else rules.services.services.values():
        keys[service.route.pager_key or fallback].append(service.name)
    unpaged = keys.pop("", [])
    if not fallback:
        whose = f", and for {listed(unpaged)}," if unpaged else ""
        found.problem(
            f"FIREBREAK_FALLBACK_PAGER_KEY is not set: for an alert of no known service{whose} nobody can be paged",
            "Set it to the routing key of an Events v2 integration.",
        )
    else:
        keys[fallback].append("all others")
    async with build_pager(settings) as pager:

        async def offer(key: str) -> str:  # ends an alert that there never is
            text = NoticeText(title="", lines=())
            return await pager.send(key, PagerAction.RESOLVE_LOW, incident_id=PAGER_RECORD, text=text, details={})

        answers = await ask_each(keys, offer, at_once=AT_ONCE)
    taken: list[str] = []
    failed: dict[str, tuple[FirebreakError, list[str]]] = {}
    away = next((said for said in answers.values() if isinstance(said, TransientError)), None)
    for key, said in answers.items():
        error = away if said is None else said
        if isinstance(error, FirebreakError):
            failed.setdefault(str(error), (error, []))[1].extend(keys[key])
        else:
            taken.extend(keys[key])
    for error, whose_keys in failed.values():
        found.failed(error, f"the routing key{'s' if len(whose_keys) > 1 else ''} of {listed(whose_keys)}: ")
    if taken:
        found.ok(f"the routing keys of {listed(sorted(taken), FEW)} are taken")

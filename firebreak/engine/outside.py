"""Each system that the engine leans on, tried once as an incident would use it. Nothing is kept anywhere: not in the
record, not in the cluster, no message is posted and nobody paged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from temporalio.service import RPCError

from activities.needed_rights import FOR_EVIDENCE, Need, namespaces_of, needs
from activities.rulebook import Rules
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.kubernetes_access import account, allowed
from firebreak.connectors.prometheus import Prometheus
from firebreak.documents.services import FromLabel, Service
from firebreak.domain.condition import AnswerStatus, MetricQuery
from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.domain.incident import Mode
from firebreak.domain.message import NoticeText, PagerAction
from firebreak.domain.target import TargetRef
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import build_chat, build_pager, build_rulebook
from firebreak.engine.temporal import connect
from firebreak.servers.find import require
from firebreak.settings import Settings

CALL = timedelta(seconds=5)
"""For one call; people wait for it."""

WHOLE = 20.0
"""Seconds for all of one system."""

PAGER_RECORD = "firebreak-check"
"""Whose pages are ended to try a routing key: there never are any."""


class State(StrEnum):
    OK = "ok"
    NOTE = "note"  # it will do, but with less
    PROBLEM = "problem"  # an incident would meet it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence about one system, and what to do about it (empty: nothing)."""

    system: str
    state: State
    text: str
    advice: str = ""


class _Findings:
    """Collects those of one system."""

    def __init__(self, system: str) -> None:
        self._system = system
        self.all: list[Finding] = []

    def ok(self, text: str) -> None:
        self.all.append(Finding(system=self._system, state=State.OK, text=text))

    def note(self, text: str, advice: str = "") -> None:
        self.all.append(Finding(system=self._system, state=State.NOTE, text=text, advice=advice))

    def problem(self, text: str, advice: str) -> None:
        self.all.append(Finding(system=self._system, state=State.PROBLEM, text=text, advice=advice))

    def failed(self, error: FirebreakError, about: str = "") -> None:
        self.problem(f"{about}{error}", error.next_step())


Trial = Callable[[_Findings], Awaitable[None]]


async def try_all(settings: Settings, namespaces: Collection[str]) -> tuple[Finding, ...]:
    """Every system's findings, in a fixed order. `namespaces`: of services whose namespace an alert names. Never
    raises for what is wrong with a system."""
    documents = _Findings("documents")
    rules: Rules | None = None
    try:
        rules = (await asyncio.to_thread(build_rulebook, settings)).current()
        documents.ok(f"{len(rules.services.services)} services, {len(rules.runbooks)} runbooks")
    except FirebreakError as error:
        documents.failed(error)
    trials: dict[str, Trial] = {
        "Temporal": lambda found: _temporal(found, settings),
        "Kubernetes": lambda found: _kubernetes(found, settings, rules, namespaces),
        "Prometheus": lambda found: _prometheus(found, settings),
        "Slack": lambda found: _chat(found, settings, rules),
        "PagerDuty": lambda found: _pager(found, settings, rules),
    }
    tried = await asyncio.gather(*(_tried(_Findings(system), trial) for system, trial in trials.items()))
    return (*documents.all, *(finding for found in tried for finding in found))


async def _tried(found: _Findings, trial: Trial) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(WHOLE):
            await trial(found)
    except FirebreakError as error:
        found.failed(error)
    except TimeoutError:
        found.problem(f"not all of it answered within {WHOLE:g} s", "Look whether it is overloaded, and try again.")
    return found.all


async def _temporal(found: _Findings, settings: Settings) -> None:
    if not settings.temporal_address:
        await asyncio.to_thread(require, "temporal")
        found.ok("the embedded server is installed; `firebreak up` starts it")
        return
    try:
        await connect(settings)
    except (RPCError, RuntimeError, OSError) as error:
        raise TransientError(
            f"{settings.temporal_address} cannot be used: {error}",
            advice="Look whether Temporal answers there, with TLS and key as the settings say.",
        ) from None
    found.ok(f"{settings.temporal_address} answers, namespace {settings.temporal_namespace}")


async def _kubernetes(found: _Findings, settings: Settings, rules: Rules | None, namespaces: Collection[str]) -> None:
    async with KubernetesCluster(settings.cluster, kubeconfig=settings.kubeconfig) as cluster:
        who = await account(cluster, timeout=CALL)
        found.ok(f"{cluster.address} is cluster {cluster.name}{f', as {who}' if who else ''}")
        if rules is None:
            return
        for service in rules.services.services.values():
            await _target(found, cluster, service)
        unnamed = [s.name for s in rules.services.services.values() if not namespaces_of(s)]
        if unnamed and not namespaces:
            found.note(
                f"alerts name the namespace of {_listed(unnamed)}: what may be done there was not asked",
                "Name those namespaces: firebreak check --namespace shop --namespace ...",
            )
        wanted = needs(rules, namespaces, settings.mode)
        answers = await asyncio.gather(
            *(allowed(cluster, need.right, need.namespace, need.name, timeout=CALL) for need in wanted)
        )
        denied = [need for need, may in zip(wanted, answers, strict=True) if not may]
        _denied(found, denied)
        if not denied:
            asked = sorted({need.namespace for need in wanted} - {""})
            found.ok(f"it may do all that the documents need in {_listed(asked)} ({len(wanted)} rights)")
        if settings.mode is not Mode.ACT:
            found.note("mode observe writes nothing: whether the engine may write was not asked")


async def _target(found: _Findings, cluster: KubernetesCluster, service: Service) -> None:
    """A target that the document names in full is there."""
    rule = service.target
    if rule.kind is None or isinstance(rule.name, FromLabel) or isinstance(rule.namespace, FromLabel):
        return
    assert rule.name is not None
    ref = TargetRef(cluster=cluster.name, namespace=rule.namespace, kind=rule.kind, name=rule.name)
    try:
        await cluster.get(ref, timeout=CALL)
    except FirebreakError as error:
        found.failed(error, f"the target of service {service.name}: ")


def _denied(found: _Findings, needs: Sequence[Need]) -> None:
    """One sentence for each namespace and purpose."""
    by_place: dict[tuple[str, str], list[str]] = defaultdict(list)
    for need in needs:
        by_place[need.namespace, need.purpose].append(f"{need.right.text}{f' {need.name}' if need.name else ''}")
    for (namespace, purpose), missing in by_place.items():
        where = f"in namespace {namespace}" if namespace else "in the whole cluster"
        advice = "Grant what the README's Role for the engine says."
        if purpose == FOR_EVIDENCE:
            found.note(f"{where} evidence would be missing: it may not {_listed(missing)}", advice)
        else:
            found.problem(f"{where} {purpose} would be refused: it may not {_listed(missing)}", advice)


async def _prometheus(found: _Findings, settings: Settings) -> None:
    clock = SystemClock()
    headers = {name: value.get_secret_value() for name, value in settings.prometheus_headers.items()}
    metrics = Prometheus(settings.prometheus_url, headers=headers, params=settings.prometheus_params, now=clock.now)
    async with metrics:
        now = clock.now()
        query = MetricQuery(key="one", expr="vector(1)")
        (answer,) = await metrics.range_batch(
            [query], start=now - timedelta(minutes=1), end=now, step=timedelta(seconds=15), timeout=CALL
        )
    if answer.status is not AnswerStatus.OK:
        found.problem(
            f"nothing could be judged by it: {answer.detail}",
            "Check FIREBREAK_PROMETHEUS_URL, _HEADERS and _PARAMS, and its clock and ours.",
        )
        return
    found.ok(
        f"{settings.prometheus_url} answers; whether it has what the documents ask for, "
        "`firebreak lint --prometheus URL` says"
    )


async def _chat(found: _Findings, settings: Settings, rules: Rules | None) -> None:
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
            found.note(f"{_listed(unnamed)}: no chat_channel, so that nothing is told there")
        good = 0
        for tried, (channel, services) in enumerate(channels.items()):
            about = f"channel {channel} of {_listed(services)}: "
            try:
                less = await slack.look_into(channel)
            except TransientError as busy:  # Slack counts such calls by the minute
                found.note(f"{len(channels) - tried} channels were not looked at: {busy}", "Try again in a minute.")
                break
            except FirebreakError as error:
                found.failed(error, about)
                continue
            good += not less
            if less:
                found.note(about + less)
        if good:
            found.ok(f"the app is in {good} of {len(channels)} channels, and may read there")


async def _pager(found: _Findings, settings: Settings, rules: Rules | None) -> None:
    fallback = settings.fallback_pager_key.get_secret_value()
    keys: dict[str, list[str]] = defaultdict(list)
    for service in () if rules is None else rules.services.services.values():
        keys[service.route.pager_key or fallback].append(service.name)
    unpaged = keys.pop("", [])
    if not fallback:
        whose = f", and for {_listed(unpaged)}," if unpaged else ""
        found.problem(
            f"FIREBREAK_FALLBACK_PAGER_KEY is not set: for an alert of no known service{whose} nobody can be paged",
            "Set it to the routing key of an Events v2 integration.",
        )
    elif fallback not in keys:
        keys[fallback] = []
    taken: list[str] = []
    async with build_pager(settings) as pager:

        async def offer(key: str) -> None:
            whose = [*keys[key], *(["all others"] if key == fallback else [])]
            text = NoticeText(title="", lines=())
            try:  # ends an alert that there never is
                await pager.send(key, PagerAction.RESOLVE_LOW, incident_id=PAGER_RECORD, text=text, details={})
            except FirebreakError as error:
                found.failed(error, f"the routing key of {_listed(whose)}: ")
            else:
                taken.extend(whose)

        await asyncio.gather(*(offer(key) for key in keys))
    if taken:
        found.ok(f"the routing keys of {_listed(sorted(taken))} are taken")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)

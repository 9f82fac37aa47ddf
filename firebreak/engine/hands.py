"""Settings -> stores, connectors, hands: all that one worker process needs. With `compose.py`, the one place that knows
both ports and vendors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from activities.actions import build
from activities.call_evidence import CallEvidence
from activities.casebook import Casebook
from activities.evidence import EvidenceHands, EvidenceLimits
from activities.foresight import Foresight
from activities.gathering import Gathering
from activities.keeping import KeepHands, KeepLimits
from activities.looking import Looking, LookLimits
from activities.messages import GatherResult
from activities.people import PeopleHands
from activities.recovery import RecoveryHands
from activities.restores import RestoreHands
from activities.rulebook import Rulebook
from activities.shared_lists import SharedLists
from activities.step_checks import StepChecks
from activities.steps import StepHands
from activities.verification import VerifyHands
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.prometheus import Prometheus
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.ports import PagerPort
from firebreak.engine.clock import SystemClock
from firebreak.engine.compose import Routes, build_pager, build_rulebook
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE, InboxStore, TimelineStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """All that one worker process needs."""

    store: TimelineStore
    inbox: InboxStore
    casebook: Casebook
    rulebook: Rulebook
    activities: Sequence[Callable[..., Any]]
    clock: SystemClock
    foresee: Callable[[Incident], Awaitable[GatherResult | None]]


@asynccontextmanager
async def hands(settings: Settings) -> AsyncIterator[Hands]:
    """Open everything of one worker process, and close it in reverse order."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await TimelineStore.open(settings.data_dir / TIMELINE_FILE))
        inbox = await stack.enter_async_context(await InboxStore.open(settings.data_dir / INBOX_FILE))
        cluster = await stack.enter_async_context(KubernetesCluster(settings.cluster, kubeconfig=settings.kubeconfig))
        metrics = await stack.enter_async_context(
            Prometheus(
                settings.prometheus_url,
                headers={name: value.get_secret_value() for name, value in settings.prometheus_headers.items()},
                params=settings.prometheus_params,
                now=clock.now,
            )
        )
        pager: PagerPort = await stack.enter_async_context(build_pager(settings))
        rulebook = build_rulebook(settings)
        casebook = Casebook(store, store)
        acts = settings.mode is Mode.ACT  # observing needs no right to write
        actions = build(cluster, clock=clock, dry_run_first=acts)
        foresight = Foresight()
        looking = Looking(metrics, clock, LookLimits())
        checks = StepChecks(casebook=casebook, looking=looking, actions=actions, clock=clock, foresight=foresight)
        steps = StepHands(casebook=casebook, checks=checks, actions=actions, clock=clock, mode=settings.mode)
        verification = VerifyHands(casebook=casebook, looking=looking, actions=actions, clock=clock)
        limits = EvidenceLimits(page_deadline=settings.page_deadline, mode=settings.mode)
        lists = SharedLists(cluster)
        keeping = KeepHands(
            casebook=casebook,
            cluster=cluster,
            lists=lists,
            clock=clock,
            limits=KeepLimits(capture=settings.evidence_capture),
            foresight=foresight,
        )
        gathering = Gathering(
            casebook=casebook, metrics=metrics, cluster=cluster, rulebook=rulebook, clock=clock, swift=limits.query
        )
        evidence = EvidenceHands(
            casebook=casebook,
            gathering=gathering,
            keeping=keeping,
            clock=clock,
            limits=limits,
            foresight=foresight,
            first_step=checks,
        )
        recovery = RecoveryHands(casebook=casebook, gathering=gathering, rulebook=rulebook, clock=clock, limits=limits)
        people = PeopleHands(
            casebook=casebook,
            pager=pager,
            routes=Routes(rulebook, settings),
            clock=clock,
            evidence=CallEvidence(
                casebook=casebook, cluster=cluster, clock=clock, lists=lists, capture=settings.evidence_capture
            ),
        )
        restores = RestoreHands(casebook=casebook, looking=looking, actions=actions, clock=clock, mode=settings.mode)
        yield Hands(
            store=store,
            inbox=inbox,
            casebook=casebook,
            rulebook=rulebook,
            activities=(
                evidence.gather,
                keeping.keep,
                recovery.watch_recovery,
                steps.act,
                verification.verify,
                verification.hold,
                steps.undo,
                people.call,
                people.close,
                restores.check,
            ),
            clock=clock,
            foresee=evidence.foresee,
        )

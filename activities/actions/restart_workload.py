"""Restart the pods of one workload, a few at a time.

Use when pods are wedged but the release is good: only fresh pods help. Useless against a bad release or a dead
dependency. It is an ordinary roll-out of the same release (as `kubectl rollout restart`), whose time stamp is the
plan's: a repeat writes the same bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from activities.actions.base import Action
from activities.actions.proposal import ActionParams, Proposal, refused
from activities.disruption_budgets import Toll, budget_objection, in_order, shared_budgets, toll_of
from activities.fields import canonical, field_path, read_field
from activities.workloads import (
    RESTARTED_AT,
    WORKLOAD_KINDS,
    hopeless_containers,
    pods_of,
    replicas_of,
    rollout,
    unavailable,
    unreplaced,
)
from firebreak.domain.access import rights
from firebreak.domain.action import CheckResult, Effect, FieldChange, Intent, Progress, ProgressState, StepContext
from firebreak.domain.codec import format_time, parse_time
from firebreak.domain.ports import KubeObject
from firebreak.domain.target import ResourceKind

_PATH = field_path("spec", "template", "metadata", "annotations", RESTARTED_AT)

# StatefulSets and DaemonSets have no progress deadline of their own: the default that Deployments have.
OWN_DEADLINE = timedelta(seconds=600)


class RestartWorkload(Action):
    name = "restart_workload"
    reversible = False
    target_kinds = WORKLOAD_KINDS
    irreversible_reason = (
        "a restart cannot be taken back: the pods that it replaced are gone, and the release is the same"
    )

    rights = (
        *(right for kind in sorted(WORKLOAD_KINDS) for right in rights(kind, "get", "list", "patch")),
        *rights(ResourceKind.POD, "list"),
        *rights(ResourceKind.POD_DISRUPTION_BUDGET, "list"),
    )

    class Params(ActionParams):
        """The workload is the step's target; a restart has no other parameter."""

    async def propose(self, params: Any, context: StepContext) -> Proposal | CheckResult:
        ref = context.default_target
        if ref.kind not in self.target_kinds:
            return refused(f"{ref.text} is no workload: a Deployment, StatefulSet or DaemonSet can be restarted")
        obj, budgets = await asyncio.gather(
            self.cluster.get(ref, timeout=self.call_timeout),
            self.cluster.list(ResourceKind.POD_DISRUPTION_BUDGET, ref.namespace, timeout=self.call_timeout),
        )
        objection = _objection(obj, ref.kind) or await self._takes_too_many(obj, ref.kind, budgets)
        if objection:
            return refused(f"{ref.text} is not restarted: {objection}", ref=ref, obj=obj)
        before = canonical(read_field(obj, _PATH))
        after = canonical(format_time(context.stamp))
        return Proposal(
            ref=ref,
            obj=obj,
            changes=(FieldChange(path=_PATH, before=before, after=after),),
            reason=f"all {replicas_of(obj, ref.kind)} pods of {ref.text} are replaced, a few at a time",
            beside=await shared_budgets(self.cluster, obj, ref, budgets, timeout=self.call_timeout),
        )

    def still_planned(self, intent: Intent, obj: KubeObject) -> str:
        """Somebody may have paused it, or begun a roll-out, since the check."""
        return _objection(obj, intent.target.ref.kind)

    async def objection(self, intent: Intent, obj: KubeObject, *, least: bool) -> str:
        """Somebody may have let the roll-out take more pods down at once, or a budget fewer, since the check."""
        ref = intent.target.ref
        budgets = await self.cluster.list(ResourceKind.POD_DISRUPTION_BUDGET, ref.namespace, timeout=self.call_timeout)
        return await self._takes_too_many(obj, ref.kind, budgets)

    async def _takes_too_many(self, obj: KubeObject, kind: ResourceKind, budgets: Iterable[KubeObject]) -> str:
        """Why its roll-out would take too many pods down at once; empty when it would not."""
        toll = await toll_of(self.cluster, obj, kind, timeout=self.call_timeout)
        broken = await budget_objection(self.cluster, obj, toll, budgets, timeout=self.call_timeout)
        return broken or _all_at_once(toll)

    async def followed(self, effect: Effect, obj: KubeObject) -> Progress:
        """The roll-out's own status; FAILED early when a container of a *new* pod cannot run, with its reason. A later
        restart or roll-back by somebody else has replaced our time stamp, so it does not come here."""
        ref = effect.target.ref
        status = rollout(obj, ref.kind)
        if status.state is not ProgressState.RUNNING:
            return status
        stamp = str(json.loads(effect.changes[0].after)) if effect.changes else ""
        pods = await pods_of(self.cluster, ref.namespace, obj["spec"]["selector"], timeout=self.call_timeout)
        broken = hopeless_containers(p for p in pods if _restarted_at(p) == stamp)
        if broken:
            reason = f"new pods cannot run: {'; '.join(broken[:3])}"
            return Progress(state=ProgressState.FAILED, reason=reason, details=(*status.details, *broken))
        if ref.kind is not ResourceKind.DEPLOYMENT and stamp and self.clock.now() - parse_time(stamp) > OWN_DEADLINE:
            reason = f"the roll-out is stuck: {status.reason} after {OWN_DEADLINE.total_seconds():g} s"
            return Progress(state=ProgressState.FAILED, reason=reason, details=status.details)
        return status


def _restarted_at(obj: KubeObject) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(RESTARTED_AT, ""))


def _all_at_once(toll: Toll) -> str:
    """Why the roll-out would be no better than Recreate, whatever budgets say; empty when pods stay. A single pod has
    no other that could stay."""
    return f"{toll.text}: no pod need stay" if 1 < toll.wanted <= toll.down else ""


def _objection(obj: KubeObject, kind: ResourceKind) -> str:
    """Why this workload must not be restarted now, whatever budgets say; empty when nothing is in the way."""
    spec = obj["spec"]
    if not spec.get("selector"):
        return "it has no selector, so that its pods cannot be told"
    if replicas_of(obj, kind) == 0:
        return "it has no pods to restart (0 are wanted)"
    if spec.get("paused"):
        return "its roll-outs are paused: somebody is at work on it"
    strategy = spec.get("strategy" if kind is ResourceKind.DEPLOYMENT else "updateStrategy") or {}
    match strategy.get("type", "RollingUpdate"):
        case "RollingUpdate":
            pass
        case "Recreate":
            return "its strategy Recreate takes all pods down at once"
        case "OnDelete":
            return "its strategy OnDelete replaces no pod by itself"
        case other:
            return f"its strategy {other!r} is not known"
    if kind is ResourceKind.STATEFULSET and ((strategy.get("rollingUpdate") or {}).get("partition") or 0) > 0:
        return "a partition holds part of its pods at the old revision"
    rolling = unreplaced(obj, kind)
    if rolling:
        return f"it is already rolling: {rolling}"
    waits_for = unavailable(obj, kind) if kind is ResourceKind.STATEFULSET and in_order(obj) else ""
    if waits_for:  # written now, it would begin whenever somebody has mended those
        return f"{waits_for}, and a StatefulSet in order replaces none before all are: delete those that are not"
    return ""

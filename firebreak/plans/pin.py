"""From a runbook to the frozen plan of one incident: every name filled in, pinned by its bytes and SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from firebreak.documents.conditions import Rendering, render_condition
from firebreak.documents.policy import Policy
from firebreak.documents.yaml_file import refuse
from firebreak.domain.action import ActionSpec
from firebreak.domain.codec import from_data, to_data
from firebreak.domain.condition import Condition
from firebreak.domain.errors import RunbookInvalid
from firebreak.domain.plan import (
    Plan,
    PlanOutline,
    Restore,
    Step,
    StepOutline,
    Tier,
    TierOutline,
    UndoRule,
    Verify,
)
from firebreak.domain.target import TargetRef, resource_kind
from firebreak.plans.lint import lint_runbook
from firebreak.plans.model import FixedTarget, RestoreBlock, StepBlock, VerifyBlock
from firebreak.plans.params import filled
from firebreak.plans.runbook import Runbook


def pinned(
    runbook: Runbook,
    *,
    service: str,
    target: TargetRef,
    bindings: Mapping[str, str],
    policy: Policy,
    service_thresholds: Mapping[str, float],
    specs: Mapping[str, ActionSpec],
) -> tuple[Plan, bytes]:
    """The plan with its digest set, and the bytes that the digest is of. `bindings` are the service's parameters; the
    standard four come from `service` and `target`. Of a threshold's values the service's wins over the policy's, and
    that over the runbook's.

    Raises RunbookInvalid with the linter's problems, if it has any: what it refuses never runs. Also when a binding is
    missing, or a filled parameter is refused; then it names the step or the condition."""
    problems = lint_runbook(runbook, specs, policy=policy)
    if problems:
        raise refuse(problems)
    model = runbook.model
    all_bindings = {
        **{name: bindings[name] for name in model.match.params if name in bindings},
        "service": service,
        "namespace": target.namespace,
        "workload": target.name,
        "cluster": target.cluster,
    }
    values = values_for(runbook, bindings=all_bindings, policy=policy, service_thresholds=service_thresholds)
    return _Pinning(runbook=runbook, target=target, values=values, specs=specs).plan()


def values_for(
    runbook: Runbook, *, bindings: Mapping[str, str], policy: Policy, service_thresholds: Mapping[str, float]
) -> Rendering:
    """What the runbook's names stand for; `bindings` are all of them, the standard four included."""
    model = runbook.model
    return Rendering(
        # Only names of the runbook itself: another one of the policy could hide a binding. `step` is everybody's.
        durations={
            n: s for n, s in {**model.durations, **policy.durations}.items() if n in model.durations or n == "step"
        },
        thresholds={
            name: service_thresholds.get(name, policy.thresholds.get(name, number))
            for name, number in model.thresholds.items()
        },
        bindings=bindings,
        baseline=policy.baseline,
    )


def plan_bytes(plan: Plan) -> bytes:
    """Canonical JSON of all fields but `digest`: sorted keys, no spaces, UTF-8. Their SHA-256 is the digest."""
    data = to_data(plan)
    del data["digest"]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def plan_from_bytes(data: bytes) -> Plan:
    """Inverse of `plan_bytes`, with the digest of these very bytes. RunbookInvalid for bytes that are no plan."""
    try:
        plan = from_data(Plan, json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise RunbookInvalid(f"the kept bytes are no plan: {type(broken).__name__}") from None
    return replace(plan, digest=hashlib.sha256(data).hexdigest())


def outline(plan: Plan) -> PlanOutline:
    """What the story needs. A step can first be verified when the averaging window holds nothing from before its
    effect (or after `settle`, if that is longer) and `hold` has passed: an earlier look would be in vain."""
    return PlanOutline(
        digest=plan.digest or hashlib.sha256(plan_bytes(plan)).hexdigest(),
        runbook=plan.runbook,
        hold=plan.hold,
        tiers=tuple(
            TierOutline(name=tier.name, steps=tuple(_step_outline(step) for step in tier.steps)) for tier in plan.tiers
        ),
    )


def _step_outline(step: Step) -> StepOutline:
    return StepOutline(
        id=step.id,
        action=step.action,
        undoable=step.undo is UndoRule.BY_ACTION,
        needs_approval=bool(step.approval),
        first_look=max(step.verify.settle, step.verify.flush) + step.verify.hold if step.verify else timedelta(0),
        within=step.verify.within if step.verify else timedelta(0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pinning:
    """One runbook on its way to a plan."""

    runbook: Runbook
    target: TargetRef
    values: Rendering
    specs: Mapping[str, ActionSpec]
    rendered: dict[str, Condition] = field(default_factory=dict)  # each condition once, however many tiers use it

    def plan(self) -> tuple[Plan, bytes]:
        model = self.runbook.model
        plan = Plan(
            runbook=model.name,
            source=self.runbook.source,
            source_digest=self.runbook.digest,
            service=self.values.bindings["service"],
            target=self.target,
            tiers=tuple(Tier(name=t.name, steps=tuple(self._step(s) for s in t.steps)) for t in model.tiers),
            evidence=model.evidence,
            hold=self.values.span(model.hold),
            recovery=self._conditions(model.recovery),
            bindings=dict(self.values.bindings),
        )
        data = plan_bytes(plan)
        return replace(plan, digest=hashlib.sha256(data).hexdigest()), data

    def _step(self, block: StepBlock) -> Step:
        spec = self.specs[block.action]
        return Step(
            id=block.id,
            action=block.action,
            params=self._params(block, spec),
            target=self._step_target(block) if spec.mutates else None,
            check=self._conditions(block.check) if isinstance(block.check, tuple) else (),
            verify=self._verify(block.verify) if block.verify else None,
            undo=block.undo or UndoRule.NONE,
            undo_reason=block.undo_reason or ("" if spec.mutates else spec.irreversible_reason),
            restore=self._restore(block.restore) if block.restore else None,
            approval=block.approval,
        )

    def _params(self, block: StepBlock, spec: ActionSpec) -> Mapping[str, object]:
        try:
            params: Mapping[str, object] = filled(block.params, self.values.bindings)
        except KeyError as missing:
            raise self._invalid(
                f"step {block.id!r}: ${missing.args[0]} has no value for service {self.values.bindings['service']!r}"
            ) from None
        problems = spec.validate(params)
        if problems:
            told = "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}".removeprefix(": ") for p in problems)
            raise self._invalid(f"step {block.id!r}: {told}")
        return params

    def _step_target(self, block: StepBlock) -> TargetRef:
        if not isinstance(block.target, FixedTarget):
            return self.target
        return TargetRef(
            cluster=self.target.cluster,
            namespace=block.target.namespace,
            kind=resource_kind(block.target.kind),
            name=block.target.name,
        )

    def _conditions(self, names: tuple[str, ...]) -> tuple[Condition, ...]:
        for name in names:
            if name not in self.rendered:
                self.rendered[name] = render_condition(name, self.runbook.model.conditions[name], self.values)
        return tuple(self.rendered[name] for name in names)

    def _verify(self, block: VerifyBlock) -> Verify:
        span = self.values.span
        return Verify(
            conditions=self._conditions(block.conditions),
            hold=span(block.hold),
            within=span(block.within),
            settle=span(block.settle),
            poll=span(block.poll),
            flush=self.values.durations.get("window", timedelta(0)),
        )

    def _restore(self, block: RestoreBlock) -> Restore:
        span = self.values.span
        return Restore(
            conditions=self._conditions(block.conditions),
            hold=span(block.hold),
            within=span(block.within),
            poll=span(block.poll),
        )

    def _invalid(self, text: str) -> RunbookInvalid:
        return RunbookInvalid(
            f"{self.runbook.source}: {text}",
            advice="Correct the service's params in the services document, the policy or the runbook.",
        )

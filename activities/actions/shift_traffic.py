"""Move all traffic of one route away from one backend, to the others of the same rules.

Use when one version of a service is bad and another one that is good stands ready with enough pods. Useless when both
versions are bad, or when what they depend on is. Writes the weights of a Gateway API HTTPRoute, nothing else; undo puts
the weights of before back, once the backend that gets its load back has the ready pods for it. A rule is known by its
place among the rules and by what it matches (and by its name, where it has one): when either has moved since the check,
nothing is written, and nothing is put back.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, model_validator

from activities.actions.base import Action
from activities.actions.proposal import ActionParams, Proposal, already_so, refused
from activities.actions.route_status import lacks_a_grant, rejected
from activities.fields import canonical, field_path, is_guard
from activities.ready_capacity import Capacity, capacity_of
from firebreak.domain.access import rights
from firebreak.domain.action import CheckResult, Effect, FieldChange, Intent, Progress, ProgressState, StepContext
from firebreak.domain.errors import PreconditionFailed
from firebreak.domain.ports import KubeObject
from firebreak.domain.target import ResourceKind, TargetRef

DEFAULT_WEIGHT = 1  # Gateway API, BackendRef.weight
Weights = Mapping[str, int]


class ShiftTraffic(Action):
    name = "shift_traffic"
    rights = (
        *rights(ResourceKind.HTTP_ROUTE, "get", "patch", named_by="route"),
        *rights(ResourceKind.SERVICE, "get"),
        *rights(ResourceKind.ENDPOINT_SLICE, "list"),
        *rights(ResourceKind.POD, "list"),
        *rights(ResourceKind.DEPLOYMENT, "list"),
        *rights(ResourceKind.STATEFULSET, "list"),
    )

    class Params(ActionParams):
        """Which route, and which of its backends is left."""

        route: str = Field(min_length=1, max_length=253, description="Name of the HTTPRoute.")
        away_from: str = Field(min_length=1, max_length=253, description="Backend (Service) that gets no more traffic.")
        to: str | None = Field(
            default=None,
            min_length=1,
            max_length=253,
            description="Backend that gets it. Unset: the others, in proportion to their weights.",
        )
        namespace: str | None = Field(
            default=None, min_length=1, max_length=63, description="Namespace of the route. Unset: the target's."
        )
        min_ready_share: float = Field(
            default=1.0,
            gt=0,
            le=1,
            description="Ready pods of the receiving side, as a share of the pods that the route uses now.",
        )

        @model_validator(mode="after")
        def _two_backends(self) -> ShiftTraffic.Params:
            if self.to == self.away_from:
                raise ValueError("`to` and `away_from` are the same backend")
            return self

    async def propose(self, params: Any, context: StepContext) -> Proposal | CheckResult:
        ref = TargetRef(
            cluster=context.default_target.cluster,
            namespace=params.namespace or context.default_target.namespace,
            kind=ResourceKind.HTTP_ROUTE,
            name=params.route,
        )
        obj = await self.cluster.get(ref, timeout=self.call_timeout)
        why = rejected(obj)
        if why:
            return refused(f"{ref.text} is not in effect: {why}", ref=ref, obj=obj)
        changes = planned_changes(obj, params)
        if not changes:
            return already_so(f"{ref.text} sends nothing to {params.away_from} already", ref, obj)
        problem = await self._too_small(ref, obj, changes, params)
        if problem:
            return refused(f"{ref.text} is not shifted: {problem}", ref=ref, obj=obj)
        return Proposal(
            ref=ref, obj=obj, changes=changes, reason=f"{ref.text} sends nothing to {params.away_from} any more"
        )

    def still_planned(self, intent: Intent, obj: KubeObject) -> str:
        """A rule added since the check would keep sending traffic to the backend; and one added since our write that
        matches the same calls may stand where ours stood."""
        if intent.undo:
            bound = Counter(c.before for c in intent.changes if is_guard(c) and c.path.endswith(".matches"))
            now = Counter(_matches(rule) for rule in _rules(obj))
            same = all(now[matches] == count for matches, count in bound.items())
        else:
            same = planned_changes(obj, self.Params.model_validate(dict(intent.params))) == intent.changes
        return "" if same else "its rules are not those that were planned on"

    async def objection(self, intent: Intent, obj: KubeObject, *, least: bool) -> str:
        """Who gets the load, or gets it back, may have fewer pods by now: without load an autoscaler leaves one. At
        `least` one must be there."""
        params = self.Params.model_validate(dict(intent.params))
        if least:
            params = params.model_copy(update={"min_ready_share": 0.0})
        return await self._too_small(intent.target.ref, obj, intent.changes, params)

    async def followed(self, effect: Effect, obj: KubeObject) -> Progress:
        """DONE when every gateway has accepted this generation of the route and found its backends."""
        ref = effect.target.ref
        parents = (obj.get("status") or {}).get("parents") or ()
        if not parents:
            reason = f"no gateway has set a status on {ref.text}: perhaps no controller serves it"
            return Progress(state=ProgressState.RUNNING, reason=reason)
        generation = obj["metadata"].get("generation", 0)
        waiting, failed = [], []
        for parent in parents:
            name = (parent.get("parentRef") or {}).get("name", "?")
            conditions = {c.get("type"): c for c in parent.get("conditions") or ()}
            for kind in ("Accepted", "ResolvedRefs"):
                condition = conditions.get(kind) or {}
                if condition.get("observedGeneration", 0) < generation or condition.get("status") == "Unknown":
                    waiting.append(f"gateway {name} has not judged {kind} of generation {generation} yet")
                elif condition.get("status") != "True":
                    failed.append(f"gateway {name}: {kind} is false ({condition.get('message') or 'no message'})")
        if failed:
            return Progress(state=ProgressState.FAILED, reason="; ".join(failed), details=tuple(waiting))
        if waiting:
            return Progress(state=ProgressState.RUNNING, reason="; ".join(waiting))
        return Progress(state=ProgressState.DONE, reason=f"all gateways serve generation {generation} of {ref.text}")

    async def _too_small(
        self, ref: TargetRef, obj: KubeObject, changes: tuple[FieldChange, ...], params: Params
    ) -> str:
        """Why the receiving side cannot carry what it would get; empty when it can. Judged rule by rule.

        What it must carry is the pods that the route uses now, ready or not: dead pods were carrying it before; or,
        where that is less, what its own pods carry by their weight, brought up to all of it: a canary of full size has
        few calls. All that go on serve as one side, with what they carry of other rules; a backend that alone gets more
        (`to`, or its load back) must carry its share of the weight by itself."""
        written = {c.path: json.loads(c.after) for c in changes}
        now = [rule_weights(rule, index) for index, rule in enumerate(_rules(obj))]
        for index, (rule, weights) in enumerate(zip(_rules(obj), now, strict=True)):
            if _weight_path(index, params.away_from) not in written:
                continue
            after = {n: _weight(written.get(_weight_path(index, n), w)) for n, w in weights.items()}
            back = after[params.away_from] > weights[params.away_from]
            grows = [params.to] if params.to else [n for n in weights if after[n] > 0]
            takers = [params.away_from] if back else grows
            names = [n for n in weights if weights[n] > 0 or n in takers]
            new = {n for n in takers if not back and (weights[n] == 0 or not _elsewhere(obj, ref, but=takers))}
            found = await asyncio.gather(*(self._capacity(ref, obj, rule, n, new=n in new) for n in names))
            by_name = dict(zip(names, found, strict=True))
            carrying = sum(by_name[n].present for n in names if weights[n] > 0)
            busy = [n for n in takers if weights[n] == 0 and any(other.get(n, 0) > 0 for other in now)]
            elsewhere = sum(by_name[n].present for n in busy)
            receiving = sum(by_name[n].ready for n in takers)
            part, whole = sum(after[n] for n in takers), sum(after.values())
            held = sum(weights[n] for n in takers)
            load: float = carrying
            if all(weights[n] > 0 for n in takers):
                load = min(load, sum(by_name[n].present for n in takers) * whole / held)
            needed = max(1, math.ceil((load * part / whole + elsewhere) * params.min_ready_share))
            if receiving < needed:
                why = f"{params.min_ready_share:.0%} of the {load:.3g} that carry rule {index} now"
                why += "" if load == carrying else f", by its own weight of {held} of {whole}"
                why += "" if part == whole else f", for {part} of {whole} of its weight"
                why += f", and of the {elsewhere} of {', '.join(busy)} that carry other rules" if elsewhere else ""
                why = "; ".join([why, *(by_name[n].flaw for n in takers if by_name[n].flaw)])
                return f"{', '.join(takers)} has {receiving} ready pods and needs {needed} ({why})"
        return ""

    async def _capacity(
        self, ref: TargetRef, obj: KubeObject, rule: Mapping[str, Any], name: str, *, new: bool
    ) -> Capacity:
        """`new`: nothing shows that the calls which it is to get arrive there."""
        backend = next(b for b in rule["backendRefs"] if b["name"] == name)
        if (backend.get("group") or "", backend.get("kind") or "Service") != ("", "Service"):
            raise PreconditionFailed(f"backend {name} is a {backend.get('kind')}: its ready capacity cannot be known")
        service = TargetRef(
            cluster=ref.cluster,
            namespace=backend.get("namespace") or ref.namespace,
            kind=ResourceKind.SERVICE,
            name=name,
        )
        found = await capacity_of(self.cluster, service, port=backend.get("port"), timeout=self.call_timeout)
        if new and service.namespace != ref.namespace and lacks_a_grant(obj):
            return replace(
                found,
                ready=0,
                flaw=f"a gateway may not send to some backend of another namespace, as {service.namespace} is",
            )
        return found


def planned_changes(obj: KubeObject, params: ShiftTraffic.Params) -> tuple[FieldChange, ...]:
    """The weights that change, and guards that bind them to their rules; none when no weight changes. Raises what
    `planned_weights` does."""
    weights = planned_weights(obj, params)
    paths = {c.path for c in weights}
    rules = _rules(obj)
    touched = {
        _matches(rule)
        for index, rule in enumerate(rules)
        if any(_weight_path(index, b["name"]) in paths for b in rule.get("backendRefs") or ())
    }
    guards: list[FieldChange] = []
    for index, rule in enumerate(rules):
        if _matches(rule) in touched:  # also rules beside it that match the same: they must not trade places unseen
            names = [n for n in ("matches", "name") if n == "matches" or n in rule]
            values = ((field_path("spec", "rules", index, n), canonical(rule.get(n))) for n in names)
            guards += [FieldChange(path=path, before=value, after=value) for path, value in values]
    return (*weights, *guards)


def planned_weights(obj: KubeObject, params: ShiftTraffic.Params) -> tuple[FieldChange, ...]:
    """The weights that change, over all rules with this backend; none when it gets nothing already.
    PreconditionFailed with a sentence when it cannot be done."""
    changes: list[FieldChange] = []
    known = False
    for index, rule in enumerate(_rules(obj)):
        weights = rule_weights(rule, index)
        if params.away_from not in weights:
            continue
        known = True
        if sum(weights.values()) == 0:
            raise PreconditionFailed(f"no backend of rule {index} has any weight: there is nothing to move")
        if weights[params.away_from] == 0:
            continue
        after = _shifted(weights, params, index)
        written = {b["name"]: b.get("weight") for b in rule["backendRefs"]}
        changes += [
            FieldChange(path=_weight_path(index, name), before=canonical(written[name]), after=canonical(after[name]))
            for name in weights
            if after[name] != weights[name]
        ]
    if not known:
        raise PreconditionFailed(
            f"route {params.route} has no backend {params.away_from}",
            advice="Check the step's parameters: route and backend do not belong together.",
        )
    return tuple(changes)


def rule_weights(rule: Mapping[str, Any], index: int) -> dict[str, int]:
    """Weight of each backend of one rule, by name. PreconditionFailed when two backends have the same name."""
    weights: dict[str, int] = {}
    for backend in rule.get("backendRefs") or ():
        if backend["name"] in weights:
            raise PreconditionFailed(f"rule {index} names backend {backend['name']} twice: they cannot be told apart")
        weights[backend["name"]] = _weight(backend.get("weight"))
    return weights


def _weight(written: Any) -> int:
    return DEFAULT_WEIGHT if written is None else int(written)


def _shifted(weights: Weights, params: ShiftTraffic.Params, index: int) -> dict[str, int]:
    """The same sum of weights without `away_from`."""
    moved = weights[params.away_from]
    others = {n: w for n, w in weights.items() if n != params.away_from}
    if params.to is not None:
        if params.to not in others:
            raise PreconditionFailed(f"rule {index} has no backend {params.to} that could take over")
        return {**others, params.away_from: 0, params.to: others[params.to] + moved}
    if not others:
        raise PreconditionFailed(f"rule {index} has no other backend: nothing would answer")
    total = sum(others.values())
    if len(others) > 1 and total == 0:
        raise PreconditionFailed(f"rule {index} has several idle backends: say which one with `to`")
    if total == 0:
        return {params.away_from: 0, **dict.fromkeys(others, moved)}
    after = {n: w + moved * w // total for n, w in others.items()}
    heaviest = max(others, key=lambda n: others[n])
    after[heaviest] += total + moved - sum(after.values())  # what rounding left over
    return {**after, params.away_from: 0}


def _rules(obj: KubeObject) -> tuple[Mapping[str, Any], ...]:
    return tuple(obj["spec"].get("rules") or ())


def _matches(rule: Mapping[str, Any]) -> str:
    return canonical(rule.get("matches"))


def _weight_path(index: int, backend: str) -> str:
    return field_path("spec", "rules", index, "backendRefs", ("name", backend), "weight")


def _elsewhere(obj: KubeObject, ref: TargetRef, *, but: Sequence[str]) -> bool:
    """Whether it has backends of other namespaces beside `but`, which a gateway's complaint may be about."""
    backends = (b for rule in _rules(obj) for b in rule.get("backendRefs") or ())
    return any((b.get("namespace") or ref.namespace) != ref.namespace and b["name"] not in but for b in backends)

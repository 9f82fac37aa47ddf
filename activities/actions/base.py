"""The contract of one remediation action (row B6): check, apply, read back, undo, progress.

An action says what it would change (`propose`); this module does all writing, in one way. A write is one merge patch
that carries the resourceVersion of the object just read (409 when it is stale), the touched fields, and the step's own
annotation, whose value is the intent's time stamp. So a repeat finds the annotation and writes nothing, two writers
cannot both win, and a write that was only slow is recognised when it lands late.

    check -> CheckResult          writes nothing; the very patch is sent with dryRun=All (admission, permission)
    [the caller writes an Intent into the ledger]
    apply(intent) -> Effect       raises TransientError when the outcome is not known: then
    read_back(intent) -> Effect   APPLIED or NOT_APPLIED, from the object itself
    prepare_undo(...) -> CheckResult; [Intent with undo=True]; apply(...)     the same path with the inverse changes
    progress(effect) -> Progress  whether it is still in force, and how far the world has followed
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import ValidationError

from activities.actions.kept_objects import KeptObjects
from activities.actions.marks import (
    being_deleted,
    bound,
    effect_on,
    found_on,
    mark_of,
    marked_patch,
    same_object,
    unplanned,
)
from activities.actions.proposal import ActionParams, Proposal, already_so, of_the_system, refused
from activities.fields import canonical, changes_as_written, inverse, moved_fields, read_field
from firebreak.domain.access import Right
from firebreak.domain.action import (
    CheckOutcome,
    CheckResult,
    Effect,
    EffectOutcome,
    HeldBackCheck,
    Intent,
    Progress,
    ProgressState,
    StepContext,
)
from firebreak.domain.errors import (
    NotAnyMore,
    NotYet,
    PermanentError,
    PreconditionFailed,
    TargetChanged,
    TargetNotFound,
    TransientError,
)
from firebreak.domain.ports import Clock, ClusterPort, KubeObject
from firebreak.domain.target import SYSTEM_NAMESPACES, ResourceKind, TargetRef

Stopped = Callable[[], Awaitable[str]]
"""Why nothing is written any more, asked of the moment; empty = go on."""

CALL_TIMEOUT = timedelta(seconds=2)  # one call; a hanging API server must not eat the paging deadline of 60 s
CONFLICT_TRIES = 5  # a status update between our read and our write is ordinary: read again and look again
_FIRST_PAUSE = 0.005  # seconds before the second try, doubled each time


class Action(ABC):
    """One thing the engine can do. A subclass has a docstring (its own or its module's) that says when to use it, the
    `name` of its module, `Params` and `propose`; where it cannot be taken back, `reversible = False` and the reason."""

    name: ClassVar[str]
    mutates: ClassVar[bool] = True
    reversible: ClassVar[bool] = True
    irreversible_reason: ClassVar[str] = ""
    target_kinds: ClassVar[frozenset[ResourceKind]] = frozenset()  # of its target; none = it reads the namespace only
    rights: ClassVar[tuple[Right, ...]] = ()  # what it reads and writes in the namespace of its target
    Params: ClassVar[type[ActionParams]]

    def __init__(
        self,
        cluster: ClusterPort,
        *,
        clock: Clock,
        call_timeout: timedelta = CALL_TIMEOUT,
        dry_run_first: bool = True,
    ) -> None:
        self.cluster = cluster
        self.call_timeout = call_timeout
        self.dry_run_first = dry_run_first
        self.clock = clock
        self._kept = KeptObjects()

    @classmethod
    def description(cls) -> str:
        """The docstring that a person reads: of the class itself, else of its module. Empty when there is none."""
        return inspect.cleandoc(cls.__dict__.get("__doc__") or sys.modules[cls.__module__].__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """First line of the description."""
        return cls.description().partition("\n")[0]

    @abstractmethod
    async def propose(self, params: Any, context: StepContext) -> Proposal | CheckResult:
        """Reads, judges, and says what would be written, or why nothing will be. Never writes. `params`: a `Params`."""

    async def progress(self, effect: Effect) -> Progress:
        """How far the world has followed an applied effect; CHANGED once that is not in force any more. One read of
        the object tells. Raises what the API server says, but for an object that is gone."""
        ref = effect.target.ref
        try:
            obj = await self.cluster.get(ref, timeout=self.call_timeout)
        except TargetNotFound:
            return Progress(state=ProgressState.CHANGED, reason=f"{ref.text} is gone since it was written")
        if obj["metadata"]["uid"] != effect.target.uid:
            return Progress(state=ProgressState.CHANGED, reason=f"{ref.text} is another object now")
        moved = moved_fields(obj, inverse(effect.changes))
        if moved:
            reason = f"{ref.text} was changed by somebody else since it was written: {'; '.join(moved)}"
            return Progress(state=ProgressState.CHANGED, reason=reason)
        return await self.followed(effect, obj)

    async def followed(self, effect: Effect, obj: KubeObject) -> Progress:
        """How far the world has followed what `obj` holds as it was written. Default: a field is as it is at once."""
        return Progress(state=ProgressState.DONE, reason=f"{effect.target.ref.text} holds the written value")

    async def look_ahead(self, params: Mapping[str, Any], context: StepContext) -> Proposal | CheckResult:
        """The reading that `check` begins with, for its `proposed`. Raises what the API server says."""
        typed = self._typed(params)
        return typed if isinstance(typed, CheckResult) else await self.propose(typed, context)

    async def check(
        self, params: Mapping[str, Any], context: StepContext, *, proposed: Proposal | CheckResult | None = None
    ) -> CheckResult:
        """READY with exactly the changes that `apply` will write, ALREADY_SO or REFUSED. Raises only TransientError.
        `proposed`: what `look_ahead` has just read; it counts once, and is read again where the object has moved."""
        typed = self._typed(params)
        if isinstance(typed, CheckResult):
            return typed
        ahead = [] if proposed is None else [proposed]

        async def look() -> CheckResult | None:
            proposal = ahead.pop() if ahead else await self.propose(typed, context)
            if isinstance(proposal, CheckResult):
                return proposal
            return await self._ready(proposal, context.step_key, context.stamp)

        return await self._guarded(look)

    def _typed(self, params: Mapping[str, Any]) -> Any:
        """`Params`, or why they cannot be used."""
        try:
            return self.Params.model_validate(dict(params))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return refused(f"the parameters of {self.name} cannot be used: {problems}")

    async def apply(self, intent: Intent, *, least: bool = False, stopped: Stopped | None = None) -> Effect:
        """Writes once. APPLIED; ALREADY_APPLIED when this step's annotation is on the object; NOT_APPLIED for an intent
        without changes (it was already so). `stopped` says, right before each write, why it is not to be any more: the
        machine may have stood still, and the reads before it take their time. Raises TargetChanged (other UID, touched
        field moved), TargetNotFound, PermissionDenied, PreconditionFailed, NotYet (`objection`, with `least`),
        NotAnyMore (`stopped`): nothing was written; TransientError: not known, call `read_back`."""
        ref = intent.target.ref
        problem = self._forbidden(ref)
        if problem:
            raise PreconditionFailed(problem)
        give_up_at = asyncio.get_running_loop().time() + 2 * self.call_timeout.total_seconds()
        for attempt in range(CONFLICT_TRIES):
            await _pause(attempt)
            kept = self._kept.take(intent.step_key, intent.target.resource_version) if attempt == 0 else None
            obj = kept or await self.cluster.get(ref, timeout=self.call_timeout)
            same_object(intent, obj)
            if mark_of(intent.step_key, obj) is not None:
                return found_on(intent, obj, EffectOutcome.ALREADY_APPLIED, "this step's own mark was found on it")
            self._unmoved(intent, obj)
            if not intent.changes:  # it was already so at the check: a mark alone would be a write nobody planned
                return effect_on(intent, obj, EffectOutcome.NOT_APPLIED, "nothing to write: it was already so")
            if kept is None:  # the check did not see this one
                await self._borne(intent, obj, least)
            body = marked_patch(obj, intent.changes, intent.step_key, intent.stamp)
            if stopped is not None and (why := await stopped()):
                raise NotAnyMore(f"{ref.text} is not written: {why}")
            try:
                answer = await self.cluster.patch(ref, body, timeout=self.call_timeout)
            except TargetChanged:  # 409: something moved between our read and our write; look what it was
                if asyncio.get_running_loop().time() > give_up_at:
                    break
                continue
            written = changes_as_written(answer, intent.changes)
            other = unplanned(obj, body, answer)
            took = "the API server took the write" + (f", and wrote something else: {other}" if other else "")
            return effect_on(intent, answer, EffectOutcome.APPLIED, took, written)
        raise PreconditionFailed(
            f"{ref.text} was written by others during each of our tries; nothing was written by us",
            advice=f"Find out what keeps writing {ref.text} before acting on it.",
        )

    async def read_back(self, intent: Intent) -> Effect:
        """APPLIED or NOT_APPLIED, from the object itself. NOT_APPLIED is true for the moment of reading: a write still
        on its way is caught by `apply`, whose resourceVersion only one of both can match. Raises TargetChanged or
        TargetNotFound when the object is gone, for then nobody can tell."""
        obj = await self.cluster.get(intent.target.ref, timeout=self.call_timeout)
        same_object(intent, obj)
        mark = mark_of(intent.step_key, obj)
        if mark is None:
            return effect_on(intent, obj, EffectOutcome.NOT_APPLIED, "read back: this step's mark is not on it")
        return found_on(intent, obj, EffectOutcome.APPLIED, f"read back: this step's mark of {mark} is on it")

    async def prepare_undo(
        self, intent: Intent, effect: Effect, *, step_key: str, stamp: datetime, least: bool = False
    ) -> CheckResult:
        """What would take `effect` back, as the changes of a new intent (`undo=True`) for `apply`. REFUSED when that
        cannot be, somebody has changed the touched fields since, or (HeldBackCheck) there is an `objection`; ALREADY_SO
        when they are as they were."""
        if not self.reversible or not self.mutates:
            return refused(self.irreversible_reason or f"{self.name} writes nothing that could be taken back")
        ref = intent.target.ref
        changes = inverse(intent.changes)  # not the effect's: what others made of the fields since is not ours to undo
        back = replace(intent, changes=changes, undo=True)

        async def look() -> CheckResult | None:
            try:
                obj = await self.cluster.get(ref, timeout=self.call_timeout)
            except TargetNotFound:
                return refused(f"{ref.text} is gone: there is nothing of ours to take back")
            if obj["metadata"]["uid"] != intent.target.uid:
                return refused(f"{ref.text} is another object now: there is nothing of ours to take back")
            as_before = all(canonical(read_field(obj, c.path)) == c.after for c in changes)  # guards, too
            if as_before and not self.still_planned(back, obj):
                return already_so(f"{ref.text} is already as it was before", ref, obj)
            moved = self._moved(back, obj)
            if moved:
                return refused(f"{ref.text} was changed by somebody else since: {'; '.join(moved)}", ref=ref, obj=obj)
            await self._borne(back, obj, least)
            proposal = Proposal(ref=ref, obj=obj, changes=changes, reason="takes back what this step wrote")
            return await self._ready(proposal, step_key, stamp)

        return await self._guarded(look)

    def still_planned(self, intent: Intent, obj: KubeObject) -> str:
        """Why the plan (of a write, or with `intent.undo` of taking it back) no longer fits `obj` although each touched
        field is as it was; empty = it fits."""
        return ""

    async def objection(self, intent: Intent, obj: KubeObject, *, least: bool) -> str:
        """What else of the world does not bear the write (with `intent.undo`: taking it back) now, as `propose` judges
        it: ready capacity, budgets; empty = it does. Asked of what no check has seen: of an undo, and of an object read
        after a conflict or a crash. `least`: only what would be an outage by itself, for a tier that was measured not
        to have healed. Never writes."""
        return ""

    async def _guarded(self, look: Callable[[], Awaitable[CheckResult | None]]) -> CheckResult:
        """Turns what the API server says no to into a refusal; looks again when the object moved meanwhile (None)."""
        for attempt in range(CONFLICT_TRIES):
            await _pause(attempt)
            try:
                result = await look()
            except PermanentError as error:
                kind = HeldBackCheck if isinstance(error, NotYet) else CheckResult
                return kind(outcome=CheckOutcome.REFUSED, reason=f"{error}; {error.next_step()}")
            if result is not None:
                return result
        raise TransientError(f"{self.name}: the target was written by others during each of {CONFLICT_TRIES} looks")

    async def _ready(self, proposal: Proposal, step_key: str, stamp: datetime) -> CheckResult | None:
        """READY, after the very patch that `apply` would send has passed as a dry run; None = it moved, look again."""
        ref, obj = proposal.ref, proposal.obj
        problem = self._forbidden(ref)
        if problem:
            return refused(problem)
        mark = mark_of(step_key, obj)
        if mark is not None:
            return already_so(f"this step's own mark of {mark} is on {ref.text} already", ref, obj)
        if being_deleted(obj):
            return refused(f"{ref.text} is being deleted", ref=ref, obj=obj)
        if self.dry_run_first:
            body = marked_patch(obj, proposal.changes, step_key, stamp)
            try:
                answer = await self.cluster.patch(ref, body, dry_run=True, timeout=self.call_timeout)
            except TargetChanged:  # 409: it moved between reading and this
                return None
            other = unplanned(obj, body, answer)
            if other:
                return refused(f"the API server would write something else: {other}", ref=ref, obj=obj)
            if mark_of(step_key, answer) is None:
                return refused(f"the API server would not keep this step's mark on {ref.text}", ref=ref, obj=obj)
        self._kept.keep(step_key, obj)
        return CheckResult(
            outcome=CheckOutcome.READY,
            reason=proposal.reason,
            target=bound(ref, obj),
            changes=proposal.changes,
            beside=proposal.beside,
        )

    def _forbidden(self, ref: TargetRef) -> str:
        if ref.namespace in SYSTEM_NAMESPACES:
            return of_the_system(ref.namespace)
        if ref.cluster != self.cluster.name:
            return f"{ref.text} belongs to cluster {ref.cluster!r}, and this engine acts on {self.cluster.name!r}"
        return ""

    def _moved(self, intent: Intent, obj: KubeObject) -> tuple[str, ...]:
        """What of all that `intent` is bound to is no longer so, one sentence each."""
        if being_deleted(obj):
            return ("it is being deleted",)
        moved = moved_fields(obj, intent.changes)
        if moved:
            return moved
        problem = self.still_planned(intent, obj)
        return (problem,) if problem else ()

    def _unmoved(self, intent: Intent, obj: KubeObject) -> None:
        moved = self._moved(intent, obj)
        if moved:
            raise TargetChanged(f"{intent.target.ref.text} was changed by somebody else: {'; '.join(moved)}")

    async def _borne(self, intent: Intent, obj: KubeObject, least: bool) -> None:
        """Raises NotYet when there is an objection."""
        why = await self.objection(intent, obj, least=least)
        if why:
            raise NotYet(f"{intent.target.ref.text} is not written: {why}")


async def _pause(attempt: int) -> None:
    if attempt:
        await asyncio.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))

"""One incident, from the first look at the evidence to its one end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.evidence import EvidenceHands
    from activities.keeping import KeepHands
    from activities.messages import (
        CloseInput,
        GatherInput,
        KeepInput,
        PersonInput,
        RecoveryInput,
        StepInput,
        VerifyInput,
        VerifyResult,
    )
    from activities.people import PeopleHands
    from activities.recovery import RecoveryHands
    from activities.steps import StepHands
    from activities.verification import VerifyHands
    from firebreak.domain.incident import IncidentOutcome, IncidentPhase
    from firebreak.domain.plan import Move, MoveKind, PlanOutline, StepRecord, StepStatus
    from firebreak.domain.verdict import NextLook
    from firebreak.plans.next_move import next_move
    from workflows.messages import AlertResolved, CloseRequested, IncidentInput, IncidentResult, IncidentState
    from workflows.options import FAILED_PAUSE, HAND_FAILED, PATIENT, RECORD, swiftly

Look = Callable[[Any, "VerifyInput"], Awaitable["VerifyResult"]]

AT_ONCE = 10
PAUSE = timedelta(seconds=1)
"""So many looks may follow each other without a pause, then each waits: the workers, which say when to look again, may
be behind Temporal's clock for longer than they want to wait."""


@workflow.defn(name="Incident")
class IncidentWorkflow:
    """classify -> heal in tiers -> close; a person is called wherever the engine cannot or may not go on."""

    @workflow.init
    def __init__(self, given: IncidentInput) -> None:
        self._id = given.incident_id
        self._state = given.state
        self._first_look = given.first_look
        self._close_request: CloseRequested | None = None
        self._seen_at: datetime | None = None  # time of the latest evidence
        self._unslept = 0  # looks in a row that were due at once

    @workflow.run
    async def run(self, given: IncidentInput) -> IncidentResult:
        while self._state.phase is not IncidentPhase.WAITING_FOR_PERSON and self._close_request is None:
            try:
                decision = await self._classify()
                if decision is NextLook.NOTHING and await self._close(IncidentOutcome.NOTHING_DONE):
                    return self._result(IncidentOutcome.NOTHING_DONE)
                if decision is NextLook.NOTHING:
                    continue  # an alert joined at the last moment: it is looked at, too
                if decision is NextLook.ACT and await self._heal():
                    await self._close(IncidentOutcome.HEALED)
                    return self._result(IncidentOutcome.HEALED)
            except HAND_FAILED as error:
                self._note(reason=f"the engine could not go on: {_root(error)}")
            if self._close_request is None:
                await self._call_person()
        outcome = await self._wait_for_recovery()
        await self._close(outcome)
        return self._result(outcome)

    async def _classify(self) -> NextLook:
        """Look at the evidence until it says what to do; what is true but has not held yet is waited for."""
        while True:
            seen, self._first_look = self._first_look, None
            if seen is None:
                seen = await swiftly(
                    EvidenceHands.gather,
                    GatherInput(
                        incident_id=self._id,
                        round=self._state.look,
                        quiet_since=self._state.quiet_since,
                        doubtful_since=self._state.doubtful_since,
                    ),
                )
            self._seen_at = seen.seen_at
            self._note(
                look=self._state.look + 1,
                quiet_since=seen.quiet_since,
                doubtful_since=seen.doubtful_since,
                plan=seen.plan,
                reason=seen.reason,
                phase=IncidentPhase.PENDING if seen.next is NextLook.AGAIN else IncidentPhase.CLASSIFIED,
            )
            if seen.next is not NextLook.AGAIN or self._close_request is not None:
                return seen.next
            await self._until(seen.again_at, or_resolved=True)
            self._carry_on_afresh()

    async def _heal(self) -> bool:
        """Tier after tier, the next only when the one before is verified not to have worked."""
        plan = self._plan()
        if plan.keeps_evidence:
            await swiftly(KeepHands.keep, KeepInput(incident_id=self._id, plan_digest=plan.digest))
        while self._close_request is None:
            move = next_move(plan, self._state.records)
            self._note(reason=move.reason)
            if move.kind is MoveKind.DONE:
                if await self._holds(plan, move):
                    return True
                continue  # a relapse: that tier did not work after all
            if move.kind is MoveKind.PAGE:
                return False
            self._record(await self._perform(plan, move))
        return False

    async def _perform(self, plan: PlanOutline, move: Move) -> StepRecord:
        step = StepInput(
            incident_id=self._id, plan_digest=plan.digest, tier=move.tier, step=move.step, rests_on=self._seen_at
        )
        if move.kind is MoveKind.ACT:
            self._note(phase=IncidentPhase.ACTING)
            return await swiftly(StepHands.act, step)
        if move.kind is MoveKind.UNDO:
            return await swiftly(StepHands.undo, step)
        self._note(phase=IncidentPhase.VERIFYING)
        first_look = plan.tiers[move.tier].steps[move.step].first_look
        return await self._look_at(VerifyHands.verify, plan, move.tier, move.step, first=first_look)

    async def _look_at(self, hand: Look, plan: PlanOutline, tier: int, step: int, *, first: timedelta) -> StepRecord:
        """Look when it could first be decided, and again whenever the evidence says that it could be by then."""
        again_at: datetime | None = workflow.now() + first
        since: datetime | None = None
        look = 0
        while True:
            await self._until(again_at)
            if self._close_request is not None:
                why = "closed by hand before it was decided"
                return StepRecord(tier=tier, step=step, status=StepStatus.NOT_VERIFIED, reason=why, wrote=True)
            given = VerifyInput(
                incident_id=self._id, plan_digest=plan.digest, tier=tier, step=step, round=look, since=since
            )
            seen = await swiftly(hand, given)
            if seen.record is not None:
                return seen.record
            again_at, since, look = seen.again_at, seen.since, look + 1

    async def _holds(self, plan: PlanOutline, move: Move) -> bool:
        """Verified is not over: all must stay healthy for the plan's hold time."""
        self._note(phase=IncidentPhase.HOLDING)
        step = len(plan.tiers[move.tier].steps) - 1
        held = await self._look_at(VerifyHands.hold, plan, move.tier, step, first=plan.hold)
        if held.status is not StepStatus.VERIFIED:
            self._record(held)
        return held.status is StepStatus.VERIFIED

    async def _call_person(self) -> None:
        person = PersonInput(incident_id=self._id, key="person/high", reason=self._state.reason, looks=self._state.look)
        await self._surely(PeopleHands.call, person)
        self._note(phase=IncidentPhase.WAITING_FOR_PERSON)

    async def _wait_for_recovery(self) -> IncidentOutcome:
        """A person has it: nothing is written any more. It ends by healthy evidence that stays so, or by hand."""
        while self._close_request is None:
            seen = await self._surely(
                RecoveryHands.watch_recovery,
                RecoveryInput(incident_id=self._id, round=self._state.look, quiet_since=self._state.quiet_since),
                retry=PATIENT,  # between its tries a close by hand is heard
            )
            if seen is None:
                continue  # closed by hand while the evidence could not be had
            self._note(look=self._state.look + 1, quiet_since=seen.quiet_since, reason=seen.reason)
            if seen.recovered:
                return IncidentOutcome.RECOVERED
            await self._until(seen.again_at, or_resolved=True)
            self._carry_on_afresh()
        return IncidentOutcome.CLOSED_BY_HAND

    async def _close(self, outcome: IncidentOutcome) -> bool:
        """The closing task writes one keyed record and nothing else: a signal that arrives now runs it again. False
        when it may not close yet, since an alert joined that nobody has looked at."""
        request = self._close_request
        by_hand = request is not None and outcome is IncidentOutcome.CLOSED_BY_HAND
        reason = request.reason if request is not None and by_hand else self._state.reason
        by = f"person:{request.by}" if request is not None and by_hand else "engine"
        ending = CloseInput(incident_id=self._id, outcome=outcome, reason=reason, by=by)
        closed = await self._surely(PeopleHands.close, ending, even_when_closing=True)
        if closed:
            self._note(phase=IncidentPhase.CLOSED, reason=reason)
        return bool(closed)

    def _result(self, outcome: IncidentOutcome) -> IncidentResult:
        return IncidentResult(incident_id=self._id, outcome=outcome, reason=self._state.reason)

    async def _surely(
        self, hand: Any, given: Any, *, retry: RetryPolicy = RECORD, even_when_closing: bool = False
    ) -> Any:
        """What must happen is tried for ever: a workflow that fails would leave an incident that nobody ends. None
        when a person closes meanwhile."""
        while True:
            try:
                return await swiftly(hand, given, retry=retry)
            except HAND_FAILED as error:
                self._note(reason=f"waiting for a hand that fails: {_root(error)}")
            await workflow.sleep(FAILED_PAUSE)
            if self._close_request is not None and not even_when_closing:
                return None
            if self._state.phase is IncidentPhase.WAITING_FOR_PERSON:
                self._carry_on_afresh()  # tries that fail for days must not fill the history

    # --- what the world tells, and what it may ask ------------------------------------------------------------

    @workflow.signal
    def alert_resolved(self, fact: AlertResolved) -> None:
        self._note(resolutions=self._state.resolutions + 1)

    @workflow.signal
    def close_requested(self, fact: CloseRequested) -> None:
        self._close_request = fact

    @workflow.query
    def status(self) -> IncidentState:
        return self._state

    # --- small print -------------------------------------------------------------------------------------------

    def _note(self, **changes: Any) -> None:
        self._state = dataclasses.replace(self._state, **changes)

    def _record(self, record: StepRecord) -> None:
        self._seen_at = record.seen_at or self._seen_at
        self._note(records=(*self._state.records, record))

    def _plan(self) -> PlanOutline:
        if self._state.plan is None:
            raise AssertionError("a verdict that may act always brings a plan")
        return self._state.plan

    async def _until(self, at: datetime | None, *, or_resolved: bool = False) -> None:
        """Sleep until `at`; wake when a person closes, or (`or_resolved`) when the alerts resolve."""
        left = timedelta(0) if at is None else at - workflow.now()
        self._unslept = 0 if left > timedelta(0) else self._unslept + 1
        if self._unslept > AT_ONCE and workflow.patched("pause-between-looks"):
            left = PAUSE
        heard = self._state.resolutions

        def woken() -> bool:
            return self._close_request is not None or (or_resolved and self._state.resolutions != heard)

        if left > timedelta(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(woken, timeout=left)

    def _carry_on_afresh(self) -> None:
        if workflow.info().is_continue_as_new_suggested() and self._close_request is None:
            workflow.continue_as_new(IncidentInput(incident_id=self._id, state=self._state))


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)

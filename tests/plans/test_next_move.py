"""The walk through a plan: a table of every state that matters, and the laws that hold for all of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.domain.plan import (
    Move,
    MoveKind,
    PlanOutline,
    StepOutline,
    StepRecord,
    StepStatus,
    TierOutline,
)
from firebreak.plans.next_move import next_move

ACT, VERIFY, UNDO, PAGE, DONE = MoveKind.ACT, MoveKind.VERIFY, MoveKind.UNDO, MoveKind.PAGE, MoveKind.DONE
S = StepStatus
NOWHERE = -1


def step(name: str, *, undoable: bool = True, needs_approval: bool = False) -> StepOutline:
    return StepOutline(
        id=name,
        action="page" if name == "call" else "set_flag",
        undoable=undoable,
        needs_approval=needs_approval,
        first_look=timedelta(0),
        within=timedelta(seconds=1),
    )


def plan(*tiers: tuple[StepOutline, ...]) -> PlanOutline:
    named = tuple(TierOutline(name=f"t{i}", steps=t) for i, t in enumerate(tiers))
    return PlanOutline(digest="d", runbook="r", tiers=named)


def rec(tier: int, step: int, status: StepStatus, wrote: bool = False) -> StepRecord:
    return StepRecord(tier=tier, step=step, status=status, reason=f"because {status}", wrote=wrote)


CALL = (step("call"),)
HEAL = plan((step("restart", undoable=False),), (step("reroute"),), (step("degrade"),), CALL)
PAIR = plan((step("a"), step("b")), (step("c"),), CALL)
ASKS = plan((step("a"), step("b", needs_approval=True)), (step("c"),), CALL)

TABLE = {
    "the first step comes first": (HEAL, (), (ACT, 0, 0)),
    "what is applied is verified": (HEAL, (rec(0, 0, S.APPLIED, True),), (VERIFY, 0, 0)),
    "what was already so is verified too": (HEAL, (rec(0, 0, S.APPLIED),), (VERIFY, 0, 0)),
    "a verified tier ends the walk": (HEAL, (rec(0, 0, S.VERIFIED, True),), (DONE, 0, 0)),
    "an irreversible step is passed over": (HEAL, (rec(0, 0, S.NOT_VERIFIED, True),), (ACT, 1, 0)),
    "a refused step opens the next tier": (HEAL, (rec(0, 0, S.REFUSED),), (ACT, 1, 0)),
    "a failed step that wrote nothing opens the next tier": (HEAL, (rec(0, 0, S.FAILED),), (ACT, 1, 0)),
    "an unknown write pages": (HEAL, (rec(0, 0, S.FAILED, True),), (PAGE, 3, 0)),
    "a step of which nobody can tell whether it healed pages": (HEAL, (rec(0, 0, S.UNDECIDED, True),), (PAGE, 3, 0)),
    "and is not undone": (HEAL, (rec(0, 0, S.REFUSED), rec(1, 0, S.UNDECIDED, True)), (PAGE, 3, 0)),
    "also when it wrote nothing": (HEAL, (rec(0, 0, S.UNDECIDED),), (PAGE, 3, 0)),
    "an unverified write is undone before the next tier": (
        HEAL,
        (rec(0, 0, S.REFUSED), rec(1, 0, S.NOT_VERIFIED, True)),
        (UNDO, 1, 0),
    ),
    "after the undo the next tier starts": (HEAL, (rec(0, 0, S.REFUSED), rec(1, 0, S.UNDONE, True)), (ACT, 2, 0)),
    "a failed undo pages": (HEAL, (rec(0, 0, S.REFUSED), rec(1, 0, S.UNDO_FAILED, True)), (PAGE, 3, 0)),
    "the last tier pages": (
        HEAL,
        (rec(0, 0, S.REFUSED), rec(1, 0, S.REFUSED), rec(2, 0, S.UNDONE, True)),
        (PAGE, 3, 0),
    ),
    "observe walks on without undo": (HEAL, (rec(0, 0, S.WOULD_APPLY), rec(1, 0, S.WOULD_APPLY)), (ACT, 2, 0)),
    "observe ends with a page": (HEAL, tuple(rec(t, 0, S.WOULD_APPLY) for t in range(3)), (PAGE, 3, 0)),
    "the second step waits for the first's verification": (PAIR, (rec(0, 0, S.APPLIED, True),), (VERIFY, 0, 0)),
    "the second step follows a verified first": (PAIR, (rec(0, 0, S.VERIFIED, True),), (ACT, 0, 1)),
    "one verified step of two is not a verified tier": (
        PAIR,
        (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.APPLIED, True)),
        (VERIFY, 0, 1),
    ),
    "both verified is": (PAIR, (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.VERIFIED, True)), (DONE, 0, 1)),
    "undo goes backwards": (PAIR, (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.NOT_VERIFIED, True)), (UNDO, 0, 1)),
    "undo reaches the first step": (PAIR, (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.UNDONE, True)), (UNDO, 0, 0)),
    "a refused second step undoes the first": (PAIR, (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.REFUSED)), (UNDO, 0, 0)),
    "what was already so is not undone": (PAIR, (rec(0, 0, S.VERIFIED), rec(0, 1, S.REFUSED)), (ACT, 1, 0)),
    "all undone: next tier": (PAIR, (rec(0, 0, S.UNDONE, True), rec(0, 1, S.UNDONE, True)), (ACT, 1, 0)),
    "an unknown write stops the undo of its neighbours": (
        PAIR,
        (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.FAILED, True)),
        (PAGE, 2, 0),
    ),
    "a log of records counts like one record per step": (
        PAIR,
        (rec(0, 0, S.APPLIED, True), rec(0, 0, S.NOT_VERIFIED)),
        (UNDO, 0, 0),
    ),
    "a step that waits for approval pages after the undo": (
        ASKS,
        (rec(0, 0, S.UNDONE, True), rec(0, 1, S.REFUSED)),
        (PAGE, 2, 0),
    ),
    "its tier is undone first": (ASKS, (rec(0, 0, S.VERIFIED, True), rec(0, 1, S.REFUSED)), (UNDO, 0, 0)),
    "an approval nobody reached does not page": (ASKS, (rec(0, 0, S.REFUSED),), (ACT, 1, 0)),
    "approval in observe mode is told and walked past": (
        ASKS,
        (rec(0, 0, S.VERIFIED), rec(0, 1, S.WOULD_APPLY)),
        (ACT, 1, 0),
    ),
    "a tier without steps is never verified": (plan((), CALL), (), (PAGE, 1, 0)),
    "a plan without a page tier still pages": (plan((step("a"),)), (rec(0, 0, S.REFUSED),), (PAGE, NOWHERE, NOWHERE)),
    "a plan of nothing pages": (plan(), (), (PAGE, NOWHERE, NOWHERE)),
    "a plan that only pages pages": (plan(CALL), (), (PAGE, 0, 0)),
    "a record of a tier that is not there pages": (PAIR, (rec(7, 0, S.VERIFIED),), (PAGE, 2, 0)),
    "a record of a step that is not there pages": (PAIR, (rec(0, 5, S.VERIFIED),), (PAGE, 2, 0)),
    "a record without its predecessor pages": (PAIR, (rec(0, 1, S.VERIFIED),), (PAGE, 2, 0)),
}


@pytest.mark.parametrize("claim", TABLE)
def test_each_state_has_exactly_the_move_that_the_table_says(claim: str) -> None:
    """Every row of the table: outline and records in, one move out, with a reason."""
    outline, records, (kind, tier, index) = TABLE[claim]
    move = next_move(outline, records)
    assert (move.kind, move.tier, move.step) == (kind, tier, index), claim
    assert move.reason


def test_the_reason_of_a_page_names_what_went_wrong() -> None:
    """The person who is paged reads the record's own sentence."""
    move = next_move(HEAL, (StepRecord(tier=0, step=0, status=S.FAILED, reason="timed out twice", wrote=True),))
    assert "timed out twice" in move.reason
    assert "restart" in move.reason


# --- laws ---------------------------------------------------------------------------------------------------

ends_of_act = st.sampled_from(
    [
        (S.APPLIED, True),
        (S.APPLIED, False),
        (S.REFUSED, False),
        (S.FAILED, False),
        (S.FAILED, True),
        (S.WOULD_APPLY, False),
    ]
)
ends_of_verify = st.sampled_from([S.VERIFIED, S.VERIFIED, S.NOT_VERIFIED])
ends_of_undo = st.sampled_from([S.UNDONE, S.UNDONE, S.UNDONE, S.UNDO_FAILED])
outlines = st.lists(
    st.lists(
        st.builds(step, st.sampled_from(["a", "b"]), undoable=st.booleans(), needs_approval=st.booleans()),
        min_size=1,
        max_size=3,
    ).map(tuple),
    max_size=4,
).map(lambda tiers: plan(*tiers, CALL))


def walk(outline: PlanOutline, data: st.DataObject, *, log: bool) -> tuple[list[Move], list[StepRecord]]:
    """Play a whole incident: each move gets a random outcome; `log` appends records, else each step keeps its last."""
    moves: list[Move] = []
    history: list[StepRecord] = []
    limit = 1 + 3 * sum(len(t.steps) for t in outline.tiers)
    while True:
        latest = {(r.tier, r.step): r for r in history}
        move = next_move(outline, tuple(history) if log else tuple(latest.values()))
        moves.append(move)
        assert len(moves) <= limit, f"does not end: {[(m.kind, m.tier, m.step) for m in moves]}"
        if move.kind in (PAGE, DONE):
            return moves, history
        wrote = (before := latest.get((move.tier, move.step))) is not None and before.wrote
        if move.kind is ACT:
            status, wrote = data.draw(ends_of_act)
            if outline.tiers[move.tier].steps[move.step].needs_approval and status is not S.WOULD_APPLY:
                status, wrote = S.REFUSED, False
        else:
            status = data.draw(ends_of_verify if move.kind is VERIFY else ends_of_undo)
        history.append(rec(move.tier, move.step, status, wrote))


@settings(max_examples=150, deadline=None)
@given(outlines, st.data(), st.booleans())
def test_every_walk_keeps_the_laws_whatever_happens(outline: PlanOutline, data: st.DataObject, log: bool) -> None:
    """Ends in DONE or PAGE; no step acts twice; no tier acts, and none is done, over writes that could be undone."""
    moves, history = walk(outline, data, log=log)
    acts = [(m.tier, m.step) for m in moves if m.kind is ACT]
    assert len(acts) == len(set(acts))
    assert acts == sorted(acts)
    assert all(m.reason for m in moves)
    standing: set[tuple[int, int]] = set()
    unknown = False
    records = iter(history)
    for move in moves:
        if move.kind in (ACT, UNDO):
            assert not unknown, "a write on top of an unknown one"
        if move.kind is ACT:
            assert not {s for s in standing if s[0] < move.tier}, "an undoable write of an earlier tier still stands"
        if move.kind is DONE:
            assert not {s for s in standing if s[0] != move.tier}
            last = {(r.tier, r.step): r.status for r in history}
            assert {last.get((move.tier, i)) for i in range(len(outline.tiers[move.tier].steps))} == {S.VERIFIED}
        if move.kind in (PAGE, DONE):
            continue
        record = next(records)
        if record.status is S.APPLIED and record.wrote and outline.tiers[record.tier].steps[record.step].undoable:
            standing.add((record.tier, record.step))
        if record.status is S.UNDONE:
            standing.discard((record.tier, record.step))
        unknown = unknown or (record.status is S.FAILED and record.wrote) or record.status is S.UNDO_FAILED


@settings(max_examples=150, deadline=None)
@given(outlines, st.data())
def test_a_step_that_waits_for_a_person_is_never_jumped_over(outline: PlanOutline, data: st.DataObject) -> None:
    """After such a refusal no step acts any more: what stands is undone and a person is called."""
    moves, history = walk(outline, data, log=True)
    refused = [
        i for i, r in enumerate(history) if r.status is S.REFUSED and outline.tiers[r.tier].steps[r.step].needs_approval
    ]
    if refused:
        rest = [m.kind for m in moves[refused[0] + 1 :]]
        assert set(rest) <= {UNDO, PAGE}
        assert rest[-1] is PAGE

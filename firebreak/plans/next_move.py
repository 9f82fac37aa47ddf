"""What to do next, from the plan's outline and what became of its steps so far. Pure and total: all records give a
move.

Tiers run in order (row B1), inside a tier the steps in order, each ACT then VERIFY (row B6):

- every step of a tier verified -> DONE;
- a step refused, failed or not verified fails its tier: what this tier wrote is undone, last write first (what cannot
  be undone is passed over), and only then the next tier starts;
- a step that waits for a person's approval fails its tier too, but what follows is PAGE: later tiers are not tried
  behind the person's back;
- a write whose outcome stays unknown, a step of which nobody can tell whether it healed, or an undo that failed -> PAGE
  at once: nothing is undone, and nothing is written on top of it;
- WOULD_APPLY (mode observe) fails its tier, with nothing to undo, so that every tier is walked and told;
- the page tier -> PAGE. PAGE and DONE are the ends of the walk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from firebreak.domain.plan import Move, MoveKind, PlanOutline, StepRecord, StepStatus, TierOutline

PAGE_ACTION = "page"
"""Name of the action that calls a person; a tier that holds it is the page tier."""

_Progress = dict[int, StepRecord]


def next_move(outline: PlanOutline, records: tuple[StepRecord, ...]) -> Move:
    """The next move, always with a reason.

    `records` may hold one record per step or a whole log: the last one of a step counts, and a step wrote when any of
    its records says so. Records that do not fit the outline give PAGE: never act on a state that is not understood."""
    misfit = _misfit(outline, records)
    if misfit:
        return _page(outline, misfit)
    for index, tier in enumerate(outline.tiers):
        move = _tier_move(outline, index, tier, _progress(index, records))
        if move is not None:
            return move
    return _page(outline, "every tier was tried and none was verified")


def _misfit(outline: PlanOutline, records: tuple[StepRecord, ...]) -> str:
    for record in records:
        if not (0 <= record.tier < len(outline.tiers) and 0 <= record.step < len(outline.tiers[record.tier].steps)):
            return f"a record names step {record.tier}.{record.step}, which the plan does not have"
        if record.step > 0 and not any((r.tier, r.step) == (record.tier, record.step - 1) for r in records):
            return f"step {record.tier}.{record.step} has a record although the step before it has none"
    return ""


def _progress(tier: int, records: Iterable[StepRecord]) -> _Progress:
    """Last record of each step of `tier`, with `wrote` summed over all of its records."""
    latest: _Progress = {}
    for record in (r for r in records if r.tier == tier):
        before = latest.get(record.step)
        wrote = record.wrote or (before is not None and before.wrote)
        latest[record.step] = replace(record, wrote=wrote)
    return latest


def _tier_move(outline: PlanOutline, index: int, tier: TierOutline, progress: _Progress) -> Move | None:
    """The move inside this tier, or None when it failed and is cleaned up: then the next one starts."""
    stuck = _stuck(tier, progress)
    if stuck:
        return _page(outline, stuck)
    failed = next(
        (i for i in sorted(progress) if progress[i].status not in (StepStatus.APPLIED, StepStatus.VERIFIED)), None
    )
    if failed is None:
        return _forward(outline, index, tier, progress)
    return _backward(outline, index, tier, progress, failed)


def _stuck(tier: TierOutline, progress: _Progress) -> str:
    """Why nothing more may be written, or empty."""
    for i, record in sorted(progress.items()):
        name = f"step {tier.steps[i].id} of tier {tier.name}"
        if record.status is StepStatus.UNDO_FAILED:
            return f"{name} could not be undone: {record.reason}"
        if record.status is StepStatus.UNDECIDED:
            return f"whether {name} healed is not known: {record.reason}"
        if record.status is StepStatus.FAILED and record.wrote:
            return f"whether {name} changed the cluster is not known: {record.reason}"
    return ""


def _forward(outline: PlanOutline, index: int, tier: TierOutline, progress: _Progress) -> Move | None:
    for i, step in enumerate(tier.steps):
        if step.action == PAGE_ACTION:
            return Move(kind=MoveKind.PAGE, tier=index, step=i, reason=_why_page(outline, index))
        record = progress.get(i)
        if record is None:
            return Move(kind=MoveKind.ACT, tier=index, step=i, reason=_why_act(tier, i, index))
        if record.status is StepStatus.APPLIED:
            reason = f"{step.id} is in place ({record.reason}); now see whether it helped"
            return Move(kind=MoveKind.VERIFY, tier=index, step=i, reason=reason)
    if not tier.steps:  # nothing was done, so nothing can have been verified
        return None
    return Move(
        kind=MoveKind.DONE,
        tier=index,
        step=len(tier.steps) - 1,
        reason=f"tier {tier.name} is verified: {progress[len(tier.steps) - 1].reason}",
    )


def _backward(outline: PlanOutline, index: int, tier: TierOutline, progress: _Progress, failed: int) -> Move | None:
    why = f"{tier.steps[failed].id} {_WORDS[progress[failed].status]}: {progress[failed].reason}"
    for i in sorted(progress, reverse=True):
        if progress[i].wrote and tier.steps[i].undoable and progress[i].status is not StepStatus.UNDONE:
            return Move(kind=MoveKind.UNDO, tier=index, step=i, reason=f"tier {tier.name} did not heal ({why})")
    for i, record in sorted(progress.items()):
        if record.status is StepStatus.REFUSED and tier.steps[i].needs_approval:
            return _page(outline, f"step {tier.steps[i].id} of tier {tier.name} waits for a person: {record.reason}")
    return None


_WORDS = {
    StepStatus.REFUSED: "was refused",
    StepStatus.NOT_VERIFIED: "was not verified",
    StepStatus.FAILED: "failed",
    StepStatus.WOULD_APPLY: "would have been applied",
    StepStatus.UNDONE: "was undone",
}


def _why_act(tier: TierOutline, step: int, index: int) -> str:
    if step > 0:
        return f"{tier.steps[step - 1].id} is verified; {tier.steps[step].id} is next in tier {tier.name}"
    return f"tier {tier.name} is {'the first' if index == 0 else 'next: the tiers before it did not heal'}"


def _why_page(outline: PlanOutline, index: int) -> str:
    if index == 0:
        return "the plan calls a person at once"
    names = ", ".join(t.name for t in outline.tiers[:index])
    return f"no tier healed ({names}): a person is needed"


def _page(outline: PlanOutline, reason: str) -> Move:
    for index in range(len(outline.tiers) - 1, -1, -1):
        for i, step in enumerate(outline.tiers[index].steps):
            if step.action == PAGE_ACTION:
                return Move(kind=MoveKind.PAGE, tier=index, step=i, reason=reason)
    return Move(kind=MoveKind.PAGE, reason=reason)

"""What is left to do, from the facts alone: no advice that no entry stands behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firebreak.domain.condition import Truth
from firebreak.domain.timeline import PhaseTiming
from firebreak.postmortem import wording
from firebreak.postmortem.actions import PAGE_ACTION
from firebreak.postmortem.model import (
    ActionPart,
    EvidencePart,
    FaultLine,
    PersonLine,
    RestorePart,
    StepState,
    VerdictPart,
)


def follow_ups(
    *,
    refusal: str,
    verdict: VerdictPart | None,
    actions: Sequence[ActionPart],
    evidence: EvidencePart | None,
    people: Sequence[PersonLine],
    restores: Sequence[RestorePart],
    faults: Sequence[FaultLine],
    phases: Sequence[PhaseTiming],
    left_out: int,
) -> tuple[str, ...]:
    """Sentences, the most pressing first; each names the fact that it follows from."""
    found = [
        *_from_faults(faults),
        *_from_restores(restores),
        *_from_actions(actions),
        *([f"Make the labels lead to a target (services.yaml): {refusal}"] if refusal else []),
        *_from_verdict(verdict),
        *_from_evidence(evidence),
        *_from_messages(people),
    ]
    if left_out:
        found.append(f"Raise max_alerts of the receiver: the source left out {wording.several(left_out, 'alert')}")
    found += [
        f"Phase {p.phase} was over its budget: {wording.span(p.took_ms)} of {wording.span(p.budget_ms)}"
        f" ({p.budget_source})"
        for p in phases
        if p.over
    ]
    return tuple(dict.fromkeys(wording.sentence(line) for line in found))


def _from_faults(faults: Sequence[FaultLine]) -> Iterator[str]:
    for fault in faults:
        yield f"Repair the engine fault in {fault.where or 'the engine'}: {fault.error}. {fault.next_step}".rstrip()


def _from_restores(restores: Sequence[RestorePart]) -> Iterator[str]:
    for restore in restores:
        if not restore.outcome:
            yield f"Step {restore.step_id} is still in force: its restore waits for the broken part to be healthy"
        elif restore.outcome != "restored":
            why = f"its restore ended as {restore.outcome}: {restore.reason}"
            yield f"Take step {restore.step_id} back by hand when that is right; {why}"


def _from_actions(actions: Sequence[ActionPart]) -> Iterator[str]:
    for part in actions:
        name = f"step {part.step_id} ({part.action})" if part.action != part.step_id else f"step {part.step_id}"
        where = f" on {part.target}" if part.target else ""
        why = f": {part.reason}" if part.reason else ""
        if part.state in (StepState.UNKNOWN, StepState.INTENDED):
            yield f"Look at {part.target or 'the target'} by hand: the outcome of {name} is not known{why}"
        elif part.state is StepState.UNDO_FAILED:
            yield f"Undo {name}{where} by hand: {part.undo}"
        elif part.state is StepState.FAILED:
            yield f"Find out why {name}{where} failed{why}"
        elif part.state is StepState.REFUSED and part.action != PAGE_ACTION:
            yield f"Find out whether the refusal of {name}{where} was right{why}"
        elif part.verification == "not_verified":
            yield f"Find out why {name}{where} did not help{why}"
        elif part.state is StepState.WOULD_APPLY:
            yield f"Judge whether {name}{where} would have helped; mode observe wrote nothing"


def _from_verdict(verdict: VerdictPart | None) -> Iterator[str]:
    if verdict is None:
        return
    for line in verdict.conditions:
        if line.truth == Truth.INCONCLUSIVE:
            yield f"Repair the evidence of {line.name}, which could not be judged: {line.reason}"
    if verdict.severity == "P1" and not verdict.may_act:
        yield f"The engine was not allowed to act: {verdict.act_reason}"


def _from_evidence(evidence: EvidencePart | None) -> Iterator[str]:
    for missing in evidence.missing if evidence else ():
        yield f"Evidence was missing: {missing}"


def _from_messages(people: Sequence[PersonLine]) -> Iterator[str]:
    for person in people:
        if person.what == "failed":
            yield f"Repair the way to {person.channel or 'people'}: a message was not delivered: {person.detail}"

"""What is left to do, from the facts alone: no advice that no entry stands behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firebreak.domain.condition import Truth
from firebreak.postmortem import wording
from firebreak.postmortem.in_force import PAGE_ACTION, as_it_stands, wrote_nothing
from firebreak.postmortem.model import (
    WORKFLOW_ENDED,
    ActionPart,
    EvidencePart,
    FaultLine,
    PersonLine,
    PlanPart,
    RestorePart,
    StepState,
    VerdictPart,
)
from firebreak.postmortem.verdicts import condition_words


def follow_ups(
    *,
    service: str,
    refusal: str,
    elsewhere: str,
    verdict: VerdictPart | None,
    plan: PlanPart | None,
    actions: Sequence[ActionPart],
    evidence: EvidencePart | None,
    people: Sequence[PersonLine],
    restores: Sequence[RestorePart],
    left: Sequence[str],
    faults: Sequence[FaultLine],
    left_out: int,
) -> tuple[str, ...]:
    """Sentences: the cause first, then what is left in the world (`left`: sentences of `in_force`), what did not help,
    what the engine itself needs, and last what evidence could not be had. Each names the fact that it follows from."""
    found = [
        *_cause(service, verdict, plan, actions),
        *left,
        *_not_known(actions),
        *_not_helped(actions),
        *_restores_open(restores),
        *_refused(actions),
        *_from_faults(faults),
        *_from_labels(refusal, elsewhere),
        *(() if elsewhere else _from_verdict(verdict)),
        *_from_messages(people),
    ]
    if left_out:
        found.append(f"Raise max_alerts of the receiver: the source left out {wording.several(left_out, 'alert')}")
    if evidence and evidence.unanswered:
        found.append(f"Evidence could not be had: {'; '.join(evidence.unanswered)}")
    return tuple(dict.fromkeys(wording.sentence(line) for line in found))


def _cause(
    service: str, verdict: VerdictPart | None, plan: PlanPart | None, actions: Sequence[ActionPart]
) -> Iterator[str]:
    """A step that healed is no cause found: what the runbook's conditions for it say, else what the verdict saw."""
    planned = {(p.tier, p.step): p.checks for p in plan.steps} if plan else {}
    held = [condition_words(c) for c in (verdict.conditions if verdict else ()) if c.truth == Truth.TRUE]
    for part in actions:
        if part.state is StepState.VERIFIED:
            why = "; ".join(planned.get((part.tier, part.step)) or held[:4])
            yield f"Find out why {service} needed {part.step_id}{_where(part)}" + (f": {why}" if why else "")
        elif part.state is StepState.VERIFIED_AS_IT_WAS:
            step = f"{_name(part)}{_where(part)}"
            yield f"Find out why {service} became healthy: {step} was already so, nothing was written"


def _name(part: ActionPart) -> str:
    return f"step {part.step_id} ({part.action})" if part.action != part.step_id else f"step {part.step_id}"


def _where(part: ActionPart) -> str:
    return f" on {part.target}" if part.target else ""


def _why(part: ActionPart) -> str:
    return f": {part.reason}" if part.reason else ""


def _not_known(actions: Sequence[ActionPart]) -> Iterator[str]:
    for part in actions:
        if part.state in (StepState.UNKNOWN, StepState.INTENDED):
            at = part.target or "the target"
            yield f"Look at {at} by hand: the outcome of {_name(part)} is not known{_why(part)}"
        elif part.state is StepState.CHANGED:
            yield f"Find out who changed {part.target or 'the target'} after {_name(part)} had written it{_why(part)}"
        elif part.state is StepState.UNDECIDED:
            yield f"See by hand whether {_name(part)}{_where(part)}{as_it_stands(part)} helped{_why(part)}"


def _not_helped(actions: Sequence[ActionPart]) -> Iterator[str]:
    for part in actions:
        if part.state is StepState.FAILED:
            yield f"Find out why {_name(part)}{_where(part)} failed{_why(part)}"
        elif part.verification == "not_verified":
            how = as_it_stands(part) if wrote_nothing(part) else ""
            yield f"Find out why {_name(part)}{_where(part)}{how} did not help{_why(part)}"
        elif part.state is StepState.WOULD_APPLY:
            yield f"Judge whether {_name(part)}{_where(part)} would have helped; mode observe wrote nothing"


def _refused(actions: Sequence[ActionPart]) -> Iterator[str]:
    for part in actions:
        if part.state is StepState.REFUSED and part.action != PAGE_ACTION:
            yield f"Find out whether the refusal of {_name(part)}{_where(part)} was right{_why(part)}"


def _restores_open(restores: Sequence[RestorePart]) -> Iterator[str]:
    for restore in restores:
        if restore.held_back_at:
            at = wording.clock(restore.held_back_at)
            why = f"held back at {at}, with its broken part well: {wording.clean(restore.reason, 200)}"
            yield f"Step {restore.step_id} is still in force: its restore was {why}"
        elif not restore.outcome:
            yield f"Step {restore.step_id} is still in force: its restore waits for the broken part to be healthy"


def _from_faults(faults: Sequence[FaultLine]) -> Iterator[str]:
    for fault in faults:
        if fault.where == WORKFLOW_ENDED:  # what it asks for, by hand and with a close, is done by now
            yield "Find out why the engine's own workflow did not go on: the timeline says how it ended"
            continue
        yield f"Repair the engine fault in {fault.where or 'the engine'}: {fault.error}. {fault.next_step}".rstrip()


def _from_labels(refusal: str, elsewhere: str) -> Iterator[str]:
    if elsewhere:
        what = "Let each cluster's alerts come to its own engine, with the cluster's name in the label"
        yield f"{what} (FIREBREAK_CLUSTER, cluster_label in services.yaml): {elsewhere}"
    elif refusal:
        yield f"Make the labels lead to a target (services.yaml): {refusal}"


def _from_verdict(verdict: VerdictPart | None) -> Iterator[str]:
    if verdict is None:
        return
    for line in verdict.conditions:
        if line.truth == Truth.INCONCLUSIVE:
            yield f"Repair the evidence of {line.name}, which could not be judged: {line.reason}"
    if verdict.severity == "P1" and not verdict.may_act:
        yield f"The engine was not allowed to act: {verdict.act_reason}"


def _from_messages(people: Sequence[PersonLine]) -> Iterator[str]:
    """What failed may have been delivered later, or by another routing key."""
    delivered = {person.message for person in people if person.what == "delivered" and person.message}
    for person in people:
        if person.what == "failed":
            how = "taken at first" if person.message in delivered else "delivered"
            yield f"Repair the way to {person.channel or 'people'}: a message was not {how}: {person.detail}"

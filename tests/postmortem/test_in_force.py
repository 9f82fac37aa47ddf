"""What the engine wrote and nobody takes back: told to a person everywhere that he looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from firebreak.cli.show import _restore, screen
from firebreak.domain.alert import IntakeClass
from firebreak.domain.incident import IncidentOutcome, IncidentPhase, IncidentRow
from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.model import StepState
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build

Tell = Callable[..., tuple[TimelineEntry, ...]]
Entries = tuple[TimelineEntry, ...]

LEFT = (
    "Step to-v1 is still in force on lab/shop/Deployment/pay-v1: put spec.rules[0].backendRefs[0].weight back from 0 "
    "to 100 by hand, or keep it on purpose"
)


def _with(entries: Entries, kind: EntryKind, body: Mapping[str, Any]) -> Entries:
    last = entries[-1]
    return (*entries, dataclasses.replace(last, seq=last.seq + 1, key=f"more/{kind.value}", kind=kind, body=body))


def _replaced(entries: Entries, kind: EntryKind, **more: Any) -> Entries:
    """With keys of one kind's bodies written anew."""
    return tuple(dataclasses.replace(e, body={**e.body, **more}) if e.kind is kind else e for e in entries)


def _left(entries: Entries) -> tuple[str, ...]:
    return build(entries, phases=()).in_force


def _undo(outcome: str) -> dict[str, Any]:
    return {"tier": 1, "step": 0, "step_id": "to-v1", "effect": {"outcome": outcome, "reason": "as told"}}


@pytest.mark.parametrize("outcome", ["closed_by_hand", "recovered", "healed"])
def test_a_written_step_that_nothing_takes_back_is_a_follow_up(tell: Tell, outcome: str) -> None:
    """However the incident ended; the sentence names the field, where it is and what it was."""
    entries = _replaced(tell("by_hand"), EntryKind.INCIDENT_CLOSED, outcome=outcome)
    (line,) = _left(entries)
    assert line.startswith(LEFT)
    assert line in build(entries, phases=()).follow_ups


def test_while_the_incident_is_open_the_engine_still_sees_to_it(tell: Tell) -> None:
    """A step under verification is undone by the engine itself when it does not help."""
    assert _left(tell("by_hand")[:-2]) == ()
    assert _left(tell("by_hand")[:-1]) == (f"{LEFT}.",), (
        "a person has asked for its end: the engine undoes nothing more"
    )


def test_what_is_in_force_when_a_person_is_called_is_theirs_to_put_back(tell: Tell) -> None:
    """The engine could not go on before it had taken the step back, and undoes nothing under their hands: the call says
    so, not only the post-mortem."""
    called = {"reason": "the engine could not go on: the API server is away", "urgency": "high"}
    entries = _with(tell("by_hand")[:-2], EntryKind.PERSON_CALLED, called)
    (line,) = _left(entries)
    assert line.startswith(LEFT)
    told = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"reason": called["reason"]})
    assert any(told_line.startswith(f"Next: {LEFT}") for told_line in told.lines)


@pytest.mark.parametrize("outcome", ["applied", "already_applied"])
def test_an_undone_step_is_not_in_force(tell: Tell, outcome: str) -> None:
    """Nothing is left of it."""
    assert _left(_with(tell("by_hand"), EntryKind.UNDO_RECORDED, _undo(outcome))) == ()


def test_a_step_that_somebody_changed_is_not_said_to_be_in_force(tell: Tell) -> None:
    """It is to be looked at: perhaps it was put back, perhaps it was changed to something else."""
    progress = {"state": "changed", "reason": "changed since", "details": []}
    body = {"tier": 1, "step": 0, "outcome": "undecided", "reason": "changed since", "progress": progress}
    entries = _with(tell("by_hand"), EntryKind.VERIFICATION, body)
    (line,) = _left(entries)
    assert line.startswith("Step to-v1 may be still in force")
    assert any(told.startswith("Find out who changed") for told in build(entries, phases=()).follow_ups)


@pytest.mark.parametrize("outcome", ["not_applied", "refused", "unknown"])
def test_an_effect_that_wrote_nothing_or_is_not_known_is_not_told_as_in_force(tell: Tell, outcome: str) -> None:
    """An unknown outcome has a follow-up of its own: look first."""
    effect = {"outcome": outcome, "reason": "as told"}
    assert _left(_replaced(tell("by_hand"), EntryKind.EFFECT_RECORDED, effect=effect)) == ()


def test_a_restore_that_waits_or_wrote_covers_its_step(tell: Tell) -> None:
    """The engine takes it back, or has."""
    entries = tell("restored")
    assert _left(entries) == ()
    assert _left(entries[:-1]) == ()


@pytest.mark.parametrize(
    ("outcome", "told", "verb"),
    [("overdue", "not taken back in time", "is"), ("refused", "not taken back, since that was refused: b", "may be")],
)
def test_a_restore_that_did_not_write_leaves_its_step_to_a_person(
    tell: Tell, outcome: str, told: str, verb: str
) -> None:
    """With the field to put back, and why the engine did not: a refusal may say that somebody has changed it since, or
    that it is gone."""
    entries = tell("restored")
    body = {k: v for k, v in entries[-1].body.items() if k != "effect"} | {"outcome": outcome, "reason": "because"}
    (line,) = _left((*entries[:-1], dataclasses.replace(entries[-1], body=body)))
    assert line.startswith(LEFT.replace(" is ", f" {verb} "))
    assert told in line
    assert "because" in line


def test_the_page_about_a_reroute_that_was_not_taken_back_names_its_route(tell: Tell) -> None:
    """Two weights are too long for the line with its command: what is cut off is their end, not the object; and the day
    is said, since it may be another one."""
    weights = [
        {"path": f'spec.rules[0].backendRefs[name="pay-v{number}"].weight', "before": before, "after": after}
        for number, before, after in ((1, "100", "0"), (2, "0", "100"))
    ]
    entries = tuple(
        dataclasses.replace(e, target="lab/shop/HTTPRoute/pay", body={**e.body, "effect": e.body["effect"] | moved})
        if e.kind is EntryKind.EFFECT_RECORDED
        else e
        for e in tell("restored")
        for moved in ({"changes": weights},)
    )
    overdue = {k: v for k, v in entries[-1].body.items() if k != "effect"} | {"outcome": "overdue", "reason": "because"}
    called = (*entries[:-1], dataclasses.replace(entries[-1], body=overdue))
    lines = render_notice(NoticeKind.PERSON_NEEDED, called, body={"reason": "overdue"}).lines
    (told,) = (line for line in lines if line.startswith("Next: "))
    assert "is still in force on lab/shop/HTTPRoute/pay: put spec.rules" in told
    assert told.endswith("--reason ...")
    assert any("accepted 2026-11-21 08:36:44 UTC" in line for line in lines)


def test_what_may_have_been_taken_back_may_be_in_force(tell: Tell) -> None:
    """Its undo, or its restore, was sent, and nobody can tell what became of it."""
    (line,) = _left(_with(tell("by_hand"), EntryKind.UNDO_RECORDED, _undo("unknown")))
    assert line.startswith("Step to-v1 may be still in force")
    body = {"tier": 1, "step": 0, "step_id": "to-v1", "outcome": "unknown", "reason": "because"}
    (line,) = _left(_with(tell("restored")[:-1], EntryKind.RESTORE_ENDED, body))
    assert line.startswith("Step to-v1 may be still in force")
    assert "restore: whether it was taken back is not known: because" in line
    refused = {**body, "outcome": "refused", "reason": "not taken back: somebody changed it; probe is well"}
    (line,) = _left(_with(tell("restored")[:-1], EntryKind.RESTORE_ENDED, refused))
    assert "; restore: not taken back: somebody changed it; probe is well" in line
    given_up = {**body, "outcome": "abandoned", "begun": True}
    (line,) = _left(_with(tell("restored")[:-1], EntryKind.RESTORE_ENDED, given_up))
    assert line.startswith("Step to-v1 may be still in force")
    assert "restore: its workflow has ended; whether it was taken back is not known: because" in line


def test_a_restart_leaves_nothing_to_put_back(tell: Tell) -> None:
    """The same release runs."""
    entries = tuple(e for e in tell("healed") if e.kind is not EntryKind.RESTORE_OPENED)
    assert _left(entries) == ()


def test_the_undo_rule_of_the_pinned_plan_decides_where_it_is_recorded(tell: Tell) -> None:
    """`none` = the runbook says that it may stay; `action` = it may not."""
    for rule, count in (("none", 0), ("action", 1)):
        steps = [{"id": "to-v1", "action": "shift_traffic", "undo": rule}]
        tiers = [{"name": "restart", "steps": []}, {"name": "reroute", "steps": steps}]
        assert len(_left(_replaced(tell("by_hand"), EntryKind.PLAN_PINNED, tiers=tiers))) == count


def test_an_undo_in_mode_observe_took_nothing_back(tell: Tell) -> None:
    """The mode was switched between the write and the undo: the state, the sentence and the follow-up say so."""
    entries = _with(tell("by_hand")[:-2], EntryKind.UNDO_RECORDED, _undo("would_apply"))
    report = build(entries, phases=())
    step = report.actions[1]
    assert (step.state, step.undo, step.undo_changes) == (StepState.NOT_TAKEN_BACK, "not taken back: mode observe", ())
    assert report.in_force[0].startswith(LEFT)
    assert report.timeline[-1].text == "Undo of step to-v1, not taken back: mode observe."
    assert "not taken back: mode observe" in markdown(report)
    assert not report.observed_only


def test_a_restore_in_mode_observe_took_nothing_back(tell: Tell) -> None:
    """An older record calls it restored; its effect says that nothing was written."""
    entries = tell("restored")
    body = {**entries[-1].body, "effect": {**entries[-1].body["effect"], "outcome": "would_apply"}}
    report = build((*entries[:-1], dataclasses.replace(entries[-1], body=body)), phases=())
    (restore,) = report.restores
    assert (restore.told, restore.taken_back, restore.changes) == ("not taken back: mode observe", False, ())
    assert report.in_force[0].startswith(LEFT)
    assert (
        "mode observe"
        in render_notice(NoticeKind.RESTORED, (*entries[:-1], dataclasses.replace(entries[-1], body=body))).title
    )


def test_the_write_of_a_restore_is_in_the_post_mortem(tell: Tell) -> None:
    """Before and after, as for every other write."""
    report = build(tell("restored"), phases=())
    (restore,) = report.restores
    assert [(c.before, c.after) for c in restore.changes] == [("0", "100")]
    text = markdown(report)
    assert "Written by the restore of `to-v1` on `lab/shop/Deployment/pay-v1`" in text
    assert "| `spec.rules[0].backendRefs[0].weight` | `0` | `100` |" in text


def test_the_end_by_a_relapse_is_told_in_words(tell: Tell) -> None:
    """`undone` is no work left: the undo itself tells what it did."""
    body = {"tier": 1, "step": 0, "step_id": "to-v1", "outcome": "undone", "reason": "the incident relapsed"}
    entries = _with(tell("restored")[:-1], EntryKind.UNDO_RECORDED, _undo("applied"))
    report = build(_with(entries, EntryKind.RESTORE_ENDED, body), phases=())
    assert report.restores[0].told == "ended by the undo of the step"
    assert report.in_force == ()
    assert not any("in force" in line for line in report.follow_ups)
    left = _with(tell("restored")[:-1], EntryKind.UNDO_RECORDED, _undo("refused"))
    assert len(_left(_with(left, EntryKind.RESTORE_ENDED, body))) == 1


def test_the_closing_message_says_it_in_one_line(tell: Tell) -> None:
    """Not only in the list that is cut to three."""
    lines = render_notice(NoticeKind.CLOSED, tell("by_hand")).lines
    assert sum(line.startswith(LEFT) for line in lines) == 1
    assert sum("still in force" in line for line in lines) == 1
    assert not any("still in force" in line for line in render_notice(NoticeKind.CLOSED, tell("restored")).lines)


def test_show_says_it_first_of_what_is_next(tell: Tell) -> None:
    """Then where to read on."""
    entries = tell("by_hand")
    first, last = entries[0], entries[-1]
    row = IncidentRow(
        id=first.incident_id,
        service="pay",
        alertname="PayErrors",
        opened_at=first.at,
        closed_at=last.at,
        outcome=IncidentOutcome.CLOSED_BY_HAND,
        phase=IncidentPhase.CLOSED,
        intake_class=IntakeClass.P1_CANDIDATE,
        alerts_firing=0,
    )
    *_, left, more = screen(row, build(entries, phases=()), entries)
    assert left.startswith(f"next     {LEFT}")
    assert more == f"         firebreak postmortem {first.incident_id}"


@pytest.mark.parametrize(
    ("scene", "told"),
    [
        ("healed", "restart-pods: still in force; taken back by itself once the broken part is healthy"),
        ("restored", "to-v1: taken back, 08:"),
    ],
)
def test_show_says_what_becomes_of_a_step_that_worked(tell: Tell, scene: str, told: str) -> None:
    """Who reads that a reroute is verified must see that the engine will take it back, or has."""
    entries = tell(scene)
    first, last = entries[0], entries[-1]
    row = IncidentRow(
        id=first.incident_id,
        service="pay",
        alertname="PayErrors",
        opened_at=first.at,
        closed_at=last.at,
        outcome=IncidentOutcome.HEALED,
        phase=IncidentPhase.CLOSED,
        intake_class=IntakeClass.P1_CANDIDATE,
        alerts_firing=0,
    )
    (line,) = [text for text in screen(row, build(entries, phases=()), entries) if text.startswith("restore ")]
    assert line.startswith(f"restore  step {told}")


def test_show_says_why_a_step_whose_part_is_well_stays(tell: Tell) -> None:
    """Without it nobody could tell a restore that waits from one that was forgotten."""
    entries = tell("healed")
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "reason": "incident inc-2 of pay is open"}
    entries += (dataclasses.replace(entries[-1], seq=999, kind=EntryKind.RESTORE_HELD_BACK, body=body),)
    (part,) = build(entries, phases=()).restores
    assert (part.held_back_at, part.outcome) == (entries[-1].at, "")
    why = f"held back at {entries[-1].at:%H:%M:%S}, the part well: incident inc-2 of pay is open"
    assert _restore(part).startswith(f"still in force; {why}; taken back by itself"), "when: it may be over by now"
    (todo,) = [text for text in build(entries, phases=()).follow_ups if "restart-pods is still in force" in text]
    assert "incident inc-2 of pay is open" in todo
    assert "waits for the broken part" not in todo


def test_the_cause_comes_first(tell: Tell) -> None:
    """A step that healed found no cause; evidence that could not be had is one line, the last, and what there was none
    of is nothing to do."""
    missing = [
        {"what": "logs", "reason": "no instance", "sections": []},
        {"what": "pods", "reason": "time-out", "sections": ["pods"]},
        {"what": "events", "reason": "403", "sections": ["events", "changes"]},
        {"what": "nodes", "reason": "of an older record, which says no more"},
    ]
    lines = build(_replaced(tell("healed"), EntryKind.EVIDENCE_KEPT, missing=missing), phases=()).follow_ups
    assert lines[0].startswith("Find out why pay needed restart-pods on lab/shop/Deployment/pay-v1: errors ratio")
    assert lines[-1] == (
        "Evidence could not be had: pods: time-out; events: 403; nodes: of an older record, which says no more."
    )
    assert sum("Evidence could not" in line for line in lines) == 1


def test_the_cause_names_the_runbooks_conditions_and_the_dependency(tell: Tell) -> None:
    """What held when the step was taken: the runbook's check is nearer to the cause than the symptoms."""
    check = {
        "name": "dependency_is_dead",
        "title": "no version of the optional dependency answers its probe",
        "query": 'max(probe_success{service="recommend"})',
    }
    steps = [{"id": "do-without", "action": "set_flag", "undo": "action", "check": [check]}]
    tiers = [{"name": "restart", "steps": []}, {"name": "degrade", "steps": steps}]
    bindings = {"service": "pay", "workload": "pay-v1", "dependency": "recommend", "flow": "pay"}
    entries = _replaced(tell("restored"), EntryKind.PLAN_PINNED, tiers=tiers, bindings=bindings)
    assert build(entries, phases=()).follow_ups[0] == (
        "Find out why pay needed do-without on lab/shop/Deployment/pay-v1: dependency_is_dead "
        "(no version of the optional dependency answers its probe; dependency recommend)."
    )


def test_the_worst_of_each_dimension_is_over_all_verdicts(tell: Tell) -> None:
    """Also of those after the decision; a low limit is exceeded downwards; a false one is no impact."""
    entries = list(tell("by_hand"))
    index = next(i for i, e in enumerate(entries) if e.kind is EntryKind.VERDICT_REACHED)
    first = entries[index]

    def look(at: str, conditions: list[dict[str, Any]]) -> TimelineEntry:
        verdict = {**first.body["verdict"], "pinned_at": at, "conditions": conditions}
        return dataclasses.replace(first, body={"verdict": verdict})

    def seen(name: str, dimension: str, value: str, limit: str, unit: str, truth: str = "true") -> dict[str, Any]:
        since = "2026-11-21T08:36:40Z"
        told = {"name": name, "dimension": dimension, "truth": truth, "value": value, "unit": unit, "since": since}
        return {**told, "threshold": limit}

    entries[index] = look(
        "2026-11-21T08:36:45Z",
        [
            seen("latency_p99", "latency", "510", "> 500", "ms"),
            seen("health_score", "business", "12", "<= 70", "points"),
            seen("gateway_5xx", "errors", "0.9", ">= 0.05", "ratio", "false"),
        ],
    )
    later = look(
        "2026-11-21T08:36:50Z",
        [
            seen("latency_p99", "latency", "747.5", "> 500", "ms"),
            seen("health_score", "business", "40", "<= 70", "points"),
        ],
    )
    report = build((*entries[:-1], later, entries[-1]), phases=())
    found = [(w.dimension, w.condition.value, f"{w.at:%S}", f"{w.since:%S}") for w in report.impact.worst]
    assert found == [("latency", "747.5", "50", "40"), ("business", "12", "45", "40")]
    assert "| Worst latency | `latency p99 747.5 ms (limit > 500 ms)` at 08:36:50 since 08:36:40 |" in markdown(report)

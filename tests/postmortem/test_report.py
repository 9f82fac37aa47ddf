"""What a report tells, and that it never fails on an old or damaged body."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from firebreak.domain.errors import ContractError
from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem.json_export import json_bytes
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.model import WORKFLOW_ENDED, Called, Case, Report, StepState
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build, case_of
from firebreak.postmortem.telling import TELLERS
from firebreak.timeline.canonical import canonical
from firebreak.timeline.phases import phases_of

STORIES = ("healed", "paged", "nothing_done", "observe", "undone", "by_hand", "restored")

Tell = Callable[..., tuple[TimelineEntry, ...]]


def report_of(entries: tuple[TimelineEntry, ...]) -> Report:
    return build(entries, phases=phases_of(entries))


def _with(entries: tuple[TimelineEntry, ...], kind: EntryKind, body: Mapping[str, Any]) -> tuple[TimelineEntry, ...]:
    """The entries and one more at the end."""
    last = entries[-1]
    more = dataclasses.replace(last, seq=last.seq + 1, key=f"more/{kind.value}", kind=kind, body=body)
    return (*entries, more)


def _effect(tier: int, outcome: str) -> dict[str, Any]:
    return {"tier": tier, "step": 0, "effect": {"outcome": outcome, "reason": "as told"}}


def test_a_healed_incident_tells_what_healed_it(tell: Tell) -> None:
    """Outcome, step state, before and after, duration of the impact, restore still open."""
    report = report_of(tell("healed"))
    step = report.actions[0]
    assert (report.outcome, step.state, step.effect) == ("healed", StepState.VERIFIED, "applied")
    assert step.changes[0].before == "null"
    assert report.impact.dimensions == ("errors", "business")
    assert report.impact.duration_ms == pytest.approx(12_600)
    assert [r.outcome for r in report.restores] == [""]
    assert any("still in force" in line for line in report.follow_ups)
    assert report.head == tell("healed")[-1].digest


@pytest.mark.parametrize(("pager", "who"), [("trigger_high", "a person was called"), ("trigger_low", "nobody was")])
def test_whoever_was_paged_was_called(tell: Tell, pager: str, who: str) -> None:
    """By a relapse, or since nothing classified it in time: no decision to call somebody stands in the record."""
    page = {"channel": "pager", "notice": "person_needed", "key": "pager/relapse/0.0", "pager": pager, "receipt": "r"}
    assert who in report_of(_with(tell("healed"), EntryKind.MESSAGE_DELIVERED, page)).summary[-1]


@pytest.mark.parametrize(
    ("page", "told", "step", "called"),
    [
        ("delivered", "a person was called: ", StepState.PERSON_CALLED, "delivered"),
        ("failed", "A person was to be called, but no page", StepState.CALL_NOT_DELIVERED, "not_delivered"),
        ("none", "A person was to be called, but no page", StepState.CALL_NOT_DELIVERED, "not_delivered"),
    ],
)
def test_a_call_that_reached_nobody_is_not_told_as_one(
    tell: Tell, page: str, told: str, step: StepState, called: str
) -> None:
    """Deciding to call is not reaching: no key, a key that is refused, a pager that is away. Summary, step and JSON say
    which."""
    entries = [e for e in tell("paged") if e.kind is not EntryKind.MESSAGE_DELIVERED or page == "delivered"]
    if page == "failed":
        body = {"channel": "pager", "notice": "person_needed", "pager": "trigger_high", "error": "no routing key"}
        entries.append(dataclasses.replace(entries[-1], seq=999, kind=EntryKind.MESSAGE_FAILED, body=body))
    report = report_of(tuple(entries))
    assert told in report.summary[-1]
    assert any("a person was called" in line for line in report.summary) is (page == "delivered")
    assert report.actions[-1].state is step
    assert report.actions[-1].reason == "every tier was tried and none was verified"
    assert json.loads(json_bytes(report))["called"] == called
    assert f"call-a-person: {step.value}" in markdown(report)


def test_a_page_that_failed_without_a_decision_is_a_call_that_was_not_delivered(tell: Tell) -> None:
    """A deadline or a relapse: no entry but the failure tells of it. What failed to inform called nobody."""
    body = {"channel": "pager", "notice": "deadline", "pager": "trigger_high", "error": "the pager is away"}
    report = report_of(_with(tell("healed"), EntryKind.MESSAGE_FAILED, body))
    assert report.called is Called.NOT_DELIVERED
    assert "no page had been delivered" in report.summary[-1]
    informs = _with(tell("healed"), EntryKind.MESSAGE_FAILED, body | {"pager": "trigger_low"})
    assert report_of(informs).called is Called.NOBODY


def test_a_paged_incident_tells_each_tier_and_the_call(tell: Tell) -> None:
    """Not verified, refused and called are told apart, and each leaves a follow-up."""
    report = report_of(tell("paged"))
    assert [a.state for a in report.actions] == [StepState.NOT_VERIFIED, StepState.REFUSED, StepState.PERSON_CALLED]
    text = " ".join(report.follow_ups)
    for fact in ("did not help", "refusal of step to-v1", "fault in outbox", "previous log of"):
        assert fact in text


def test_every_kind_of_entry_has_words_of_its_own() -> None:
    """Else the timeline shows a reason alone, and not what it is the reason of."""
    assert set(TELLERS) == set(EntryKind)


def test_a_score_that_a_person_set_is_told_with_its_value(tell: Tell) -> None:
    """It may be what made the incident a P1."""
    body = {"score": 40, "reason": "sales stand still", "by": "ada"}
    line = report_of(_with(tell("paged"), EntryKind.SCORE_SET, body)).timeline[-1]
    assert line.text == "Health score 40 of 100 set by ada: sales stand still."


def test_a_slow_phase_is_told_in_its_table_alone(tell: Tell) -> None:
    """How fast the engine was is no work for whoever repairs the service."""
    report = report_of(tell("paged"))
    assert any(p.over for p in report.phases)
    assert not any("budget" in line for line in report.follow_ups)
    assert "| over |" in markdown(report)


def test_a_jitter_tells_what_was_pending_although_nothing_was_done(tell: Tell) -> None:
    """The short post-mortem says what was seen."""
    report = report_of(tell("nothing_done"))
    assert report.verdict is not None
    assert report.verdict.truth == "false"
    assert "did not hold for its time" in report.summary[0]
    assert report.actions == ()


def test_observe_mode_says_what_would_have_been_written(tell: Tell) -> None:
    """Both tiers are told, nothing counts as done."""
    report = report_of(tell("observe"))
    assert report.observed_only
    assert [a.state for a in report.actions[:2]] == [StepState.WOULD_APPLY, StepState.WOULD_APPLY]
    assert all(a.intent_at is None for a in report.actions)
    assert report.closed_by == "person:ana"


def test_a_step_that_was_taken_back_is_undone_and_still_not_verified(tell: Tell) -> None:
    """The undo does not hide why it was needed."""
    step = report_of(tell("undone")).actions[1]
    assert (step.state, step.verification) == (StepState.UNDONE, "not_verified")
    assert (step.undo_changes[0].before, step.undo_changes[0].after) == ("100", "50")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("applied", StepState.APPLIED),
        ("already_applied", StepState.APPLIED),
        ("not_applied", StepState.ALREADY_SO),
        ("refused", StepState.REFUSED),
        ("unknown", StepState.UNKNOWN),
        ("would_apply", StepState.WOULD_APPLY),
        ("a word of a later version", StepState.UNKNOWN),
    ],
)
def test_each_outcome_of_an_effect_is_told_as_it_is(tell: Tell, outcome: str, state: StepState) -> None:
    """Above all, an unknown outcome is never told as done."""
    entries = _with(tell("observe")[:4], EntryKind.EFFECT_RECORDED, _effect(1, outcome))
    report = report_of(entries)
    assert [a.state for a in report.actions if (a.tier, a.step) == (1, 0)] == [state]
    assert any("not known" in line for line in report.follow_ups) == (state is StepState.UNKNOWN)


@pytest.mark.parametrize(
    ("verification", "state", "summary", "follow_up"),
    [
        (
            "verified",
            StepState.VERIFIED_AS_IT_WAS,
            "(restart_workload) verified, though it was already so and nothing was written",
            "Find out why pay became healthy: step restart-pods (restart_workload) on lab/shop/Deployment/pay-v1 was "
            "already so, nothing was written",
        ),
        (
            "not_verified",
            StepState.NOT_VERIFIED,
            "(restart_workload) not verified",
            "Find out why step restart-pods (restart_workload) on lab/shop/Deployment/pay-v1, which was already so, "
            "did not help",
        ),
        (
            "undecided",
            StepState.UNDECIDED,
            "(restart_workload) not known whether it healed",
            "See by hand whether step restart-pods (restart_workload) on lab/shop/Deployment/pay-v1, which was already "
            "so, helped",
        ),
    ],
)
def test_a_step_that_wrote_nothing_gets_no_credit(
    tell: Tell, verification: str, state: StepState, summary: str, follow_up: str
) -> None:
    """A person had been there before: summary and follow-ups say that nothing was written."""
    entries = []
    for entry in tell("healed"):
        body = dict(entry.body)
        if entry.kind is EntryKind.EFFECT_RECORDED:
            body["effect"] = {**body["effect"], "outcome": "not_applied", "changes": []}
        if entry.kind is EntryKind.VERIFICATION:
            body |= {"outcome": verification, "wrote": False}
        entries.append(dataclasses.replace(entry, body=body))
    report = report_of(tuple(entries))
    assert report.actions[0].state is state
    assert summary in report.summary[1]
    assert any(line.startswith(follow_up) for line in report.follow_ups), report.follow_ups
    assert not any("needed" in line for line in report.follow_ups)


def test_an_intent_without_an_effect_is_shown_as_not_known(tell: Tell) -> None:
    """What a crash leaves behind."""
    entries = tuple(e for e in tell("healed") if e.kind is not EntryKind.EFFECT_RECORDED)[:10]
    report = report_of(entries)
    assert report.actions[0].state is StepState.INTENDED
    assert "no effect recorded" in markdown(report)
    assert any("not known" in line for line in report.follow_ups)


def test_the_intent_of_an_undo_does_not_reopen_the_step(tell: Tell) -> None:
    """Undo writes an intent of its own; the step stays not verified until the undo is recorded."""
    entries = tell("undone")[:-1]
    body = {"tier": 1, "step": 0, "intent": {"undo": True, "changes": []}}
    assert report_of(_with(entries, EntryKind.INTENT_RECORDED, body)).actions[1].state is StepState.NOT_VERIFIED


@pytest.mark.parametrize(
    ("outcome", "state"), [("verified", StepState.VERIFIED), ("not_verified", StepState.NOT_VERIFIED)]
)
def test_a_relapse_takes_the_healing_back(tell: Tell, outcome: str, state: StepState) -> None:
    """A hold to its end confirms the verification; a relapse leaves a step that did not help, and no end of impact."""
    entries = tuple(e for e in tell("healed") if e.kind is not EntryKind.INCIDENT_CLOSED)
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "outcome": outcome, "reason": "as told"}
    last = dataclasses.replace(entries[-1], kind=EntryKind.HOLD_ENDED, body=body)
    end = dataclasses.replace(last, kind=EntryKind.INCIDENT_CLOSED, body={"outcome": "closed_by_hand"})
    report = report_of((*entries, last, end))
    assert report.actions[0].state is state
    assert (report.impact.until is None) is (state is StepState.NOT_VERIFIED)
    assert any("did not help: as told" in line for line in report.follow_ups) is (state is StepState.NOT_VERIFIED)


@pytest.mark.parametrize("second", ["not_verified", "undecided", "refused", "verified", "lost plan"])
def test_the_impact_ends_with_a_tier_not_with_one_of_its_steps(tell: Tell, second: str) -> None:
    """The first of two steps was verified: until the second one is, too, nothing is proven. Of a plan that is lost, the
    last verification counts."""
    story = [e for e in tell("healed") if e.kind not in (EntryKind.INCIDENT_CLOSED, EntryKind.ALERT_RESOLVED)]
    entries = []
    for entry in story:
        if entry.kind is EntryKind.PLAN_PINNED:
            first, *others = (dict(tier) for tier in entry.body["tiers"])
            first["steps"] = [*first["steps"], {"id": "flag-off", "action": "set_flag"}]
            entry = dataclasses.replace(entry, body={**entry.body, "tiers": [first, *others]})
        if entry.kind is not EntryKind.PLAN_PINNED or second != "lost plan":
            entries.append(entry)
    proven = next(e for e in entries if e.kind is EntryKind.VERIFICATION)
    late = proven.at + timedelta(seconds=30)
    body = {**proven.body, "step": 1, "step_id": "flag-off", "outcome": second}
    kind = EntryKind.STEP_REFUSED if second == "refused" else EntryKind.VERIFICATION
    judged = () if second == "lost plan" else (dataclasses.replace(proven, seq=998, kind=kind, at=late, body=body),)
    end = dataclasses.replace(
        proven, seq=999, at=late, kind=EntryKind.INCIDENT_CLOSED, body={"outcome": "closed_by_hand"}
    )
    expected = {"verified": late, "lost plan": proven.at}.get(second)
    assert report_of((*entries, *judged, end)).impact.until == expected


def test_a_failed_undo_asks_for_a_hand(tell: Tell) -> None:
    """The most pressing follow-up names the step."""
    report = report_of(_with(tell("undone")[:-1], EntryKind.UNDO_RECORDED, _effect(1, "refused")))
    assert report.actions[1].state is StepState.UNDO_FAILED
    assert report.follow_ups[0].startswith("Step to-v1 may be still in force on lab/shop/Deployment/pay-v1: put spec.")
    assert "undo: refused: as told" in report.follow_ups[0]


@pytest.mark.parametrize(("outcome", "told"), [("restored", ""), ("overdue", "is"), ("refused", "may be")])
def test_a_restore_that_did_not_happen_leaves_work(tell: Tell, outcome: str, told: str) -> None:
    """Overdue and refused restores are follow-ups; a done one is not."""
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "outcome": outcome, "reason": "because"}
    report = report_of(_with(tell("healed"), EntryKind.RESTORE_ENDED, body))
    assert report.restores[0].opened_at is not None
    found = [line for line in report.follow_ups if "still in force on lab/shop/Deployment/pay-v1: put" in line]
    assert [line.startswith(f"Step restart-pods {told} still in force") for line in found] == [True] * bool(told)


def test_alerts_that_the_source_left_out_are_counted(tell: Tell) -> None:
    """A truncated group is a fact of the impact and a follow-up."""
    first, *rest = tell("nothing_done")
    body = {**first.body, "truncated": 7}
    report = report_of((dataclasses.replace(first, body=body), *rest))
    assert report.impact.left_out == 7
    assert any("left out 7 alerts" in line for line in report.follow_ups)


def test_alerts_that_a_later_body_left_out_are_counted(tell: Tell) -> None:
    """The most that one body left out: said by the entry of a resolved alert, or of a repeat by the look after it."""
    whole = tell("nothing_done")
    body = {**next(e.body for e in whole if e.kind is EntryKind.ALERT_RESOLVED), "truncated": 3}
    resolved = _with(whole, EntryKind.ALERT_RESOLVED, body)
    assert report_of(resolved).impact.left_out == 3
    looked = _with(resolved, EntryKind.FACTS_GATHERED, {"facts": {"truncated": 5}})
    assert report_of(looked).impact.left_out == 5
    assert any("left out 5 alerts" in line for line in report_of(looked).follow_ups)


def _told(entries: tuple[TimelineEntry, ...], kind: EntryKind, at: datetime) -> tuple[TimelineEntry, ...]:
    """The entries and what the source then said of the alert that opened."""
    more = _with(entries, kind, {"alert": entries[0].body["alert"]})
    return (*entries, dataclasses.replace(more[-1], at=at))


def test_an_alert_that_fires_again_is_not_told_as_resolved(tell: Tell) -> None:
    """With the same start: what counts is its last end, and the first telling of that."""
    entries = tell("nothing_done")
    resolved = report_of(entries).alerts[0].resolved_at
    assert resolved is not None
    again = _told(entries, EntryKind.ALERT_JOINED, resolved + timedelta(minutes=5))
    assert report_of(again).alerts[0].resolved_at is None
    assert "not resolved" in markdown(report_of(again))
    end = resolved + timedelta(minutes=10)
    over = _told(_told(again, EntryKind.ALERT_RESOLVED, end), EntryKind.ALERT_RESOLVED, end + timedelta(seconds=9))
    assert [alert.resolved_at for alert in report_of(over).alerts] == [end]
    assert report_of(over).impact.until == end


@pytest.mark.parametrize("left_out", [0, 2])
def test_an_alert_that_still_fires_lets_no_other_ones_end_be_the_end(tell: Tell, left_out: int) -> None:
    """One of two has resolved (or of those that the source left out nobody knows): it is over when the looks say so,
    which is when the incident closed."""
    opened, joined, *rest = tell("nothing_done")
    body = {**opened.body, "truncated": left_out}
    other = {**opened.body["alert"], "fingerprint": "ffffffffffffffff"}
    second = dataclasses.replace(joined, key="joined/other", body={"alert": other, "firing": 2})
    entries = (dataclasses.replace(opened, body=body), joined, *(() if left_out else (second,)), *rest)
    report = report_of(entries)
    assert report.alerts[0].resolved_at is not None
    assert report.closed_at is not None
    assert report.closed_at > report.alerts[0].resolved_at
    assert report.impact.until == report.closed_at


def _kept(entries: tuple[TimelineEntry, ...], **more: Any) -> tuple[TimelineEntry, ...]:
    """The evidence with other contents."""
    return tuple(
        dataclasses.replace(e, body={**e.body, **more}) if e.kind is EntryKind.EVIDENCE_KEPT else e for e in entries
    )


ALL = ["pods", "events", "previous_logs", "changes"]
HANGS = [
    {"what": "roll-outs of Deployments", "reason": "no answer within the time limit", "sections": ["changes"]},
    {"what": "previous log of a/b", "reason": "no answer within the time limit", "sections": ["previous_logs"]},
    {"what": "events", "reason": "no answer within the time limit", "sections": ["events", "changes"]},
]
NODES = [{"what": "changes of nodes", "reason": "list nodes: 403 Forbidden", "sections": ["changes"]}]
LEFT_OUT = [{"what": "changes", "reason": "3 of 103 are left out: 100 are kept"}]


@pytest.mark.parametrize(
    ("evidence", "section", "line", "data"),
    [
        ({"sections": ALL, "missing": LEFT_OUT}, "No change was found.", "nothing was found", (True, [])),
        ({}, "No change was found.", "nothing was found", (True, [])),
        (
            {"sections": ALL, "missing": HANGS},
            "- Could not be looked for: roll-outs of Deployments, events: no answer within the time limit",
            "could not be looked for: roll-outs of Deployments, events: no answer within the time limit; nothing else "
            "was found",
            (True, ["roll-outs of Deployments, events: no answer within the time limit"]),
        ),
        (
            {"sections": ["pods"]},
            "It was not looked for: the runbook does not name changes in its evidence.",
            "not looked for: the runbook does not name changes in its evidence",
            (False, []),
        ),
    ],
    ids=["looked for", "an older record", "unread", "not asked for"],
)
def test_no_change_was_found_only_where_all_was_looked_for(
    tell: Tell, evidence: dict[str, Any], section: str, line: str, data: tuple[bool, list[str]]
) -> None:
    """An API server that refuses or hangs, or a runbook that asks for something else, is no quiet hour: post-mortem,
    JSON and notices say so."""
    entries = _kept(tell("paged"), **{"changes": [], "missing": [], **evidence})
    report = report_of(entries)
    said = markdown(report).partition("## What changed before")[2].partition("## ")[0]
    assert section in said.splitlines()
    assert ("No change was found." in said) is (section == "No change was found.")
    kept = json.loads(json_bytes(report))["evidence"]
    assert (kept["changes_looked_for"], kept["changes_unseen"]) == data
    assert f"Changed before: {line}" in render_notice(NoticeKind.PERSON_NEEDED, entries).lines


def test_changes_that_were_found_do_not_hide_those_that_could_not_be(tell: Tell) -> None:
    """Two are listed; of nodes nobody knows."""
    entries = _kept(tell("paged"), sections=ALL, missing=NODES)
    said = markdown(report_of(entries)).partition("## What changed before")[2].partition("## ")[0]
    assert "- Could not be looked for: changes of nodes: list nodes: 403 Forbidden" in said.splitlines()
    assert "was found" not in said
    lines = render_notice(NoticeKind.PERSON_NEEDED, entries).lines
    assert "- others could not be looked for: changes of nodes: list nodes: 403 Forbidden" in lines


def test_a_call_without_evidence_does_not_pass_over_what_changed(tell: Tell) -> None:
    """Nothing was kept: a page says that it does not know; a notice that comes before evidence is kept says nothing."""
    entries = tuple(e for e in tell("paged") if e.kind is not EntryKind.EVIDENCE_KEPT)
    for kind in (NoticeKind.PERSON_NEEDED, NoticeKind.DEADLINE):
        assert "Changed before: not known; no evidence was kept" in render_notice(kind, entries).lines
    assert not any("Changed before" in line for line in render_notice(NoticeKind.CLASSIFIED, entries).lines)
    assert "Not known, since nothing was kept" in markdown(report_of(entries))


def test_a_time_of_a_later_day_is_shown_under_its_day(tell: Tell) -> None:
    """A restore outlives its incident by hours: the day stands in the table where it changes, and nowhere else."""
    *entries, ended = tell("restored")
    late = dataclasses.replace(ended, at=ended.at + timedelta(hours=20))
    last = dataclasses.replace(late, seq=late.seq + 1, at=late.at + timedelta(seconds=1))
    rows = markdown(report_of((*entries, late, last))).partition("## Timeline")[2].splitlines()
    assert [row for row in rows if "2026-11-" in row][1:] == ["| `2026-11-22` |  |  |  |  |"]
    assert rows[-3].startswith("| `2026-11-22` |")
    assert rows[-2].startswith("| 04:48:24.120 |")


def test_an_incident_without_a_target_says_why(tell: Tell) -> None:
    """The refusal stands where the target would, and asks for the mapping."""
    first = tell("observe")[0]
    body = {**first.body, "target": None, "refusal": "namespace kube-system is never a target"}
    report = report_of((dataclasses.replace(first, body=body),))
    assert report.target == ""
    assert "kube-system" in markdown(report)
    assert any("services.yaml" in line for line in report.follow_ups)


def _without(data: Any, rng: random.Random) -> Any:
    """The same data with keys left out, or values of another type."""
    if isinstance(data, Mapping):
        return {k: _without(v, rng) for k, v in data.items() if rng.random() > 0.1}
    if isinstance(data, (list, tuple)):
        return [_without(v, rng) for v in data]
    return rng.choice([None, 7, -1.5, True, "", "x", [], {}, [1, "a", None], {"a": 1}]) if rng.random() < 0.1 else data


@pytest.mark.parametrize("story", STORIES)
def test_no_damaged_body_stops_a_post_mortem(tell: Tell, story: str) -> None:
    """Keys missing or of another type (older records): a report, all texts and all notices come out all the same."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(25):
        entries = tuple(dataclasses.replace(e, body=_without(e.body, rng)) for e in tell(story))
        report = report_of(entries)
        assert markdown(report).startswith("# Post-mortem")
        assert json_bytes(report)
        for kind in NoticeKind:
            assert render_notice(kind, entries).title


def test_every_kind_of_entry_is_told_with_an_empty_body(tell: Tell) -> None:
    """Each line of the timeline says something, whatever the record lacks."""
    entry = tell("healed")[0]
    for kind in EntryKind:
        (line,) = report_of((dataclasses.replace(entry, kind=kind, body={}),)).timeline
        assert line.text.endswith(".")
        assert len(line.text) > 5


def test_a_written_post_mortem_file_told_nobody(tell: Tell) -> None:
    """It goes through the outbox like a message, but is none; a file that could not be written is a follow-up."""
    delivered = {"channel": "postmortem", "notice": "closed", "receipt": "inc.md", "attempts": 1}
    before = report_of(tell("paged")).people
    assert report_of(_with(tell("paged"), EntryKind.MESSAGE_DELIVERED, delivered)).people == before
    failed = {"channel": "postmortem", "notice": "closed", "error": "disk is full", "attempts": 3}
    report = report_of(_with(tell("paged"), EntryKind.MESSAGE_FAILED, failed))
    assert any("disk is full" in line for line in report.follow_ups)


def test_what_was_delivered_in_the_end_is_not_told_as_lost(tell: Tell) -> None:
    """A pager that was away for a moment, or a key that was refused before another took it: the way is to be mended,
    but somebody has heard."""
    of = {"channel": "pager", "notice": "person_needed", "pager": "trigger_high", "key": "pager/person/high"}
    failed = _with(tell("paged"), EntryKind.MESSAGE_FAILED, of | {"error": "status 503", "attempts": 1})
    lost, late = "a message was not delivered: status 503.", "a message was not taken at first: status 503."
    for entries, told in ((failed, lost), (_with(failed, EntryKind.MESSAGE_DELIVERED, of), late)):
        assert [line for line in report_of(entries).follow_ups if "503" in line] == [f"Repair the way to pager: {told}"]


def test_a_closed_incident_whose_workflow_ended_is_not_to_be_closed_again(tell: Tell) -> None:
    """What the fault asked for, by hand and with a close, has been done; why it ended is still to be found out."""
    asked = "the workflow of inc-1 (pay) was terminated: handle it by hand, then `firebreak close inc-1 --reason ...`"
    fault = {"where": WORKFLOW_ENDED, "error": asked, "next_step": "Handle it by hand."}
    report = report_of(_with(tell("by_hand"), EntryKind.ENGINE_FAULT, fault))
    assert not any("firebreak close" in line for line in report.follow_ups)
    assert any(line.startswith("Find out why the engine's own workflow") for line in report.follow_ups)


def _fields(record: Case) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(Case)}


@pytest.mark.parametrize("story", STORIES)
def test_a_case_of_what_came_since_is_that_of_the_whole(tell: Tell, story: str) -> None:
    """Made from the Case of any beginning, or at once: the same, and a report has the same in it."""
    entries = tell(story)
    for length in range(1, len(entries) + 1):
        whole = case_of(entries[:length])
        assert _fields(report_of(entries[:length])) == _fields(whole)
        for told in range(1, length + 1):
            assert case_of(entries[:length], earlier=case_of(entries[:told]), told=told) == whole


def test_a_case_of_what_came_since_has_every_kind_of_entry(tell: Tell) -> None:
    """Whatever is added to whatever there was, no part of an earlier Case outlives its time."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    pool = [entry for story in STORIES for entry in tell(story)]
    for _ in range(150):
        picked = [dataclasses.replace(e, seq=n) for n, e in enumerate(rng.choices(pool, k=rng.randrange(2, 14)), 1)]
        told = rng.randrange(1, len(picked))
        earlier = case_of(picked[:told])
        assert case_of(picked, earlier=earlier, told=told) == case_of(picked)


@pytest.mark.parametrize("story", STORIES)
def test_a_report_from_a_case_at_hand_has_the_same_bytes(tell: Tell, story: str) -> None:
    """So has its JSON by the encoder of the chain, and a notice of a Case is that of its entries."""
    entries = tell(story)
    case = case_of(entries)
    report = build(entries, phases=phases_of(entries), case=case)
    assert report == report_of(entries)
    assert json_bytes(report, encode=canonical) == json_bytes(report)
    for kind in NoticeKind:
        assert render_notice(kind, case) == render_notice(kind, entries)


def test_nothing_to_tell_is_refused(tell: Tell) -> None:
    """No entries, or those of two incidents, are a mistake of the caller."""
    with pytest.raises(ContractError, match="no entries"):
        report_of(())
    entries = tell("healed")
    other = dataclasses.replace(entries[1], incident_id="inc-20261121-083644-ffffffff")
    with pytest.raises(ContractError, match="one incident"):
        report_of((entries[0], other))


def test_an_alert_of_another_cluster_is_told_as_such(tell: Tell) -> None:
    """Not as one whose labels lead nowhere, nor as one whose evidence is to be repaired."""
    report = build(tell("elsewhere"), phases=())
    assert (report.service, report.cluster) == ("pay", "prod")
    assert report.headline == "Alert on pay of cluster prod: PayErrors"
    assert report.summary[0] == (
        "Alert PayErrors on pay of cluster prod was not judged: "
        "the alert is of cluster 'prod', this engine acts on lab."
    )
    (left,) = report.follow_ups
    assert left.startswith("Let each cluster's alerts come to its own engine")
    assert build(tell("paged"), phases=()).elsewhere == ""

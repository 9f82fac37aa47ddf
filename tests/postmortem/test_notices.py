"""What a person reads at three in the morning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firebreak.domain.codec import format_time
from firebreak.domain.errors import ContractError
from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.gateway.alertmanager import Refused
from firebreak.gateway.untaken import oversize_alert, spoilt_alert
from firebreak.postmortem.model import WORKFLOW_ENDED
from firebreak.postmortem.notice_next import DATA_FILES, INBOX_FILE, INTAKE, PROCESSES
from firebreak.postmortem.notices import render_notice
from firebreak.postmortem.report import build

Tell = Callable[..., tuple[TimelineEntry, ...]]


def _up_to(entries: tuple[TimelineEntry, ...], kind: EntryKind) -> tuple[TimelineEntry, ...]:
    index = next(i for i, e in enumerate(entries) if e.kind is kind)
    return entries[: index + 1]


def nothing_written(entries: tuple[TimelineEntry, ...]) -> tuple[TimelineEntry, ...]:
    """The same, but the world was already as the step wanted it."""
    effect = {"outcome": "not_applied", "reason": "nothing to write: it has that value already", "changes": []}
    return tuple(
        replace(e, body={**e.body, "effect": {**e.body["effect"], **effect}})
        if e.kind is EntryKind.EFFECT_RECORDED
        else e
        for e in entries
    )


def test_a_classified_p1_says_what_was_seen_and_decided(tell: Tell) -> None:
    """Value and limit of each dimension, the runbook, and what to do now: nothing."""
    notice = render_notice(NoticeKind.CLASSIFIED, _up_to(tell("healed"), EntryKind.PLAN_PINNED))
    text = "\n".join(notice.lines)
    assert notice.title == "P1 pay: errors ratio 25.12 % (limit > 5 %); engine acting [1f0a9c3e]"
    assert "- business: pay success drop 41.2 % (limit > 30 %)" in text
    assert "Decided: P1, may act: two independent dimensions" in text
    assert "runbook restart-then-reroute" in text
    assert notice.lines[-1] == "More: firebreak show inc-20261121-083644-1f0a9c3e"


def test_in_mode_observe_nobody_is_told_that_the_engine_acts(tell: Tell) -> None:
    """The mode comes with the message (nothing was observed yet) or from the record."""
    early = _up_to(tell("observe"), EntryKind.PLAN_PINNED)
    assert "engine observes only" in render_notice(NoticeKind.CLASSIFIED, early, body={"mode": "observe"}).title
    assert "engine observes only" in render_notice(NoticeKind.CLASSIFIED, tell("observe")).title


def test_a_call_says_why_what_was_tried_and_what_changed(tell: Tell) -> None:
    """All that a person needs before the laptop is open."""
    entries = _up_to(tell("paged"), EntryKind.PERSON_CALLED)
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"reason": "every tier was tried"})
    text = "\n".join(notice.lines)
    assert notice.title.startswith("P1 pay needs a person: every tier was tried")
    for part in (
        "Why: every tier was tried",
        "Tried:",
        "- restart_workload pay-v1: not verified: not within 10 s",
        "- shift_traffic pay-v1: refused: pay-v2 has no ready capacity",
        "Changed before:",
        "- 08:26:44 ConfigMap/shop-flags",
        "Next: look at the newest change first",
    ):
        assert part in text


def test_a_message_names_the_service_that_it_is_about(tell: Tell) -> None:
    """The pager shows it as the component; a fault of the engine itself is of none."""
    assert render_notice(NoticeKind.PERSON_NEEDED, tell("paged")).service == "pay"
    assert render_notice(NoticeKind.PERSON_NEEDED, _fault("outbox", error="full")).service == ""


def test_a_call_without_a_reason_of_its_own_gives_the_recorded_one(tell: Tell) -> None:
    """The renderer reads the timeline where the message says nothing."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, tell("paged"))
    assert "every tier was tried and none was verified" in notice.title


TO_TAKE_OVER = (
    "watch it, no later call rings while this page is open. Change nothing by hand meanwhile; to take over, end it "
    "first: firebreak close inc-"
)


def next_of(kind: NoticeKind, entries: tuple[TimelineEntry, ...], **body: Any) -> str:
    (told,) = [line for line in render_notice(kind, entries, body=body).lines if line.startswith("Next: ")]
    return told


@pytest.mark.parametrize(
    ("last", "doing"),
    [
        (EntryKind.PLAN_PINNED, "has taken no step yet and still may"),
        (EntryKind.INTENT_RECORDED, "is still trying"),
        (EntryKind.EFFECT_RECORDED, "is still trying"),
    ],
)
def test_a_deadline_invites_nobody_to_write_while_the_engine_does(tell: Tell, last: EntryKind, doing: str) -> None:
    """The notice of the classification has been delivered long before, and called nobody; nor is a write that is under
    way one whose outcome is not known."""
    entries = _up_to(tell("healed"), last)
    notice = render_notice(NoticeKind.DEADLINE, entries)
    assert notice.title.startswith("P1 pay not healed in time")
    told = next_of(NoticeKind.DEADLINE, entries)
    assert told.startswith(f"Next: the engine {doing}; {TO_TAKE_OVER}")


def test_a_deadline_is_a_persons_once_the_engine_has_stopped(tell: Tell) -> None:
    """A person was called meanwhile, an outcome is not known, or mode observe writes nothing at all."""
    for entries, body in (
        (_up_to(tell("paged"), EntryKind.PERSON_CALLED), {}),
        (_unknown_effect(tell("healed")), {}),
        (_up_to(tell("healed"), EntryKind.PLAN_PINNED), {"mode": "observe"}),
        (_up_to(tell("observe"), EntryKind.STEP_WOULD_APPLY), {}),
    ):
        assert "the engine is still trying" not in next_of(NoticeKind.DEADLINE, entries, **body)
        assert "and still may" not in next_of(NoticeKind.DEADLINE, entries, **body)
        assert "to take over" not in next_of(NoticeKind.DEADLINE, entries, **body)


def _to_look_again(entries: tuple[TimelineEntry, ...]) -> tuple[TimelineEntry, ...]:
    """One dimension holds so far: looked at again when the second one could."""
    *before, last = _up_to(entries, EntryKind.VERDICT_REACHED)
    result = {"next": "again", "again_at": format_time(datetime(2026, 11, 21, 8, 38, 14, tzinfo=UTC))}
    verdict = {**last.body["verdict"], "may_act": False, "act_reason": "one dimension is not enough"}
    return (*before, replace(last, body={**last.body, "verdict": verdict, "result": result}))


def test_an_engine_that_looks_again_invites_nobody_to_write(tell: Tell) -> None:
    """It has no plan yet, and may write as soon as a second dimension holds: head and deadline name the time."""
    entries = _to_look_again(tell("paged"))
    head = render_notice(NoticeKind.CLASSIFIED, entries)
    assert head.title.endswith("engine may not act yet [1f0a9c3e]")
    assert "Decided: P1, may not act yet: one dimension is not enough" in head.lines
    assert "Next: nothing yet; the engine looks again at 08:38:14 UTC and may act then." in head.lines
    again = "Next: the engine has taken no step yet, looks again at 08:38:14 UTC and may act then; "
    assert next_of(NoticeKind.DEADLINE, entries).startswith(f"{again}{TO_TAKE_OVER}")


def test_a_look_that_leads_to_no_write_leaves_the_incident_to_a_person(tell: Tell) -> None:
    """A person was called before it, or the mode writes nothing."""
    entries = _to_look_again(tell("paged"))
    called = (*entries, next(e for e in tell("paged") if e.kind is EntryKind.PERSON_CALLED))
    for record, body in ((called, {}), (entries, {"mode": "observe"})):
        for kind in (NoticeKind.CLASSIFIED, NoticeKind.DEADLINE):
            text = "\n".join(render_notice(kind, record, body=body).lines)
            assert "Next: handle it by hand" in text
            assert "may act then" not in text
            assert "may not act yet" not in text


def _unknown_effect(entries: tuple[TimelineEntry, ...]) -> tuple[TimelineEntry, ...]:
    *before, last = _up_to(entries, EntryKind.EFFECT_RECORDED)
    effect = {**last.body["effect"], "outcome": "unknown", "reason": "no answer"}
    return (*before, replace(last, body={**last.body, "effect": effect}))


def _relapsed(entries: tuple[TimelineEntry, ...], outcome: str, tier: int) -> tuple[TimelineEntry, ...]:
    verified = _up_to(entries, EntryKind.VERIFICATION)
    body = {**verified[-1].body, "outcome": outcome, "reason": "relapsed: errors_ratio 0.25 >= 0.05", "tier": tier}
    return (*verified, replace(verified[-1], seq=999, kind=EntryKind.HOLD_ENDED, key=f"hold/{tier}.0", body=body))


def test_a_relapse_that_goes_on_says_what_the_engine_does_next(tell: Tell) -> None:
    """It pages just before the undo and the next tier: whoever wrote by hand then would write against the engine."""
    story, place = tell("healed"), {"tier": 0, "step": 0, "reason": "relapsed: errors_ratio 0.25 >= 0.05"}
    entries = _relapsed(story, "not_verified", 0)
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries, body=place)
    assert notice.title.startswith("P1 pay: relapsed: errors_ratio 0.25 >= 0.05; the engine goes on [")
    told = next_of(NoticeKind.PERSON_NEEDED, entries, **place)
    assert told.startswith(f"Next: the engine tries the next tier; {TO_TAKE_OVER}")  # a restart has no undo
    entries, place = _relapsed(tell("restored"), "not_verified", 1), {"tier": 1, "step": 0}
    told = next_of(NoticeKind.PERSON_NEEDED, entries, **place)
    assert told.startswith(
        f"Next: the engine takes back what tier reroute wrote, then leaves it to you: no tier is left; {TO_TAKE_OVER}"
    )
    undone = replace(tell("undone")[-1], seq=1000)
    assert "takes back" not in next_of(NoticeKind.PERSON_NEEDED, (*entries, undone), **place)


@pytest.mark.parametrize("ended", ["undecided", "called", "closed"])
def test_a_relapse_that_does_not_go_on_is_a_persons(tell: Tell, ended: str) -> None:
    """Nobody can tell, a person was called since, or the incident is over."""
    entries = _relapsed(tell("healed"), "undecided" if ended == "undecided" else "not_verified", 0)
    if ended == "called":
        entries = (*entries, next(e for e in tell("paged") if e.kind is EntryKind.PERSON_CALLED))
    if ended == "closed":
        entries = (*entries, tell("healed")[-1])
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"tier": 0, "step": 0, "reason": "relapsed"})
    assert notice.title.startswith("P1 pay needs a person: relapsed")
    assert not any("to take over" in line for line in notice.lines)


def test_healed_says_by_what(tell: Tell) -> None:
    """Nobody has to open anything to know that he may sleep on."""
    notice = render_notice(NoticeKind.HEALED, _up_to(tell("healed"), EntryKind.VERIFICATION))
    assert notice.title.startswith("P1 pay healed by restart_workload pay-v1")


def test_nobody_is_told_that_a_step_healed_which_wrote_nothing(tell: Tell) -> None:
    """A person had been there before: the title and the list say so, and credit nothing of the engine's."""
    notice = render_notice(NoticeKind.HEALED, nothing_written(_up_to(tell("healed"), EntryKind.VERIFICATION)))
    assert notice.title.startswith("P1 pay healthy; restart_workload pay-v1 was already so, nothing was written")
    assert any("verified, though it was already so and nothing was written" in line for line in notice.lines)


def test_of_two_verified_steps_the_one_that_wrote_healed(tell: Tell) -> None:
    """The later one found that all was already so."""
    entries = _up_to(tell("healed"), EntryKind.VERIFICATION)
    body = {"tier": 1, "step": 0, "step_id": "to-v1", "action": "shift_traffic"}
    effect = {**body, "effect": {"outcome": "not_applied", "reason": "nothing to write"}}
    later = dataclasses.replace(entries[-1], kind=EntryKind.EFFECT_RECORDED, body=effect)
    judged = dataclasses.replace(entries[-1], body={**body, "outcome": "verified", "reason": "healthy"})
    assert "healed by restart_workload" in render_notice(NoticeKind.HEALED, (*entries, later, judged)).title


@pytest.mark.parametrize(
    ("outcome", "title", "next_step"),
    [
        ("applied", "applied, verifying", "verified by evidence"),
        ("already_applied", "applied, verifying", "verified by evidence"),
        ("refused", "refused", "nothing was written; the next tier is tried"),
        ("unknown", "unknown", "a person is paged"),
        ("would_apply", "would apply", "do it by hand if you agree; mode observe writes nothing"),
    ],
)
def test_a_write_is_told_with_its_real_outcome(tell: Tell, outcome: str, title: str, next_step: str) -> None:
    """The message of an effect also carries refusals and unknown outcomes: none of them reads as applied."""
    *before, last = _up_to(tell("healed"), EntryKind.EFFECT_RECORDED)
    body: dict[str, Any] = {**last.body, "effect": {**last.body["effect"], "outcome": outcome}}
    entries = (*before, dataclasses.replace(last, body=body))
    notice = render_notice(NoticeKind.STEP_APPLIED, entries, body={"tier": 0, "step": 0})
    assert f"restart_workload pay-v1 {title}" in notice.title
    assert any(next_step in line for line in notice.lines)


def _with_approval(entries: tuple[TimelineEntry, ...], tier: int) -> tuple[TimelineEntry, ...]:
    """The plan with a step that asks for approval."""
    plan = next(e for e in entries if e.kind is EntryKind.PLAN_PINNED)
    tiers = [dict(t) for t in plan.body["tiers"]]
    tiers[tier]["steps"] = [{**step, "approval": "on-call"} for step in tiers[tier]["steps"]]
    pinned = replace(plan, body={**plan.body, "tiers": tiers})
    return tuple(pinned if e is plan else e for e in entries)


@pytest.mark.parametrize("asks", [True, False])
def test_a_step_that_waits_for_approval_promises_no_further_tier(tell: Tell, asks: bool) -> None:
    """A person is paged at once: later tiers are not tried behind his back. Any other refusal leads to the next one."""
    pinned = _up_to(tell("paged"), EntryKind.PLAN_PINNED)
    entries = _with_approval(pinned, 0) if asks else pinned
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "reason": "waits for approval by on-call"}
    refused = replace(entries[-1], seq=999, key="refused/0.0", kind=EntryKind.STEP_REFUSED, body=body)
    told = next_of(NoticeKind.STEP_FAILED, (*entries, refused), tier=0, step=0)
    assert ("no later tier is tried without the approval; a person is paged" in told) is asks
    assert ("the next tier is tried" in told) is not asks
    assert ("to take over" in next_of(NoticeKind.DEADLINE, (*entries, refused))) is not asks


def test_what_is_undone_before_an_approval_promises_no_further_tier(tell: Tell) -> None:
    """The first step of the tier was written and is taken back, since the second one waits for a person."""
    entries = tell("undone")
    plan = next(e for e in entries if e.kind is EntryKind.PLAN_PINNED)
    tiers = [dict(t) for t in plan.body["tiers"]]
    tiers[1]["steps"] = [*tiers[1]["steps"], {"id": "more", "action": "set_flag", "approval": "on-call"}]
    entries = tuple(replace(e, body={**e.body, "tiers": tiers}) if e is plan else e for e in entries)
    body = {"tier": 1, "step": 1, "step_id": "more", "action": "set_flag", "reason": "waits for approval by on-call"}
    refused = replace(entries[-1], seq=999, key="refused/1.1", kind=EntryKind.STEP_REFUSED, body=body)
    told = next_of(NoticeKind.STEP_UNDONE, (*entries, refused), tier=1, step=0)
    assert told == "Next: no later tier is tried without the approval; a person is paged."


@pytest.mark.parametrize(
    ("story", "kind", "tier"),
    [
        ("paged", NoticeKind.STEP_APPLIED, 0),
        ("paged", NoticeKind.STEP_FAILED, 0),
        ("paged", NoticeKind.STEP_FAILED, 1),
        ("undone", NoticeKind.STEP_UNDONE, 1),
    ],
)
def test_once_a_person_was_called_no_step_promises_anything(
    tell: Tell, story: str, kind: NoticeKind, tier: int
) -> None:
    """Told late, or by a story that was started anew: it writes nothing more, and verifies nothing."""
    called = next(e for e in tell("paged") if e.kind is EntryKind.PERSON_CALLED)
    entries = tuple(e for e in tell(story) if e.seq < called.seq and e.kind is not EntryKind.PERSON_CALLED)
    told = next_of(kind, (*entries, replace(called, seq=999)), tier=tier, step=0)
    assert told == "Next: nothing more is written or verified: a person has it."


@pytest.mark.parametrize(
    "kind", [kind for kind in NoticeKind if kind not in (NoticeKind.HEALED, NoticeKind.RESTORED, NoticeKind.CLOSED)]
)
def test_of_a_closed_incident_nothing_is_promised_and_nobody_asked(tell: Tell, kind: NoticeKind) -> None:
    """Closed by hand while a step was under way, or told late: what is left in force, or comes back, if anything."""
    told = next_of(kind, tell("by_hand"), tier=1, step=0)
    assert told.startswith("Next: Step to-v1 is still in force on lab/shop/Deployment/pay-v1: put spec.")
    assert next_of(kind, tell("paged"), tier=0, step=0) == "Next: nothing more is done: the incident is over."
    back = "Next: the incident is over; step restart-pods is taken back by evidence, or a person is called."
    assert next_of(kind, tell("healed"), tier=0, step=0) == back
    *before, closed = tell("by_hand")
    entries = (*_unknown_effect(tuple(before)), replace(closed, seq=999))
    assert next_of(kind, entries, tier=1, step=0).startswith("Next: look at lab/shop/Deployment/pay-v1 first")


def test_once_somebody_has_asked_for_the_end_no_message_promises_or_forbids_anything(tell: Tell) -> None:
    """No worker is there to close it yet, or the wish met a write or an undo: nothing is written any more, nobody is
    called, and who asked need not be told to ask first."""
    wish = replace(next(e for e in tell("by_hand") if e.kind is EntryKind.CLOSE_REQUESTED), seq=999)
    story = tell("undone")
    refused = {**story[-1].body["effect"], "outcome": "refused", "reason": "a person has asked for the end"}
    not_undone = (*story[:-1], replace(story[-1], body={**story[-1].body, "effect": refused}))
    place, has_it = {"tier": 0, "step": 0}, "somebody has asked for the incident's end, and has it."
    cases: list[tuple[NoticeKind, tuple[TimelineEntry, ...], dict[str, Any], str]] = [
        (NoticeKind.DEADLINE, _up_to(tell("healed"), EntryKind.PLAN_PINNED), {}, f"nothing more is done: {has_it}"),
        (NoticeKind.PERSON_NEEDED, tell("paged")[:2], {"mode": "act"}, f"nothing more is done: {has_it}"),
        (NoticeKind.PERSON_NEEDED, _relapsed(tell("healed"), "not_verified", 0), place, "nothing more is done"),
        (NoticeKind.HEALED, _relapsed(tell("healed"), "not_verified", 0), {}, "nothing more is done"),
        (NoticeKind.STEP_FAILED, _up_to(tell("paged"), EntryKind.STEP_REFUSED), place, "nothing more is done"),
        (
            NoticeKind.STEP_UNDONE,
            not_undone,
            {"tier": 1, "step": 0},
            f"nothing more is written: {has_it} Look at lab/shop/Deployment/pay-v1 first: what shift_traffic",
        ),
        (
            NoticeKind.STEP_APPLIED,
            _unknown_effect(tell("healed")),
            place,
            f"nothing more is written: {has_it} Look at lab/shop/Deployment/pay-v1 first: what restart_workload",
        ),
        (
            NoticeKind.DEADLINE,
            _up_to(tell("by_hand"), EntryKind.EFFECT_RECORDED),
            {},
            f"nothing more is written: {has_it} Step to-v1 is still in force on lab/shop/Deployment/pay-v1: put spec.",
        ),
    ]
    for kind, entries, told, begins in cases:
        line = next_of(kind, (*entries, wish), **told)
        assert line.startswith(f"Next: {begins}")
        assert not any(words in line for words in ("a person is paged", "to take over", "next tier"))
        assert "; the engine goes on" not in render_notice(kind, (*entries, wish), body=told).title


def test_the_notice_of_an_engine_that_has_stopped_promises_no_work(tell: Tell) -> None:
    """The pager was away: the call goes out first, this notice behind it. Or the chat was."""
    notice = render_notice(NoticeKind.CLASSIFIED, _up_to(tell("paged"), EntryKind.PERSON_CALLED))
    assert notice.title.endswith("; engine has stopped [1f0a9c3e]")
    assert "Next: nothing more is written or verified: a person has it." in notice.lines
    told = next_of(NoticeKind.CLASSIFIED, _unknown_effect(tell("healed")))
    assert told == "Next: a person is paged: the engine has stopped."


def test_a_healing_that_is_told_after_its_relapse_sends_nobody_to_sleep(tell: Tell) -> None:
    """The chat is behind by more than the hold; the step that stands is none that healed."""
    entries = _relapsed(tell("healed"), "not_verified", 0)
    notice = render_notice(NoticeKind.HEALED, entries)
    assert notice.title.startswith("P1 pay was healed, and has relapsed since")
    assert next_of(NoticeKind.HEALED, entries) == "Next: the next tier is tried; a person is paged when none is left."
    closed = replace(tell("paged")[-1], seq=1000)
    assert "the incident is over" in next_of(NoticeKind.HEALED, (*entries, closed))
    doubt = _relapsed(tell("healed"), "undecided", 0)
    assert render_notice(NoticeKind.HEALED, doubt).title.startswith(
        "P1 pay was healed, and whether it stays so is not known ["
    )
    assert next_of(NoticeKind.HEALED, doubt) == "Next: nothing more is tried; a person is paged."


@pytest.mark.parametrize("kind", [NoticeKind.HEALED, NoticeKind.STEP_FAILED, NoticeKind.STEP_APPLIED])
def test_what_is_told_behind_a_step_that_stops_the_walk_promises_no_tier(tell: Tell, kind: NoticeKind) -> None:
    """Also of an earlier step: the one that came after it could not be taken back."""
    *before, undone = tell("undone")
    effect = {**undone.body["effect"], "outcome": "refused", "reason": "no ready pods"}
    failed = next(e for e in tell("paged") if e.kind is EntryKind.VERIFICATION)
    entries = (*before, replace(failed, seq=998), replace(undone, seq=999, body={**undone.body, "effect": effect}))
    assert next_of(kind, entries, tier=0, step=0) == "Next: nothing more is tried; a person is paged."


@pytest.mark.parametrize(
    ("outcome", "title", "told"),
    [
        ("verified", "applied, verified", "it has been verified by evidence; nothing to do yet."),
        ("not_verified", "applied, not verified", "the next tier is tried; a person is paged when none is left."),
        ("undecided", "applied, not known whether it healed", "nothing more is tried; a person is paged."),
    ],
)
def test_a_write_that_is_told_late_says_what_came_of_it(tell: Tell, outcome: str, title: str, told: str) -> None:
    """The verification is over: it is not said to be under way, nor what failed to be verified."""
    *before, last = _up_to(tell("healed"), EntryKind.VERIFICATION)
    entries = (*before, replace(last, body={**last.body, "outcome": outcome}))
    body = {"tier": 0, "step": 0}
    assert f"restart_workload pay-v1 {title} [" in render_notice(NoticeKind.STEP_APPLIED, entries, body=body).title
    assert next_of(NoticeKind.STEP_APPLIED, entries, **body).startswith(f"Next: {told}")


def test_an_unknown_outcome_sends_the_person_to_the_target_first(tell: Tell) -> None:
    """Before anything else is done by hand, the world has to be read."""
    called = next(e for e in tell("paged") if e.kind is EntryKind.PERSON_CALLED)
    entries = (*_up_to(tell("healed"), EntryKind.INTENT_RECORDED), replace(called, seq=999))
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"reason": "the outcome is not known"})
    assert any("look at lab/shop/Deployment/pay-v1 first" in line for line in notice.lines)


def test_a_step_of_which_nobody_can_tell_says_that_it_is_in_force(tell: Tell) -> None:
    """The thread promises no further tier, and the page begins with what stands unjudged."""
    entries = _up_to(tell("paged"), EntryKind.VERIFICATION)
    last = replace(entries[-1], body={**entries[-1].body, "outcome": "undecided"})
    told = render_notice(NoticeKind.STEP_FAILED, (*entries[:-1], last), body={"tier": 0, "step": 0})
    assert "not known whether it healed" in told.title
    assert any("nothing more is tried" in line for line in told.lines)
    page = render_notice(NoticeKind.PERSON_NEEDED, (*entries[:-1], last), body={"reason": "not known"})
    assert any("restart_workload pay-v1, which is still in force, helped" in line for line in page.lines)
    as_it_was = next_of(NoticeKind.PERSON_NEEDED, nothing_written((*entries[:-1], last)))
    assert "restart_workload pay-v1, which was already so, helped" in as_it_was, "nothing of the engine's is in force"


def test_a_step_that_somebody_changed_sends_the_person_to_its_object(tell: Tell) -> None:
    """Nobody is told that it is in force: it is not, or not as it was written."""
    entries = _up_to(tell("paged"), EntryKind.VERIFICATION)
    progress = {"state": "changed", "reason": "it was changed by somebody else since it was written", "details": []}
    last = replace(entries[-1], body={**entries[-1].body, "outcome": "undecided", "progress": progress})
    told = render_notice(NoticeKind.STEP_FAILED, (*entries[:-1], last), body={"tier": 0, "step": 0})
    assert "changed by somebody else since it was written" in told.title
    assert any("nothing more is tried" in line for line in told.lines)
    page = render_notice(NoticeKind.PERSON_NEEDED, (*entries[:-1], last), body={"reason": "changed"})
    (line,) = (line for line in page.lines if "first: somebody else has changed it" in line)
    assert "look at lab/shop/Deployment/pay-v1" in line
    assert not any("in force" in line for line in page.lines)


def test_a_step_that_was_taken_back_says_what_is_as_before(tell: Tell) -> None:
    """Before and after of the way back, and that the engine goes on."""
    told = render_notice(NoticeKind.STEP_UNDONE, tell("undone"), body={"tier": 1, "step": 0})
    assert "shift_traffic pay-v1 was taken back" in told.title
    assert "- spec.rules[0].backendRefs[0].weight: 100 -> 50" in told.lines
    assert any("the next tier is tried" in line for line in told.lines)


def test_a_step_that_could_not_be_taken_back_says_that_it_is_in_force(tell: Tell) -> None:
    """Nothing is written on top of it, and a person comes."""
    entries = tell("undone")
    effect = {**entries[-1].body["effect"], "outcome": "refused", "reason": "no ready pods"}
    last = replace(entries[-1], body={**entries[-1].body, "effect": effect})
    told = render_notice(NoticeKind.STEP_UNDONE, (*entries[:-1], last), body={"tier": 1, "step": 0})
    assert "shift_traffic pay-v1 was NOT taken back" in told.title
    assert any("no ready pods" in line for line in told.lines)
    assert any("a person is paged" in line for line in told.lines)


def test_an_undo_of_which_nobody_can_tell_is_in_doubt(tell: Tell) -> None:
    """It may have been written: neither taken back nor not."""
    entries = tell("undone")
    effect = {**entries[-1].body["effect"], "outcome": "unknown", "reason": "cannot be read back"}
    last = replace(entries[-1], body={**entries[-1].body, "effect": effect})
    told = render_notice(NoticeKind.STEP_UNDONE, (*entries[:-1], last), body={"tier": 1, "step": 0})
    assert "shift_traffic pay-v1 is in doubt: whether it was taken back is not known" in told.title


def test_a_healing_that_lasts_says_what_stays_changed(tell: Tell) -> None:
    """The engine takes it back by itself, or calls a person."""
    entries = _up_to(tell("restored"), EntryKind.RESTORE_OPENED)
    told = render_notice(NoticeKind.HEALED, entries)
    assert any("stays in force until the broken part itself is well" in line for line in told.lines)


def test_a_failed_step_names_the_step_of_the_message(tell: Tell) -> None:
    """Two steps failed: each message tells of its own."""
    first = render_notice(NoticeKind.STEP_FAILED, tell("paged"), body={"tier": 0, "step": 0})
    second = render_notice(NoticeKind.STEP_FAILED, tell("paged"), body={"tier": 1, "step": 0})
    assert "restart_workload pay-v1 not verified" in first.title
    assert "shift_traffic pay-v1 refused" in second.title


@pytest.mark.parametrize(
    ("outcome", "words", "line"),
    [
        ("restored", "was taken back", "taken back"),
        ("overdue", "not taken back (overdue)", "not taken back in time, still in force"),
        ("refused", "not taken back (refused)", "not taken back, since that was refused"),
        ("unknown", "whether it was taken back is not known", "whether it was taken back is not known"),
    ],
)
def test_the_end_of_a_restore_is_told(tell: Tell, outcome: str, words: str, line: str) -> None:
    """Taken back, or not and why."""
    entries = tell("healed")
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "outcome": outcome, "reason": "because"}
    ended = dataclasses.replace(entries[-1], seq=999, kind=EntryKind.RESTORE_ENDED, body=body)
    notice = render_notice(NoticeKind.RESTORED, (*entries, ended))
    assert words in notice.title
    assert f"Step restart-pods: {line}: because" in notice.lines


@pytest.mark.parametrize("outcome", ["overdue", "abandoned"])
@pytest.mark.parametrize("begun", [False, True])
def test_the_end_of_a_restore_that_was_begun_is_not_told_as_not_taken_back(
    tell: Tell, outcome: str, begun: bool
) -> None:
    """Its write may have got through: nobody says that the step is still in force."""
    entries = tell("healed")
    body = {"tier": 0, "step": 0, "step_id": "restart-pods", "outcome": outcome, "reason": "because", "begun": begun}
    ended = dataclasses.replace(entries[-1], seq=999, kind=EntryKind.RESTORE_ENDED, body=body)
    (restore,) = build((*entries, ended), phases=()).restores
    assert ("still in force" in restore.told) is not begun
    assert ("is not known" in restore.told) is begun
    assert ("was not taken back" in render_notice(NoticeKind.RESTORED, (*entries, ended)).title) is not begun


@pytest.mark.parametrize(("outcome", "verb"), [("refused", "may be"), ("overdue", "is"), ("abandoned", "is")])
def test_a_restore_that_ends_badly_before_its_incident_is_a_persons(tell: Tell, outcome: str, verb: str) -> None:
    """The incident is still held, and its workflow may write; but nothing takes that step back any more."""
    entries = _up_to(tell("restored"), EntryKind.RESTORE_OPENED)
    place, reason = {"tier": 1, "step": 0}, "spec.rules was changed by somebody"
    body = {**place, "step_id": "to-v1", "outcome": outcome, "reason": reason}
    ended = replace(entries[-1], seq=999, key="restore-ended/1.0", kind=EntryKind.RESTORE_ENDED, body=body)
    told = next_of(NoticeKind.PERSON_NEEDED, (*entries, ended), reason=reason)
    assert told.startswith(f"Next: Step to-v1 {verb} still in force on lab/shop/Deployment/pay-v1: put spec.rules")


@pytest.mark.parametrize("set_back", [timedelta(0), timedelta(hours=1)])
@pytest.mark.parametrize("late", ["person/late", "restore-ended/0.0", "restore-overdue/0.0"])
def test_a_call_after_the_end_names_what_ends_it(tell: Tell, late: str, set_back: timedelta) -> None:
    """The incident is over: no close will end this page, and nothing watches the evidence any more; whatever the wall
    clock said then."""
    calls: dict[str, tuple[EntryKind, dict[str, Any]]] = {
        "person/late": (EntryKind.PERSON_CALLED, {"reason": "an alert joined", "urgency": "high"}),
        "restore-ended/0.0": (EntryKind.RESTORE_ENDED, {"tier": 0, "step": 0, "outcome": "overdue", "reason": "dead"}),
        "restore-overdue/0.0": (
            EntryKind.ENGINE_FAULT,
            {"where": "restore", "error": "overdue", "next_step": "Take the step back by hand.", "tier": 0, "step": 0},
        ),
    }
    kind, body = calls[late]
    entries = tell("healed")
    last = dataclasses.replace(entries[-1], seq=999, key=late, kind=kind, body=body, at=entries[-1].at - set_back)
    notice = render_notice(NoticeKind.PERSON_NEEDED, (*entries, last), body={"reason": "because"})
    (told,) = [line for line in notice.lines if line.startswith("Next: ")]
    assert told.endswith("Then end this page: firebreak close inc-20261121-083644-1f0a9c3e --reason ...")
    assert len(told) <= 300
    assert "goes on watching" not in told
    expected = {"person/late": "look at the newest change first", "restore-overdue/0.0": "Take the step back by hand."}
    assert expected.get(late, "is still in force") in told


@pytest.mark.parametrize("set_back", [timedelta(0), timedelta(hours=1)])
def test_a_call_before_the_end_ends_with_the_incident(tell: Tell, set_back: timedelta) -> None:
    """Sent late, as by a pager that was away: what resolves it is queued behind it; also where the close, by the wall
    clock, came before it."""
    entries = tuple(replace(e, at=e.at - set_back) if e.kind is EntryKind.INCIDENT_CLOSED else e for e in tell("paged"))
    lines = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"reason": "because"}).lines
    assert not any("firebreak close" in line for line in lines)


def test_a_closed_incident_lists_what_is_left(tell: Tell) -> None:
    """Three follow-ups at most, and where the rest is."""
    notice = render_notice(NoticeKind.CLOSED, tell("paged"))
    text = "\n".join(notice.lines)
    assert "Ended: recovered after 7 min 1 s" in text
    assert "2 more in the post-mortem" in text
    assert "firebreak postmortem inc-20261121-083644-1f0a9c3e" in text


def test_a_restore_tells_the_field_that_it_wrote(tell: Tell) -> None:
    """Before and after of the write itself."""
    notice = render_notice(NoticeKind.RESTORED, tell("restored"))
    assert "- spec.rules[0].backendRefs[0].weight: 0 -> 100" in notice.lines


def test_a_restart_is_told_without_its_time_stamp(tell: Tell) -> None:
    """An annotation's path says nothing to a person; other steps tell their fields."""
    entries = _up_to(tell("healed"), EntryKind.EFFECT_RECORDED)
    text = "\n".join(render_notice(NoticeKind.STEP_APPLIED, entries, body={"tier": 0, "step": 0}).lines)
    assert "- pods restart" in text
    assert "restarted-at" not in text
    assert "absent" not in text
    entries = _up_to(tell("by_hand"), EntryKind.EFFECT_RECORDED)
    text = "\n".join(render_notice(NoticeKind.STEP_APPLIED, entries, body={"tier": 1, "step": 0}).lines)
    assert "- spec.rules[0].backendRefs[0].weight: 100 -> 0" in text


def test_an_alert_that_nobody_classified_still_makes_a_page(tell: Tell) -> None:
    """Only the opening entry is there: the engine itself is in trouble."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, tell("healed")[:1], body={"reason": "nothing has classified it"})
    assert notice.title.startswith("Alert pay needs a person: nothing has classified it")
    assert "Decided: not classified" in notice.lines


@pytest.mark.parametrize("looked", [False, True], ids=["never looked at", "to be looked at again"])
def test_a_call_about_what_nobody_looked_at_in_time_invites_nobody_to_write(tell: Tell, looked: bool) -> None:
    """The engine or Temporal was away for a minute, and may write as soon as it is back; not where a person was called
    since, nor in mode observe, nor without a target."""
    entries = _to_look_again(tell("paged")) if looked else tell("paged")[:2]
    told = next_of(NoticeKind.PERSON_NEEDED, entries, reason="not in time", mode="act")
    assert told.startswith(f"Next: the engine has taken no step yet and still may; {TO_TAKE_OVER}")
    called = replace(next(e for e in tell("paged") if e.kind is EntryKind.PERSON_CALLED), seq=999)
    assert "handle it by hand" in next_of(NoticeKind.PERSON_NEEDED, (*entries, called), reason="not in time")
    assert "handle it by hand" in next_of(NoticeKind.PERSON_NEEDED, entries, reason="not in time", mode="observe")
    assert "handle it by hand" in next_of(NoticeKind.PERSON_NEEDED, entries, reason="not in time"), "of which mode?"
    opened = replace(entries[0], body={**entries[0].body, "target": None, "refusal": "no such service"})
    assert "find the workload by hand" in next_of(NoticeKind.PERSON_NEEDED, (opened, *entries[1:]), mode="act")


@pytest.mark.parametrize(
    ("cluster", "name", "look"),
    [
        ("prod", "pay of cluster prod", "look at it in that cluster"),
        ("", "pay of an unknown cluster", "find out which cluster it is of, and look there"),
    ],
)
def test_a_call_about_another_cluster_names_it(tell: Tell, cluster: str, name: str, look: str) -> None:
    """Nobody looks at our service of that name, or at services.yaml; and what ends the call is said."""
    opened, *rest = _up_to(tell("elsewhere"), EntryKind.PERSON_CALLED)
    bindings = {**opened.body["bindings"], "cluster": cluster}
    entries = (replace(opened, body={**opened.body, "bindings": bindings}), *rest)
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries)
    assert notice.title.startswith(f"Alert {name} needs a person: the alert is of cluster 'prod', this engine acts on")
    assert "Decided: nothing; the alert is of cluster 'prod', this engine acts on lab" in notice.lines
    assert f"Next: {look}; it ends when its alerts have resolved, or by hand." in notice.lines


def _fault(where: str, **body: str) -> tuple[TimelineEntry, ...]:
    entry = TimelineEntry(
        seq=1,
        incident_id="engine-00ff-1795291200",
        key="fault",
        kind=EntryKind.ENGINE_FAULT,
        at=datetime(2026, 11, 21, 3, tzinfo=UTC),
        actor="engine",
        target="",
        uid="",
        duration_ms=None,
        body={"where": where, **body},
        previous="0" * 64,
        digest="1" * 64,
    )
    return (entry,)


def test_a_call_about_the_engine_itself_says_so_and_promises_nothing_of_incidents(tell: Tell) -> None:
    """No service, nothing seen or tried, nobody who watches for healthy evidence: only what is wrong and what to do."""
    entries = _fault("GatewayBacklog", error="alerts wait", next_step="Handle it by hand.")
    notice = render_notice(NoticeKind.PERSON_NEEDED, entries, body={"reason": "257 labels"})
    assert notice.title == "Firebreak itself needs a person: 257 labels [1795291200]"
    assert notice.lines == (
        "Why: 257 labels",
        "Next: Handle it by hand. This page ends when its alert resolves, or by: "
        "firebreak close engine-00ff-1795291200 --reason ...",
        "More: firebreak show engine-00ff-1795291200",
    )


def test_a_fault_that_no_alert_tells_the_end_of_is_ended_by_hand(tell: Tell) -> None:
    """A parked alert, a broken document, or what the gateway itself tells of: nothing says that it is over."""
    (fault,) = _fault("dispatcher", error="cannot be handled", next_step="Handle it by hand.")
    told = next_of(NoticeKind.PERSON_NEEDED, (replace(fault, incident_id="parked-7-1795291200"),))
    assert told == "Next: Handle it by hand. Then end this page: firebreak close parked-7-1795291200 --reason ..."
    at = datetime(2026, 11, 21, 9, tzinfo=UTC)
    too_large = oversize_alert(limit=1, at=at)
    refused = spoilt_alert(name="A", names=["A"], count=1, why=Refused("257 labels", reason="labels"), at=at)
    for alert in (too_large, refused):
        entries = _fault(alert.labels["alertname"], error="not taken", next_step="Handle it by hand.")
        told = next_of(NoticeKind.PERSON_NEEDED, entries)
        assert (
            told == "Next: Handle it by hand. Then end this page: firebreak close engine-00ff-1795291200 --reason ..."
        )


def test_the_call_about_waiting_alerts_says_that_it_ends_by_itself(tell: Tell) -> None:
    """The intake's watch resolves that one."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, _fault(INTAKE, error="7 alerts wait", next_step="Start them."))
    assert notice.title.startswith("Firebreak itself needs a person: 7 alerts wait")
    assert "Next: Start them. This page ends by itself once the alerts are taken up." in notice.lines


def test_the_call_about_an_inbox_that_cannot_be_read_says_that_it_ends_by_itself(tell: Tell) -> None:
    """So does that one."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, _fault(INBOX_FILE, error="damaged", next_step="Stop the engine."))
    assert "Next: Stop the engine. This page ends by itself once the inbox can be read." in notice.lines


def test_the_call_about_a_replaced_file_does_not_promise_its_end_with_another_record(tell: Tell) -> None:
    """A copy that is put back, as the page says, knows of no such page: nothing resolves it."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, _fault(DATA_FILES, error="replaced", next_step="Put it back."))
    end = "once the engine has been started again with this record; with another one, resolve it at the pager."
    assert f"Next: Put it back. This page ends by itself {end}" in notice.lines


def test_the_call_about_a_process_that_is_down_says_that_it_ends_by_itself(tell: Tell) -> None:
    """Nothing is to be closed by hand."""
    notice = render_notice(
        NoticeKind.PERSON_NEEDED, _fault(PROCESSES, error="gateway", next_step="Read run/gateway.log.")
    )
    assert "Next: Read run/gateway.log. This page ends by itself once the process runs again." in notice.lines


def test_an_incident_whose_workflow_has_ended_is_a_persons(tell: Tell) -> None:
    """Whoever rings late says so, and what is left in force, and names what ends it; the engine neither writes any more
    nor watches."""
    (fault,) = _fault(WORKFLOW_ENDED, error="was terminated", next_step="Handle it by hand.")
    for entries, kind, told in (
        (tell("paged")[:2], NoticeKind.PERSON_NEEDED, "handle it by hand; the engine does not watch it any more. Then"),
        (_up_to(tell("healed"), EntryKind.PLAN_PINNED), NoticeKind.DEADLINE, "handle it by hand; the engine does not"),
        (_up_to(tell("by_hand"), EntryKind.EFFECT_RECORDED), NoticeKind.DEADLINE, "Step to-v1 is still in force on"),
        (_up_to(tell("healed"), EntryKind.PLAN_PINNED), NoticeKind.CLASSIFIED, "a person is paged: the engine has"),
    ):
        noted = replace(fault, seq=999, incident_id=entries[0].incident_id, key="workflow-fault")
        assert next_of(kind, (*entries, noted), mode="act").startswith(f"Next: {told}")


def test_a_fault_within_an_incident_leaves_the_call_about_that(tell: Tell) -> None:
    """The record of an incident may hold a fault of the engine, too."""
    notice = render_notice(NoticeKind.PERSON_NEEDED, tell("paged"))
    assert notice.title.startswith("P1 pay needs a person")
    assert any(line.startswith("Seen: ") for line in notice.lines)


def test_no_entries_are_refused(tell: Tell) -> None:
    """A message about nothing is a mistake of the caller."""
    with pytest.raises(ContractError):
        render_notice(NoticeKind.CLOSED, ())

"""Phase timings against their budgets (row D5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firebreak.domain.codec import format_time
from firebreak.domain.timeline import EntryKind, PhaseTiming, TimelineEntry
from firebreak.timeline.phases import BUDGETS, DELIVERY_MS, Budget, Phase, Since, phases_of

Stamp = tuple[float, EntryKind, Mapping[str, Any]]

ACCEPTED = datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC)


def at(milliseconds: float) -> datetime:
    return ACCEPTED + timedelta(milliseconds=milliseconds)


def entries(*stamps: Stamp) -> tuple[TimelineEntry, ...]:
    return tuple(
        TimelineEntry(
            seq=seq,
            incident_id="inc-20261121-083644-00000000",
            key=f"{kind.value}/{seq}",
            kind=kind,
            at=at(milliseconds),
            actor="engine",
            target="",
            uid="",
            duration_ms=None,
            body=body,
        )
        for seq, (milliseconds, kind, body) in enumerate(stamps, start=1)
    )


PAGED_BY_DEADLINE = {"channel": "pager", "notice": "deadline", "pager": "trigger_high"}
OPENED = (5.0, EntryKind.INCIDENT_OPENED, {"accepted_at": format_time(ACCEPTED)})


def verdict(
    milliseconds: float, *, holds_at: float | None = None, pinned_at: float | None = None, severity: str = "none"
) -> Any:
    body = {
        "severity": severity,
        "holds_at": None if holds_at is None else format_time(at(holds_at)),
        "pinned_at": None if pinned_at is None else format_time(at(pinned_at)),
    }
    return (milliseconds, EntryKind.VERDICT_REACHED, {"verdict": body})


def of(timings: tuple[PhaseTiming, ...]) -> dict[str, tuple[float, float, bool]]:
    return {t.phase: (t.took_ms, t.waited_ms, t.over) for t in timings}


def test_a_straight_healing_has_every_phase_from_the_right_start() -> None:
    """Engine phases count from the one before, the paging deadline from the classification, the end from the
    acceptance of the alert."""
    found = of(
        phases_of(
            entries(
                OPENED,
                verdict(25),
                (27, EntryKind.PLAN_PINNED, {}),
                (127, EntryKind.EVIDENCE_KEPT, {}),
                (140, EntryKind.EFFECT_RECORDED, {}),
                (9_000, EntryKind.VERIFICATION, {"outcome": "verified"}),
                (12_000, EntryKind.INCIDENT_CLOSED, {}),
            )
        )
    )
    assert found == {
        "seen": (5, 0, False),
        "classified": (20, 0, False),
        "planned": (2, 0, False),
        "evidence kept": (100, 0, False),
        "first action": (13, 0, False),
        "verified": (8_975, 0, False),
        "closed": (12_000, 0, False),
    }


def test_the_wait_that_a_rule_asks_for_is_not_counted() -> None:
    """A pending condition that can hold after two minutes: only what came after that is the engine's."""
    found = of(phases_of(entries(OPENED, verdict(25, holds_at=120_000), verdict(120_040, pinned_at=120_010))))
    assert found["classified"] == (40, 119_995, True)


def test_a_look_that_was_woken_early_counts_from_its_own_evidence() -> None:
    """The alert resolved before the rule could hold: the deciding look began at its pinned time."""
    found = of(phases_of(entries(OPENED, verdict(25, holds_at=120_000), verdict(512, pinned_at=500))))
    assert found["classified"] == (12, 495, False)


def test_a_record_without_those_times_counts_from_the_look_before() -> None:
    """An older record: nothing fails."""
    found = of(phases_of(entries(OPENED, verdict(25), verdict(512))))
    assert found["classified"] == (487, 20, True)


def test_looks_after_the_decision_do_not_count() -> None:
    """Recovery looks follow a page; the verdict that led to it is the one before."""
    found = of(phases_of(entries(OPENED, verdict(25), (30, EntryKind.PERSON_CALLED, {}), verdict(90_000))))
    assert found["classified"][0] == 20
    assert found["person called"] == (5, 0, False)


@pytest.mark.parametrize(("took", "over"), [(60_000 + DELIVERY_MS, False), (60_001 + DELIVERY_MS, True)])
def test_a_page_by_the_deadline_is_a_call(took: float, over: bool) -> None:
    """It has no entry of its own but its delivery, which takes a moment and is late only after that."""
    page = (25 + took, EntryKind.MESSAGE_DELIVERED, PAGED_BY_DEADLINE)
    assert of(phases_of(entries(OPENED, verdict(25), page)))["person called"] == (took, 0, over)


def test_the_paging_deadline_does_not_count_the_wait_that_a_rule_asks_for() -> None:
    """A condition that must hold for two minutes: healed half a minute after that is half a minute before the page."""
    found = of(
        phases_of(
            entries(
                OPENED,
                verdict(25, holds_at=120_000),
                verdict(120_020, pinned_at=120_010, severity="P1"),
                (120_020, EntryKind.PLAN_PINNED, {}),
                (150_020, EntryKind.VERIFICATION, {"outcome": "verified"}),
                (180_050, EntryKind.MESSAGE_DELIVERED, PAGED_BY_DEADLINE),
            )
        )
    )
    assert found["verified"] == (30_000, 119_995, False)
    assert found["person called"] == (60_030, 119_995, False)


def test_the_paging_deadline_begins_with_the_first_p1() -> None:
    """One dimension classifies and sets the deadline; the look that may act comes later."""
    found = of(
        phases_of(
            entries(
                OPENED,
                verdict(25, holds_at=50_000, severity="P1"),
                verdict(50_020, pinned_at=50_010, severity="P1"),
                (50_020, EntryKind.PLAN_PINNED, {}),
                (70_025, EntryKind.VERIFICATION, {"outcome": "verified"}),
            )
        )
    )
    assert found["verified"] == (70_000, 0, True)


def test_a_call_that_no_classification_led_to_counts_from_the_acceptance() -> None:
    """There is no other promise to measure it by."""
    called = of(phases_of(entries(OPENED, (61_001, EntryKind.PERSON_CALLED, {}))))
    assert called["person called"] == (61_001, 0, True)


def test_what_would_have_been_written_is_the_first_action_in_mode_observe() -> None:
    """The first of effects and would-be effects."""
    stamps = entries(OPENED, verdict(25), (30, EntryKind.PLAN_PINNED, {}), (41, EntryKind.STEP_WOULD_APPLY, {}))
    assert of(phases_of(stamps))["first action"] == (11, 0, False)


def test_the_last_verification_of_a_whole_tier_is_the_one() -> None:
    """Steps of a tier are verified one by one, and it heals by all of them: what one of them was verified for is taken
    back by the next one that is not, and is none while that was not even tried."""
    tiers = [{"name": "both", "steps": [{"id": "one"}, {"id": "two"}]}, {"name": "next", "steps": [{"id": "three"}]}]
    plan = (30, EntryKind.PLAN_PINNED, {"tiers": tiers})

    def judged(milliseconds: float, tier: int, step: int, outcome: str = "verified") -> Any:
        return (milliseconds, EntryKind.VERIFICATION, {"tier": tier, "step": step, "outcome": outcome})

    first = judged(4_000, 0, 0)
    assert "verified" not in of(phases_of(entries(OPENED, plan, first)))
    assert "verified" not in of(phases_of(entries(OPENED, plan, first, judged(7_000, 0, 1, "not_verified"))))
    assert of(phases_of(entries(OPENED, plan, first, judged(7_000, 0, 1))))["verified"][0] == 7_000
    later = judged(9_000, 1, 0)
    found = phases_of(entries(OPENED, plan, first, judged(7_000, 0, 1, "not_verified"), later))
    assert of(found)["verified"][0] == 9_000


RELAPSE: Stamp = (120_000, EntryKind.HOLD_ENDED, {"outcome": "not_verified"})
HEALED: Stamp = (7_000, EntryKind.VERIFICATION, {"outcome": "verified"})


def test_a_call_for_a_relapse_counts_from_that() -> None:
    """Till then a verified healing had taken the deadline back: the page, not the later decision, is the call."""
    page = (120_300, EntryKind.MESSAGE_DELIVERED, {"notice": "person_needed", "pager": "trigger_high"})
    given_up: Stamp = (300_000, EntryKind.PERSON_CALLED, {})
    found = of(phases_of(entries(OPENED, verdict(25, severity="P1"), HEALED, RELAPSE, page, given_up)))
    assert found["person called"] == (300, 0, False)
    unheard = of(phases_of(entries(OPENED, verdict(25, severity="P1"), HEALED, RELAPSE, given_up)))
    assert unheard["person called"] == (180_000, 0, True)


def test_a_page_about_what_nobody_looked_at_is_a_call() -> None:
    """It has no entry of its own, either; what only informs is none."""
    page = (61_500, EntryKind.MESSAGE_DELIVERED, {"notice": "person_needed", "pager": "trigger_high"})
    assert of(phases_of(entries(OPENED, page)))["person called"] == (61_500, 0, True)
    informs = (40, EntryKind.MESSAGE_DELIVERED, {"notice": "classified", "pager": "trigger_low"})
    assert "person called" not in of(phases_of(entries(OPENED, informs)))


@pytest.mark.parametrize(("late", "over"), [(60_900.0, False), (61_500.0, True)])
def test_what_is_classified_after_a_call_does_not_measure_it(late: float, over: bool) -> None:
    """The engine was away, and came back behind the page, which counts from when the look was due: at once, or when a
    condition could hold. A call that was decided before that counts from the look that there was."""
    waits = verdict(25, holds_at=120_000)
    waits[2]["result"] = {"next": "again", "again_at": format_time(at(120_000))}
    page = {"notice": "person_needed", "pager": "trigger_high"}
    for looked, due in (((), 0.0), ((waits,), 120_000.0)):
        called = (due + late, EntryKind.MESSAGE_DELIVERED, page)
        found = phases_of(entries(OPENED, *looked, called, verdict(due + 90_000, severity="P1")))
        assert of(found)["person called"] == (late, 0, over)
    decided = phases_of(entries(OPENED, waits, (1_025, EntryKind.PERSON_CALLED, {})))
    assert of(decided)["person called"] == (1_000, 0, False)


def test_a_call_after_the_end_is_not_measured_by_the_deadline() -> None:
    """An alert joined at the last moment, or a restore was overdue; the deadline's own page is, however late it is."""
    over: Stamp = (12_000, EntryKind.INCIDENT_CLOSED, {})
    late: Stamp = (240_000, EntryKind.PERSON_CALLED, {})
    overdue = (900_000, EntryKind.MESSAGE_DELIVERED, {"notice": "person_needed", "pager": "trigger_high"})
    found = of(phases_of(entries(OPENED, verdict(25), HEALED, over, late, overdue)))
    assert "person called" not in found
    deadline = (90_025, EntryKind.MESSAGE_DELIVERED, PAGED_BY_DEADLINE)
    assert of(phases_of(entries(OPENED, verdict(25), over, deadline)))["person called"] == (90_000, 0, True)


def test_a_relapse_takes_the_verification_back() -> None:
    """What did not stay healthy was not healed at that time; a hold to its end changes nothing."""
    good = (4_000, EntryKind.VERIFICATION, {"outcome": "verified"})
    relapse = phases_of(entries(OPENED, good, (9_000, EntryKind.HOLD_ENDED, {"outcome": "not_verified"})))
    held = phases_of(entries(OPENED, good, (9_000, EntryKind.HOLD_ENDED, {"outcome": "verified"})))
    assert "verified" not in of(relapse)
    assert of(held)["verified"][0] == 4_000


@pytest.mark.parametrize(("took", "over"), [(15.0, False), (15.001, True)])
def test_over_budget_means_more_than_the_limit(took: float, over: bool) -> None:
    """The limit itself is kept."""
    opened = (took, EntryKind.INCIDENT_OPENED, {"accepted_at": format_time(ACCEPTED)})
    (seen,) = phases_of(entries(opened))
    assert (seen.phase, seen.over, seen.budget_ms) == ("seen", over, 15)


def test_own_budgets_replace_the_table() -> None:
    """Only the phases that have a budget are timed."""
    budgets = {Phase.CLOSED: Budget(limit_ms=1, since=Since.ACCEPTED, source="a test")}
    (closed,) = phases_of(entries(OPENED, (500, EntryKind.INCIDENT_CLOSED, {})), budgets=budgets)
    assert (closed.phase, closed.over, closed.budget_source) == ("closed", True, "a test")


def test_a_clock_that_was_set_back_shows_and_is_not_over() -> None:
    """A negative time is told, not hidden."""
    opened = dataclasses.replace(entries(OPENED)[0], at=at(-250))
    (seen,) = phases_of((opened,))
    assert (seen.took_ms, seen.over) == (-250, False)


def test_nothing_is_timed_without_an_opening() -> None:
    """And a wrong acceptance time falls back on the opening itself."""
    assert phases_of(entries((5, EntryKind.INCIDENT_CLOSED, {}))) == ()
    (seen,) = phases_of(entries((5, EntryKind.INCIDENT_OPENED, {"accepted_at": "yesterday"})))
    assert seen.took_ms == 0


def test_every_phase_has_a_budget_with_its_source() -> None:
    """No figure without where it is from."""
    assert set(BUDGETS) == set(Phase)
    assert all(b.source and b.limit_ms > 0 for b in BUDGETS.values())

"""What a verdict leads to: one sentence a case, and what holds for every case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebreak.domain.condition import ConditionResult, Dimension, Truth
from firebreak.domain.verdict import LookAhead, NextLook, Severity, Verdict
from firebreak.triage.disposition import LookTimes, look_ahead

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TIMES = LookTimes(
    recheck=timedelta(seconds=15),
    quiet=timedelta(minutes=2),
    watch=timedelta(minutes=15),
    doubt=timedelta(minutes=1),
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Seconds count from the look; negative ones lie in the past."""

    sentence: str
    truth: Truth
    expected: NextLook
    may_act: bool = False
    holds_in: float | None = None
    firing: int = 1
    opened: float = -30
    quiet: float | None = None
    doubtful: float | None = None
    refusal: str = ""
    looks: int = 1000
    known_well: bool = True
    elsewhere: str = ""
    again_in: float | None = None
    says: str = ""
    unwaited: Truth | None = None
    sooner_in: float | None = None
    steady: float | None = None  # since when one condition has been pending

    def look(self, truncated: int = 0) -> LookAhead:
        verdict = Verdict(
            severity=Severity.P1 if self.truth is Truth.TRUE else Severity.NONE,
            truth=self.truth,
            may_act=self.may_act,
            act_reason="two dimensions" if self.may_act else "one dimension only",
            reason="what the tree says",
            pinned_at=NOW,
            tree="p1",
            tree_digest="d",
            dimensions=(),
            conditions=() if self.steady is None else (pending_since(self.steady),),
            nodes=(),
            holds_at=None if self.holds_in is None else at(self.holds_in),
        )
        return look_ahead(
            verdict,
            alerts_firing=self.firing,
            opened_at=at(self.opened),
            quiet_since=None if self.quiet is None else at(self.quiet),
            doubtful_since=None if self.doubtful is None else at(self.doubtful),
            times=TIMES,
            target_refusal=self.refusal,
            truncated=truncated,
            looks=self.looks,
            known_well=self.known_well,
            elsewhere=self.elsewhere,
            unwaited=None if self.unwaited is None else replace(verdict, truth=self.unwaited),
            sooner=None if self.sooner_in is None else at(self.sooner_in),
        )


def pending_since(seconds: float) -> ConditionResult:
    return ConditionResult(name="e", dimension=Dimension.ERRORS, truth=Truth.PENDING, reason="", since=at(seconds))


CASES = (
    Case(
        sentence="a pending verdict is looked at again as soon as another condition could decide",
        truth=Truth.PENDING,
        holds_in=3600,
        sooner_in=15,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="a P1 that waits for its second dimension looks again when another one could be it",
        truth=Truth.TRUE,
        holds_in=3600,
        sooner_in=15,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="of a resolved alert a doubt is not closed over, though something else was pending",
        truth=Truth.PENDING,
        holds_in=60,
        firing=0,
        unwaited=Truth.INCONCLUSIVE,
        doubtful=-60,
        expected=NextLook.CALL_PERSON,
        says="inconclusive",
    ),
    Case(
        sentence="while the alert fires, what is pending is waited for, doubt or not",
        truth=Truth.PENDING,
        holds_in=60,
        unwaited=Truth.INCONCLUSIVE,
        doubtful=-60,
        expected=NextLook.AGAIN,
        again_in=60,
    ),
    Case(
        sentence="a `for` time longer than all watching is waited for while it is true without a break",
        truth=Truth.PENDING,
        holds_in=600,
        opened=-3000,
        steady=-3000,
        expected=NextLook.AGAIN,
        again_in=600,
    ),
    Case(
        sentence="also when it began some time after the alert",
        truth=Truth.PENDING,
        holds_in=120,
        opened=-1860,
        steady=-1680,
        expected=NextLook.AGAIN,
        again_in=120,
    ),
    Case(
        sentence="what was true in turns only calls a person, however long it may be true by now",
        truth=Truth.PENDING,
        holds_in=600,
        opened=-3000,
        steady=-1499,
        expected=NextLook.CALL_PERSON,
    ),
    Case(
        sentence="the longer it waits, the seldomer it looks for what could decide sooner",
        truth=Truth.PENDING,
        holds_in=3600,
        opened=-1200,
        sooner_in=15,
        expected=NextLook.AGAIN,
        again_in=60,
    ),
    Case(
        sentence="time in which nobody looked makes it look no seldomer",
        truth=Truth.PENDING,
        holds_in=3600,
        opened=-36_000,
        looks=4,
        sooner_in=30,
        expected=NextLook.AGAIN,
        again_in=30,
    ),
    Case(
        sentence="nor is it half of what must have been true without a break",
        truth=Truth.PENDING,
        holds_in=1800,
        opened=-36_000,
        looks=124,
        steady=-1800,
        expected=NextLook.AGAIN,
        again_in=1800,
    ),
    Case(
        sentence="what turns out true after its alert resolved in doubt is a person's",
        truth=Truth.TRUE,
        may_act=True,
        firing=0,
        doubtful=-30,
        expected=NextLook.CALL_PERSON,
        says="resolved while the evidence was in doubt",
    ),
    Case(
        sentence="what turns out true after a doubt is acted on while its alert fires",
        truth=Truth.TRUE,
        may_act=True,
        doubtful=-30,
        expected=NextLook.ACT,
    ),
    Case(
        sentence="a P1 with two dimensions and a target is acted on",
        truth=Truth.TRUE,
        may_act=True,
        expected=NextLook.ACT,
        says="two dimensions",
    ),
    Case(
        sentence="a P1 is acted on also when its alert has resolved: the evidence decides",
        truth=Truth.TRUE,
        may_act=True,
        firing=0,
        expected=NextLook.ACT,
    ),
    Case(
        sentence="a P1 without a target calls a person and says why there is none",
        truth=Truth.TRUE,
        may_act=True,
        refusal="no label deployment",
        expected=NextLook.CALL_PERSON,
        says="no label deployment",
    ),
    Case(
        sentence="a P1 in one dimension waits while a second one is pending",
        truth=Truth.TRUE,
        holds_in=20,
        expected=NextLook.AGAIN,
        again_in=20,
        says="second dimension",
    ),
    Case(
        sentence="a P1 in one dimension calls a person when no second one is pending",
        truth=Truth.TRUE,
        expected=NextLook.CALL_PERSON,
        says="one dimension only",
    ),
    Case(
        sentence="a P1 in one dimension is not put off by a time that has passed",
        truth=Truth.TRUE,
        holds_in=-5,
        expected=NextLook.CALL_PERSON,
    ),
    Case(
        sentence="a P1 without a target is not put off by a pending dimension",
        truth=Truth.TRUE,
        holds_in=20,
        refusal="unknown service",
        expected=NextLook.CALL_PERSON,
    ),
    Case(
        sentence="what is true and has not held is looked at again when it could hold",
        truth=Truth.PENDING,
        holds_in=45,
        expected=NextLook.AGAIN,
        again_in=45,
        says="has not held",
    ),
    Case(
        sentence="pending without a time is looked at again after the usual wait",
        truth=Truth.PENDING,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="pending since a time that has passed does not make it look without a pause",
        truth=Truth.PENDING,
        holds_in=-1,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="an alert that resolves while pending ends with nothing done",
        truth=Truth.PENDING,
        holds_in=45,
        firing=0,
        expected=NextLook.NOTHING,
        says="resolved before",
    ),
    Case(
        sentence="an alert that resolves in doubt is no end: what took the evidence may have taken its series",
        truth=Truth.INCONCLUSIVE,
        firing=0,
        expected=NextLook.AGAIN,
        again_in=15,
        says="inconclusive so far",
    ),
    Case(
        sentence="doubt that lasts calls a person also when the alert has resolved",
        truth=Truth.INCONCLUSIVE,
        doubtful=-60,
        firing=0,
        expected=NextLook.CALL_PERSON,
        says="inconclusive",
    ),
    Case(
        sentence="first doubt is looked at again soon",
        truth=Truth.INCONCLUSIVE,
        expected=NextLook.AGAIN,
        again_in=15,
        says="inconclusive so far",
    ),
    Case(
        sentence="doubt near its limit is looked at again at the limit, not after it",
        truth=Truth.INCONCLUSIVE,
        doubtful=-55,
        expected=NextLook.AGAIN,
        again_in=5,
    ),
    Case(
        sentence="doubt that lasts calls a person",
        truth=Truth.INCONCLUSIVE,
        doubtful=-60,
        expected=NextLook.CALL_PERSON,
        says="inconclusive",
    ),
    Case(
        sentence="doubt in turn with health calls a person when the watch is over",
        truth=Truth.INCONCLUSIVE,
        opened=-960,
        expected=NextLook.CALL_PERSON,
        says="inconclusive",
    ),
    Case(
        sentence="doubt in turn with health is borne until then",
        truth=Truth.INCONCLUSIVE,
        opened=-959,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="doubt right after a time in which nobody looked is borne as any doubt",
        truth=Truth.INCONCLUSIVE,
        opened=-7200,
        looks=10,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="what is nearly true again and again calls a person after twice the watch",
        truth=Truth.PENDING,
        opened=-1860,
        holds_in=45,
        expected=NextLook.CALL_PERSON,
        says="31 min",
    ),
    Case(
        sentence="what grows true after the watch is given the time to hold",
        truth=Truth.PENDING,
        opened=-1859,
        holds_in=45,
        expected=NextLook.AGAIN,
        again_in=45,
    ),
    Case(
        sentence="healthy evidence under a firing alert is watched",
        truth=Truth.FALSE,
        expected=NextLook.AGAIN,
        again_in=15,
        says="the evidence is healthy",
    ),
    Case(
        sentence="healthy evidence under a firing alert is watched beyond the quiet time: it may grow unseen",
        truth=Truth.FALSE,
        quiet=-500,
        opened=-500,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="evidence that stays healthy for the quiet time ends with nothing done when the watch is over",
        truth=Truth.FALSE,
        quiet=-120,
        opened=-900,
        expected=NextLook.NOTHING,
        says="for 120 s",
    ),
    Case(
        sentence="a service of which nothing could be measured all the while is not known to be well",
        truth=Truth.NOT_APPLICABLE,
        known_well=False,
        quiet=-180,
        opened=-960,
        expected=NextLook.CALL_PERSON,
        says="after 16 min of watching nothing of the service itself can be measured",
    ),
    Case(
        sentence="one thin moment as the watch ends calls nobody yet",
        truth=Truth.FALSE,
        known_well=False,
        quiet=-900,
        opened=-900,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="until then it is watched as any other",
        truth=Truth.FALSE,
        known_well=False,
        expected=NextLook.AGAIN,
        again_in=15,
        says="nothing of the service itself can be measured",
    ),
    Case(
        sentence="nothing known and nothing firing ends at once",
        truth=Truth.NOT_APPLICABLE,
        known_well=False,
        firing=0,
        expected=NextLook.NOTHING,
    ),
    Case(
        sentence="the time in which nobody looked is no watch",
        truth=Truth.FALSE,
        opened=-1200,
        quiet=-1200,
        looks=2,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="the watch does not end before the evidence has been quiet for its time",
        truth=Truth.FALSE,
        quiet=-30,
        opened=-900,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="doubt since a time that is still to come is as new as first doubt: the clock was set back",
        truth=Truth.INCONCLUSIVE,
        doubtful=3600,
        opened=3000,
        looks=3,
        expected=NextLook.AGAIN,
        again_in=15,
    ),
    Case(
        sentence="an alert that resolves with healthy evidence ends at once",
        truth=Truth.FALSE,
        firing=0,
        expected=NextLook.NOTHING,
    ),
    Case(
        sentence="a tree that does not apply is as good as healthy",
        truth=Truth.NOT_APPLICABLE,
        quiet=-121,
        opened=-901,
        expected=NextLook.NOTHING,
    ),
)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.sentence) for c in CASES])
def test_a_verdict_leads_where_the_sentence_says(case: Case) -> None:
    """Next look, its time, and the words a person reads."""
    ahead = case.look()
    assert ahead.next is case.expected, ahead.reason
    assert ahead.again_at == (None if case.again_in is None else at(case.again_in))
    assert case.says in ahead.reason
    assert "what the tree says" in ahead.reason


def test_the_runs_of_looks_are_carried_on_and_broken() -> None:
    """Quiet and doubt begin with their first look, keep their start, and end with a look that found something else."""

    def look(truth: Truth, quiet: float | None, doubtful: float | None) -> LookAhead:
        return Case(sentence="", truth=truth, expected=NextLook.AGAIN, quiet=quiet, doubtful=doubtful).look()

    assert look(Truth.FALSE, None, None).quiet_since == NOW
    assert look(Truth.FALSE, -40, None).quiet_since == at(-40)
    assert look(Truth.FALSE, None, -40).doubtful_since is None
    assert look(Truth.INCONCLUSIVE, None, None).doubtful_since == NOW
    assert look(Truth.INCONCLUSIVE, None, -40).doubtful_since == at(-40)
    assert look(Truth.INCONCLUSIVE, -40, None).quiet_since is None
    assert look(Truth.PENDING, -40, -40).quiet_since is None
    assert look(Truth.PENDING, -40, -40).doubtful_since is None


def wait_of(truth: Truth, *, back: float, after: float) -> float:
    """Seconds from the opening, at 0, until it is not looked at again, where after `after` the clock goes `back`. What
    is pending has been so for a minute, whenever one looks."""
    gone, looks = 0.0, 0
    since: dict[str, float | None] = {"quiet": None, "doubtful": None}
    while gone < 100_000:
        said = gone - (back if gone >= after else 0)
        quiet, doubtful = (None if at is None else at - said for at in since.values())
        ahead = Case(
            sentence="",
            truth=truth,
            expected=NextLook.AGAIN,
            opened=-said,
            quiet=quiet,
            doubtful=doubtful,
            looks=looks,
            steady=-60 if truth is Truth.PENDING else None,
        ).look()
        if ahead.again_at is None:
            return gone
        for name, start in (("quiet", ahead.quiet_since), ("doubtful", ahead.doubtful_since)):
            since[name] = None if start is None else said + (start - NOW).total_seconds()
        gone, looks = gone + (ahead.again_at - NOW).total_seconds(), looks + 1
    return gone


@pytest.mark.parametrize("back", [6, 100, 800, 3600, 31_536_000])
@pytest.mark.parametrize("after", [1, 50, 600, 890])
@pytest.mark.parametrize("truth", [Truth.INCONCLUSIVE, Truth.FALSE, Truth.PENDING])
def test_a_clock_that_is_set_back_costs_each_wait_at_most_once_more(truth: Truth, after: float, back: float) -> None:
    """An hour or a year: doubt, health under a firing alert and what is nearly true all end."""
    wait = wait_of(truth, back=0, after=0)
    assert wait <= wait_of(truth, back=back, after=after) <= 2 * wait + TIMES.recheck.total_seconds()


@pytest.mark.parametrize("truth", list(Truth))
@pytest.mark.parametrize(
    ("firing", "truncated", "expected"),
    [(1, 0, NextLook.CALL_PERSON), (0, 2, NextLook.CALL_PERSON), (0, 0, NextLook.NOTHING)],
)
def test_an_alert_of_another_cluster_is_a_persons_whatever_is_measured_here(
    truth: Truth, firing: int, truncated: int, expected: NextLook
) -> None:
    """At once, unless all have resolved by then: nothing of it is known here, its health as little as its target."""
    case = Case(sentence="any", truth=truth, expected=expected, may_act=True, firing=firing, elsewhere="it is of prod")
    ahead = case.look(truncated)
    assert ahead.next is expected
    assert "it is of prod" in ahead.reason


seconds = st.one_of(st.none(), st.integers(-2000, 2000).map(float))


@settings(max_examples=300, deadline=None, print_blob=True)
@given(
    truth=st.sampled_from(Truth),
    may_act=st.booleans(),
    holds_in=seconds,
    firing=st.integers(0, 3),
    opened=st.integers(-2000, 2000).map(float),
    quiet=seconds,
    doubtful=seconds,
    refusal=st.sampled_from(["", "no target"]),
)
def test_no_look_acts_without_leave_and_none_lies_in_the_past(
    truth: Truth,
    may_act: bool,
    holds_in: float | None,
    firing: int,
    opened: float,
    quiet: float | None,
    doubtful: float | None,
    refusal: str,
) -> None:
    """For every verdict: ACT needs TRUE, may_act and a target; a reason is always given; the next look is after this
    one, and is there exactly when one is asked for."""
    ahead = Case(
        sentence="any",
        truth=truth,
        expected=NextLook.AGAIN,
        may_act=may_act,
        holds_in=holds_in,
        firing=firing,
        opened=opened,
        quiet=quiet,
        doubtful=doubtful,
        refusal=refusal,
    ).look()
    assert ahead.reason
    if ahead.next is NextLook.ACT:
        assert truth is Truth.TRUE
        assert may_act
        assert not refusal
    assert (ahead.again_at is not None) == (ahead.next is NextLook.AGAIN)
    if ahead.again_at is not None:
        assert ahead.again_at > NOW
    if truth is Truth.INCONCLUSIVE:
        assert ahead.next is not NextLook.ACT


def test_a_truncated_group_is_never_closed_because_its_alerts_resolved() -> None:
    """The source left alerts out: nobody knows whether these have resolved, too."""
    case = Case(sentence="", truth=Truth.FALSE, expected=NextLook.AGAIN, firing=0)
    assert case.look().next is NextLook.NOTHING
    assert case.look(truncated=3).next is NextLook.AGAIN

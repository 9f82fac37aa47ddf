"""What a verdict leads to: act, look again, call a person, or close with nothing done. Pure; the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from firebreak.documents.durations import spoken
from firebreak.domain.condition import Truth
from firebreak.domain.verdict import LookAhead, NextLook, Verdict

_SELDOMER = 20
"""A wait is broken off for what could decide sooner after a twentieth of the time watched, at the soonest: the longer
that is, the seldomer."""

_THIN = "nothing of the service itself can be measured as healthy (too few calls?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTimes:
    """Named durations of the policy. `recheck`: between two looks at evidence that is not true; `quiet`: how long it
    must have stayed healthy; `watch`: how long an alert that fires over healthy evidence is watched at least; `doubt`:
    how long an inconclusive answer may last before a person is called."""

    recheck: timedelta
    quiet: timedelta
    watch: timedelta
    doubt: timedelta


def look_ahead(
    verdict: Verdict,
    *,
    alerts_firing: int,
    opened_at: datetime,
    quiet_since: datetime | None,
    doubtful_since: datetime | None,
    times: LookTimes,
    target_refusal: str = "",
    truncated: int = 0,
    looks: int = 0,
    known_well: bool = True,
    elsewhere: str = "",
    unwaited: Verdict | None = None,
    sooner: datetime | None = None,
) -> LookAhead:
    """`unwaited`: the verdict once nothing is waited for (`classify.without_waiting`); `sooner`: when it may be decided
    before what it waits for (`classify.could_decide_at`). `quiet_since` and `doubtful_since` as the look before gave
    them; `known_well`: something of the service itself was measured as good; `elsewhere`: why the alert is not known to
    be of our cluster. That one is a person's at once, whatever the verdict. Rules: issue item 6 (pending, resolves or
    breaks first), item 7 (inconclusive pages, also when the alert resolves: whatever took the evidence away may have
    taken its series, too; what turns out true after that is told to a person), A1 (one dimension classifies and pages,
    two act). Evidence that keeps changing ends, too: doubt in turn with health after `watch` and `doubt`, what is
    nearly true after twice that. Only time that `looks` were made in counts, a `recheck` for each: not the one in which
    the engine or its evidence was away.

    Every wait ends, also where the clock is set back, by however much: each step costs at most the wait once more.
    `quiet_since` and `doubtful_since` that are still to come count from this look on, and are handed on so; while
    `opened_at`, which is fixed, is still to come, the looks alone count, and later on its own time again."""
    now = verdict.pinned_at
    if elsewhere:
        return _of_another_cluster(elsewhere, over=alerts_firing == 0 and truncated == 0)
    if truncated > 0:
        alerts_firing = max(alerts_firing, 1)  # the source left alerts out: nobody knows that all have resolved
    looked = looks * times.recheck
    watched = looked if opened_at > now else min(now - opened_at, looked)
    if sooner is not None:
        sooner = max(sooner, now + watched / _SELDOMER)
    if verdict.truth is Truth.TRUE:
        if alerts_firing == 0 and doubtful_since is not None:
            return LookAhead(
                next=NextLook.CALL_PERSON,
                reason=f"{verdict.reason}; nothing is done: its alert resolved while the evidence was in doubt",
            )
        return _after_true(verdict, now, target_refusal, sooner)
    if alerts_firing == 0 and unwaited is not None:
        verdict = unwaited
    if alerts_firing == 0 and verdict.truth is not Truth.INCONCLUSIVE:
        return LookAhead(next=NextLook.NOTHING, reason=f"the alert resolved before the verdict held: {verdict.reason}")
    if verdict.truth is Truth.INCONCLUSIVE:
        since = min(doubtful_since or now, now)
        if now - since >= times.doubt or watched >= times.watch + times.doubt:
            return LookAhead(
                next=NextLook.CALL_PERSON,
                reason=f"the evidence is inconclusive: {verdict.reason}",
                doubtful_since=since,
            )
        return LookAhead(
            next=NextLook.AGAIN,
            reason=f"inconclusive so far: {verdict.reason}",
            again_at=min(now + times.recheck, since + times.doubt),
            doubtful_since=since,
        )
    if verdict.truth is Truth.PENDING:
        if watched >= 2 * times.watch + times.doubt and not _steady(verdict, now - watched / 2):
            spent = spoken(max(now - opened_at, watched))
            return LookAhead(
                next=NextLook.CALL_PERSON,
                reason=f"for {spent} neither true for its time nor well for long: {verdict.reason}",
            )
        later = verdict.holds_at is not None and verdict.holds_at > now
        return LookAhead(
            next=NextLook.AGAIN,
            reason=f"true, but has not held for its time yet: {verdict.reason}",
            again_at=_earlier(verdict.holds_at, sooner) if later else now + times.recheck,
        )
    return _after_false(verdict, now, watched, quiet_since, times, known_well=known_well)


def _of_another_cluster(elsewhere: str, *, over: bool) -> LookAhead:
    if over:
        return LookAhead(next=NextLook.NOTHING, reason=f"its alerts resolved before a person was called: {elsewhere}")
    return LookAhead(
        next=NextLook.CALL_PERSON, reason=f"{elsewhere}; nothing was judged, since nothing of it is measured here"
    )


def _earlier(at: datetime | None, sooner: datetime | None) -> datetime | None:
    return at if sooner is None or at is None else min(at, sooner)


def _steady(verdict: Verdict, middle: datetime) -> bool:
    """Whether what is waited for has been true without a break for half of the time watched, or longer: that is no
    coming and going, but a `for` time that is as long, and it ends."""
    return any(r.truth is Truth.PENDING and r.since is not None and r.since <= middle for r in verdict.conditions)


def _after_true(verdict: Verdict, now: datetime, target_refusal: str, sooner: datetime | None) -> LookAhead:
    if target_refusal:
        return LookAhead(next=NextLook.CALL_PERSON, reason=f"{verdict.reason}; no target to act on: {target_refusal}")
    if verdict.may_act:
        return LookAhead(next=NextLook.ACT, reason=f"{verdict.reason}; {verdict.act_reason}")
    if verdict.holds_at is not None and verdict.holds_at > now:
        return LookAhead(
            next=NextLook.AGAIN,
            reason=f"{verdict.reason}; may act when a second dimension holds: {verdict.act_reason}",
            again_at=_earlier(verdict.holds_at, sooner),
        )
    return LookAhead(next=NextLook.CALL_PERSON, reason=f"{verdict.reason}; may not act: {verdict.act_reason}")


def _after_false(
    verdict: Verdict,
    now: datetime,
    watched: timedelta,
    quiet_since: datetime | None,
    times: LookTimes,
    *,
    known_well: bool,
) -> LookAhead:
    """The alert fires, the evidence is healthy: watched for a while, since Alertmanager does not tell again soon. A
    service of which nothing can be measured is not known to be well: nobody may be able to reach it any more. One thin
    moment at the end says little: it has `doubt` longer to show itself."""
    since = min(quiet_since or now, now)
    if watched >= times.watch and now - since >= times.quiet:
        span = (now - since).total_seconds()
        if known_well:
            reason = f"the evidence does not confirm the alert, for {span:.0f} s: {verdict.reason}"
            return LookAhead(next=NextLook.NOTHING, reason=reason, quiet_since=since)
        if watched >= times.watch + times.doubt:
            reason = f"the alert fires, and after {spoken(watched)} of watching {_THIN}: {verdict.reason}"
            return LookAhead(next=NextLook.CALL_PERSON, reason=reason, quiet_since=since)
    known = "the evidence is healthy" if known_well else _THIN
    return LookAhead(
        next=NextLook.AGAIN,
        reason=f"the alert fires, {known}: {verdict.reason}",
        again_at=now + times.recheck,
        quiet_since=since,
    )

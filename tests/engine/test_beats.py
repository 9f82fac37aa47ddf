"""A child that does nothing any more is found, and one that is only late, or asleep with all of us, is not."""

from __future__ import annotations

from firebreak.engine.beats import ASLEEP, HUNG, STARTING, Beats, OwnBeats

STEP = 0.1


def seconds_until_hung(beats: Beats, mark: int | None, at: float, limit: float = 200.0) -> float | None:
    """Look every 0.1 s at a mark that does not change."""
    now = at
    while now - at < limit:
        if beats.hung(mark, now):
            return now - at
        now += STEP
    return None


def test_silence_is_counted_from_the_last_beat() -> None:
    """Whatever came before."""
    beats = Beats(began_at=0.0)
    for second in range(50):
        assert not beats.hung(second, float(second))
    silent = seconds_until_hung(beats, 49, 49.0)
    assert silent is not None
    assert HUNG < silent < HUNG + 2 * STEP


def test_a_child_may_take_its_time_to_start() -> None:
    """Until its first beat a longer limit holds, but one there is."""
    silent = seconds_until_hung(Beats(began_at=0.0), None, 0.0)
    assert silent is not None
    assert STARTING < silent < STARTING + 2 * STEP


def test_one_that_is_ready_and_never_beats_hangs() -> None:
    """It has had its time to start already."""
    beats = Beats(began_at=0.0)
    beats.ready(100.0)
    silent = seconds_until_hung(beats, None, 100.0)
    assert silent is not None
    assert HUNG < silent < HUNG + 2 * STEP


def test_the_beats_of_the_one_before_say_nothing() -> None:
    """Its file is still there, with the last mark of the one that was killed."""
    beats = Beats(began_at=0.0)
    assert not beats.hung(7, 0.0)
    beats.started(8, 100.0)  # it beat once more before it died
    silent = seconds_until_hung(beats, 8, 100.0)
    assert silent is not None
    assert silent > STARTING


def test_after_a_sleep_of_our_own_nobodys_silence_counts() -> None:
    """The whole machine was stopped: a child gets its whole time again."""
    beats = Beats(began_at=0.0)
    assert not beats.hung(1, 0.0)
    assert seconds_until_hung(beats, 1, STEP, limit=HUNG - 1) is None
    woken = HUNG + 3600.0
    silent = seconds_until_hung(beats, 1, woken)
    assert silent is not None
    assert silent > HUNG


def test_looks_that_are_a_little_late_are_no_sleep() -> None:
    """Else a busy machine would never find one that hangs."""
    beats, now = Beats(began_at=0.0), 0.0
    assert not beats.hung(1, now)
    while not beats.hung(1, now):
        now += ASLEEP - STEP
        assert now < 2 * HUNG
    assert now > HUNG


def test_where_no_beat_can_be_left_nobody_is_ended() -> None:
    """A disk that takes nothing: who lives must go on, since it can still call a person."""
    beats, ours, now = Beats(began_at=0.0), OwnBeats(), 0.0
    while now < 10:
        assert not beats.hung(int(now), now, kept=ours.kept(int(now), now))
        now += STEP
    while now < 300:  # from here on neither we nor the child leave a mark
        assert not beats.hung(9, now, kept=ours.kept(9, now))
        now += STEP
    began = now
    while not beats.hung(9, now, kept=ours.kept(int(now), now)):  # it takes ours again, and the child is still silent
        now += STEP
        assert now - began < 2 * HUNG
    assert now - began > HUNG - 1


def test_a_clock_that_is_set_back_is_a_beat_like_any() -> None:
    """Only that the mark changes counts, not which way."""
    beats = Beats(began_at=0.0)
    for now in range(60):
        assert not beats.hung(1000 - now, float(now))

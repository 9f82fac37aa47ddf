"""What becomes of a process of the engine that ends, and ends again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from firebreak.engine.children import DOWN, LONGEST_WAIT, LOOK, Children
from firebreak.servers.process import ManagedProcess


def beat(path: Path, now: float) -> None:
    """As a process does, by the family's clock."""
    path.touch()
    os.utime(path, (now, now))


class Process:
    """One that lives for `lasts` seconds after each start, and beats as often as it is looked at."""

    def __init__(self, name: str, beat_file: Path) -> None:
        self.name = name
        self.pid = self.exit_code = 1
        self.starts: list[float] = []
        self.lasts = 1e9
        self.beats = True
        self.now = 0.0
        self._born = 0.0
        self._beat_file = beat_file

    @property
    def alive(self) -> bool:
        lives = self.now - self._born < self.lasts
        if lives and self.beats:
            beat(self._beat_file, self.now)
        return lives

    def kill(self) -> None:
        self._born = self.now - self.lasts

    def start_again(self) -> None:
        self._born = self.now
        self.starts.append(self.now)


class Family:
    """A gateway that is looked after, and the time."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.replaced: list[Path] = []
        self.own = folder / "up"
        self.gateway = Process("gateway", folder / "gateway")
        self.children = Children(self.own, lambda: self.replaced, lambda: self.now)
        self.children.add(cast(ManagedProcess, cast(Any, self.gateway)), folder / "gateway")

    def after(self, seconds: float) -> Sequence[str] | None:
        """Who is down by then."""
        end = self.now + seconds
        while self.now < end:
            self.now = self.gateway.now = self.now + LOOK
            beat(self.own, self.now)
            self.children.look()
        return self.children.down()


@pytest.fixture
def family(tmp_path: Path) -> Family:
    family = Family(tmp_path)
    assert family.after(2 * LONGEST_WAIT) == []
    return family


def test_a_process_that_ends_as_often_as_it_is_started_is_down_after_a_minute(family: Family) -> None:
    """However often that is."""
    family.gateway.lasts = LONGEST_WAIT / 2
    assert family.after(DOWN - 1) == []
    assert len(family.gateway.starts) > 1
    assert family.after(2) == ["gateway"]


def test_a_process_that_ended_once_is_not_down(family: Family) -> None:
    """It lasts, and beats."""
    family.gateway.lasts = 1.0
    family.after(1)
    family.gateway.lasts = 1e9
    assert family.after(2 * DOWN) == []
    assert len(family.gateway.starts) == 1


def test_a_process_that_lasts_again_is_down_no_longer(family: Family) -> None:
    """From then on."""
    family.gateway.lasts = 1.0
    assert family.after(DOWN + 1) == ["gateway"]
    family.gateway.lasts = 1e9
    assert family.after(2 * LONGEST_WAIT + 1) == []


def test_a_process_that_lives_and_never_beats_again_is_down(family: Family) -> None:
    """It is alive for the kernel alone."""
    family.gateway.lasts = 0.0
    family.after(1)
    family.gateway.lasts, family.gateway.beats = 1e9, False
    assert family.after(DOWN / 2) == []
    assert family.after(DOWN / 2) == ["gateway"]


def test_who_may_not_be_started_is_not_called_down(family: Family) -> None:
    """The file that was replaced pages by itself."""
    family.gateway.lasts = 0.0
    family.replaced = [Path("inbox.sqlite")]
    assert family.after(2 * DOWN) is None
    assert family.gateway.starts == []


def test_who_is_still_being_started_is_neither_down_nor_back(tmp_path: Path) -> None:
    """A start that fails must not end the page of the engine before."""
    assert Family(tmp_path).children.down() is None


def test_no_time_counts_in_which_the_parent_stood_still(family: Family) -> None:
    """The machine slept: who had just been started again may be back by now."""
    family.gateway.lasts = 1.0
    family.after(2)
    family.gateway.lasts = 1e9
    family.now = family.gateway.now = family.now + 10 * DOWN
    assert family.after(LOOK) == []
    assert family.after(2 * DOWN) == []

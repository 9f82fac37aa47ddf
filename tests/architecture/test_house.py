"""The house rules that a machine can hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from activities.actions import discover
from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import EntryKind

ROOT = Path(__file__).resolve().parents[2]


def test_arrows_point_downwards_only() -> None:
    """The import contracts of pyproject.toml hold."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_has_its_test_file() -> None:
    """One file per action, one test file beside it."""
    actions = set(discover())
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests" / "activities" / "actions").glob("test_*.py")}
    assert actions
    assert actions <= tests


def test_the_readme_names_only_make_verbs_that_exist() -> None:
    """A new user's first commands must work."""
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named
    assert named <= verbs


def test_no_room_is_called_by_a_word_that_says_nothing() -> None:
    """utils, helpers, manager and common collect what belongs elsewhere."""
    bad = {"utils", "helpers", "manager", "common", "misc"}
    found = [p for top in ("firebreak", "workflows", "activities") for p in (ROOT / top).rglob("*.py") if p.stem in bad]
    assert not found


ONLY_READ: frozenset[EntryKind] = frozenset()
"""Kinds that older records hold and nothing writes any more: they stay for ever. Not kinds that were never written."""


def test_every_kind_of_entry_and_of_notice_comes_from_somewhere() -> None:
    """A word that is told and never said is a promise to nobody."""
    writers = ("activities", "firebreak/engine", "firebreak/cli")
    code = "\n".join(p.read_text(encoding="utf-8") for top in writers for p in sorted((ROOT / top).rglob("*.py")))
    named = set(re.findall(r"\b(?:EntryKind|NoticeKind)\.[A-Z_]+\b", code))
    kinds: set[EntryKind | NoticeKind] = {*EntryKind, *NoticeKind}
    assert {str(kind) for kind in kinds - ONLY_READ if f"{type(kind).__name__}.{kind.name}" not in named} == set()

"""A lab of real servers, one for each file of tests that asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from firebreak.lab.background import down, owner_alive, up
from firebreak.lab.state import LabState, claim_directory
from firebreak.servers.registry import Entry, Registry


def processes(lab_dir: Path) -> list[Entry]:
    return [*Registry(lab_dir / "owner").entries(), *Registry(lab_dir / "run").entries()]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabState]:
    lab_dir = claim_directory(tmp_path_factory.mktemp("lab") / "lab")
    (lab_dir / "engine").mkdir()  # of a lab before
    state = asyncio.run(up(lab_dir))
    known = processes(lab_dir)
    yield state
    asyncio.run(down(lab_dir))
    assert [entry.name for entry in known if entry.lives()] == []
    assert not owner_alive(lab_dir)

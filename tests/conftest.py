"""What the tests of several folders need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from firebreak.servers.process import free_port
from firebreak.servers.temporal import start_temporal


@pytest.fixture(scope="session")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One tuned dev server for all: each test has a task queue of its own."""
    run_dir = tmp_path_factory.mktemp("temporal")
    server = asyncio.run(
        start_temporal(db_file=run_dir / "t.sqlite", port=free_port(), run_dir=run_dir, die_with_parent=True)
    )
    yield server.address
    asyncio.run(server.stop())

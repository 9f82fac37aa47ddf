"""The stores of an engine that starts: one that cannot be opened calls a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from firebreak.domain.errors import LedgerError
from firebreak.engine.stores import opened_inbox, opened_record
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, TIMELINE_FILE


async def test_a_store_that_cannot_be_opened_pages(tmp_path: Path, pager: Any) -> None:
    """Each under a key of its own."""
    settings = Settings(data_dir=tmp_path, pagerduty_url=pager.url, fallback_pager_key=SecretStr("k" * 32))
    (tmp_path / INBOX_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match=r"inbox\.sqlite"):
        async with opened_inbox(settings):
            raise AssertionError("it was opened")
    (tmp_path / TIMELINE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match=r"timeline\.sqlite"):
        async with opened_record(settings):
            raise AssertionError("it was opened")
    assert [event["dedup_key"].split("-")[0] for event in pager.got] == ["inbox", "record"]

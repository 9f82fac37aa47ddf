"""What the machine does to the engine: a replaced file, a process that stays away, a clock that is set back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.errors import LedgerError
from firebreak.domain.incident import UnreadableRow
from firebreak.domain.message import PagerAction
from firebreak.engine.watch import IntakeWatch
from tests.engine.watch.conftest import pages


async def test_a_file_that_is_replaced_pages_once_until_the_engine_is_started_again(
    inbox: Any, store: Any, clock: Any
) -> None:
    """However often it looks; the engine that is started then ends the page."""
    replaced: list[Path] = []
    watch = IntakeWatch(inbox, store, clock, incidents=store, replaced=lambda: replaced)
    await watch.look()
    assert await pages(store, clock) == []
    replaced.append(Path("data/inbox.sqlite"))
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH]


async def test_a_process_that_does_not_come_back_pages_once_until_it_runs_again(
    inbox: Any, store: Any, clock: Any
) -> None:
    """Also by an engine that is started later, not by one that does not start. The page names what is not done
    meanwhile, and where the reason is; another process that follows has one of its own."""
    down = ["gateway"]
    watch = IntakeWatch(inbox, store, clock, incidents=store, down=lambda: down)
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    (fault,) = await store.engine_faults(limit=9)
    assert "its process gateway does not come back: no alert is taken in" in fault.body["error"]
    assert "run/gateway.log" in fault.body["next_step"]
    down.append("p1")
    clock.forward(2)
    for _ in range(2):
        await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]
    await IntakeWatch(inbox, store, clock, incidents=store, down=lambda: None).look()
    assert await pages(store, clock) == []
    down.clear()
    await IntakeWatch(inbox, store, clock, incidents=store).look()
    assert await pages(store, clock) == [PagerAction.RESOLVE_HIGH] * 2


class Open:
    """The incidents of the store, and two that are open."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open_incidents(self) -> Any:
        return tuple(UnreadableRow(id=name, fault="") for name in ("inc-1", "inc-2"))


async def test_a_clock_that_is_set_back_pages_for_what_is_open(inbox: Any, store: Any, clock: Any) -> None:
    """Temporal's timers stand still for as long: once for each step, and for none of some seconds."""
    gone = [0.0]
    incidents: Any = Open(store)
    watch = IntakeWatch(inbox, store, clock, incidents=incidents, elapsed=lambda: gone[-1])
    await watch.look()
    for back, expected in ((30, []), (3600, [PagerAction.TRIGGER_HIGH]), (0, [])):
        clock.forward(2 - back)
        gone.append(gone[-1] + 2)
        await watch.look()
        assert await pages(store, clock) == expected
    (fault,) = await store.engine_faults(limit=9)
    assert "set back by" in fault.body["error"]
    assert "inc-1, inc-2" in fault.body["error"]


async def test_a_clock_that_is_set_back_while_nothing_is_open_pages_nobody(inbox: Any, store: Any, clock: Any) -> None:
    """There is nothing to watch by hand."""
    gone = [0.0]
    watch = IntakeWatch(inbox, store, clock, incidents=store, elapsed=lambda: gone[-1])
    await watch.look()
    clock.forward(-3600)
    gone.append(2.0)
    await watch.look()
    assert await pages(store, clock) == []


async def test_a_step_of_the_clock_is_seen_though_restores_cannot_be_read(inbox: Any, store: Any, clock: Any) -> None:
    """One net with a hole does not take the others down."""

    class Broken(Open):
        async def open_restores(self, **_: Any) -> Any:
            raise LedgerError("damaged")

    gone = [0.0]
    incidents: Any = Broken(store)
    watch = IntakeWatch(inbox, store, clock, incidents=incidents, elapsed=lambda: gone[-1])
    for back in (0, 3600):
        clock.forward(2 - back)
        gone.append(gone[-1] + 2)
        with pytest.raises(LedgerError):
            await watch.look()
    assert await pages(store, clock) == [PagerAction.TRIGGER_HIGH]

"""The event loop of the engine's own processes (ADR 0014)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

Answer = TypeVar("Answer")


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop; gateway, command line and lab stay on asyncio's own."""
    return uvloop.new_event_loop()


def run(work: Coroutine[None, None, Answer]) -> Answer:
    """As `asyncio.run`, on that loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)

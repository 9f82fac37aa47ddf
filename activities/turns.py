"""How long one attempt of a hand may take: less than Temporal gives it, so that it is over when the next one begins.

Temporal counts an attempt out at its start-to-close time and sends the next; the worker cancels the one that still runs
some 5 s later. What decides or writes must not be at it twice at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from temporalio import activity

from firebreak.domain.errors import TransientError

SHARE = 0.9
"""Of an attempt's start-to-close time. The rest is for the way to the worker and back."""

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def in_turn(hand: Callable[Given, Awaitable[Answer]]) -> Callable[Given, Awaitable[Answer]]:
    """Decorator of an activity method, below `@translated`. TransientError when the attempt's time is over: whatever it
    was at then, the outcome is unknown, and the next attempt reads first. A local attempt has no need of it: the worker
    cancels that when its time is over. Nor has a call for a person, which may well be made twice."""

    @functools.wraps(hand)
    async def wrapper(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        info = activity.info()
        if info.is_local or info.start_to_close_timeout is None:
            return await hand(*args, **kwargs)
        limit = SHARE * info.start_to_close_timeout.total_seconds()
        try:
            async with asyncio.timeout(limit) as turn:
                return await hand(*args, **kwargs)
        except TimeoutError:
            if not turn.expired():
                raise
            raise TransientError(f"this attempt was cut off after {limit:g} s") from None

    return wrapper

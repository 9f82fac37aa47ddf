"""The one translator of the domain's errors into Temporal's ApplicationError.

Raised `from None`: an exception chain may hold a secret, and everything raised here enters history.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from temporalio.exceptions import ApplicationError

from firebreak.domain.errors import AppendConflict, ChainBroken, FirebreakError, LedgerError, TransientError

LONGEST_WAIT = timedelta(seconds=5)
"""Whatever a server asks for: while an activity waits, its story hears nothing, not even a close by hand, and the time
limits of `workflows.options` hold for tries that follow each other."""

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def application_error(error: FirebreakError) -> ApplicationError:
    """Stable `type` = class name; only what may pass by waiting is retryable."""
    retryable = isinstance(error, (TransientError, AppendConflict)) or (
        isinstance(error, LedgerError) and not isinstance(error, ChainBroken)
    )
    asked: timedelta | None = getattr(error, "retry_after", None)
    return ApplicationError(
        f"{error} {error.next_step()}",
        type=type(error).__name__,
        non_retryable=not retryable,
        next_retry_delay=None if asked is None else min(asked, LONGEST_WAIT),
    )


def translated(hand: Callable[Given, Awaitable[Answer]]) -> Callable[Given, Awaitable[Answer]]:
    """Decorator of every activity method; goes below `@activity.defn`."""

    @functools.wraps(hand)
    async def wrapper(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        try:
            return await hand(*args, **kwargs)
        except FirebreakError as error:
            raise application_error(error) from None

    return wrapper

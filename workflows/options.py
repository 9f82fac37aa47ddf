"""How the story calls the hands: swiftly first, patiently when something is slow.

A local activity costs one event and no round trip, but one that runs longer than the workflow task delays everything
(signals, the close) and heartbeats the task. So each call gets under a second as a local activity; what did not answer
by then is called again as a regular activity, which may wait and retry. All hands find what an earlier attempt stored,
so the second call never does anything twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

Given = TypeVar("Given")
Answer = TypeVar("Answer")

SWIFT_LIMIT = timedelta(milliseconds=900)
"""Longest a local activity may take: under 80 % of the 2 s workflow task time-out, where heartbeats begin."""

TASK_TIMEOUT = timedelta(seconds=2)
"""A task in flight at a kill -9 waits this long before another worker gets it (the default is 10 s)."""

HAND_FAILED = (ActivityError, ApplicationError, TimeoutError)
"""A regular activity fails as the first, a local one that may not be retried as the second. A local one that was too
slow fails as the first, but when it is replayed as the third: its marker holds the cause alone."""

SWIFT = RetryPolicy(maximum_attempts=1)

PATIENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=8,
)
"""About 20 s of tries: longer than a restart of an API server or of our own store, shorter than the page deadline."""

RECORD = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
"""For what must be written down in the end: tried for ever."""

FAILED_PAUSE = timedelta(seconds=30)
"""Between two rounds of a hand that failed for good, where giving up would leave a person alone."""


async def swiftly(
    hand: Callable[[Any, Given], Awaitable[Answer]],
    given: Given,
    *,
    retry: RetryPolicy = PATIENT,
    limit: timedelta = timedelta(seconds=10),
) -> Answer:
    """Answer of `hand(given)`. Raises HAND_FAILED when it failed for good, or when the patient tries failed, too."""
    try:
        return await workflow.execute_local_activity_method(
            hand, given, start_to_close_timeout=SWIFT_LIMIT, schedule_to_close_timeout=SWIFT_LIMIT, retry_policy=SWIFT
        )
    except HAND_FAILED as error:
        cause = error.cause if isinstance(error, ActivityError) else error
        if isinstance(cause, ApplicationError) and cause.non_retryable:
            raise
        return await workflow.execute_activity_method(hand, given, start_to_close_timeout=limit, retry_policy=retry)

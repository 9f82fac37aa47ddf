"""Errors of ours as Temporal sees them: a stable type, retried or not, with the next step, and without any secret."""

from __future__ import annotations

import inspect
import traceback
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from activities.failures import LONGEST_WAIT, application_error, translated
from firebreak.domain import errors
from firebreak.domain.errors import FirebreakError, TransientError

RETRIED = {"TransientError", "LedgerError", "AppendConflict"}
"""Only these may pass by waiting. ChainBroken is a LedgerError, and stops everything."""

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, FirebreakError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_each_error_has_its_type_and_its_retry(kind: type[FirebreakError]) -> None:
    """The class name is the type; only what may pass by waiting is retried; the next step is told."""
    error = kind("what happened")
    made = application_error(error)
    assert made.type == kind.__name__
    assert made.non_retryable == (kind.__name__ not in RETRIED)
    assert "what happened" in made.message
    assert error.next_step() in made.message


def test_a_busy_world_says_when_to_come_back() -> None:
    """Retry-After becomes the delay of the next attempt; none is none."""
    busy = TransientError("busy", retry_after=timedelta(seconds=2))
    assert application_error(busy).next_retry_delay == timedelta(seconds=2)
    assert application_error(TransientError("busy")).next_retry_delay is None


def test_a_world_that_asks_for_an_hour_gets_seconds() -> None:
    """While an activity waits, its incident hears nobody: not even who closes it by hand."""
    away = TransientError("maintenance", retry_after=timedelta(hours=1))
    assert application_error(away).next_retry_delay == LONGEST_WAIT <= timedelta(seconds=5)


async def test_a_secret_in_the_chain_does_not_enter_history() -> None:
    """What a vendor's exception says beneath ours stays out of the failure that the server stores."""

    @translated
    async def hand() -> None:
        try:
            raise RuntimeError("401 for https://user:s3cret@prometheus")
        except RuntimeError as error:
            raise TransientError("Prometheus does not answer") from error

    with pytest.raises(ApplicationError) as caught:
        await hand()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    failure = await _stored(caught.value)
    assert "Prometheus does not answer" in failure
    assert "s3cret" not in failure
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_what_is_not_ours_goes_up_as_it_is() -> None:
    """A bug stays a bug: it is not dressed up as something that the world did."""

    @translated
    async def hand() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await hand()


async def test_an_answer_passes_and_the_name_stays() -> None:
    """Temporal reads name and signature of the function below."""

    @translated
    async def hand(given: int) -> int:
        return given + 1

    assert await hand(1) == 2
    assert hand.__name__ == "hand"
    assert list(inspect.signature(hand).parameters) == ["given"]


async def _stored(error: BaseException) -> str:
    """The failure as the server gets it."""
    failure = Failure()
    converter: Any = DataConverter.default
    await converter.encode_failure(error, failure)
    return str(failure)

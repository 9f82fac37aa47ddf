"""A storm asks the API server for a collection once, and nobody is harmed by who asked first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from activities.shared_lists import SharedLists
from firebreak.domain.errors import TransientError
from firebreak.domain.ports import ClusterPort, KubeObject
from firebreak.domain.target import ResourceKind

SECOND = timedelta(seconds=1)
EVENT, NODE = ResourceKind.EVENT, ResourceKind.NODE


class ApiServer:
    """Answers each list with its number, when it is let go."""

    def __init__(self) -> None:
        self.asked: list[tuple[ResourceKind, str]] = []
        self.fail: list[Exception] = []
        self.let_go = asyncio.Event()

    async def list(self, kind: ResourceKind, namespace: str, *, timeout: timedelta) -> tuple[KubeObject, ...]:
        self.asked.append((kind, namespace))
        number = len(self.asked)
        await self.let_go.wait()
        if self.fail:
            raise self.fail.pop(0)
        return ({"number": number},)


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def sharing(api: ApiServer) -> Callable[..., SharedLists]:
    return lambda **more: SharedLists(cast(ClusterPort, api), **more)


async def both(*asking: Any) -> list[Any]:
    """Let all of them ask before the first is answered."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_at_the_same_time_shares_one_answer(api: ApiServer, sharing: Any) -> None:
    """And who asks a moment later, too."""
    lists = sharing()
    tasks = await both(*(lists.list(EVENT, "shop", timeout=SECOND) for _ in range(50)))
    api.let_go.set()
    answers = [await task for task in tasks]
    answers.append(await lists.list(EVENT, "shop", timeout=SECOND))
    assert answers == [({"number": 1},)] * 51
    assert len(api.asked) == 1


async def test_another_collection_is_another_question(api: ApiServer, sharing: Any) -> None:
    """By kind and by namespace."""
    api.let_go.set()
    lists = sharing()
    for kind, namespace in ((EVENT, "shop"), (EVENT, "bank"), (NODE, "")):
        await lists.list(kind, namespace, timeout=SECOND)
    assert api.asked == [(EVENT, "shop"), (EVENT, "bank"), (NODE, "")]


async def test_an_answer_that_is_too_old_is_asked_for_anew(api: ApiServer, sharing: Any) -> None:
    """What is kept before a write is of now, not of the last incident."""
    api.let_go.set()
    lists = sharing(fresh=timedelta(0))
    await lists.list(EVENT, "shop", timeout=SECOND)
    assert await lists.list(EVENT, "shop", timeout=SECOND) == ({"number": 2},)


async def test_a_failure_is_of_those_alone_who_waited_for_it(api: ApiServer, sharing: Any) -> None:
    """The next one asks again."""
    api.fail = [TransientError("busy")]
    api.let_go.set()
    lists = sharing()
    with pytest.raises(TransientError, match="busy"):
        await lists.list(EVENT, "shop", timeout=SECOND)
    assert await lists.list(EVENT, "shop", timeout=SECOND) == ({"number": 2},)


async def test_who_joined_asks_once_more_by_itself(api: ApiServer, sharing: Any) -> None:
    """The first one's time was over; the second one has some left."""
    api.fail = [TransientError("late")]
    lists = sharing()
    first, second = await both(*(lists.list(EVENT, "shop", timeout=SECOND) for _ in range(2)))
    api.let_go.set()
    with pytest.raises(TransientError):
        await first
    assert await second == ({"number": 2},)


async def test_an_answer_is_kept_no_longer_than_it_serves(api: ApiServer, sharing: Any) -> None:
    """Collections are large, and the next storm may be days away."""
    api.let_go.set()
    lists = sharing(fresh=timedelta(milliseconds=20))
    await lists.list(EVENT, "shop", timeout=SECOND)
    async with asyncio.timeout(5):
        while lists._asked:  # noqa: ASYNC110 # the loop's own clock
            await asyncio.sleep(0.01)


async def test_who_is_cancelled_takes_nothing_from_the_others(api: ApiServer, sharing: Any) -> None:
    """The first one's time is over; the second still gets the answer."""
    lists = sharing()
    first, second = await both(*(lists.list(EVENT, "shop", timeout=SECOND) for _ in range(2)))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    api.let_go.set()
    assert await second == ({"number": 1},)
    assert len(api.asked) == 1

"""What `firebreak check` has found, in sentences, and how one system is asked many things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.postmortem.wording import clean

_OF_INCIDENTS = (FirebreakError.advice, TransientError.advice)
"""They speak of a record, of further tries and of pages: here is none of it."""

FEW = 8
"""So many names of what is well are told."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class State(StrEnum):
    OK = "ok"
    NOTE = "note"  # it will do, but with less
    PROBLEM = "problem"  # an incident would meet it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence about one system, and what to do about it (empty: nothing). Both are printable; of documents it is
    one line for each mistake."""

    system: str
    state: State
    text: str
    advice: str = ""


class Findings:
    """Collects those of one system. `lasts`: what to look at where a fault that may pass does not."""

    def __init__(self, system: str, lasts: str = "") -> None:
        self._system = system
        self._lasts = f"Try again; where it lasts, look at {lasts}."
        self.all: list[Finding] = []

    def ok(self, text: str) -> None:
        self._add(State.OK, text, "")

    def note(self, text: str, advice: str = "") -> None:
        self._add(State.NOTE, text, advice)

    def problem(self, text: str, advice: str) -> None:
        self._add(State.PROBLEM, text, advice)

    def failed(self, error: FirebreakError, about: str = "") -> None:
        advice = error.next_step()
        self.problem(f"{about}{error}", self._lasts if advice in _OF_INCIDENTS else advice)

    def _add(self, state: State, text: str, advice: str) -> None:
        printable = "\n".join(clean(line) for line in text.split("\n"))
        self.all.append(Finding(system=self._system, state=state, text=printable, advice=clean(advice)))


async def ask_each(
    items: Collection[Item], ask: Callable[[Item], Awaitable[Answer]], *, at_once: int
) -> dict[Item, Answer | FirebreakError | None]:
    """What each gave, in order. After a TransientError no more are asked (None): what is away, or asks to wait, would
    let down all the others, too."""
    gate, away = asyncio.Semaphore(at_once), False

    async def one(item: Item) -> Answer | FirebreakError | None:
        nonlocal away
        async with gate:
            if away:
                return None
            try:
                return await ask(item)
            except FirebreakError as error:
                away = away or isinstance(error, TransientError)
                return error

    return dict(zip(items, await asyncio.gather(*map(one, items)), strict=True))


def listed(names: Sequence[str], most: int | None = None) -> str:
    """`a, b, c`; above `most` the others are counted."""
    if most is None or len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"

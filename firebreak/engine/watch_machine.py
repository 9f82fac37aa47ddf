"""Watching what may become of the machine under a running engine: its clock is set back, its files are replaced, one of
its processes does not come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from activities import notices
from firebreak.documents.durations import spoken
from firebreak.domain.ports import Clock, IncidentsPort, LedgerPort
from firebreak.engine.clock import SetBack
from firebreak.engine.standing_page import StandingPage
from firebreak.postmortem.notice_next import DATA_FILES, PROCESSES

log = structlog.get_logger()

LONG_STEP = timedelta(minutes=1)
"""A clock that was set back by less is where it was before a person could do anything."""
_NAMED = 5  # open incidents in one page

_MISSED = {
    "gateway": "no alert is taken in: Alertmanager sends on only while they fire",
    "temporal": "no open incident goes on",
    "p1": "no P1 candidate is looked at",
    "other": "no alert but P1 candidates is looked at",
}
"""What nobody does while a process of that name is away."""


class StepsOfTheClock:
    """One page for each long step back, where incidents are open: Temporal fires no timer until its clock says again
    what it had said, and who is open wakes that much later."""

    def __init__(
        self, incidents: IncidentsPort, ledger: LedgerPort, clock: Clock, elapsed: Callable[[], float]
    ) -> None:
        self._incidents = incidents
        self._ledger = ledger
        self._clock = clock
        self._set_back = SetBack(clock, elapsed)

    async def look(self) -> None:
        by = self._set_back.by()
        if by < LONG_STEP:
            return
        names = [incident.id for incident in await self._incidents.open_incidents()]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            reason = (
                f"the wall clock was set back by {spoken(by)}. A Temporal that shares it wakes nothing for as long: "
                f"{', '.join(names[:_NAMED])}{more} may not be looked at meanwhile. Watch what is open by hand."
            )
            now = self._clock.now()
            entry, page = notices.fault(f"clock-timers-{int(now.timestamp())}", "clock", reason, now)
            await self._ledger.append([entry], messages=[page])
        self._set_back.settled(by)  # only now: what could not be told is told at the next look


class ReplacedFiles:
    """One page while another file stands in the place of one that the engine has opened. The engine goes on with that
    one, and starts no process again that would open the other."""

    def __init__(self, replaced: Callable[[], Sequence[Path]], clock: Clock, page: StandingPage) -> None:
        self._files = replaced
        self._clock = clock
        self._replaced = page

    async def look(self) -> None:
        await self._replaced.catch_up()
        names = ", ".join(path.name for path in self._files())
        if not names:
            await self._replaced.end("the engine has been started again")  # an earlier one's page
        elif not self._replaced.records:
            log.error("engine.files_replaced", files=names)
            await self._replaced.begin(
                f"replaced-{self._clock.now():%Y%m%d-%H%M%S}",
                f"{names} in the data directory: another file stands there, or none, while the engine runs. It goes on "
                "with the one that it has opened, and starts none of its processes again. What it writes is lost when "
                "it stops: look at its open incidents first (firebreak incidents may show the other file).",
                title="Firebreak needs a person: a file was replaced under it, and its record cannot be written",
                where=DATA_FILES,
                next_step="Stop the engine, put back a copy of the whole data directory, and start it.",
            )


class ProcessesDown:
    """A page while a process of the engine does not come back, however often it is started again, and one more where
    another one follows. While nobody can say which do, as before a start has come to its end, nothing changes."""

    def __init__(self, down: Callable[[], Sequence[str] | None], clock: Clock, page: StandingPage) -> None:
        self._names = down
        self._told: set[str] = set()
        self._clock = clock
        self._down = page

    async def look(self) -> None:
        await self._down.catch_up()
        names = self._names()
        if names is None:
            return
        if not names:
            await self._down.end("all processes of the engine run again")  # an earlier one's page, too
            self._told.clear()
        elif not self._told.issuperset(names):
            log.error("engine.processes_down", names=", ".join(names))
            who = f"process {names[0]} does" if len(names) == 1 else f"processes {', '.join(names)} do"
            missed = "; ".join(_MISSED.get(name, f"what {name} is for is not done") for name in names)
            logs = ", ".join(f"run/{name}.log" for name in names)
            await self._down.begin(
                f"down-{self._clock.now():%Y%m%d-%H%M%S}",
                f"its {who} not come back: {missed}. Each is started again and again.",
                title="Firebreak needs a person: one of its processes does not come back",
                where=PROCESSES,
                next_step=f"Read {logs} in the data directory, and mend what it says: the engine tries on by itself.",
            )
            self._told.update(names)

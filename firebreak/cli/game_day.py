"""One fault class after the other, with the engine as its users run it: for `firebreak demo` and the end-to-end tests.

The lab breaks, the engine runs as a process of its own, and what it did is read from its store; nothing here tells the
engine anything.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from firebreak.domain.errors import TransientError
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.record import first, proof_of_health
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab import control
from firebreak.lab.faults import FAULTS, Fault, Tier
from firebreak.lab.state import LabState
from firebreak.postmortem.in_force import WROTE
from firebreak.servers.process import Launch, ManagedProcess
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

_LOOK = 0.1  # seconds between two looks at the store
_OPENS = timedelta(seconds=30)
_ENDS = timedelta(seconds=120)
_READY = timedelta(seconds=90)
_CALM = timedelta(seconds=120)  # a machine that has just built its servers, or reads them for the first time, is slow

Say = Callable[[float, TimelineEntry], None]
SayPhase = Callable[[float, IncidentPhase], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an incident ended, and what was wrong with that (empty = as its fault class says). `seconds` from the fault
    to its end; `healed_after` to the verification."""

    fault: Fault
    incident_id: str
    outcome: IncidentOutcome
    tier: str
    paged: bool
    writes: int
    seconds: float
    healed_after: float | None
    postmortem: Path
    problems: tuple[str, ...]


def without_settings() -> dict[str, str]:
    """This process' environment without Firebreak's settings, but for where servers are."""
    return {
        k: v for k, v in os.environ.items() if not k.upper().startswith("FIREBREAK_") or "CACHE" in k or "SERVER" in k
    }


@dataclass(kw_only=True)
class EngineProcess:
    """`firebreak up` as a child, with the lab's settings and nothing else of this environment."""

    state: LabState
    process: ManagedProcess
    run_dir: Path

    @classmethod
    async def start(cls, state: LabState, *, extra: dict[str, str] | None = None) -> EngineProcess:
        run_dir = state.lab_dir / "engine-run"
        run_dir.mkdir(exist_ok=True)
        launch = Launch(
            "engine",
            (sys.executable, "-P", "-m", "firebreak", "up"),
            {**without_settings(), **state.engine, **(extra or {})},
            die_with_parent=True,
        )
        process = await ManagedProcess.start(launch, run_dir)
        engine = cls(state=state, process=process, run_dir=run_dir)
        try:
            await engine.ready()
        except BaseException:  # Ctrl-C, too: nobody else knows of it yet
            await engine.stop()
            raise
        return engine

    async def ready(self) -> None:
        """The gateway answers /readyz and both workers have said that they run."""

        async def check() -> bool:
            try:
                status, _ = await control.fetch("GET", f"{self.state.gateway_url}/readyz")
            except TransientError:
                return False
            return status == 200 and "Firebreak runs" in self.process.tail(50)

        await self.process.ready(check, limit=_READY)

    @property
    def data_dir(self) -> Path:
        return Path(self.state.engine["FIREBREAK_DATA_DIR"])

    async def stop(self) -> None:
        await self.process.stop(timedelta(seconds=30))


@dataclass(kw_only=True)
class GameDay:
    """Runs fault classes against one lab and one engine. `say` hears each new entry, and seconds since the fault;
    `say_phase` each change of the incident's stored phase, before the entries that came with it; `wait` hears what it
    is waiting for, once, where that is not over at once."""

    state: LabState
    data_dir: Path
    say: Say = field(default=lambda _seconds, _entry: None)
    say_phase: SayPhase = field(default=lambda _seconds, _phase: None)
    wait: Callable[[str], None] = field(default=lambda _what: None)
    _phase: IncidentPhase | None = field(default=None, init=False)

    async def play(self, fault: Fault) -> Ending:
        """Break, watch the incident to its end, mend, and put the shop back as it was. Begins when all is calm: an
        alert of before would be taken for the fault's."""
        async with await TimelineStore.open(self.data_dir / "timeline.sqlite", read_only=True) as store:
            await self._calm(store)
            before, self._phase = {row.id for row in await store.rows(limit=1000)}, None
            began, clock = datetime.now(UTC), time.monotonic()
            await control.break_shop(self.state, fault.name)
            try:
                incident_id = await self._opened(store, before)
                entries = await self._follow(store, incident_id, clock, lambda seen: self._settled(seen, fault))
                if fault.pages:
                    await control.mend(self.state)
                    entries = await self._follow(store, incident_id, clock, _closed, told=len(entries))
                seconds = time.monotonic() - clock
                await control.mend(self.state)
                entries = await self._restored(store, incident_id, entries, clock)
                postmortem = await self._postmortem(incident_id)
                entries = await store.entries(incident_id)
            finally:
                await control.heal(self.state)
            await self._quiet()
            others = [row.id for row in await store.rows(limit=1000) if row.id not in before and row.id != incident_id]
            return ending_of(fault, incident_id, entries, seconds, began, postmortem, others)

    async def _opened(self, store: TimelineStore, before: set[str]) -> str:
        end = time.monotonic() + _OPENS.total_seconds()
        while time.monotonic() < end:
            fresh = [row.id for row in await store.rows(limit=50) if row.id not in before]
            if fresh:
                return fresh[-1]
            await asyncio.sleep(_LOOK)
        raise TransientError(f"no incident was opened within {_OPENS.total_seconds():.0f} s of the fault")

    async def _follow(
        self,
        store: TimelineStore,
        incident_id: str,
        clock: float,
        until: Callable[[Sequence[TimelineEntry]], bool],
        told: int = 0,
        limit: timedelta = _ENDS,
    ) -> tuple[TimelineEntry, ...]:
        end = time.monotonic() + limit.total_seconds()
        entries: tuple[TimelineEntry, ...] = ()
        while time.monotonic() < end:
            phase = next(row.phase for row in await store.rows(limit=1000) if row.id == incident_id)
            entries = await store.entries(incident_id)  # later: those of the phase are among them
            if phase is not self._phase:
                self._phase = phase
                self.say_phase(time.monotonic() - clock, phase)
            for entry in entries[told:]:
                self.say(time.monotonic() - clock, entry)
            told = len(entries)
            if until(entries):
                return entries
            await asyncio.sleep(_LOOK)
        last = entries[-1].kind.value if entries else "nothing"
        raise TransientError(f"{incident_id} did not end within {limit.total_seconds():.0f} s; last entry: {last}")

    @staticmethod
    def _settled(entries: Sequence[TimelineEntry], fault: Fault) -> bool:
        return _paged(entries) if fault.pages else _closed(entries)

    async def _restored(
        self, store: TimelineStore, incident_id: str, entries: tuple[TimelineEntry, ...], clock: float
    ) -> tuple[TimelineEntry, ...]:
        """A step that is to be taken back one day is, once the broken part itself is well again."""
        opened = sum(e.kind is EntryKind.RESTORE_OPENED for e in entries)
        if not opened:
            return entries
        return await self._follow(
            store,
            incident_id,
            clock,
            lambda seen: sum(e.kind is EntryKind.RESTORE_ENDED for e in seen) >= opened,
            told=len(entries),
        )

    async def _postmortem(self, incident_id: str) -> Path:
        path = self.data_dir / "postmortems" / f"{incident_id}.md"

        async def written() -> bool:
            return path.exists()

        await control.until(written, timedelta(seconds=20), f"the post-mortem of {incident_id}")
        return path

    async def _calm(self, store: TimelineStore) -> None:
        """No alert fires, none waits for the engine, and no incident is open."""
        async with await InboxStore.open(self.data_dir / "inbox.sqlite", read_only=True) as inbox:

            async def calm() -> bool:
                alerts = await control.firing_alerts(self.state)
                return not alerts and not await inbox.backlog() and not await store.open_incidents()

            if not await calm():
                limit = f"{_CALM.total_seconds():.0f} s at most"
                self.wait(f"waiting until no alert fires and no incident is open, {limit}")
            await control.until(calm, _CALM, "the end of what the engine was told before the fault")

    async def _quiet(self) -> None:
        async def silent() -> bool:
            return not await control.firing_alerts(self.state)

        await control.until(silent, timedelta(seconds=60), "the silence of all alerts")


def ending_of(
    fault: Fault,
    incident_id: str,
    entries: Sequence[TimelineEntry],
    seconds: float,
    began: datetime,
    postmortem: Path,
    others: list[str],
) -> Ending:
    """How the incident `incident_id` ended, judged by what its fault class says; `others`: incidents that the fault
    opened beside it."""
    closed = first(entries, EntryKind.INCIDENT_CLOSED)
    outcome = IncidentOutcome(closed.body["outcome"]) if closed else IncidentOutcome.OPEN
    verified = proof_of_health(entries, recovery=False)
    tier = str(verified.body["tier_name"]) if verified else Tier.NONE.value
    writes = sum(e.kind is EntryKind.EFFECT_RECORDED and e.body["effect"]["outcome"] in WROTE for e in entries)
    problems = []
    if outcome is not fault.outcome:
        problems.append(f"ended {outcome.value}, not {fault.outcome.value}")
    if tier != fault.heals_by.value:
        problems.append(f"healed by {tier}, not by {fault.heals_by.value}")
    if _paged(entries) != fault.pages:
        problems.append("a person was paged" if not fault.pages else "no person was paged")
    if fault.outcome is IncidentOutcome.NOTHING_DONE and writes:
        problems.append(f"{writes} writes, although nothing was to be done")
    problems += _not_taken_back(fault, entries)
    if others:
        problems.append(f"further incidents were opened: {', '.join(others)}")
    return Ending(
        fault=fault,
        incident_id=incident_id,
        outcome=outcome,
        tier=tier,
        paged=_paged(entries),
        writes=writes,
        seconds=seconds,
        healed_after=(verified.at - began).total_seconds() if verified else None,
        postmortem=postmortem,
        problems=tuple(problems),
    )


def _not_taken_back(fault: Fault, entries: Sequence[TimelineEntry]) -> list[str]:
    """What lasts (a reroute, a degrade) is given back once the broken part is well: else the shop stays changed."""
    opened = sum(e.kind is EntryKind.RESTORE_OPENED for e in entries)
    ends = [str(e.body["outcome"]) for e in entries if e.kind is EntryKind.RESTORE_ENDED]
    wrong = [f"a step was not taken back: {end}" for end in ends if end not in ("restored", "undone")]
    lasts = fault.heals_by in (Tier.REROUTE, Tier.DEGRADE)
    if len(ends) < max(opened, lasts):
        wrong.append("a step was not taken back")
    return wrong


def _closed(entries: Sequence[TimelineEntry]) -> bool:
    return any(e.kind is EntryKind.INCIDENT_CLOSED for e in entries)


def _paged(entries: Sequence[TimelineEntry]) -> bool:
    """A high-urgency page was delivered."""
    return any(e.kind is EntryKind.MESSAGE_DELIVERED and e.body.get("pager") == "trigger_high" for e in entries)


def faults_to_play(name: str | None) -> tuple[Fault, ...]:
    """All of them in their order, or the named one."""
    from firebreak.lab.faults import fault_named

    return (fault_named(name),) if name else tuple(FAULTS.values())

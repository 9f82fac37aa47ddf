"""A demo says so, by its exit code too, when an incident did not end as its fault class says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import firebreak.cli.demo
from firebreak.cli.game_day import Ending, EngineProcess, ending_of
from firebreak.cli.main import main
from firebreak.domain.errors import FirebreakError, TransientError
from firebreak.domain.incident import IncidentOutcome
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab.faults import FAULTS, Fault
from firebreak.lab.kube import KubeAccess
from firebreak.lab.state import LabState

BEGAN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def entry(kind: EntryKind, **body: Any) -> TimelineEntry:
    return TimelineEntry(
        seq=1,
        incident_id="inc-1",
        key=kind.value,
        kind=kind,
        at=BEGAN + timedelta(seconds=15),
        actor="engine",
        target="",
        uid="",
        duration_ms=None,
        body=body,
    )


WROTE = entry(EntryKind.EFFECT_RECORDED, effect={"outcome": "applied"})
WOULD_HAVE = entry(EntryKind.EFFECT_RECORDED, effect={"outcome": "would_apply"})
PAGED = entry(EntryKind.MESSAGE_DELIVERED, pager="trigger_high")
LASTS = entry(EntryKind.RESTORE_OPENED)
TAKEN_BACK = entry(EntryKind.RESTORE_ENDED, outcome="restored")
REFUSED = entry(EntryKind.RESTORE_ENDED, outcome="refused")
TOLD = entry(EntryKind.MESSAGE_DELIVERED, pager="trigger_low")


def verified(tier: str, outcome: str = "verified") -> TimelineEntry:
    return entry(EntryKind.VERIFICATION, tier_name=tier, outcome=outcome)


def closed(outcome: IncidentOutcome) -> TimelineEntry:
    return entry(EntryKind.INCIDENT_CLOSED, outcome=outcome.value)


HEALED, NOTHING, RECOVERED = (
    closed(o) for o in (IncidentOutcome.HEALED, IncidentOutcome.NOTHING_DONE, IncidentOutcome.RECOVERED)
)


def ended(fault: str, entries: Sequence[TimelineEntry], others: Sequence[str] = ()) -> Ending:
    return ending_of(FAULTS[fault], "inc-1", entries, 20.0, BEGAN, Path("inc-1.md"), list(others))


@pytest.mark.parametrize(
    ("fault", "entries"),
    [
        ("wedged-pods", [TOLD, WROTE, verified("restart"), HEALED]),
        (
            "bad-release",
            [WROTE, verified("restart", "not_verified"), WROTE, verified("reroute"), LASTS, HEALED, TAKEN_BACK],
        ),
        ("dead-dependency", [WROTE, verified("degrade"), LASTS, HEALED, TAKEN_BACK]),
        ("unfixable", [WROTE, PAGED, RECOVERED]),
        ("blip", [NOTHING]),
    ],
)
def test_what_ends_as_its_fault_class_says_is_no_problem(fault: str, entries: Sequence[TimelineEntry]) -> None:
    assert ended(fault, entries).problems == ()


@pytest.mark.parametrize(
    ("fault", "entries", "others", "says"),
    [
        ("wedged-pods", [WROTE, verified("reroute"), HEALED], (), "healed by reroute, not by restart"),
        ("wedged-pods", [WROTE, PAGED, verified("restart"), HEALED], (), "a person was paged"),
        ("wedged-pods", [WOULD_HAVE, RECOVERED], (), "ended recovered, not healed"),
        ("wedged-pods", [WROTE, verified("restart")], (), "ended open, not healed"),
        ("wedged-pods", [WROTE, verified("restart"), HEALED], ("inc-2",), "further incidents were opened: inc-2"),
        ("bad-release", [WROTE, verified("reroute"), LASTS, HEALED], (), "a step was not taken back"),
        ("bad-release", [WROTE, verified("reroute"), LASTS, HEALED, REFUSED], (), "a step was not taken back: refused"),
        ("dead-dependency", [WROTE, verified("degrade"), HEALED], (), "a step was not taken back"),
        ("unfixable", [WROTE, TOLD, RECOVERED], (), "no person was paged"),
        ("blip", [WROTE, NOTHING], (), "1 writes, although nothing was to be done"),
        ("blip", [WROTE, verified("restart"), HEALED], (), "ended healed, not nothing_done"),
    ],
)
def test_each_other_end_is_named(
    fault: str, entries: Sequence[TimelineEntry], others: Sequence[str], says: str
) -> None:
    assert says in ended(fault, entries, others).problems


@pytest.mark.parametrize(
    ("good", "code"), [(True, 0), (False, 1)], ids=["all as it should be", "an end that should not be"]
)
def test_the_exit_code_is_the_days(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: bool, code: int) -> None:
    """Zero only when every incident ended as it should."""

    async def play(*_: Any) -> bool:
        return good

    monkeypatch.setattr(firebreak.cli.demo, "_play", play)
    assert _exit_code(monkeypatch, tmp_path) == code


def test_a_day_that_breaks_off_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An incident that never comes, or never ends, within its limit."""

    async def play(*_: Any) -> bool:
        raise TransientError("no incident was opened within 30 s of the fault")

    monkeypatch.setattr(firebreak.cli.demo, "_play", play)
    assert _exit_code(monkeypatch, tmp_path) == 2


def _exit_code(monkeypatch: pytest.MonkeyPatch, keep: Path | None) -> Any:
    monkeypatch.setattr("sys.argv", ["firebreak", "demo", *(("--keep", str(keep)) if keep else ())])
    with pytest.raises(SystemExit) as ended_with:
        main()
    return ended_with.value.code


@pytest.mark.parametrize("where", ["a file", "below a file", "not to be made", "not to be written", "the default"])
def test_a_place_that_cannot_keep_post_mortems_is_refused_before_the_day(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """Nothing is started. Below /proc nobody can make a file, whoever plays."""
    (tmp_path / "file").write_text("")
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(firebreak.cli.demo, "_play", lambda *_: pytest.fail("the day began"))
    keep = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "kept",
        "not to be made": Path("/proc/kept"),
        "not to be written": Path("/proc"),
        "the default": None,
    }[where]
    assert _exit_code(monkeypatch, keep) == 2
    said = capsys.readouterr().err
    assert f"the post-mortems cannot be kept in {keep or '/proc/firebreak-demo'}: " in said
    assert "firebreak demo --keep DIR" in said


class BrokenDay:
    """Plays the first fault to its end, and finds no incident for the second."""

    def __init__(self, **_: Any) -> None: ...

    async def play(self, fault: Fault) -> Ending:
        if fault.name == "wedged-pods":
            return ended(fault.name, [WROTE, verified("restart"), HEALED])
        raise TransientError("no incident was opened within 30 s of the fault")


class Nothing:
    """Stands for a lab and an engine of which nothing runs."""

    def __init__(self, state: LabState) -> None:
        self.state = state
        self.data_dir = state.lab_dir / "engine"

    async def stop(self) -> None: ...


def test_a_day_that_breaks_off_tells_what_was_played(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table with the paths so far, which fault broke it, which were not played; then the reason, and no success."""

    async def start(*_: Any, **__: Any) -> Nothing:
        return Nothing(state)

    state = a_state(tmp_path / "lab")
    monkeypatch.setattr("firebreak.servers.find.install", lambda *_, **__: [])
    monkeypatch.setattr("firebreak.lab.lab.start_lab", start)
    monkeypatch.setattr("firebreak.cli.game_day.EngineProcess.start", start)
    monkeypatch.setattr("firebreak.cli.game_day.GameDay", BrokenDay)
    assert _exit_code(monkeypatch, tmp_path / "kept") == 2
    said = capsys.readouterr()
    table = [line.strip() for line in said.out.partition("the day")[2].splitlines()[1:]]
    assert table[0].startswith("wedged-pods      healed by restart")
    assert table[0].endswith("as expected")
    assert table[1:] == [
        str(tmp_path / "kept" / "inc-1.md"),
        "bad-release      not played to its end",
        "dead-dependency  not played",
        "unfixable        not played",
        "blip             not played",
    ]
    assert "no incident was opened within 30 s" in said.err


def test_every_fault_class_has_an_end_of_its_own() -> None:
    """The table above leaves none out."""
    assert set(FAULTS) == {"wedged-pods", "bad-release", "dead-dependency", "unfixable", "blip"}


async def test_the_engine_finds_servers_from_the_folder_of_who_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path counts from there, although the engine runs in a folder of the lab."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIREBREAK_SERVER_TEMPORAL", "servers/temporal")
    with pytest.raises(FirebreakError, match="did not become ready") as ended_early:
        await EngineProcess.start(a_state(tmp_path / "lab"))
    assert f"{tmp_path}/servers/temporal is not one" in str(ended_early.value)


@pytest.mark.parametrize("why", [TransientError("not ready"), asyncio.CancelledError()], ids=["too late", "Ctrl-C"])
async def test_an_engine_that_is_not_waited_for_any_more_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: BaseException
) -> None:
    """The lab is stopped after it, and its directory removed: none may go on in there."""
    begun: list[EngineProcess] = []

    async def given_up(engine: EngineProcess) -> None:
        assert engine.process.alive
        begun.append(engine)
        raise why

    monkeypatch.setattr(EngineProcess, "ready", given_up)
    with pytest.raises(type(why)):
        await EngineProcess.start(a_state(tmp_path / "lab"))
    (engine,) = begun
    alive = engine.process.alive
    await engine.stop()
    assert not alive


def a_state(lab_dir: Path) -> LabState:
    """A lab of which nothing runs."""
    lab_dir.mkdir()
    nowhere = "http://127.0.0.1:1"
    return LabState(
        lab_dir=lab_dir,
        pid=1,
        admin=KubeAccess(nowhere, "/ca", "secret"),
        audit_log="/audit.log",
        shop_url=nowhere,
        prometheus_url=nowhere,
        alertmanager_url=nowhere,
        slack_url=nowhere,
        pagerduty_url=nowhere,
        gateway_url=nowhere,
        engine={"FIREBREAK_DATA_DIR": str(lab_dir / "engine")},
    )

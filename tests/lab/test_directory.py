"""Which directories a lab takes for its own, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from firebreak.domain.errors import ContractError, FirebreakError
from firebreak.engine.data_dir import locked
from firebreak.lab import background
from firebreak.lab.former_engine import set_aside
from firebreak.lab.kube import KubeAccess
from firebreak.lab.lab import Lab, start_lab
from firebreak.lab.lock import sole_owner, sole_starter
from firebreak.lab.pagerduty import PagerDuty
from firebreak.lab.slack import Slack
from firebreak.lab.state import MARKER, LabState, claim_directory, load_state
from firebreak.servers.kubernetes import ControlPlane
from firebreak.servers.process import Launch, ManagedProcess


def state(lab_dir: Path) -> LabState:
    url = "http://127.0.0.1:1"
    return LabState(
        lab_dir=lab_dir,
        pid=os.getpid(),
        admin=KubeAccess(url, "/ca", "secret"),
        audit_log="/audit.log",
        shop_url=url,
        prometheus_url=url,
        alertmanager_url=url,
        slack_url=url,
        pagerduty_url=url,
        gateway_url=url,
        engine={},
    )


async def server(lab_dir: Path, name: str = "etcd") -> ManagedProcess:
    """Something that runs below `lab_dir` as a lab's servers do."""
    return await ManagedProcess.start(Launch(name, ("/bin/sleep", "60"), die_with_parent=True), lab_dir / "run")


async def lab_of(lab_dir: Path, *servers: ManagedProcess) -> Lab:
    """A lab in this process with these servers and nothing else."""
    stack = AsyncExitStack()
    ours = stack.enter_context(sole_owner(lab_dir))
    for each in servers:
        stack.push_async_callback(each.stop)
    lab_state = state(lab_dir)
    lab_state.save()
    slack, pager = Slack(lab_dir / "slack.jsonl", "t", {}), PagerDuty(lab_dir / "pagerduty.jsonl", {})
    return Lab(lab_state, slack, pager, ControlPlane("", Path(), Path(), {}, {}, Path(), {}), stack, ours)


def content(folder: Path) -> dict[Path, str]:
    """Everything below, with the text of each file."""
    return {path: path.read_text() if path.is_file() else "" for path in folder.rglob("*")}


@pytest.fixture
def lab_dir(tmp_path: Path) -> Path:
    return claim_directory(tmp_path / "lab")


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Path]:
    """A person's folder; it must be there as it was when the test ends."""
    precious = tmp_path / "photos" / "run" / "cat.png"
    precious.parent.mkdir(parents=True)
    precious.touch()
    yield tmp_path / "photos"
    assert precious.exists()


def test_an_empty_directory_becomes_a_labs_own(tmp_path: Path) -> None:
    """And is known again; what the lab puts there does not change that."""
    mine = claim_directory(tmp_path / "new")
    (mine / "run").mkdir()
    assert claim_directory(mine) == mine


def test_a_directory_with_other_things_in_it_is_not_taken(photos: Path) -> None:
    """Its `run` folder is going to be emptied: only an empty directory, or a lab's own, may be used."""
    with pytest.raises(ContractError, match="not empty"):
        claim_directory(photos)


async def test_the_folder_that_holds_the_default_lab_is_no_lab(photos: Path) -> None:
    """`firebreak lab up` made `.firebreak-lab` there once: `--lab-dir .` must not empty that folder."""
    claim_directory(photos / ".firebreak-lab")
    with pytest.raises(ContractError, match="not empty"):
        await start_lab(photos)
    with pytest.raises(ContractError, match="no lab"):
        await background.down(photos)


@pytest.mark.parametrize("kind", ["folder", "empty", "other words"])
async def test_a_marker_of_somebody_else_marks_nothing(photos: Path, kind: str) -> None:
    """A name alone may be anybody's: it must be a file with the lab's own words."""
    if kind == "folder":
        (photos / MARKER).mkdir()
    else:
        (photos / MARKER).write_text("" if kind == "empty" else "buy markers")
    with pytest.raises(ContractError, match="not empty"):
        claim_directory(photos)
    with pytest.raises(ContractError, match="no lab"):
        await background.down(photos)


@pytest.mark.parametrize("below", ["", "lab"], ids=["a file", "below a file"])
async def test_a_file_is_no_directory_for_a_lab(tmp_path: Path, below: str) -> None:
    """Every verb says so, and what to do, instead of a traceback."""
    (tmp_path / "file").write_text("mine")
    there = tmp_path / "file" / below
    with pytest.raises(ContractError, match="cannot be a lab's directory") as refusal:
        claim_directory(there)
    assert "--lab-dir" in refusal.value.next_step()
    with pytest.raises(ContractError, match="no lab"):
        load_state(there)
    with pytest.raises(ContractError, match="no lab"):
        await background.down(there)


async def test_a_stopped_lab_is_not_found_any_more(lab_dir: Path) -> None:
    """lab.json goes; logs and data stay to be read."""
    process = await server(lab_dir)
    lab = await lab_of(lab_dir, process)
    await lab.stop()
    assert not process.alive
    assert not (lab_dir / "lab.json").exists()
    assert (lab_dir / "run" / "etcd.log").exists()


async def test_in_a_directory_that_was_made_anew_nothing_is_touched(lab_dir: Path) -> None:
    """`rm -rf LABDIR; git clone ... LABDIR` while a lab runs there: its servers end, and no file comes or goes."""
    first, second = await server(lab_dir), await server(lab_dir, "kwok")
    lab = await lab_of(lab_dir, first, second)
    assert lab.ours()
    shutil.rmtree(lab_dir)
    (lab_dir / "run").mkdir(parents=True)
    for name in ("thesis.tex", "lab.json", "lock", "run/processes.json"):
        (lab_dir / name).write_text("precious")
    before = content(lab_dir)
    await lab.stop()
    assert content(lab_dir) == before
    assert not lab.ours()
    assert not first.alive
    assert not second.alive


async def test_a_lab_stops_also_when_its_directory_is_gone(lab_dir: Path) -> None:
    """It is not made again for the sake of it."""
    process = await server(lab_dir)
    lab = await lab_of(lab_dir, process)
    shutil.rmtree(lab_dir)
    await lab.stop()
    assert not process.alive
    assert content(lab_dir.parent) == {}


async def test_a_lab_without_its_marker_is_not_at_home(lab_dir: Path) -> None:
    """`down` would not find it: its owner has to notice and to stop it."""
    lab = await lab_of(lab_dir)
    (lab_dir / MARKER).unlink()
    assert not lab.ours()
    await lab.stop()


async def test_a_refused_second_lab_leaves_the_firsts_servers_alone(lab_dir: Path) -> None:
    """Also when nobody wrote the first's owner down, as in a demo: who holds the lock has the directory."""
    process = await server(lab_dir)
    lab = await lab_of(lab_dir, process)
    with pytest.raises(ContractError, match="already"):
        await background.up(lab_dir)
    assert process.alive
    assert load_state(lab_dir) == lab.state
    await lab.stop()


async def test_an_owner_that_was_just_killed_is_waited_for(lab_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other threads, and with them the lock, may outlive the first by a moment."""

    async def launched(command: Launch, run_dir: Path) -> ManagedProcess:
        raise FirebreakError("launched")

    monkeypatch.setattr(ManagedProcess, "start", launched)
    with sole_owner(lab_dir):
        start = asyncio.create_task(background.up(lab_dir))
        await asyncio.sleep(0.2)
        assert not start.done()
    with pytest.raises(FirebreakError, match="launched"):
        await start


async def test_a_labs_owner_finds_servers_from_the_folder_of_who_starts_it(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path counts from there, although the owner runs in a folder of the lab."""
    monkeypatch.chdir(lab_dir.parent)
    monkeypatch.setenv("FIREBREAK_SERVER_KWOK_STAGES", "stages")
    monkeypatch.setenv("FIREBREAK_SERVER_ETCD", "servers/etcd")
    with pytest.raises(FirebreakError, match="did not become ready") as failure:
        await background.up(lab_dir)
    assert f"{lab_dir.parent}/servers/etcd is not one" in str(failure.value)


def engine_data(lab_dir: Path) -> Path:
    data_dir = lab_dir / "engine"
    data_dir.mkdir()
    (data_dir / "timeline.sqlite").write_text("incidents of the former cluster")
    return data_dir


def engines(lab_dir: Path) -> list[str]:
    return sorted(path.name for path in lab_dir.glob("engine*"))


def test_each_former_engines_data_are_kept_under_a_name_of_their_own(lab_dir: Path) -> None:
    """Two in one second, too: nothing of a record is ever overwritten."""
    first = set_aside(engine_data(lab_dir).parent)
    second = set_aside(engine_data(lab_dir).parent)
    assert first is not None
    assert second is not None
    assert sorted(path.name for path in (first, second)) == engines(lab_dir)
    assert (first / "timeline.sqlite").read_text() == "incidents of the former cluster"
    assert first.name.startswith("engine-until-20")
    assert set_aside(lab_dir) is None


async def test_a_lab_that_does_not_start_leaves_the_former_engines_data(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would be told where they went."""
    engine_data(lab_dir)
    monkeypatch.setenv("FIREBREAK_SERVER_KWOK_STAGES", "/nowhere")
    monkeypatch.setenv("FIREBREAK_SERVER_ETCD", "/nowhere")
    with pytest.raises(FirebreakError, match="/nowhere"):
        await background.up(lab_dir)
    assert engines(lab_dir) == ["engine"]


async def test_no_lab_is_started_under_an_engine_that_runs(lab_dir: Path) -> None:
    """Its data would be moved from under it: it is to be stopped first, and nothing is touched."""
    with locked(engine_data(lab_dir)), pytest.raises(FirebreakError, match="an engine of the former lab still runs"):
        await background.up(lab_dir)
    assert engines(lab_dir) == ["engine"]


async def test_of_two_that_start_at_once_one_is_refused(lab_dir: Path) -> None:
    """From the look for an owner until the new one is written down no other may look."""
    with sole_starter(lab_dir):
        with pytest.raises(ContractError, match="already"):
            await background.up(lab_dir)
        with pytest.raises(ContractError, match="already"):
            background.register_owner(lab_dir)
    background.register_owner(lab_dir)
    assert background.owner_alive(lab_dir)


async def test_a_directory_that_is_made_anew_during_the_start_is_left_alone(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start fails, and puts neither lock nor registry there."""
    launch = ManagedProcess.start

    async def replaced(command: Launch, run_dir: Path) -> ManagedProcess:
        process = await launch(Launch(command.name, ("/bin/sleep", "0.2")), run_dir)
        shutil.rmtree(lab_dir)
        lab_dir.mkdir()  # noqa: ASYNC240 # a moment
        return process

    monkeypatch.setattr(ManagedProcess, "start", replaced)
    with pytest.raises(FirebreakError, match="did not become ready"):
        await asyncio.wait_for(background.up(lab_dir), 20)
    assert content(lab_dir) == {}


async def test_an_owner_that_was_too_late_ends_nothing_of_the_other(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another lab took the lock while ours was being launched: ours fails, and the other's servers run on."""
    started: list[Lab] = []
    launch = ManagedProcess.start

    async def overtaken(command: Launch, run_dir: Path) -> ManagedProcess:
        other = await launch(Launch("etcd", ("/bin/sleep", "60"), die_with_parent=True), lab_dir / "run")
        started.append(await lab_of(lab_dir, other))
        return await launch(Launch(command.name, ("/bin/sleep", "0.2")), run_dir)

    monkeypatch.setattr(ManagedProcess, "start", overtaken)
    with pytest.raises(FirebreakError, match="already"):
        await asyncio.wait_for(background.up(lab_dir), 20)
    (other,) = started
    assert load_state(lab_dir) == other.state
    assert await background.down(lab_dir) == 1  # its server still ran
    await other.stop()

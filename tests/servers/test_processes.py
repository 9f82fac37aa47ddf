"""Child processes: real ones, small."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from firebreak.servers.errors import RegistryDamaged, ServerUnavailable
from firebreak.servers.process import Launch, ManagedProcess, free_port, stop_all, trim_log
from firebreak.servers.registry import Entry, Registry, boot_id, reap_leftovers, start_time

SECOND = timedelta(seconds=1)
LONG = timedelta(seconds=30)


def shell(name: str, script: str, *, die_with_parent: bool = False) -> Launch:
    return Launch(name, ("/bin/sh", "-c", script), die_with_parent=die_with_parent)


def sleeper(name: str = "sleeper") -> Launch:
    return shell(name, "exec sleep 1000")


def processes_in(run_dir: Path) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads((run_dir / "processes.json").read_text())["processes"]
    return listed


async def gone(pid: int, started: int) -> None:
    async with asyncio.timeout(30):
        while start_time(pid) == started:  # noqa: ASYNC110 # another's child
            await asyncio.sleep(0.01)


PARENT = """
import asyncio, os, pathlib, signal, sys
from firebreak.servers.process import Launch, ManagedProcess
async def main():
    launch = Launch("orphan", ("/bin/sleep", "1000"), die_with_parent=sys.argv[2] == "die")
    child = await ManagedProcess.start(launch, pathlib.Path(sys.argv[1]))
    print(child.pid, child.started, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def killed_parent(run_dir: Path, how: str) -> tuple[int, int]:
    """A parent that starts one child and is then killed with -9; the child's pid and start time."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(run_dir), how],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, started = done.stdout.split()
    return int(pid), int(started)


async def test_what_a_server_writes_is_its_owners_alone(tmp_path: Path) -> None:
    """Its log and its files, in a directory that is open to all as in one that it makes."""
    os.chmod(tmp_path, 0o755)
    for folder in (tmp_path, tmp_path / "made"):
        process = await ManagedProcess.start(shell("writer", "echo said; echo x > data; mkdir more"), folder)
        assert await process.exited(LONG)
        trim_log(process.log_path, limit=2)
        made = [folder / name for name in ("data", "more", "writer.log", "writer.log.1")]
        assert [path.name for path in made if path.stat().st_mode & 0o077] == []
        await process.stop()
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


async def test_the_next_start_reaps_what_a_kill_9_left(tmp_path: Path) -> None:
    """A child outlives its killed parent, and the next start in that directory ends it."""
    pid, started = killed_parent(tmp_path, "live")
    assert start_time(pid) == started
    reaped = await reap_leftovers(tmp_path)
    assert [(entry.name, entry.pid) for entry in reaped] == [("orphan", pid)]
    assert start_time(pid) is None
    assert processes_in(tmp_path) == []


async def test_a_child_bound_to_its_parent_dies_with_it(tmp_path: Path) -> None:
    """With die_with_parent no next start is needed."""
    pid, started = killed_parent(tmp_path, "die")
    await gone(pid, started)
    assert await reap_leftovers(tmp_path) == ()


async def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    """Another process with the pid of a dead server is not ours to kill."""
    stranger = await ManagedProcess.start(sleeper(), tmp_path / "stranger")
    Registry(tmp_path).add(Entry("server", stranger.pid, stranger.started - 1, boot_id()))
    assert await reap_leftovers(tmp_path) == ()
    assert stranger.alive
    await stranger.stop()


async def test_start_times_of_another_boot_mean_nothing(tmp_path: Path) -> None:
    """After a restart of the machine the same pid and tick count are somebody else."""
    stranger = await ManagedProcess.start(sleeper(), tmp_path / "stranger")
    Registry(tmp_path).add(Entry("server", stranger.pid, stranger.started, "another-boot"))
    assert await reap_leftovers(tmp_path) == ()
    assert stranger.alive
    await stranger.stop()


async def test_a_stubborn_leftover_is_killed_after_its_grace(tmp_path: Path) -> None:
    """SIGTERM first, SIGKILL when it is not heeded."""
    stubborn = await ManagedProcess.start(
        shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done"), tmp_path
    )
    await stubborn.ready(lambda: _says(stubborn, "up"), limit=LONG)
    reaped = await reap_leftovers(tmp_path, grace=timedelta(milliseconds=100))
    assert [entry.name for entry in reaped] == ["stubborn"]
    assert await stubborn.exited(LONG)
    assert stubborn.exit_code == -signal.SIGKILL


async def _says(process: ManagedProcess, word: str) -> bool:
    return word in process.tail().split()


async def test_a_process_is_written_down_before_its_program_runs(tmp_path: Path) -> None:
    """There is no moment at which a kill -9 of the parent could lose a running server."""
    child = await ManagedProcess.start(shell("copy", f"cat {tmp_path}/processes.json; exec sleep 1000"), tmp_path)
    await child.ready(lambda: _says(child, '"copy",'), limit=LONG)
    assert f'"pid": {child.pid}' in child.tail()
    await child.stop()


def test_a_parent_that_dies_before_writing_it_down_leaves_nothing(tmp_path: Path) -> None:
    """The launcher becomes the program only after its parent's word."""
    from firebreak.servers.process import _LAUNCHER

    mark = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, "0", "/bin/touch", str(mark)], input=b"", check=False
    )
    assert done.returncode == 0
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"processes": [7]}',
        '{"processes": [{"name": "p1", "pid": 7.5, "started": 1, "boot": "b"}]}',
        '{"processes": [{"name": "p1", "pid": -7, "started": 1, "boot": "b"}]}',
    ],
)
async def test_a_damaged_registry_is_said_and_not_overwritten(tmp_path: Path, text: str) -> None:
    """What cannot be read may name processes that live."""
    (tmp_path / "processes.json").write_text(text)
    with pytest.raises(RegistryDamaged, match="damaged"):
        await reap_leftovers(tmp_path)
    assert (tmp_path / "processes.json").read_text() == text


async def test_processes_stop_in_the_given_order(tmp_path: Path) -> None:
    """Each one is gone before the next is asked."""
    order = tmp_path / "order"
    names = ("first", "second", "third")
    script = "trap 'echo {0} >> {1}; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    started = [await ManagedProcess.start(shell(name, script.format(name, order)), tmp_path) for name in names]
    for process in started:
        await process.ready(lambda process=process: _says(process, "up"), limit=LONG)  # type: ignore[misc]
    await stop_all([started[2], started[0], started[1]])
    assert order.read_text().split() == ["third", "first", "second"]
    assert processes_in(tmp_path) == []


async def test_a_stopped_process_can_still_be_asked_to_end(tmp_path: Path) -> None:
    """SIGSTOP, as fault tests use it, does not make the stop wait for its whole grace."""
    child = await ManagedProcess.start(sleeper(), tmp_path)
    child.signal(signal.SIGSTOP)
    await child.stop(LONG)
    assert child.exit_code == -signal.SIGTERM


async def test_a_process_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The reason of a failed start is in the error, not in a file somewhere."""

    async def never() -> bool:
        return False

    child = await ManagedProcess.start(shell("broken", "echo bind: address in use; exit 3"), tmp_path)
    with pytest.raises(ServerUnavailable, match=r"(?s)ended with code 3.*address in use"):
        await child.ready(never, limit=LONG)
    await child.stop()


async def test_a_failed_start_tells_no_reason_of_an_earlier_one(tmp_path: Path) -> None:
    """Its log goes on in one file: what a person has mended since must not be read as what is wrong now."""

    async def never() -> bool:
        return False

    for reason in ("no kubeconfig", "no address"):
        child = await ManagedProcess.start(shell("broken", f"echo {reason}; exit 1"), tmp_path)
        with pytest.raises(ServerUnavailable, match=reason) as told:
            await child.ready(never, limit=LONG)
        await child.stop()
    assert "no kubeconfig" not in str(told.value)
    assert "no kubeconfig" in child.log_path.read_text()


async def test_a_process_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """The limit ends the wait, with the last reason."""

    async def refused() -> bool:
        raise ConnectionRefusedError("nobody listens")

    child = await ManagedProcess.start(sleeper(), tmp_path)
    with pytest.raises(ServerUnavailable, match="nobody listens"):
        await child.ready(refused, limit=timedelta(milliseconds=50))
    await child.stop()


async def test_a_process_can_be_started_again(tmp_path: Path) -> None:
    """After a kill the same program runs under another pid, written down alone."""
    child = await ManagedProcess.start(sleeper(), tmp_path)
    first = child.pid
    with pytest.raises(ServerUnavailable, match="runs already"):
        child.start_again()
    child.kill()
    assert await child.exited(LONG)
    child.start_again()
    assert child.pid != first
    assert [entry["pid"] for entry in processes_in(tmp_path)] == [child.pid]
    await child.stop()


async def test_our_secrets_and_proxies_do_not_reach_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child gets PATH, HOME and what its launch names."""
    monkeypatch.setenv("FIREBREAK_SLACK_TOKEN", "xoxb-secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    launch = Launch("env", ("/usr/bin/env",), {"GOGC": "200"})
    child = await ManagedProcess.start(launch, tmp_path)
    assert await child.exited(LONG)
    names = {line.split("=")[0] for line in child.tail(100).splitlines()}
    assert names - {"LC_CTYPE"} == {"PATH", "HOME", "GOGC"}
    await child.stop()


@pytest.mark.parametrize(
    ("name", "given", "seen"),
    [
        ("FIREBREAK_SECRETS_DIR", "secrets", "{here}/secrets"),
        ("FIREBREAK_CACHE_DIR", ".cache", "{here}/.cache"),
        ("FIREBREAK_SERVER_KUBE_APISERVER", "./x", "{here}/x"),
        ("XDG_CACHE_HOME", "cache", "{here}/cache"),
        ("SSL_CERT_FILE", "ca.pem", "{here}/ca.pem"),
        ("KUBECONFIG", "./kube.yaml", "{here}/kube.yaml"),
        ("KUBECONFIG", "one:/two::three", "{here}/one:/two::{here}/three"),
        ("PATH", "bin:/usr/bin", "{here}/bin:/usr/bin"),
        ("FIREBREAK_CACHE_DIR", "~/cache", "~/cache"),
        ("FIREBREAK_SECRETS_DIR", "", ""),
        ("FIREBREAK_CLUSTER", "lab", "lab"),
    ],
)
async def test_a_child_in_another_folder_finds_what_a_relative_path_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str, seen: str
) -> None:
    """Paths in its environment count from the folder of who gave them, also when that one has moved on since."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    child = await ManagedProcess.start(Launch("env", ("/usr/bin/env",), {name: given}), tmp_path / "run")
    assert await child.exited(LONG)
    monkeypatch.chdir("/")
    child.start_again()
    assert await child.exited(LONG)
    lines = child.log_path.read_text().splitlines()  # of both runs
    said = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
    assert said == [seen.format(here=here)] * 2
    await child.stop()


async def test_what_is_not_a_program_is_refused(tmp_path: Path) -> None:
    """A wrong path is an error here, not a launcher's trace in a log."""
    with pytest.raises(ServerUnavailable, match="cannot be executed"):
        await ManagedProcess.start(Launch("absent", (str(tmp_path / "absent"),)), tmp_path)


def test_a_log_keeps_its_newest_half(tmp_path: Path) -> None:
    """Over its limit the end goes to a second file, and the writer goes on at the start."""
    log = tmp_path / "x.log"
    with open(log, "ab") as writer:
        writer.write(b"old" * 100)
        writer.flush()
        trim_log(log, 1000)
        assert log.stat().st_size == 300
        trim_log(log, 100)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "x.log.1").read_bytes() == (b"old" * 100)[-50:]


def test_free_ports_are_free_and_never_the_same() -> None:
    """A hundred in a row differ, and each can be bound."""
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", ports[0]))


def test_a_start_time_is_read_past_blanks_and_brackets_in_the_name(tmp_path: Path) -> None:
    """The program's name stands in the middle of /proc/<pid>/stat."""
    odd = tmp_path / "a ) b ("
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "1000"]) as child:
        plain = start_time(os.getpid())
        found = start_time(child.pid)
        child.kill()
    assert plain is not None
    assert found is not None
    assert found >= plain
    assert start_time(child.pid) is None

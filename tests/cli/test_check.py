"""`firebreak check` as it is typed; what it finds on real systems is in tests/lab/test_check.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def test_check_says_what_is_wrong_and_how_to_go_on(typed: Any, place: Path) -> None:
    """Exit code 1, one block a system, and nothing is made: it may be run beside an engine, or before there is one."""
    ran = typed("check", "--mode", "act", FIREBREAK_CLUSTER="lab")
    assert (ran.returncode, ran.stderr) == (1, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "documents   ok       4 services, 3 runbooks"
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "documents",
        "Temporal",
        "Kubernetes",
        "Prometheus",
        "Slack",
        "PagerDuty",
        "mode",
    ]
    assert lines[-1] == "mode act: 3 problems"
    problems = [number for number, line in enumerate(lines) if " problem  " in line]
    assert len(problems) == 3
    assert all(lines[number + 1].startswith(" " * 20) for number in problems), "each with what to do next"
    assert not list(place.iterdir())


def test_a_namespace_that_is_never_a_target_is_refused(typed: Any) -> None:
    """Empty would ask for rights in the whole cluster."""
    for name in ("", "kube-system", "../shop", "\x1b[31mshop"):
        ran = typed("check", "--namespace", name)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith("firebreak: --namespace: ")
        assert ran.stderr.replace("\n", "").isprintable()


def with_plugin(folder: Path, command: str) -> str:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": command}}
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    return str(folder / "kubeconfig")


def test_a_plugin_that_is_not_there_is_named(typed: Any, tmp_path: Path) -> None:
    """The commonest mistake with a cloud's kubeconfig; the path is what to look at."""
    ran = typed("check", FIREBREAK_KUBECONFIG=with_plugin(tmp_path, "/nowhere/get-token"))
    assert "/nowhere/get-token: No such file or directory" in ran.stdout


def test_a_check_that_is_ended_leaves_no_plugin_behind(
    environment: dict[str, str], place: Path, tmp_path: Path
) -> None:
    """A log-in that waits for somebody's hands would wait for ever."""
    plugin, begun = tmp_path / "get-token", tmp_path / "begun"
    plugin.write_text(f"#!/bin/sh\necho $$ > {begun}.new; mv {begun}.new {begun}\nexec sleep 600\n")
    plugin.chmod(0o700)
    command = [sys.executable, "-P", "-m", "firebreak", "check"]
    env = environment | {"FIREBREAK_KUBECONFIG": with_plugin(tmp_path, str(plugin))}
    with subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.DEVNULL) as check:
        until = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < until:
            time.sleep(0.05)
        check.terminate()
        assert check.wait(timeout=60) == 128 + signal.SIGTERM
    command_line = Path(f"/proc/{begun.read_text().strip()}/cmdline")
    while time.monotonic() < until and command_line.exists() and command_line.read_bytes():  # empty of a zombie
        time.sleep(0.05)
    assert not command_line.exists() or not command_line.read_bytes()

"""`firebreak check` as it is typed; what it finds on real systems is in tests/lab/test_check.py."""

from __future__ import annotations

import json
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


def test_a_plugin_that_is_not_there_is_named(typed: Any, place: Path, tmp_path: Path) -> None:
    """The commonest mistake with a cloud's kubeconfig; the path is what to look at."""
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "/nowhere/get-token"}}
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    ran = typed("check", FIREBREAK_KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert "/nowhere/get-token: No such file or directory" in ran.stdout

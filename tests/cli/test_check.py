"""`firebreak check` as it is typed; what it finds on real systems is in tests/lab/test_check.py."""

from __future__ import annotations

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

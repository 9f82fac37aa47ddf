"""The documents that the lab writes, read by the engine's own loaders, and the lab's directory."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from activities.actions import specs
from firebreak.documents.policy import load_policy
from firebreak.documents.services import load_services
from firebreak.domain.errors import ContractError
from firebreak.lab.documents import policy_text, services_text
from firebreak.lab.faults import FAULTS
from firebreak.lab.kube import KubeAccess
from firebreak.lab.monitoring import WINDOW
from firebreak.lab.shape import SERVICES
from firebreak.lab.state import LabState, claim_directory, load_state
from firebreak.locator import runbooks_dir
from firebreak.plans.fit import never_chosen, plan_problems
from firebreak.plans.runbook import load_runbook
from firebreak.triage.fit import lacking_params, tree_problems
from firebreak.triage.tree import load_severity

POLICY = load_policy(policy_text(1_795_248_000.7).encode(), "policy.yaml")
SERVICE_FILE = load_services(services_text().encode(), "services.yaml")


def test_the_baseline_is_the_moment_that_was_given() -> None:
    """Whole Unix seconds: the shop ran well then."""
    assert POLICY.baseline == " @ 1795248000"


def test_the_policy_only_names_what_the_documents_use() -> None:
    """A duration that no document knows would silently change nothing."""
    shipped = "".join(path.read_text() for path in runbooks_dir().rglob("*.yaml"))
    for name in (*POLICY.durations, *POLICY.thresholds):
        assert re.search(rf"^  {name}:", shipped, re.MULTILINE), name


def test_a_blip_is_shorter_than_every_for_time() -> None:
    """A condition is true for the blip and the window at most, and so never holds."""
    blip = FAULTS["blip"].lasts
    assert blip is not None
    # From the first scrape that sees it to the last whose window still holds a scrape from before its end.
    longest = blip + POLICY.durations["window"]
    for name in ("latency_for", "gateway_for", "interface_for", "business_for"):
        assert longest < POLICY.durations[name]


def test_alert_rules_and_policy_look_through_the_same_window() -> None:
    """Else an alert could fire while the tree sees nothing."""
    assert POLICY.durations["window"] == timedelta(seconds=int(WINDOW.removesuffix("s")))


def test_every_service_knows_its_objective_its_route_and_whom_to_call() -> None:
    """Names agree with the cluster's content."""
    assert set(SERVICE_FILE.services) == set(SERVICES)
    for name, shape in SERVICES.items():
        service = SERVICE_FILE.services[name]
        assert service.thresholds["p99_ms"] == shape.objective * 1000
        assert service.params["route"] == name
        assert (service.pager_key, service.chat_channel) == (shape.pager_key, shape.chat_channel)


def test_the_shipped_tree_and_runbooks_fit_the_labs_services() -> None:
    """Each plan that one of them may get can be made, and the tree judges everything."""
    catalog = (runbooks_dir() / "catalog").glob("*.yaml")
    runbooks = [load_runbook(path.read_bytes(), path.name) for path in catalog]
    severity = load_severity((runbooks_dir() / "severity" / "p1.yaml").read_bytes(), "p1.yaml")
    known = tuple(SERVICE_FILE.services.values())
    assert tree_problems(severity, POLICY, SERVICE_FILE) == ()
    assert plan_problems(runbooks, POLICY, SERVICE_FILE, specs()) == ()
    assert never_chosen(runbooks, known) == lacking_params(severity, known) == ()


def state(lab_dir: Path) -> LabState:
    return LabState(
        lab_dir=lab_dir,
        pid=1,
        admin=KubeAccess("https://127.0.0.1:1", "/ca", "secret"),
        audit_log="/audit.log",
        shop_url="http://127.0.0.1:2",
        prometheus_url="http://127.0.0.1:3",
        alertmanager_url="http://127.0.0.1:4",
        slack_url="http://127.0.0.1:5",
        pagerduty_url="http://127.0.0.1:6",
        gateway_url="http://127.0.0.1:7",
        engine={"FIREBREAK_MODE": "act", "FIREBREAK_CLUSTER": "lab"},
    )


def test_a_labs_state_is_found_again(tmp_path: Path) -> None:
    """Another process reads what the owner wrote; the engine's settings are lines of KEY=VALUE."""
    state(tmp_path).save()
    assert load_state(tmp_path) == state(tmp_path)
    assert (tmp_path / "engine.env").read_text() == "FIREBREAK_MODE=act\nFIREBREAK_CLUSTER=lab\n"


def test_engine_env_can_be_sourced_whatever_the_folder_is_called(tmp_path: Path) -> None:
    """Blanks and a shell's own characters are part of the value, and nothing in it is run."""
    lab_dir = claim_directory(tmp_path / "my lab; touch pwned; $(touch pwned)")
    replace(state(lab_dir), engine={"FIREBREAK_DATA_DIR": str(lab_dir / "engine")}).save()
    script = 'set -a; . "$1/engine.env"; printf %s "$FIREBREAK_DATA_DIR"'
    command = ["/bin/sh", "-c", script, "sh", str(lab_dir)]
    sourced = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert sourced.stdout == str(lab_dir / "engine")
    assert list(tmp_path.iterdir()) == [lab_dir]


def test_files_with_tokens_are_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600."""
    state(tmp_path).save()
    for name in ("lab.json", "engine.env"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_without_a_lab_the_error_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    """Missing or damaged, never a traceback."""
    if content is not None:
        (tmp_path / "lab.json").write_text(content)
    with pytest.raises(ContractError) as refusal:
        load_state(tmp_path)
    assert "firebreak lab" in refusal.value.next_step()

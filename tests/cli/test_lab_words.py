"""What `firebreak lab up` tells about the engine that is to be started next."""

from __future__ import annotations

from pathlib import Path

import pytest

from firebreak.cli import lab
from firebreak.lab.kube import KubeAccess
from firebreak.lab.state import LabState

HINT = "firebreak servers install temporal"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without a Temporal server."""
    monkeypatch.setenv("FIREBREAK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for name in ("FIREBREAK_TEMPORAL_ADDRESS", "FIREBREAK_SERVER_TEMPORAL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def told(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, former: str = "") -> str:
    nowhere = "http://127.0.0.1:1"
    state = LabState(
        lab_dir=tmp_path,
        pid=1,
        admin=KubeAccess(nowhere, "/ca", "secret"),
        audit_log="/audit.log",
        shop_url=nowhere,
        prometheus_url=nowhere,
        alertmanager_url=nowhere,
        slack_url=nowhere,
        pagerduty_url=nowhere,
        gateway_url=nowhere,
        engine={"FIREBREAK_MODE": "act"},
        former_engine=former,
    )
    lab._announce(state)
    return capsys.readouterr().out


def test_without_a_temporal_server_it_is_said_how_to_get_one(
    machine: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lab needs none, so that nobody has got one yet; `firebreak up` would be refused."""
    assert HINT in told(tmp_path, capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIREBREAK_SERVER_TEMPORAL", "/bin/sh"),
        ("FIREBREAK_SERVER_TEMPORAL", "/nowhere"),
        ("FIREBREAK_TEMPORAL_ADDRESS", "10.0.0.1:7233"),
    ],
)
def test_where_one_is_at_hand_nothing_is_said_about_it(
    machine: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """A binary, or somebody's own cluster; what is wrong with a setting is told by `firebreak up` itself."""
    machine.setenv(name, value)
    said = told(tmp_path, capsys)
    assert "firebreak up" in said
    assert HINT not in said


def test_where_the_former_engines_data_went_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the verb that reads them; a first lab has nothing to tell."""
    assert "firebreak incidents --data-dir '/a lab/engine-until-1'" in told(
        tmp_path, capsys, former="/a lab/engine-until-1"
    )
    assert "--data-dir" not in told(tmp_path, capsys)

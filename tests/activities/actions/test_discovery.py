"""Actions are found, and what the linter is told of them is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from activities.actions import build, discover, specs
from activities.actions.base import Action
from firebreak.engine.clock import SystemClock

if TYPE_CHECKING:
    from tests.activities.conftest import FakeCluster


def test_the_four_actions_are_found_by_their_modules() -> None:
    """There is no list to edit; `base` is no action."""
    assert set(discover()) == {"page", "restart_workload", "set_flag", "shift_traffic"}
    assert all(kind.__module__ == f"activities.actions.{name}" for name, kind in discover().items())


def test_every_action_is_built_for_one_cluster(fake: FakeCluster) -> None:
    """With the same port, limits and switch."""
    built = build(fake, clock=SystemClock(), dry_run_first=False)
    assert set(built) == set(specs())
    assert all(isinstance(a, Action) and a.cluster is fake and not a.dry_run_first for a in built.values())


@pytest.mark.parametrize(
    ("action", "params", "paths"),
    [
        ("restart_workload", {}, []),
        ("page", {}, []),
        ("page", {"who": "$who"}, [("who",)]),
        ("set_flag", {"config_map": "$flags", "key": "$key", "value": "$value"}, []),
        ("set_flag", {"config_map": "f", "key": "$not a name", "value": "x"}, [("key",)]),
        ("set_flag", {"config_map": "f", "key": "k", "value": True}, [("value",)]),
        ("set_flag", {"config_map": "f", "key": "k"}, [("value",)]),
        ("set_flag", {"config_map": "f", "key": "k", "value": "x", "namespace": "kube-system"}, [("namespace",)]),
        ("set_flag", {"config_map": "f", "key": "k", "value": "x", "namespace": "$namespace"}, []),
        ("set_flag", {"config_map": "f", "key": "k", "value": "x", "namespace": "shop"}, []),
        ("shift_traffic", {"route": "r", "away_from": "a", "namespace": "kube-public"}, [("namespace",)]),
        ("shift_traffic", {"route": "$route", "away_from": "a", "min_ready_share": "$share"}, []),
        ("shift_traffic", {"route": "$route", "away_from": "a", "min_ready_share": "half"}, [("min_ready_share",)]),
        ("shift_traffic", {"route": "r", "away_from": "a", "to": "a"}, [()]),
        ("shift_traffic", {"away_from": "$a", "too": "b"}, [("route",), ("too",)]),
    ],
)
def test_parameters_are_judged_before_they_are_filled(action: str, params: dict[str, Any], paths: Any) -> None:
    """A placeholder is accepted wherever the action has that parameter; all else must be right already."""
    problems = specs()[action].validate(params)
    assert sorted(p.path for p in problems) == sorted(paths)
    assert all(p.message for p in problems)


def test_only_a_workload_can_be_restarted() -> None:
    """What an action reads of its target besides the namespace is told to the linter."""
    known = specs()
    assert {kind.kind for kind in known["restart_workload"].target_kinds} == {"Deployment", "StatefulSet", "DaemonSet"}
    assert not known["set_flag"].target_kinds
    assert not known["shift_traffic"].target_kinds


def test_the_schema_accepts_what_validate_accepts() -> None:
    """Editors must not underline a placeholder."""
    share = specs()["shift_traffic"].params_schema["properties"]["min_ready_share"]
    assert {"type": "string", "pattern": r"^\$[A-Za-z_][A-Za-z0-9_]*$"} in share["anyOf"]
    assert share["description"]
    assert specs()["shift_traffic"].params_schema["required"] == ["route", "away_from"]

"""Which rights a set of documents needs, and no more: one that is asked for in vain is a false alarm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from activities.needed_rights import FOR_EVIDENCE, FOR_TARGET, Need, needs
from activities.rulebook import Rules
from firebreak.domain.incident import Mode
from firebreak.domain.target import ResourceKind
from firebreak.engine.compose import build_rulebook
from firebreak.settings import Settings

SERVICES = """
kind: services
services:
  pay:
    target: {TARGET}
    params: {PARAMS}
"""
HERE = "{namespace: shop, kind: Deployment, name: {label: deployment}}"
NAMED = "{namespace: shop, kind: Deployment, name: pay}"
BY_LABELS = "{namespace: {label: namespace}, pod: {label: pod}}"
FULL = "{route: pay, flow: pay, flags: shop-flags, flag_key: recommend.enabled, dependency: recommend}"

Made = Callable[..., Rules]


@pytest.fixture
def rules(tmp_path: Path) -> Made:
    def make(target: str = HERE, params: str = FULL) -> Rules:
        path = tmp_path / "services.yaml"
        path.write_text(SERVICES.replace("{TARGET}", target).replace("{PARAMS}", params))
        return build_rulebook(Settings(services=path)).current()

    return make


def of(found: tuple[Need, ...], purpose: str) -> set[str]:
    return {f"{need.right.text} {need.name}".strip() for need in found if need.purpose == purpose}


def test_only_the_targets_own_kind_is_got_and_patched(rules: Made) -> None:
    """A Role for Deployments alone is enough for a service that is one; what shares its budget is only listed."""
    found = needs(rules(), (), Mode.ACT)
    assert of(found, FOR_TARGET) == {"get deployments.apps"}
    assert of(found, "restart_workload") == {
        "get deployments.apps",
        "list deployments.apps",
        "patch deployments.apps",
        "list statefulsets.apps",
        "list daemonsets.apps",
        "list pods",
        "list poddisruptionbudgets.policy",
    }


def test_a_pod_may_lead_to_any_kind(rules: Made) -> None:
    """Then each of them is asked for, in the namespaces that are named."""
    found = needs(rules(BY_LABELS), ("shop", "pay"), Mode.ACT)
    assert {"get pods", "get replicasets.apps", "get daemonsets.apps"} <= of(found, FOR_TARGET)
    assert "patch statefulsets.apps" in of(found, "restart_workload")
    assert {need.namespace for need in found} == {"", "default", "shop", "pay"}


def test_of_namespaces_that_nobody_names_nothing_is_asked(rules: Made) -> None:
    """But for the nodes and their events, which are the same for all."""
    found = needs(rules(BY_LABELS), (), Mode.ACT)
    assert {(need.namespace, need.right.kind) for need in found} == {
        ("", ResourceKind.NODE),
        ("default", ResourceKind.EVENT),
    }


def test_observing_needs_no_right_to_write(rules: Made) -> None:
    """Nor is it a problem that one is missing."""
    found = needs(rules(), (), Mode.OBSERVE)
    assert {need.right.verb for need in found} == {"get", "list"}
    assert of(found, "shift_traffic") >= {"get httproutes.gateway.networking.k8s.io pay", "get services"}


def test_a_right_on_one_object_is_asked_for_by_its_name(rules: Made) -> None:
    """A Role with resourceNames grants it there, and nowhere else."""
    found = needs(rules(), (), Mode.ACT)
    assert of(found, "set_flag") == {"get configmaps shop-flags", "patch configmaps shop-flags"}
    assert "patch httproutes.gateway.networking.k8s.io pay" in of(found, "shift_traffic")


def test_a_target_that_the_document_names_is_asked_for_by_its_name(rules: Made) -> None:
    """What shares its budget is still listed in all of the namespace."""
    found = needs(rules(NAMED), (), Mode.ACT)
    assert of(found, FOR_TARGET) == {"get deployments.apps pay"}
    asked = {right for right in of(found, "restart_workload") if "deployments" in right}
    assert asked == {"get deployments.apps pay", "patch deployments.apps pay", "list deployments.apps"}


def test_what_no_runbook_of_a_service_does_needs_no_right(rules: Made) -> None:
    """Without a route and flags there is the restart alone."""
    found = needs(rules(params="{}"), (), Mode.ACT)
    assert {need.purpose for need in found} == {FOR_EVIDENCE, FOR_TARGET, "restart_workload"}

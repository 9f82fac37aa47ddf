"""Which runbook an incident gets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from firebreak.documents.services import load_services
from firebreak.domain.verdict import Severity
from firebreak.plans.choose import candidates, choose
from firebreak.plans.runbook import Runbook, load_runbook

Make = Callable[..., Runbook]


@pytest.fixture
def make(text: str) -> Make:
    """A runbook with another name, priority and match."""

    def build(name: str, match: str = "", priority: int = 0) -> Runbook:
        changed = text.replace("name: small", f"name: {name}\npriority: {priority}")
        changed = changed.replace("  params: [route]\n", match).replace("route: $route", "route: r")
        return load_runbook(changed.encode(), f"{name}.yaml")

    return build


def name_of(runbooks: list[Runbook], bindings: Mapping[str, str] | None = None, **labels: str) -> str:
    """Chosen for service pay, in every order of the documents: always the same one."""
    made = {
        choice.runbook.name if choice.runbook else ""
        for order in itertools.permutations(runbooks)
        for choice in [choose(order, service="pay", severity=Severity.P1, labels=labels, bindings=bindings or {})]
    }
    assert len(made) == 1
    return made.pop()


def test_the_higher_priority_wins(make: Make) -> None:
    """Priority comes before everything else."""
    assert name_of([make("a", "  services: [pay]\n"), make("b", priority=1)]) == "b"


def test_the_one_that_asks_for_more_wins(make: Make) -> None:
    """A runbook for just this case beats a general one."""
    general, named = make("a-general"), make("z-named", "  services: [pay]\n")
    labelled = make("z-labelled", "  services: [pay]\n  labels: {tier: core}\n")
    assert name_of([general, named, labelled], tier="core") == "z-labelled"
    assert name_of([general, named, labelled], tier="edge") == "z-named"


def test_the_first_by_name_breaks_a_tie(make: Make) -> None:
    """Never the order of files."""
    assert name_of([make("b"), make("a"), make("c")]) == "a"


def test_a_runbook_for_another_service_is_never_chosen(make: Make) -> None:
    """A list of services is a list of services."""
    assert name_of([make("a", "  services: [order]\n", priority=9)]) == ""


def test_a_runbook_is_chosen_only_where_its_parameters_are_there(make: Make) -> None:
    """A service without a flag never gets the runbook that turns flags off; an empty parameter is none."""
    plain, flagged = make("plain"), make("flagged", "  params: [flags, flag_key]\n")
    assert name_of([plain, flagged], {"flags": "f", "flag_key": "k"}) == "flagged"
    assert name_of([plain, flagged], {"flags": "f"}) == "plain"
    assert name_of([plain, flagged], {"flags": "f", "flag_key": ""}) == "plain"


def test_the_reason_says_why_and_why_not(make: Make) -> None:
    """It goes onto the timeline, and to the person who is paged when there is none."""
    runbooks = [make("a", "  params: [flags]\n"), make("b", "  services: [order]\n"), make("c", "  labels: {x: y}\n")]
    none = choose(runbooks, service="pay", severity=Severity.P1, labels={}, bindings={})
    assert none.runbook is None
    for told in (
        "a wants the service parameters flags",
        "b is for order",
        "c wants of the alert that opened it the labels x=y",
    ):
        assert told in none.reason
    some = choose([make("a"), make("b")], service="pay", severity=Severity.P1, labels={}, bindings={})
    assert "a is chosen before b" in some.reason


def test_nothing_is_chosen_for_what_is_no_p1(make: Make) -> None:
    """Runbooks are for severities."""
    assert choose([make("a")], service="pay", severity=Severity.NONE, labels={}, bindings={}).runbook is None
    assert "none at all" in choose([], service="pay", severity=Severity.P1, labels={}, bindings={}).reason


def test_the_candidates_of_a_service_end_with_the_one_that_fits_all_its_alerts(make: Make) -> None:
    """Its alerts have the labels of its `match`, and may have any other."""
    services = load_services(
        b"""{kind: services, services: {pay: {match: {service: pay, tier: core},
        target: {namespace: shop, kind: Deployment, name: pay}, params: {flow: pay, empty: ''}}}}""",
        "services.yaml",
    )
    runbooks = [
        make("first", "  params: [flow]\n  labels: {zone: a}\n", priority=9),
        make("elsewhere", "  labels: {tier: edge}\n", priority=8),
        make("lacking", "  params: [empty]\n", priority=7),
        make("others", "  services: [order]\n", priority=6),
        make("fits", "  labels: {tier: core}\n", priority=5),
        make("never", "  labels: {zone: b}\n", priority=4),
    ]
    found = candidates(reversed(runbooks), services.services["pay"])
    assert [runbook.name for runbook in found] == ["first", "fits"]

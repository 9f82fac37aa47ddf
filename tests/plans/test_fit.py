"""What each service's plans become: seen when the documents are read, not when one of them is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from firebreak.documents.policy import Policy, load_policy
from firebreak.documents.services import Services, load_services
from firebreak.domain.action import ActionSpec, ParamProblem
from firebreak.domain.errors import RunbookInvalid
from firebreak.domain.target import TargetRef
from firebreak.plans.fit import never_chosen, plan_problems
from firebreak.plans.pin import pinned
from firebreak.plans.runbook import Runbook, load_runbook

Specs = Mapping[str, ActionSpec]
Edited = Callable[..., str]


def services(**params: str) -> Services:
    """Services called like the keys, each with such `params`."""
    target = "target: {namespace: shop, kind: Deployment, name: {label: deployment}}"
    lines = [f"  {name}:\n    {target}\n    params: {{{given}}}\n" for name, given in params.items()]
    return load_services(("kind: services\nservices:\n" + "".join(lines)).encode(), "services.yaml")


def read(text: str, source: str = "small.yaml") -> Runbook:
    return load_runbook(text.encode(), source)


def test_a_service_whose_plans_can_be_made_has_no_problems(runbook: Runbook, policy: Policy, specs: Specs) -> None:
    """Nor has one that no runbook is for."""
    assert plan_problems([runbook], policy, services(pay="route: pay", edge=""), specs) == ()
    assert plan_problems([runbook], policy, None, specs) == ()


@pytest.fixture
def choosy(specs: Specs) -> Specs:
    """Actions, one of which takes neither a route nor a backend with a blank in its name."""

    def validate(params: Mapping[str, object]) -> tuple[ParamProblem, ...]:
        blank = [name for name, value in params.items() if " " in str(value)]
        return tuple(ParamProblem(path=(name,), message="must have no blanks") for name in blank)

    return {**specs, "shift_traffic": replace(specs["shift_traffic"], validate=validate)}


def test_a_parameter_that_an_action_refuses_is_shown_at_the_service(
    runbook: Runbook, policy: Policy, choosy: Specs, target: TargetRef
) -> None:
    """In the incident the whole plan would be refused for it, the restart before it and all."""
    known = services(order="route: order", pay="flow: pay, route: pay v2")
    (problem,) = plan_problems([runbook], policy, known, choosy)
    assert (problem.file, problem.line, problem.column) == ("services.yaml", 8, 32)
    assert problem.message == "runbook small, step 'shift': route: must have no blanks"
    with pytest.raises(RunbookInvalid, match="step 'shift': route: must have no blanks"):
        pinned(
            runbook,
            service="pay",
            target=target,
            bindings=known.services["pay"].params,
            policy=policy,
            service_thresholds={},
            specs=choosy,
        )


def test_what_only_the_alert_gives_is_not_judged(edited: Edited, policy: Policy, specs: Specs) -> None:
    """Its value is not known before the incident: no stand-in for it may keep documents from being used."""

    def validate(params: Mapping[str, object]) -> tuple[ParamProblem, ...]:
        return (ParamProblem(path=("away_from",), message="wrong"), ParamProblem(path=(), message="not together"))

    strict = {**specs, "shift_traffic": replace(specs["shift_traffic"], validate=validate)}
    assert plan_problems([read(edited())], policy, services(pay="route: pay"), strict) == ()


def test_what_is_wrong_without_a_service_is_left_to_the_linter(edited: Edited, policy: Policy, specs: Specs) -> None:
    """Said once; an action that does not exist is not looked for."""
    wrong = read(edited(("route: $route", "route: ''")))
    gone = read(edited(("action: shift_traffic", "action: reboot")))
    assert plan_problems([wrong, gone], policy, services(pay="route: pay"), specs) == ()


def test_only_what_a_service_may_get_is_judged(edited: Edited, policy: Policy, choosy: Specs) -> None:
    """A runbook that never has its turn may stay as it is; one for alerts with a label may have it."""
    known = services(pay="route: pay v2")
    broken = read(edited(), "broken.yaml")
    plain = edited(("name: small\n", "name: plain\npriority: 5\n"), ("route: $route", "route: pay"))
    always, seldom = read(plain, "a.yaml"), read(plain.replace("params: [route]", "params: [route]\n  labels: {x: y}"))
    assert plan_problems([broken, always], policy, known, choosy) == ()
    assert len(plan_problems([broken, seldom], policy, known, choosy)) == 1


def test_a_restore_that_reads_the_services_own_metric_after_all_is_shown(
    edited: Edited, policy: Policy, specs: Specs
) -> None:
    """`$route` may be another service, and here it is the same."""
    probe = "min(probe_success{service=$service})"
    runbook = read(edited((probe, "sum(rate(errors_total{service=$route}[1m]))")))
    assert plan_problems([runbook], policy, services(pay="route: order"), specs) == ()
    (problem,) = plan_problems([runbook], policy, services(pay="route: pay", order="route: pay"), specs)
    assert problem.file == "small.yaml"
    assert "for service 'pay', restore looks at the symptom" in problem.message


SCORE = """
  well:
    dimension: business
    op: ">"
    threshold: 70
    inputs: [a]
    score:
      flows:
        pay: {weight: $weight, success: a, volume_ratio: b}
        order: {weight: 0, success: a, volume_ratio: b}
"""


@pytest.mark.parametrize(("of_policy", "file"), [("weight: -1", "p.yaml"), ("weight: 0", "p.yaml"), ("", "small.yaml")])
def test_a_score_of_a_runbook_keeps_its_weights_in_range(
    of_policy: str, file: str, edited: Edited, specs: Specs
) -> None:
    """A verification by a score that is turned around would find the broken well."""
    text = edited(
        ("thresholds: {errors", "thresholds: {weight: -1, errors"), ("recovery: [few_errors]", "recovery: [well]")
    )
    runbook = read(text.replace("hold: $hold\nrecovery", SCORE.strip("\n") + "\nhold: $hold\nrecovery"))
    rules = load_policy(f"kind: policy\nname: p\nthresholds: {{{of_policy}}}\n".encode(), "p.yaml")
    for known in (services(pay="route: pay", order="route: order"), None):
        (problem,) = plan_problems([runbook], rules, known, specs)
        assert problem.file == file
        assert "condition 'well'" in problem.message


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("services: [ordr]", "there is no service 'ordr'; did you mean 'order'?"),
        ("params: [rout]", "no service has the parameter 'rout'; did you mean 'route'?"),
        ("params: [empty]", "no service has the parameter 'empty'"),
        ("{services: [order], params: [flow]}", "no service is and has all that is asked for here"),
    ],
)
def test_a_runbook_that_no_service_can_get_is_shown(match: str, words: str) -> None:
    """It would be passed over silently, incident after incident."""
    text = f"""{{kind: runbook, name: r, summary: s, match: {{severity: P1, {match.strip("{}")}}},
      durations: {{hold: 1s}}, hold: $hold, recovery: [c],
      conditions: {{c: {{dimension: health, query: up, op: '==', threshold: 1, inputs: [up], stale_after: 1m}}}},
      tiers: [{{name: page, steps: [{{id: call, action: page}}]}}]}}"""
    known = tuple(services(pay="flow: pay, empty: ''", order="route: order").services.values())
    (problem,) = never_chosen([read(text, "r.yaml")], known)
    assert (problem.file, problem.line) == ("r.yaml", 1)
    assert words in problem.message


def test_a_runbook_that_some_service_can_get_is_fine(runbook: Runbook) -> None:
    """Of those that it names all must exist; of those that exist one is enough."""
    assert never_chosen([runbook], tuple(services(pay="route: pay", edge="").services.values())) == ()

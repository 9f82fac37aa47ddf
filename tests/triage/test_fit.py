"""What the tree becomes under a policy, for each service: seen when the documents are read."""

from __future__ import annotations

import pytest

from firebreak.documents.policy import Policy, load_policy
from firebreak.documents.services import Services, load_services
from firebreak.locator import runbooks_dir
from firebreak.triage.fit import lacking_params, tree_problems, without_workload
from firebreak.triage.tree import SeverityDocument, load_severity

SEVERITY = (runbooks_dir() / "severity" / "p1.yaml").read_text(encoding="utf-8")


def tree(text: str = SEVERITY) -> SeverityDocument:
    return load_severity(text.encode(), "p1.yaml")


def policy(more: str = "") -> Policy:
    return load_policy(f"kind: policy\nname: p\n{more}\n".encode(), "policy.yaml")


def services(more: str = "") -> Services:
    """Two; `more` is of the first."""
    target = "target: {namespace: shop, kind: Deployment, name: {label: deployment}}"
    text = f"kind: services\nservices:\n  pay: {{{target}{more}}}\n  order: {{{target}, params: {{zone: a}}}}\n"
    return load_services(text.encode(), "services.yaml")


def test_the_shipped_tree_fits_its_services() -> None:
    """And any of them that sets nothing."""
    shipped = load_services((runbooks_dir() / "services.yaml").read_bytes(), "services.yaml")
    for known in (shipped, services(), None):
        assert tree_problems(tree(), policy(), known) == ()
    assert lacking_params(tree(), tuple(shipped.services.values())) == ()


def test_times_with_which_no_query_can_be_asked_are_shown_at_the_condition() -> None:
    """Such a condition would be inconclusive in every incident; the policy that does it is named."""
    problems = tree_problems(tree(), policy("durations: {business_for: 4h, step: 1s}"), services())
    at = [n for n, line in enumerate(SEVERITY.splitlines(), 1) if line.strip() == "for: $business_for"]
    assert [p.line for p in problems] == at
    assert all("with the durations of policy policy.yaml, 4 h in steps of 1 s are 14400" in p.message for p in problems)
    assert tree_problems(tree(), policy("durations: {business_for: 2h, step: 1s}"), services()) == ()


@pytest.mark.parametrize(
    ("severity", "of_policy", "of_pay", "file"),
    [
        ("pay_weight: 0.6", "thresholds: {pay_weight: -0.8}", "", "policy.yaml"),
        ("pay_weight: 0.6", "thresholds: {volume_weight: 2}", "", "policy.yaml"),
        ("pay_weight: 0.6", "", ", weights: {pay_weight: -0.8}", "services.yaml"),
        ("pay_weight: 0.6", "", ", weights: {pay_weight: 0, order_weight: 0}", "services.yaml"),
        ("pay_weight: -0.6", "", "", "p1.yaml"),
        # every service sets a good one; the alert of no known service is judged by the policy's
        (
            "pay_weight: 0.6",
            "thresholds: {pay_weight: -1, order_weight: 0}",
            ", weights: {pay_weight: 1}",
            "policy.yaml",
        ),
    ],
)
def test_a_weight_with_which_the_score_cannot_be_reckoned_is_shown(
    severity: str, of_policy: str, of_pay: str, file: str
) -> None:
    """In the file that sets it, once."""
    document = tree(SEVERITY.replace("pay_weight: 0.6", severity))
    problems = tree_problems(document, policy(of_policy), services(of_pay))
    assert {p.file for p in problems} == {file}, problems
    assert len(problems) == len(set(problems)) > 0
    assert all("condition 'health_score'" in p.message for p in problems)


def test_a_good_weight_may_stand_over_a_bad_one() -> None:
    """What is not in force is no problem."""
    document = tree(SEVERITY.replace("pay_weight: 0.6", "pay_weight: -0.6"))
    assert tree_problems(document, policy("thresholds: {pay_weight: 1}"), services()) == ()


def reading(param: str) -> SeverityDocument:
    """The tree with a condition that reads one parameter."""
    text = SEVERITY.replace("durations:", f"params: [{param}]\ndurations:", 1)
    return tree(
        text.replace('gateway_requests_total{code=~"5.."}', f'gateway_requests_total{{x=${param},code=~"5.."}}')
    )


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("gateway", "no service has the parameter 'gateway': gateway_5xx is inconclusive there in every incident"),
        ("zone", "parameter 'zone' is missing from pay: gateway_5xx is inconclusive there in every incident"),
    ],
)
def test_a_parameter_that_a_service_lacks_is_named_with_what_reads_it(param: str, words: str) -> None:
    """To a person; the engine takes the documents, as other services may have it."""
    document = reading(param)
    (problem,) = lacking_params(document, tuple(services().services.values()))
    line = document.document.raw.decode().splitlines().index(f"params: [{param}]") + 1
    assert (problem.file, problem.line, problem.column) == ("p1.yaml", line, 10)
    assert problem.message == words
    assert tree_problems(document, policy(), services()) == ()


def test_a_parameter_that_nothing_reads_is_named_only_where_nobody_has_it() -> None:
    """It is a slip of the pen then, and harmless otherwise."""
    known = tuple(services().services.values())
    (problem,) = lacking_params(tree(SEVERITY.replace("durations:", "params: [gate]\ndurations:", 1)), known)
    assert problem.message == "no service has the parameter 'gate'"
    assert lacking_params(tree(SEVERITY.replace("durations:", "params: [zone]\ndurations:", 1)), known) == ()


def test_a_tree_that_asks_for_the_workload_names_the_services_that_are_known_by_a_pod() -> None:
    """Their workload is not known yet when the conditions are asked: inconclusive in every incident."""
    by_pod = load_services(
        b"kind: services\nservices:\n  cart: {target: {namespace: shop, pod: {label: pod}}}\n", "services.yaml"
    )
    known = (*services().services.values(), *by_pod.services.values())
    asking = tree(SEVERITY.replace("sum(rate(gateway_requests_total[", "sum(rate(gateway_requests_total{x=$workload}["))
    (problem,) = without_workload(asking, known)
    line = asking.document.raw.decode().splitlines().index("  gateway_5xx:") + 1
    assert (problem.file, problem.line, problem.column) == ("p1.yaml", line, 3)
    assert problem.message.startswith("$workload has no value for cart, whose target is a pod: inconclusive there")
    assert without_workload(asking, tuple(services().services.values())) == ()
    assert without_workload(tree(), known) == ()

"""Loading a runbook: every mistake is named at its line and column."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from firebreak.domain.errors import RunbookInvalid
from firebreak.plans.runbook import Runbook, load_runbook


def place(text: str, at: str, shift: int = 0) -> tuple[int, int]:
    """Line and column, from 1, of `at` in `text`, `shift` characters on."""
    index = text.index(at) + shift
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


# (what is replaced, by what, where the mistake is shown, a part of the sentence)
MISTAKES = {
    "a duplicated key": ("hold: $hold\nrec", "hold: $hold\nhold: 1s\nrec", "hold: 1s", "key 'hold' is written twice"),
    "an unknown key": ("hold: $hold\nrec", "hlod: 1s\nhold: $hold\nrec", "hlod", "unknown key 'hlod'"),
    "a missing key": ("summary: for tests\n", "", "kind:", "key 'summary' is missing"),
    "another kind": ("kind: runbook", "kind: policy", "policy", "runbook"),
    "an unknown severity": ("severity: P1", "severity: P7", "P7", "P1"),
    "an unknown evidence": ("hold: $hold\nrec", "evidence: [pods, heap]\nhold: $hold\nrec", "heap", "previous_logs"),
    "a query that is no PromQL": ("min(probe_success{service=$service})", "min(", "min(", "not PromQL"),
    "an unknown placeholder in a query": (
        "min(probe_success{service=$service})",
        "min(probe_success{service=$sevrice})",
        "$sevrice",
        "unknown placeholder $sevrice",
    ),
    "a service parameter that match does not ask for": (
        "min(probe_success{service=$service})",
        "min(probe_success{service=$dependency})",
        "$dependency",
        "unknown placeholder $dependency",
    ),
    "a binding inside a regular expression": (
        "min(probe_success{service=$service})",
        "min(probe_success{service=~$service})",
        '$service})\n    op: "=="',
        "may stand only as the value of a = or != matcher",
    ),
    "an unknown threshold": ("threshold: $errors", "threshold: $erors", "$erors", "unknown threshold $erors"),
    "an unknown duration": ("settle: 5s", "settle: $setle", "$setle", "unknown duration $setle"),
    "the same for hold": ("hold: $hold\nrec", "hold: $hlod\nrec", "$hlod", "did you mean 'hold'?"),
    "an unknown condition": (
        "recovery: [few_errors]",
        "recovery: [few_erors]",
        "few_erors",
        "did you mean 'few_errors'?",
    ),
    "a step id twice": ("id: shift", "id: restart", "restart\n        action: shift", "stands above already"),
    "a tier name twice": (
        "- name: reroute",
        "- name: restart",
        "restart\n    steps:\n      - id: shift",
        "above",
    ),
    "a last tier that does not page": (
        "action: page",
        "action: set_flag",
        "steps:\n      - id: call",
        "must call a person",
    ),
    "a page in an earlier tier": ("action: restart_workload", "action: page", "page\n        check", "last tier"),
    "an unknown placeholder in a parameter": ("route: $route", "route: $rout", "$rout,", "did you mean 'route'?"),
    "a placeholder inside a text": ("route: $route", "route: x-$route", "x-$route", "must be the whole value"),
    "a hold of nothing": ("hold: 10s", "hold: 0s", "$hold, within: $within, settle", "verify: hold must be longer"),
    "a window of nothing": ("window: 1m", "window: 0s", "0s, stale_after", "longer than nothing"),
    "an age of nothing": ("stale_after: 30s", "stale_after: 0s", "0s, hold", "longer than nothing"),
    "a step of nothing": ("window: 1m", "step: 0s, window: 1m", "0s, window", "longer than nothing"),
    "a literal age of nothing": (
        "threshold: $errors",
        "stale_after: 0s\n    threshold: $errors",
        "0s\n    threshold",
        "no sample is that new",
    ),
    "a hold of too many points": ("hold: 10s", "hold: 2d", "$hold, within: $within, settle", "more than 10000"),
    "a condition of too many points": (
        "threshold: $errors",
        "for: 2d\n    threshold: $errors",
        "2d\n    threshold",
        "are 11520 points",
    ),
    "a limit that can never be met": ("within: 60s", "within: 12s", "$within, settle", "settle and hold together"),
    "a poll of nothing": ("poll: 1s", "poll: 0s", "$poll}\n        undo: none", "poll must be longer than nothing"),
    "a system namespace": (
        "        check: action\n",
        "        check: action\n        target: {namespace: kube-system, kind: Deployment, name: x}\n",
        "kube-system",
        "belongs to the system",
    ),
    "an object name that is none": (
        "        check: action\n",
        "        check: action\n        target: {namespace: shop, kind: Deployment, name: 'a b'}\n",
        "'a b'",
        "not the name of an object",
    ),
    "an approval nobody can give": (
        "        undo: action\n",
        "        undo: action\n        approval: the-cat\n",
        "the-cat",
        "on-call",
    ),
    "a parameter that is always there": ("params: [route]", "params: [route, service]", "service]", "something else"),
    "a name with two meanings": (
        "thresholds: {errors",
        "thresholds: {hold: 1, errors",
        "hold: 1,",
        "durations already",
    ),
    "restore on the symptom by name": (
        "restore: {conditions: [probed]",
        "restore: {conditions: [few_errors]",
        "few_errors], hold: $hold, within: $far",
        "restore looks at the symptom",
    ),
    "restore on the symptom by selector": (
        "query: min(probe_success{service=$service})",
        "query: sum(rate(errors_total{service=$service}[5m]))",
        "probed], hold: $hold, within: $far",
        "restore looks at the symptom, not at the broken part",
    ),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_each_mistake_is_named_at_its_line_and_column(claim: str, edited: Callable[..., str]) -> None:
    """A runbook with one mistake is refused, and the message stands where the mistake stands."""
    old, new, at, sentence = MISTAKES[claim]
    text = edited((old, new))
    with pytest.raises(RunbookInvalid) as caught:
        load_runbook(text.encode(), "r.yaml")
    found = [p for p in caught.value.problems if sentence in p.message]
    assert found, str(caught.value)
    assert place(text, at) in [(p.line, p.column) for p in found], str(caught.value)
    assert str(caught.value).startswith("r.yaml:")


def test_settling_may_take_no_time(edited: Callable[..., str]) -> None:
    """A duration of nothing is refused only where it could not be meant."""
    text = edited(("durations: {window", "durations: {soon: 0s, window"), ("settle: 5s", "settle: $soon"))
    assert load_runbook(text.encode(), "r.yaml").model.durations["soon"] == timedelta(0)


VERIFIED, PROBED = "sum(rate(errors_total{service=$service}[$window]))", "min(probe_success{service=$service})"


@pytest.mark.parametrize(
    "reads",
    [
        'sum(errors_total{service=$service, version="v2", code=~"5.."}) or vector(0)',
        "sum(errors_total{service=$service} offset 1m)",
        "sum(errors_total)",
        'sum({__name__="errors_total", version="v2"})',
        'sum({__name__=~"errors_.*", version="v2"})',
        'sum({__name__!="up", version="v2"})',
        'sum({version="v2"})',
        'sum(errors_total{service!=$service, version="v2"})',
        "sum(errors_total{service=$workload})",
        'sum(errors_total{service=""})',
        "sum(errors_total{service=$service, flow=$route})",
        'sum(errors_total{service=$service, instance="v2:80"})',
    ],
)
def test_a_part_of_the_symptom_is_the_symptom(reads: str, text: str) -> None:
    """A version that gets no traffic any more has no errors: `restore` on that would flip back at once."""
    with pytest.raises(RunbookInvalid, match=r"symptom.*'probed' reads the metric of errors_total"):
        load_runbook(text.replace(PROBED, reads).encode(), "r.yaml")


def test_the_parts_of_a_histogram_are_one_symptom(text: str) -> None:
    """Without traffic neither the buckets nor the count grow."""
    slow = text.replace(VERIFIED, "histogram_quantile(0.9, sum by (le) (rate(took_bucket{service=$service}[$window])))")
    with pytest.raises(RunbookInvalid, match="restore looks at the symptom"):
        load_runbook(slow.replace(PROBED, 'sum(rate(took_count{version="v2"}[1m]))').encode(), "r.yaml")


@pytest.mark.parametrize(
    ("verified", "reads"),
    [
        ('version="v1"', 'version="v2"'),
        ('app_kubernetes_io_version="1"', 'app_kubernetes_io_version="2"'),
        ('destination_canonical_revision="a"', 'destination_canonical_revision="b"'),
        ('release="stable"', 'release="canary"'),
        ('code="500"', 'code="200"'),
        ('status_code="500"', 'status_code="200"'),
        ('method="GET"', 'method="POST"'),
        ('le="0.5"', 'le="1"'),
        ('quantile="0.9"', 'quantile="0.99"'),
        ('instance="a"', "instance=$route"),
        ("instance=$route", 'instance="a"'),
        ("instance=$route", "instance=$workload"),
        ('instance="a"', 'instance="a"'),
        ('instance="a"', 'instance=~"b"'),
        ('instance="a"', 'instance!="a"'),
        ('instance="a"', 'instance=""'),
        ('instance="a"', 'version="v2"'),
        ('__name__="took_bucket"', '__name__="took_count"'),
    ],
)
def test_versions_and_results_of_one_part_are_one_symptom(verified: str, reads: str, text: str) -> None:
    """Where one has no symptom for want of traffic, so has the other; what a placeholder stands for may be the same."""
    metric = "" if verified.startswith("__name__") else "errors_total"
    more = text.replace("inputs: ['errors_total{service=$service}']", f"inputs: ['{metric}{{{verified}}}']")
    more = more.replace(VERIFIED, f"sum({metric}{{{verified}}})").replace(PROBED, f"sum({metric}{{{reads}}})")
    with pytest.raises(RunbookInvalid, match="restore looks at the symptom"):
        load_runbook(more.encode(), "r.yaml")


@pytest.mark.parametrize(
    ("verified", "reads"),
    [
        ('sum(errors_total{instance="https://shop.example"})', 'sum(errors_total{instance="https://other.example"})'),
        ('sum(errors_total{target="shop", code="500"})', 'sum(errors_total{target="other", code="500"})'),
        ('sum(errors_total{app_kubernetes_io_name="a"})', 'sum(errors_total{app_kubernetes_io_name="b"})'),
        ('sum(errors_total{deployment="pay"})', 'sum(errors_total{deployment="recommend", version="v2"})'),
        (VERIFIED, 'sum(errors_total{service="recommend"})'),
        (VERIFIED, "sum(errors_total{service=$route})"),
        ("sum(errors_total{app=$service})", 'sum(errors_total{app="recommend"})'),
        ("sum(errors_total{service=$service})", 'sum({__name__=~"probe_.*"})'),
        ("sum(errors_total{service=$service})", 'sum({__name__!="errors_total", job="probe"})'),
    ],
)
def test_what_is_said_to_be_another_services_is_no_symptom(verified: str, reads: str, text: str) -> None:
    """A dependency's own errors are evidence of the broken part, whatever metric they are counted in."""
    selector = verified[verified.index("errors_total") : verified.index("}") + 1]
    more = text.replace("inputs: ['errors_total{service=$service}']", f"inputs: ['{selector}']")
    load_runbook(more.replace(VERIFIED, verified).replace(PROBED, reads).encode(), "r.yaml")


def test_a_condition_that_nobody_uses_is_named(text: str) -> None:
    """It is most often a slip of the pen in the name that should use it."""
    more = text.replace(
        "hold: $hold\nrec",
        "  spare: {dimension: health, query: up, op: '==', threshold: 1, inputs: [up]}\nhold: $hold\nrec",
    )
    with pytest.raises(RunbookInvalid, match="condition 'spare' is used nowhere") as caught:
        load_runbook(more.encode(), "r.yaml")
    assert [(p.line, p.column) for p in caught.value.problems] == [place(more, "spare")]


@pytest.mark.parametrize("where", ["recovery", "verify"])
def test_a_label_of_the_alert_shows_no_healing(where: str, text: str) -> None:
    """The alert's labels never change, so they can neither verify nor end anything; a check may look at them."""
    label = "  blocked: {dimension: business, label: business_impact, in: [blocked]}\nhold: $hold\nrec"
    more = text.replace("hold: $hold\nrec", label).replace("check: [probed]", "check: [probed, blocked]")
    load_runbook(more.encode(), "r.yaml")
    if where == "recovery":
        more = more.replace("recovery: [few_errors]", "recovery: [few_errors, blocked]")
    else:
        more = more.replace(
            "verify: {conditions: [few_errors], hold: $hold, within: $within, settle",
            "verify: {conditions: [blocked], hold: $hold, within: $within, settle",
        )
    with pytest.raises(RunbookInvalid, match="never changes"):
        load_runbook(more.encode(), "r.yaml")


def test_all_mistakes_are_named_at_once(edited: Callable[..., str]) -> None:
    """One run of the linter shows everything of one layer, in order of the file."""
    text = edited(
        ("threshold: $errors", "threshold: $erors"), ("id: shift", "id: restart"), ("settle: 5s", "settle: $x")
    )
    with pytest.raises(RunbookInvalid) as caught:
        load_runbook(text.encode(), "r.yaml")
    assert len(caught.value.problems) == 3
    assert list(caught.value.problems) == sorted(caught.value.problems)


def test_a_right_runbook_is_frozen_and_known_by_its_bytes(runbook: Runbook, text: str) -> None:
    """Its digest is of the file's bytes; another byte is another digest."""
    other = load_runbook((text + "# a remark\n").encode(), "small.yaml")
    assert runbook.name == other.name == "small"
    assert len(runbook.digest) == 64
    assert runbook.digest != other.digest
    with pytest.raises(ValueError, match="frozen"):
        runbook.model.name = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff\xfe", b"kind: runbook\n\tname: x", b"kind: !!python/object x", b"a: &a [*a]"]
)
def test_what_is_no_document_at_all_is_refused(data: bytes) -> None:
    """Broken bytes end in a sentence with a place, never in a traceback."""
    with pytest.raises(RunbookInvalid) as caught:
        load_runbook(data, "r.yaml")
    assert caught.value.problems

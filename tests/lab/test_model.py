"""The shop's behaviour as pure functions: no process, no clock, no dice but those that are given."""

from __future__ import annotations

import random

import pytest

from firebreak.domain.condition import Dimension
from firebreak.domain.incident import IncidentOutcome
from firebreak.lab.faults import FAULTS, Fault, Pod, Symptom, Tier, fault_named
from firebreak.lab.manifests import image
from firebreak.lab.model import ActiveFault, Answer, ClusterView, Dice, after_callee, answer, probe
from firebreak.lab.shape import BAD_TAG, FLAGS, GOOD_TAG, SERVICES, callees

SINCE = 1_000.0
MIDDLE = Dice(0.5, 0.5, 0.5)


def pods(service: str, version: str, *, created_at: float = 500.0, tag: str = GOOD_TAG, count: int = 3) -> list[Pod]:
    return [
        Pod(f"{service}-{version}-{number}", service, version, image(service, tag), created_at)
        for number in range(count)
    ]


def view(*groups: list[Pod], weights: dict[str, dict[str, int]] | None = None) -> ClusterView:
    ready: dict[tuple[str, str], tuple[Pod, ...]] = {}
    for shape in SERVICES.values():
        for version in shape.versions:
            ready[shape.name, version] = tuple(pods(shape.name, version))
    for group in groups:
        ready[group[0].service, group[0].version] = tuple(group)
    baseline = {shape.name: dict(shape.baseline_weights) for shape in SERVICES.values()}
    return ClusterView(ready, baseline | (weights or {}), dict(FLAGS))


def share_failing(cluster: ClusterView, fault: str, service: str, version: str, *, now: float = SINCE + 1) -> float:
    """Share of a thousand evenly spread calls that the pods of that version fail by themselves."""
    active = ActiveFault(fault_named(fault), SINCE)
    calls = [
        answer(cluster, active, service, version, dice=Dice(pod / 10, fate / 100, 0.5), now=now)
        for pod in range(10)
        for fate in range(100)
    ]
    return sum(call.code == 500 for call in calls) / len(calls)


def test_a_well_shop_answers_within_its_own_work() -> None:
    """Without a fault every call to every version succeeds, in the time that the table gives."""
    for shape in SERVICES.values():
        for version in shape.versions:
            got = answer(view(), None, shape.name, version, dice=MIDDLE, now=SINCE)
            assert got.code == 200
            assert shape.work[0] <= got.delay <= shape.work[1] < shape.objective


def test_a_version_without_ready_pods_answers_503() -> None:
    """No ready pod, no service: the proxy's own answer."""
    empty = ClusterView({}, {}, {})
    assert answer(empty, None, "pay", "v1", dice=MIDDLE, now=SINCE) == Answer(503, 0.0)


@pytest.mark.parametrize(
    ("weights", "draw", "expected"),
    [
        ({"v1": 100, "v2": 0}, 0.999, "v1"),
        ({"v1": 0, "v2": 100}, 0.0, "v2"),
        ({"v1": 1, "v2": 3}, 0.24, "v1"),
        ({"v1": 1, "v2": 3}, 0.26, "v2"),
        ({"v1": 0, "v2": 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_calls_follow_the_route_weights(weights: dict[str, int], draw: float, expected: str | None) -> None:
    """Weights are proportional, a weight of zero gets nothing, and no weight at all means no backend."""
    assert view(weights={"pay": weights}).version_for("pay", draw) == expected


def test_every_ready_pod_gets_its_share() -> None:
    """The draws from 0 to just under 1 reach all pods and never run out of them."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    picked = {pod.name for _ in range(200) if (pod := view().pod_for("pay", "v1", dice.random()))}
    assert picked == {"pay-v1-0", "pay-v1-1", "pay-v1-2"}
    last = view().pod_for("pay", "v1", 0.9999999999999999)
    assert last is not None
    assert last.name == "pay-v1-2"


def test_order_calls_recommend_only_while_its_flag_is_on() -> None:
    """The flag is what the degrade tier turns."""
    assert callees("order", "order", {"recommend.enabled": "true"}) == ("recommend",)
    assert callees("order", "order", {"recommend.enabled": "false"}) == ()
    assert callees("order", "pay", {"recommend.enabled": "true"}) == ("pay",)
    assert callees("edge", "order", {}) == ("order",)
    assert callees("pay", "pay", FLAGS) == ()


@pytest.mark.parametrize(
    ("service", "callee", "code", "expected"),
    [
        ("order", "pay", 200, 200),
        ("order", "pay", 500, 502),
        ("order", "pay", 503, 502),
        ("order", "pay", None, 502),
        ("edge", "order", 502, 502),
        ("edge", "order", None, 502),
        ("order", "recommend", 503, 502),
        ("order", "recommend", None, 500),
    ],
)
def test_only_the_culprit_answers_500(service: str, callee: str, code: int | None, expected: int) -> None:
    """Who suffers from a callee says 502; order's unguarded wait for an optional part is order's own failure."""
    assert after_callee(service, callee, code) == expected


def test_wedged_pods_fail_until_they_are_replaced() -> None:
    """Each fresh pod takes a third of the failures away; a restart of all of them heals."""
    old, fresh = pods("pay", "v1"), pods("pay", "v1", created_at=SINCE + 5)
    assert share_failing(view(), "wedged-pods", "pay", "v1") == pytest.approx(0.6)
    half = share_failing(view(old[:1] + fresh[:2]), "wedged-pods", "pay", "v1")
    assert 0 < half < 0.6
    assert share_failing(view(fresh), "wedged-pods", "pay", "v1") == 0


def test_wedged_pods_are_slow_beyond_the_objective() -> None:
    """Latency is the second dimension: slower than pay's objective, not slower than order's."""
    got = answer(view(), ActiveFault(fault_named("wedged-pods"), SINCE), "pay", "v1", dice=MIDDLE, now=SINCE + 1)
    assert SERVICES["pay"].objective < got.delay < SERVICES["order"].objective


def test_rerouting_does_not_help_wedged_pods() -> None:
    """The other version's pods are as old: only fresh pods work."""
    assert share_failing(view(), "wedged-pods", "pay", "v2") == pytest.approx(0.6)


def test_a_bad_release_fails_wherever_its_image_runs() -> None:
    """Fresh pods of it fail as well, v1 works, and so does v2 once the image is taken back."""
    bad = pods("pay", "v2", created_at=SINCE - 1, tag=BAD_TAG)
    restarted = pods("pay", "v2", created_at=SINCE + 5, tag=BAD_TAG)
    assert share_failing(view(bad), "bad-release", "pay", "v2") == pytest.approx(0.8)
    assert share_failing(view(restarted), "bad-release", "pay", "v2") == pytest.approx(0.8)
    assert share_failing(view(restarted), "bad-release", "pay", "v1") == 0
    assert share_failing(view(), "bad-release", "pay", "v2") == 0


def test_a_dead_dependency_never_answers() -> None:
    """Every pod of recommend hangs, fresh ones too, and no other service has a fault of its own."""
    active = ActiveFault(fault_named("dead-dependency"), SINCE)
    fresh = view(pods("recommend", "v1", created_at=SINCE + 5))
    assert answer(fresh, active, "recommend", "v1", dice=MIDDLE, now=SINCE + 6).hangs
    for version in ("v1", "v2"):
        assert answer(fresh, active, "order", version, dice=MIDDLE, now=SINCE + 6).code == 200


def test_unfixable_fails_on_every_version_and_every_age() -> None:
    """Neither a restart nor a reroute changes anything."""
    fresh = view(pods("pay", "v1", created_at=SINCE + 5), pods("pay", "v2", created_at=SINCE + 5))
    assert share_failing(fresh, "unfixable", "pay", "v1") == pytest.approx(0.8)
    assert share_failing(fresh, "unfixable", "pay", "v2") == pytest.approx(0.8)


def test_a_blip_is_over_by_itself() -> None:
    """Everything fails, quickly, and a moment later nothing does."""
    assert share_failing(view(), "blip", "pay", "v1", now=SINCE + 1.0) == 1
    assert share_failing(view(), "blip", "pay", "v1", now=SINCE + 1.2) == 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_probe_tells_for_certain_whether_a_fault_touches_a_version(fault: Fault) -> None:
    """`restore` goes by the broken part itself, so its probe must not be a matter of luck."""
    bad = view(pods("pay", "v2", tag=BAD_TAG))
    active = ActiveFault(fault, SINCE)
    for shape in SERVICES.values():
        for version in shape.versions:
            touched = any(fault.symptom(pod, SINCE) for pod in bad.ready[shape.name, version])
            for draw in (0.0, 0.4, 0.99):
                got = probe(bad, active, shape.name, version, draw=draw, now=SINCE + 0.5)
                assert (got.code != 200) is touched, (shape.name, version)


def test_the_five_classes_end_as_the_issue_says() -> None:
    """One class for each tier, one for a person, one for nothing; each trips two independent dimensions."""
    assert {name: (fault.heals_by, fault.outcome, fault.pages) for name, fault in FAULTS.items()} == {
        "wedged-pods": (Tier.RESTART, IncidentOutcome.HEALED, False),
        "bad-release": (Tier.REROUTE, IncidentOutcome.HEALED, False),
        "dead-dependency": (Tier.DEGRADE, IncidentOutcome.HEALED, False),
        "unfixable": (Tier.NONE, IncidentOutcome.RECOVERED, True),
        "blip": (Tier.NONE, IncidentOutcome.NOTHING_DONE, False),
    }
    assert all(len(fault.trips & set(Dimension)) >= 2 for fault in FAULTS.values())


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_fault_that_trips_latency_is_slow_and_the_others_are_not(fault: Fault) -> None:
    """What a fault states is what it does."""
    suffering = [s for pod in _all_pods() if (s := fault.symptom(pod, SINCE))]
    slow = [symptom for symptom in suffering if symptom.hangs or _slow(symptom)]
    assert bool(slow) is (Dimension.LATENCY in fault.trips)
    assert suffering


def _all_pods() -> list[Pod]:
    return [pod for group in view(pods("pay", "v2", tag=BAD_TAG)).ready.values() for pod in group]


def _slow(symptom: Symptom) -> bool:
    return symptom.delay is not None and symptom.delay[0] > SERVICES["pay"].objective


@pytest.mark.parametrize(("created_at", "wedged"), [(999.0, True), (1_000.0, False), (1_001.0, False)])
def test_a_pod_of_the_faults_own_second_is_fresh(created_at: float, wedged: bool) -> None:
    """Kubernetes says whole seconds: one made at 1000.7 says 1000, and must work although the fault began at 1000.5."""
    (pod,) = pods("pay", "v1", created_at=created_at, count=1)
    assert (fault_named("wedged-pods").symptom(pod, 1_000.5) is not None) == wedged

"""Weights of a health score, as they will be in force."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.policy import load_policy
from firebreak.documents.services import load_services
from firebreak.documents.weights import weight_faults, weight_problems
from firebreak.documents.yaml_file import load_yaml

BLOCK = ConditionBlock.model_validate(
    {
        "dimension": "business",
        "op": "<=",
        "threshold": 70,
        "score": {
            "flows": {
                "pay": {"weight": "$pay", "success": "a", "volume_ratio": "b", "volume_weight": "$volume"},
                "order": {"weight": "$order", "success": "a", "volume_ratio": "b"},
            }
        },
    }
)
OWN = {"pay": 0.6, "order": 0.4, "volume": 0.3}


@pytest.mark.parametrize(
    ("numbers", "names", "words"),
    [
        ({"pay": -0.1}, ("pay",), "weight of flow 'pay' is -0.1, which is out of range: at least 0"),
        ({"volume": 1.5}, ("volume",), "volume_weight of flow 'pay' is 1.5, which is out of range: at least 0, at mo"),
        ({"volume": -1}, ("volume",), "volume_weight of flow 'pay' is -1, which is out of range"),
        ({"pay": 0, "order": 0}, ("pay", "order"), "every flow has a weight of 0"),
    ],
)
def test_a_weight_that_turns_the_score_around_or_off_is_named(
    numbers: Mapping[str, float], names: tuple[str, ...], words: str
) -> None:
    """With what it comes from."""
    (fault,) = weight_faults(BLOCK, OWN | dict(numbers))
    assert fault.names == names
    assert words in fault.message


@pytest.mark.parametrize("numbers", [{}, {"pay": 0}, {"volume": 0}, {"volume": 1}, {"pay": 1000}])
def test_any_other_weight_is_taken(numbers: Mapping[str, float]) -> None:
    """One flow may be left out, and weights need no sum."""
    assert not tuple(weight_faults(BLOCK, OWN | dict(numbers)))


@pytest.mark.parametrize(
    ("own", "of_policy", "of_service", "file"),
    [
        ("-1", "{}", "", "own.yaml"),
        ("0.6", "{pay: -1}", "", "policy.yaml"),
        ("0.6", "{}", ", thresholds: {pay: -1}", "services.yaml"),
        ("0.6", "{pay: -5}", ", weights: {pay: -1}", "services.yaml"),
        ("-5", "{pay: 1}", ", weights: {pay: -1}", "services.yaml"),
    ],
)
def test_a_wrong_weight_is_shown_in_the_file_that_sets_it(own: str, of_policy: str, of_service: str, file: str) -> None:
    """The service's word is the nearest, then the policy's, then the document's; line and column are the number's."""
    target = "target: {namespace: a, kind: Deployment, name: b}"
    texts = {
        "own.yaml": f"kind: x\nthresholds: {{pay: {own}}}\n",
        "policy.yaml": f"kind: policy\nname: p\nthresholds: {of_policy}\n",
        "services.yaml": f"kind: services\nservices:\n  pay: {{{target}{of_service}}}\n",
    }
    services = load_services(texts["services.yaml"].encode(), "services.yaml")
    (problem,) = weight_problems(
        load_yaml(texts["own.yaml"].encode(), "own.yaml"),
        {"score": BLOCK},
        OWN | {"pay": float(own)},
        policy=load_policy(texts["policy.yaml"].encode(), "policy.yaml"),
        services=services,
        service=services.services["pay"],
    )
    assert problem.file == file
    assert texts[file].splitlines()[problem.line - 1][problem.column - 1 :].startswith("-1")
    assert problem.message.startswith("condition 'score': weight of flow 'pay' is -1")

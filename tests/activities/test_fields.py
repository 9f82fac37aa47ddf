"""Touched fields: a path leads to the same field for reading and writing."""

from __future__ import annotations

from typing import Any

import pytest

from activities.fields import (
    as_patched,
    canonical,
    differences,
    field_path,
    inverse,
    is_guard,
    merge_patch,
    moved_fields,
    parse_path,
    read_field,
)
from firebreak.domain.action import FieldChange
from firebreak.domain.errors import TargetChanged

PATHS: list[tuple[tuple[Any, ...], str]] = [
    (("spec", "replicas"), "spec.replicas"),
    (("data", "a.b/c"), 'data["a.b/c"]'),
    (("data", 'x"]\\[0'), 'data["x\\"]\\\\[0"]'),
    (("data", "é\n"), 'data["\\u00e9\\n"]'),
    (("spec", "rules", 0, "backendRefs", ("name", "pay-v2")), 'spec.rules[0].backendRefs[name="pay-v2"]'),
]


def change(path: str, before: Any, after: Any) -> FieldChange:
    return FieldChange(path=path, before=canonical(before), after=canonical(after))


@pytest.mark.parametrize(("steps", "text"), PATHS)
def test_a_path_is_read_as_it_was_written(steps: tuple[Any, ...], text: str) -> None:
    """Any key survives, also one that looks like a path."""
    assert field_path(*steps) == text
    assert parse_path(text) == steps


@pytest.mark.parametrize("text", ["", ".a", "a[", "a[x]", 'a["b]', "a..b", "a b"])
def test_what_is_no_path_is_refused(text: str) -> None:
    """Nothing is guessed about which field was meant."""
    with pytest.raises(ValueError, match="path"):
        parse_path(text)


def test_a_missing_field_reads_as_none() -> None:
    """As in a merge patch, where null takes a field away."""
    assert read_field({"spec": {}}, "spec.template.metadata") is None
    assert read_field({"data": None}, 'data["k"]') is None


def test_a_patch_holds_only_what_changes_outside_of_lists() -> None:
    """And two changes in one list make one list."""
    rules = [{"name": "a", "w": 1, "keep": True}, {"name": "b", "w": 2}]
    obj = {"spec": {"rules": rules, "other": 1}, "data": {"k": "v", "l": "w"}}
    body = merge_patch(
        obj,
        [
            change('spec.rules[name="a"].w', 1, 0),
            change('spec.rules[name="b"].w', 2, None),
            change('data["k"]', "v", None),
        ],
    )
    assert body == {"spec": {"rules": [{"name": "a", "w": 0, "keep": True}, {"name": "b"}]}, "data": {"k": None}}
    assert rules == [{"name": "a", "w": 1, "keep": True}, {"name": "b", "w": 2}]


@pytest.mark.parametrize("elements", [[], [{"name": "b"}], [{"name": "a"}, {"name": "a"}], None, {"name": "a"}])
def test_a_list_must_have_exactly_one_such_element(elements: Any) -> None:
    """A field that cannot be told apart any more has changed."""
    obj = {"rules": elements}
    if elements is None:
        assert read_field(obj, 'rules[name="a"].w') is None
        return
    with pytest.raises(TargetChanged, match="exactly one"):
        read_field(obj, 'rules[name="a"].w')
    assert moved_fields(obj, [change('rules[name="a"].w', 1, 2)]) != ()


def test_a_guard_is_bound_and_never_written() -> None:
    """In both directions; a guard alone is no patch, and a list beside it is not sent for its sake."""
    obj = {"rules": [{"name": "a", "w": 1}], "data": {"k": "v"}}
    guard = change("rules[0].name", "a", "a")
    assert is_guard(guard)
    assert inverse([guard]) == (guard,)
    assert merge_patch(obj, [guard]) == {}
    assert merge_patch(obj, [guard, change('data["k"]', "v", "w")]) == {"data": {"k": "w"}}
    assert moved_fields(obj, [guard]) == ()
    assert moved_fields({"rules": [{"name": "b", "w": 1}]}, [guard]) != ()
    assert moved_fields({"rules": []}, [guard]) != ()


def test_values_are_compared_as_values() -> None:
    """Key order and spacing of the stored text do not matter; 1 and "1" are different."""
    stored = FieldChange(path="x", before='{"b": 1, "a": 2}', after="null")
    assert moved_fields({"x": {"a": 2, "b": 1}}, [stored]) == ()
    assert moved_fields({"x": "1"}, [change("x", 1, 2)]) != ()


def test_a_patch_is_carried_out_as_an_api_server_does() -> None:
    """`null` removes, a list is replaced as a whole, all else stays (RFC 7396); what was given is not changed."""
    obj = {"data": {"a": "1", "b": "2"}, "rules": [{"w": 1}, {"w": 2}]}
    patch = {"data": {"a": None, "c": "3"}, "rules": [{"w": 9}]}
    assert as_patched(obj, patch) == {"data": {"b": "2", "c": "3"}, "rules": [{"w": 9}]}
    assert obj == {"data": {"a": "1", "b": "2"}, "rules": [{"w": 1}, {"w": 2}]}


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "x"}]}}, []),
        ({"a": {}, "b": [], "c": None}, {}, []),  # the API server drops what is empty
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 2 instead of 1"]),
        ({"a": {"b": 1}}, {}, ["a.b: null instead of 1"]),
        ({}, {"a": {"b": 1}}, ["a.b: 1 instead of null"]),
        ({"a": 0}, {}, ["a: null instead of 0"]),
        ({"a": ""}, {}, ['a: null instead of ""']),
        ({"a": 0}, {"a": False}, ["a: false instead of 0"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1,2] instead of [1]"]),
        ({"a": [{"w": 1}]}, {"a": [{"w": 2}]}, ["a[0].w: 2 instead of 1"]),
        ({"a": {"b": 1}}, {"a": "x"}, ['a: "x" instead of {"b":1}']),
        ({"a": "x" * 100}, {}, ['a: null instead of "' + "x" * 79 + "..."]),
    ],
)
def test_differences_name_their_fields(wanted: Any, found: Any, said: list[str]) -> None:
    """One sentence each, with the value that is there and the one that was meant, cut in length."""
    assert list(differences(wanted, found)) == said

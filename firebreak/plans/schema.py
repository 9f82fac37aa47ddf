"""The JSON Schema (draft 2020-12) that editors complete runbooks from: the models, and each action's own parameters."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.durations import promql_duration
from firebreak.domain.action import ActionSpec
from firebreak.domain.codec import parse_duration
from firebreak.domain.plan import UndoRule
from firebreak.plans.model import RunbookModel, StepBlock

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STEP, _CONDITION = StepBlock.__name__, ConditionBlock.__name__
_GIVEN = {"not": {"type": "null"}}  # a key without a value counts as left out
_OF_WRITERS = ("check", "verify", "undo")  # a step that writes has all three, any other step none


def runbook_schema(specs: Mapping[str, ActionSpec]) -> dict[str, Any]:
    """Schema of a runbook document; `specs` are the actions that a step may name."""
    schema = RunbookModel.model_json_schema(by_alias=True)
    _walk(schema, _durations_as_written)
    step = schema["$defs"][_STEP]
    step["properties"]["action"] |= {
        "enum": sorted(specs),
        "description": "What is done. " + " ".join(f"{n}: {specs[n].summary}" for n in sorted(specs)),
    }
    schema["$defs"][_CONDITION] |= _kinds_of_condition()
    step["allOf"] = [_branch(schema["$defs"], specs[name]) for name in sorted(specs)]
    return {"$schema": DIALECT, "title": "Firebreak runbook", **{k: v for k, v in schema.items() if k != "title"}}


def schema_text(specs: Mapping[str, ActionSpec]) -> str:
    """The same bytes for the same models and actions: what is committed can be compared with what is generated."""
    return json.dumps(runbook_schema(specs), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _kinds_of_condition() -> dict[str, Any]:
    """Exactly one kind, and what each needs and cannot have: what ConditionBlock checks beyond its fields."""

    def kind(name: str) -> dict[str, Any]:
        return {"properties": {name: _GIVEN}, "required": [name]}

    compared = {"op": _GIVEN, "threshold": _GIVEN, "in": False}
    with_inputs = {"properties": compared | {"inputs": {"minItems": 1}}, "required": ["op", "threshold", "inputs"]}
    without_volume = {"properties": compared | {"volume": {"type": "null"}}, "required": ["op", "threshold"]}
    by_label = {
        "properties": {"label": {"minLength": 1}, "in": {"minItems": 1}},
        "propertyNames": {"enum": ["dimension", "title", "label", "in"]},
        "required": ["in"],
    }
    needs = {"query": with_inputs, "score": without_volume, "label": by_label}
    return {
        "oneOf": [kind(name) for name in needs],
        "allOf": [{"if": kind(name), "then": then} for name, then in needs.items()],
    }


def _branch(definitions: dict[str, Any], spec: ActionSpec) -> dict[str, Any]:
    """`if` the step names this action, `then` these are its parameters, and these keys are needed."""
    params = copy.deepcopy(dict(spec.params_schema))
    for name, definition in params.pop("$defs", {}).items():
        definitions[f"{spec.name}.{name}"] = definition
        _walk(definition, lambda node: _moved(node, spec.name))
    _walk(params, lambda node: _moved(node, spec.name))
    params["title"] = f"Parameters of {spec.name}"
    then: dict[str, Any] = {"properties": {"params": params}}
    needed = ["params"] if params.get("required") else []
    if spec.mutates:
        needed += _OF_WRITERS
        then["properties"] |= {key: _GIVEN for key in _OF_WRITERS}
        then["allOf"] = _ways_back(spec)
    else:
        then["properties"] |= {key: {"type": "null"} for key in (*_OF_WRITERS, "restore")}
        then["properties"] |= {key: {"const": ""} for key in ("undo_reason", "approval")}
    if spec.target_kinds:
        then["properties"]["target"] = {"properties": {"kind": {"enum": sorted(k.kind for k in spec.target_kinds)}}}
    if needed:
        then["required"] = needed
    return {"if": {"properties": {"action": {"const": spec.name}}, "required": ["action"]}, "then": then}


def _ways_back(spec: ActionSpec) -> list[dict[str, Any]]:
    """`undo: none` says why; what is undone says when it is taken back, where it can be at all."""
    why = {"properties": {"undo_reason": {"pattern": r"\S"}}, "required": ["undo_reason"]}
    if not spec.reversible:
        return [why, {"properties": {"undo": {"const": UndoRule.NONE.value}, "restore": {"type": "null"}}}]
    undone = {"properties": {"undo_reason": {"const": ""}, "restore": _GIVEN}, "required": ["restore"]}
    stays = {"properties": {"undo": {"const": UndoRule.NONE.value}}}
    return [{"if": stays, "then": why, "else": undone}]


def _moved(node: dict[str, Any], action: str) -> None:
    """A reference into the action's own definitions, after these have moved to the document's."""
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        node["$ref"] = f"#/$defs/{action}.{reference.removeprefix('#/$defs/')}"


def _durations_as_written(node: dict[str, Any]) -> None:
    """Pydantic writes the default of a duration in ISO 8601; documents write `10s`."""
    default = node.get("default")
    if isinstance(default, str) and default.startswith("PT"):
        node["default"] = promql_duration(parse_duration(default))


def _walk(node: Any, visit: Callable[[dict[str, Any]], None]) -> None:
    if isinstance(node, dict):
        visit(node)
        for child in node.values():
            _walk(child, visit)
    elif isinstance(node, list):
        for child in node:
            _walk(child, visit)

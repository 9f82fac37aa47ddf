"""What the engine can do: one module per action, found by discovery. There is no list to edit."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from activities.actions.base import CALL_TIMEOUT, Action
from firebreak.domain.action import ActionSpec, ParamProblem
from firebreak.domain.ports import Clock, ClusterPort

_PLACEHOLDER = r"^\$[A-Za-z_][A-Za-z0-9_]*$"  # filled from the bindings when a plan is made


@functools.cache
def discover() -> Mapping[str, type[Action]]:
    """Every action of this package by its name. TypeError when one does not keep the contract's form."""
    found: dict[str, type[Action]] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and issubclass(kind, Action) and not inspect.isabstract(kind):
                _well_formed(kind, info.name)
                found[kind.name] = kind
    return MappingProxyType(found)


def specs() -> Mapping[str, ActionSpec]:
    """What the linter and the schema generator know of each action, by name."""
    return {
        name: ActionSpec(
            name=name,
            summary=kind.summary(),
            mutates=kind.mutates,
            reversible=kind.reversible,
            irreversible_reason=kind.irreversible_reason,
            params_schema=_schema(kind),
            validate=functools.partial(param_problems, kind),
            target_kinds=kind.target_kinds,
            rights=kind.rights,
        )
        for name, kind in discover().items()
    }


def build(
    cluster: ClusterPort,
    *,
    clock: Clock,
    call_timeout: timedelta = CALL_TIMEOUT,
    dry_run_first: bool = True,
) -> Mapping[str, Action]:
    """Every action, ready to act on `cluster`. `call_timeout` limits one call; `dry_run_first` sends each patch as a
    dry run in the check (admission and permission are known before anything is recorded, for one call more)."""
    return {
        name: kind(cluster, clock=clock, call_timeout=call_timeout, dry_run_first=dry_run_first)
        for name, kind in discover().items()
    }


def param_problems(kind: type[Action], params: Mapping[str, Any]) -> tuple[ParamProblem, ...]:
    """What is wrong with `params` before filling: a parameter that is a placeholder (`$name`) is not judged yet."""
    open_names = {n for n, v in params.items() if isinstance(v, str) and re.match(_PLACEHOLDER, v)}
    try:
        kind.Params.model_validate(dict(params))
    except ValidationError as error:
        return tuple(
            ParamProblem(path=e["loc"], message=_sentence(kind, e["type"], e["msg"], e["loc"]))
            for e in error.errors(include_url=False)
            if e["type"] == "extra_forbidden" or not e["loc"] or e["loc"][0] not in open_names
        )
    return ()


def _sentence(kind: type[Action], error: str, message: str, path: tuple[str | int, ...]) -> str:
    name = path[0] if path else ""
    if error == "missing":
        return f"{kind.name} needs the parameter {name!r}"
    if error == "extra_forbidden":
        known = ", ".join(kind.Params.model_fields) or "none"
        return f"{kind.name} has no parameter {name!r}; it has: {known}"
    return message.removeprefix("Value error, ")


def _schema(kind: type[Action]) -> Mapping[str, Any]:
    """JSON Schema of the parameters as a runbook writes them: every one of them may be a placeholder."""
    schema = kind.Params.model_json_schema()
    for name, field in (schema.get("properties") or {}).items():
        about = {k: field.pop(k) for k in ("title", "description", "default") if k in field}
        schema["properties"][name] = {**about, "anyOf": [field, {"type": "string", "pattern": _PLACEHOLDER}]}
    return schema


def _well_formed(kind: type[Action], module: str) -> None:
    problems = []
    if getattr(kind, "name", None) != module:
        problems.append(f"its name is not its module's, {module!r}")
    if not kind.description():
        problems.append("it has no docstring that says when to use it")
    if not isinstance(getattr(kind, "Params", None), type):
        problems.append("it has no Params")
    if not kind.reversible and not kind.irreversible_reason:
        problems.append("it does not say why it is fine that it cannot be taken back")
    if problems:
        raise TypeError(f"action {kind.__qualname__}: {'; '.join(problems)}")

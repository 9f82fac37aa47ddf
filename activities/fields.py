"""The touched fields of a write: a path that a person can read, which code can read and write, too.

    spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"]
    spec.rules[0].backendRefs[name="pay-v2"].weight
    data["recommend.enabled"]

A step is `.name`, `["any key"]`, `[index]` or `[key="value"]` (the one element of a list with that value). Values are
JSON text; `null` stands for a field that is not there, as it does in a JSON merge patch (RFC 7396). A merge patch
replaces a list as a whole, so the patch of a field inside a list carries that list as it was read, with this one
change: the resourceVersion in the same patch guards the rest of it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from firebreak.domain.action import FieldChange
from firebreak.domain.errors import TargetChanged

Step = str | int | tuple[str, str]

_STEP = re.compile(
    r"""\.?(?P<name>[A-Za-z_][\w-]*)
      | \[(?P<index>\d+)\]
      | \[(?P<key>"(?:[^"\\]|\\.)*")\]
      | \[(?P<by>[A-Za-z_]\w*)=(?P<value>"(?:[^"\\]|\\.)*")\]""",
    re.VERBOSE,
)
_BRIEF = 80  # characters of a value in a sentence
_PLAIN = re.compile(r"[A-Za-z_][\w-]*\Z")


def field_path(*steps: Step) -> str:
    """Path text of `steps`: str = key of a map, int = index of a list, (key, value) = element of a list."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif isinstance(step, tuple):
            text += f"[{step[0]}={json.dumps(step[1])}]"
        elif _PLAIN.match(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def parse_path(path: str) -> tuple[Step, ...]:
    """Inverse of `field_path`. ValueError for anything else."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (at == 0 and path.startswith(".")):
            raise ValueError(f"not a field path: {path!r} (at character {at})")
        if match["name"] is not None:
            steps.append(match["name"])
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["key"] is not None:
            steps.append(str(json.loads(match["key"])))
        else:
            steps.append((match["by"], str(json.loads(match["value"]))))
        at = match.end()
    if not steps:
        raise ValueError("an empty field path")
    return tuple(steps)


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def read_field(obj: Mapping[str, Any], path: str) -> Any:
    """Value at `path`; None when it is not there. TargetChanged when a list has not exactly one such element."""
    here: Any = obj
    for step in parse_path(path):
        if here is None:
            return None
        if isinstance(step, str):
            here = here.get(step) if isinstance(here, Mapping) else None
        else:
            here = here[_position(here, step, path)]
    return here


def is_guard(change: FieldChange) -> bool:
    """A field that must stay as it is for the changes beside it to mean what was planned: it is bound as a touched
    field is, and never written."""
    return change.before == change.after


def moved_fields(obj: Mapping[str, Any], changes: Iterable[FieldChange]) -> tuple[str, ...]:
    """One sentence per touched field whose value in `obj` is no longer the one that was planned on."""
    found = []
    for change in changes:
        try:
            now = canonical(read_field(obj, change.path))
        except TargetChanged as error:
            found.append(str(error))
            continue
        if now != canonical(json.loads(change.before)):
            found.append(f"{change.path} was {change.before} and is {now} now")
    return tuple(found)


def changes_as_written(obj: Mapping[str, Any], changes: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """The same changes with `after` as the API server's answer `obj` has it: `null` where it leads nowhere any more. It
    was written all the same, so that never raises."""

    def found(path: str) -> Any:
        try:
            return read_field(obj, path)
        except TargetChanged:
            return None

    return tuple(FieldChange(path=c.path, before=c.before, after=canonical(found(c.path))) for c in changes)


def inverse(changes: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """What takes `changes` back."""
    return tuple(FieldChange(path=c.path, before=c.after, after=c.before) for c in changes)


def merge_patch(obj: Mapping[str, Any], changes: Iterable[FieldChange]) -> dict[str, Any]:
    """JSON merge patch that gives each changed field its `after` and leaves all else of `obj`, and guards, as it is."""
    body: dict[str, Any] = {}
    for change in changes:
        if not is_guard(change):
            _put(body, obj, parse_path(change.path), json.loads(change.after), change.path)
    return body


def as_patched(obj: Any, body: Any) -> Any:
    """What a JSON merge patch makes of `obj` (RFC 7396), by itself: no default, no admission."""
    if not isinstance(body, Mapping):
        return body
    made = dict(obj) if isinstance(obj, Mapping) else {}
    for key, value in body.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = as_patched(made.get(key), value)
    return made


def differences(wanted: Any, found: Any, *path: Step) -> Iterator[str]:
    """One sentence per field of `found` that is not as in `wanted`. Empty, `null` and not there are the same: an API
    server drops what is empty."""
    if isinstance(wanted, Mapping | None) and isinstance(found, Mapping | None):
        for key in {**(wanted or {}), **(found or {})}:
            yield from differences((wanted or {}).get(key), (found or {}).get(key), *path, str(key))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, *path, index)
    elif type(wanted) is type(found) and wanted == found:  # most of a large object, by the thousand
        return
    elif canonical(_none_if_empty(wanted)) != canonical(_none_if_empty(found)):
        yield f"{field_path(*path)}: {_brief(found)} instead of {_brief(wanted)}"


def _none_if_empty(value: Any) -> Any:
    return None if isinstance(value, list | Mapping) and not value else value


def _brief(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def _put(body: dict[str, Any], obj: Any, steps: tuple[Step, ...], value: Any, path: str) -> None:
    """Into `body`, down to the first list; from there on into a copy of that list."""
    key = steps[0]
    if not isinstance(key, str):
        raise ValueError(f"{path}: a list cannot be the first step")
    below = obj.get(key) if isinstance(obj, Mapping) else None
    if len(steps) == 1:
        body[key] = value
    elif isinstance(steps[1], str):
        _put(body.setdefault(key, {}), below, steps[1:], value, path)
    else:
        _set(body.setdefault(key, copy.deepcopy(below)), steps[1:], value, path)


def _set(here: Any, steps: tuple[Step, ...], value: Any, path: str) -> None:
    """In place, below a list: `None` removes a key, since a merge patch does not look into lists."""
    for step in steps[:-1]:
        here = here[_position(here, step, path)] if not isinstance(step, str) else here.setdefault(step, {})
    last = steps[-1]
    if not isinstance(last, str):
        here[_position(here, last, path)] = value
    elif value is None:
        here.pop(last, None)
    else:
        here[last] = value


def _position(here: Any, step: Step, path: str) -> int:
    if isinstance(here, list):
        if isinstance(step, int) and step < len(here):
            return step
        if isinstance(step, tuple):
            places = [i for i, e in enumerate(here) if isinstance(e, Mapping) and e.get(step[0]) == step[1]]
            if len(places) == 1:
                return places[0]
    raise TargetChanged(f"{path} does not lead to exactly one field of the object any more")

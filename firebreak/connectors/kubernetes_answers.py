"""What the API server's answers hold, or TransientError where they are not what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firebreak.connectors.kubernetes_refusal import Call
from firebreak.connectors.outcome import HttpReply
from firebreak.domain.errors import TransientError


def json_of(reply: HttpReply, call: Call) -> Mapping[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransientError(f"{call.text}: the answer is no JSON object: {reply.text()}")
    return found


def object_of(reply: HttpReply, call: Call) -> Mapping[str, Any]:
    """The object that was asked for. What a proxy says in JSON is none, nor is another one."""
    found = json_of(reply, call)
    meta = found.get("metadata")
    own = meta if isinstance(meta, dict) else {}
    if own.get("name") != call.name or not all(isinstance(own.get(n), str) for n in ("uid", "resourceVersion")):
        raise TransientError(f"{call.text}: the answer is not that object: {reply.text()}")
    return found


def items_of(page: Mapping[str, Any], call: Call) -> Sequence[Mapping[str, Any]]:
    """What a list holds; nothing only where it says so (`[]`, or the `null` of a nil slice)."""
    items = page.get("items", ...)
    if items is None:
        return ()
    if not isinstance(items, list) or not all(isinstance(one, dict) and one.get("metadata") for one in items):
        raise TransientError(f"{call.text}: the answer is no list of objects")
    return items

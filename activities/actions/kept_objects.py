"""Objects as a check read them, kept for the write of the same step: so a quiet target costs no second read."""

from __future__ import annotations

from collections import OrderedDict

from firebreak.domain.ports import KubeObject

MOST_KEPT = 1_000
"""Objects kept between a check and its write; the oldest goes first."""


class KeptObjects:
    """At most `most` objects by step key. Each is given out once, and only while it is the version asked for: if it
    has moved in the world since, the API server refuses the patch for its resourceVersion, and it is read again."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._objects: OrderedDict[str, KubeObject] = OrderedDict()

    def keep(self, step_key: str, obj: KubeObject) -> None:
        self._objects[step_key] = obj
        self._objects.move_to_end(step_key)
        while len(self._objects) > self._most:
            self._objects.popitem(last=False)

    def take(self, step_key: str, resource_version: str) -> KubeObject | None:
        """The object of that step if it is of that version; None = read it. Forgotten either way."""
        obj = self._objects.pop(step_key, None)
        same = obj is not None and obj["metadata"]["resourceVersion"] == resource_version
        return obj if same else None

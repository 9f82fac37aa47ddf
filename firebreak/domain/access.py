"""What an account must be allowed to do in a cluster, in the words of RBAC."""

from __future__ import annotations

from dataclasses import dataclass

from firebreak.domain.target import ResourceKind


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """`verb` on a kind, or on a `subresource` of it. `named_by`: the step's parameter that names the one object that
    it is needed on, so that it may be granted by name; empty = on all of a namespace."""

    verb: str
    kind: ResourceKind
    subresource: str = ""
    named_by: str = ""

    @property
    def text(self) -> str:
        """`patch deployments.apps`, `get pods/log`."""
        return f"{self.verb} {self.kind.resource}{f'/{self.subresource}' if self.subresource else ''}"


def rights(kind: ResourceKind, *verbs: str, subresource: str = "", named_by: str = "") -> tuple[Right, ...]:
    """One for each verb."""
    return tuple(Right(verb=v, kind=kind, subresource=subresource, named_by=named_by) for v in verbs)

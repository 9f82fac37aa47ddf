"""What its gateways say of an HTTPRoute (Gateway API, RouteParentStatus)."""

from __future__ import annotations

from firebreak.domain.ports import KubeObject


def rejected(obj: KubeObject) -> str:
    """Which gateway does not accept it, and why; empty when none says so."""
    for parent in (obj.get("status") or {}).get("parents") or ():
        for condition in parent.get("conditions") or ():
            if condition.get("type") == "Accepted" and condition.get("status") == "False":
                name = (parent.get("parentRef") or {}).get("name", "?")
                return f"gateway {name} does not accept it ({condition.get('message') or condition.get('reason')})"
    return ""


def lacks_a_grant(obj: KubeObject) -> bool:
    """Whether a gateway says that a backend of another namespace lacks its ReferenceGrant; it does not say which."""
    parents = (obj.get("status") or {}).get("parents") or ()
    return any(c.get("reason") == "RefNotPermitted" for parent in parents for c in parent.get("conditions") or ())

"""What the API server says of the engine's own account: who it is, and what it may do.

SelfSubjectReview (authentication.k8s.io/v1, Kubernetes 1.28) and SelfSubjectAccessReview (authorization.k8s.io/v1), as
`kubectl auth whoami` and `kubectl auth can-i`. Both are allowed to every account by `system:basic-user`.
"""

from __future__ import annotations

from datetime import timedelta

from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.domain.access import Right
from firebreak.domain.errors import TargetNotFound


async def account(cluster: KubernetesCluster, *, timeout: timedelta) -> str:
    """`system:serviceaccount:ops:firebreak`; empty where the API server is too old to tell. PermissionDenied when it
    does not know the credentials."""
    try:
        answer = await cluster.review(
            "selfsubjectreviews", "authentication.k8s.io", {"kind": "SelfSubjectReview"}, timeout=timeout
        )
    except TargetNotFound:
        return ""
    user = (answer.get("status") or {}).get("userInfo") or {}
    return str(user.get("username") or "")


async def allowed(
    cluster: KubernetesCluster, right: Right, namespace: str, name: str = "", *, timeout: timedelta
) -> bool:
    """Whether the account has that right there; by `name`, on that object. Empty `namespace` = cluster-wide."""
    wanted = {
        "namespace": namespace,
        "verb": right.verb,
        "group": right.kind.group,
        "resource": right.kind.plural,
        "subresource": right.subresource,
        "name": name,
    }
    body = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": wanted}}
    answer = await cluster.review("selfsubjectaccessreviews", "authorization.k8s.io", body, timeout=timeout)
    return (answer.get("status") or {}).get("allowed") is True

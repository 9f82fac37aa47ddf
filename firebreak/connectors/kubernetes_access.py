"""What the API server says of the engine's own account: who it is, and what it may do.

SelfSubjectReview (authentication.k8s.io/v1, Kubernetes 1.28) and SelfSubjectAccessReview (authorization.k8s.io/v1), as
`kubectl auth whoami` and `kubectl auth can-i`. Both are allowed to every account by `system:basic-user`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.kubernetes_refusal import QuestionRefused
from firebreak.connectors.wording import plain
from firebreak.domain.access import Right
from firebreak.domain.errors import TransientError


async def account(cluster: KubernetesCluster, *, timeout: timedelta) -> str:
    """`system:serviceaccount:ops:firebreak`; empty where the API server does not tell. PermissionDenied when it does
    not know the credentials."""
    question = {"kind": "SelfSubjectReview"}
    try:
        answer = await cluster.review("selfsubjectreviews", "authentication.k8s.io", question, timeout=timeout)
    except QuestionRefused:
        return ""
    user = _map(_map(answer.get("status")).get("userInfo"))
    return plain(str(user.get("username") or ""), 120)


async def allowed(
    cluster: KubernetesCluster, right: Right, namespace: str, name: str = "", *, timeout: timedelta
) -> bool:
    """Whether the account has that right there; by `name`, on that object. Empty `namespace` = cluster-wide.
    QuestionRefused where it may not ask."""
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
    may = _map(answer.get("status")).get("allowed")
    if not isinstance(may, bool):
        raise TransientError("the API server's answer does not say what the account may do: it is another server's")
    return may


def _map(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}

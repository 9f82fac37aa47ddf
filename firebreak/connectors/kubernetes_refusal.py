"""What a refusal of the Kubernetes API server means. Pure.

The body is a `Status` (k8s.io/apimachinery meta/v1 types.go): message, reason, details.retryAfterSeconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from firebreak.connectors.outcome import HttpReply
from firebreak.connectors.wording import plain
from firebreak.domain.errors import (
    FirebreakError,
    PermanentError,
    PermissionDenied,
    PreconditionFailed,
    TargetChanged,
    TargetNotFound,
    TransientError,
)
from firebreak.domain.target import ResourceKind

_BUSY = frozenset({408, 410, 429})  # 410: the pages of a list went out of date under way


@dataclass(frozen=True, slots=True)
class Call:
    """One call in the words of RBAC."""

    verb: str
    kind: ResourceKind | str  # text: a resource that is asked and no object of the engine's, as RBAC calls it
    namespace: str
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """`deployments.apps`, `pods/log`."""
        resource = self.kind.resource if isinstance(self.kind, ResourceKind) else self.kind
        return f"{resource}/{self.subresource}" if self.subresource else resource

    @property
    def where(self) -> str:
        return f" in namespace {plain(self.namespace, 80)}" if self.namespace else ""

    @property
    def text(self) -> str:
        """`patch deployments.apps pay-v2 in namespace shop`."""
        name = f" {plain(self.name, 80)}" if self.name else ""
        return f"{self.verb} {self.resource}{name}{self.where}"


class QuestionRefused(PermanentError):
    """A question about the engine's own account is not answered."""

    advice = (
        "Every account that the API server knows may ask, by default: look whether the kubeconfig has the server's "
        "address and the engine's account, and whether that is bound to the ClusterRole system:basic-user."
    )


def refusal(call: Call, reply: HttpReply) -> FirebreakError:
    """The error for an answer that is no 2xx."""
    message, wait = _status(reply)
    text = f"{call.text}: answered {reply.status}: {message}"
    if not isinstance(call.kind, ResourceKind) and reply.status in (403, 404):
        return QuestionRefused(text)
    if reply.status in (401, 403):
        return PermissionDenied(
            text,
            advice=f"Grant the engine's account the verb {call.verb} on {call.resource}{call.where}, or act by hand."
            if reply.status == 403
            else "The API server does not know the engine's credentials: renew the token or certificate it uses.",
        )
    if reply.status == 404:
        return TargetNotFound(text)
    if reply.status == 409:
        return TargetChanged(text)
    if reply.status in _BUSY or reply.status >= 500:
        return TransientError(text, retry_after=wait)
    if 400 <= reply.status < 500:
        return PreconditionFailed(text)
    return PermanentError(text, advice="That is no API server's answer: check the server address in the kubeconfig.")


def refused_at_start(call: Call, reply: HttpReply) -> TransientError:
    """The error for a 403 of an API server that is not ready: it may be over in a moment, and nothing was done."""
    denied = refusal(call, reply)
    return TransientError(
        f"{denied}, by an API server that does not say that it is ready (/readyz)",
        advice=f"Where that lasts: look at the API server. {denied.next_step()}",
    )


def _status(reply: HttpReply) -> tuple[str, timedelta | None]:
    """The message, and how long to wait before the next try."""
    try:
        body = reply.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return reply.text(), reply.retry_after()
    details = body.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    wait = timedelta(seconds=min(seconds, 3600)) if isinstance(seconds, int) and seconds > 0 else reply.retry_after()
    return plain(str(body.get("message") or body.get("reason") or "no reason given"), 500), wait

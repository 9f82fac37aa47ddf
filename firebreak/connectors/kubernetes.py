"""One Kubernetes API server, as ClusterPort.

lightkube reads the kubeconfig or the in-cluster account and brings TLS, tokens (read again on a 401) and its HTTP
client; the calls themselves are plain JSON, because objects are wanted as the server wrote them, with a limit on time
and size, and a PATCH must go out once at most. Measured beside lightkube's typed calls: GET 1.7 against 1.9 ms.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core.exceptions import ConfigError

from firebreak.connectors.http import (
    IDLE_SECONDS,
    MAX_BODY_BYTES,
    USER_AGENT,
    ErrorTable,
    FailureKind,
    HttpFailure,
    HttpReply,
    connect_limit,
    is_address,
    late,
    read_limited,
    too_large,
)
from firebreak.connectors.kubernetes_config import SingleConfig, load_config
from firebreak.connectors.kubernetes_refusal import Call, refusal
from firebreak.domain.errors import PermanentError, PreconditionFailed, SettingsInvalid, TransientError
from firebreak.domain.ports import KubeObject, PatchKind
from firebreak.domain.target import ResourceKind, TargetRef

FIELD_MANAGER = "firebreak"
"""Who `managedFields` says wrote a field."""

PAGE = 500
"""Objects per page of a list, as kubectl asks for."""

MAX_OBJECTS = 10_000
"""Objects of one list; more is refused: a look at the evidence must stay quick and small."""

MAX_LOG_BYTES = 1024 * 1024

_CLUSTER_WIDE = frozenset({ResourceKind.NODE, ResourceKind.NAMESPACE})
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # DNS-1123 subdomain: every kind we touch
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_HTTPX2 = ErrorTable(httpx2)
_ADVICE = "Check the kubeconfig: server, certificates, and the user's token file or exec plugin (v1beta1)."
# lightkube's own, met when a token is fetched: its exec plugin failed, or printed what is no credential.
_CREDENTIAL_ERRORS = (ConfigError, KeyError, ValueError)


class KubernetesCluster:
    """ClusterPort over one API server. `name` is what settings and alerts call the cluster.

    `kubeconfig` unset: the in-cluster account, else the first file of KUBECONFIG, else ~/.kube/config. SettingsInvalid
    when none can be used. `config` goes before all that.
    """

    def __init__(
        self,
        name: str,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        config: SingleConfig | None = None,
        connections: int = 20,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._name = name
        single = config or load_config(kubeconfig, context)
        self._system = f"the API server of cluster {name}"
        if not is_address(single.cluster.server):
            raise SettingsInvalid(f"the kubeconfig for cluster {name} names no https:// server", advice=_ADVICE)
        problem = ""
        try:
            settings = ConnectionParams(trust_env=False).httpx_params(single)
        except (ConfigError, OSError, ValueError) as error:
            problem = type(error).__name__  # only the kind: its text may hold parts of a key
        if problem:
            raise SettingsInvalid(
                f"the certificates or credentials in the kubeconfig for cluster {name} cannot be used ({problem})",
                advice=_ADVICE,
            )
        settings["transport"] = transport
        self._client = httpx2.AsyncClient(
            **settings,
            headers={"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "identity"},
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS
            ),
        )

    def __repr__(self) -> str:
        return f"KubernetesCluster({self._name})"

    @property
    def name(self) -> str:
        return self._name

    async def get(self, ref: TargetRef, *, timeout: timedelta) -> KubeObject:
        """See ClusterPort."""
        call = Call("get", ref.kind, ref.namespace, ref.name)
        return _object(await self._send("GET", self._path(ref, call), call, timeout), call)

    async def list(
        self,
        kind: ResourceKind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        timeout: timedelta,
    ) -> tuple[KubeObject, ...]:
        """See ClusterPort. Items carry `apiVersion` and `kind` as a GET would give them. `timeout` is for all pages.
        PreconditionFailed above MAX_OBJECTS: a list is never cut silently."""
        call = Call("list", kind, namespace)
        path = self._collection(kind, namespace, call)
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = _selector(labels, call)
        until = asyncio.get_running_loop().time() + timeout.total_seconds()
        found: list[KubeObject] = []
        while True:
            left = timedelta(seconds=until - asyncio.get_running_loop().time())
            page = _object(await self._send("GET", f"{path}?{urlencode(query)}", call, left), call)
            items = page.get("items") or []
            found += ({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items)
            query["continue"] = (page.get("metadata") or {}).get("continue") or ""
            if not query["continue"]:
                return tuple(found)
            if len(found) >= MAX_OBJECTS:
                raise PreconditionFailed(
                    f"{call.text}: more than {MAX_OBJECTS} objects", advice="Narrow it by namespace or labels."
                )

    async def patch(
        self,
        ref: TargetRef,
        body: Mapping[str, Any],
        *,
        kind: PatchKind,
        dry_run: bool = False,
        timeout: timedelta,
    ) -> KubeObject:
        """See ClusterPort. After TransientError it may have been written: read before writing again."""
        call = Call("patch", ref.kind, ref.namespace, ref.name)
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path = f"{self._path(ref, call)}?{urlencode(query)}"
        content = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        return _object(await self._send("PATCH", path, call, timeout, content=content, kind=kind), call)

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, timeout: timedelta
    ) -> str:
        """The last `tail_lines` lines, at most MAX_LOG_BYTES of them. PreconditionFailed when there is no such
        container, or no previous one."""
        call = Call("get", ResourceKind.POD, namespace, pod, subresource="log")
        query = {
            "container": container,
            "previous": "true" if previous else "false",
            "tailLines": str(tail_lines),
            "limitBytes": str(MAX_LOG_BYTES),
        }
        path = f"{self._collection(ResourceKind.POD, namespace, call)}/{_checked(pod, call)}/log?{urlencode(query)}"
        return (await self._send("GET", path, call, timeout)).body.decode("utf-8", "replace")

    def _path(self, ref: TargetRef, call: Call) -> str:
        if ref.cluster != self._name:
            raise PreconditionFailed(
                f"{call.text}: the target is in cluster {ref.cluster!r}, this engine acts on {self._name!r}",
                advice="Check the alert's cluster label and FIREBREAK_CLUSTER: they must name the same cluster.",
            )
        if not ref.namespace and ref.kind not in _CLUSTER_WIDE:
            raise PreconditionFailed(f"{call.text}: a {ref.kind.kind} needs a namespace")
        return f"{self._collection(ref.kind, ref.namespace, call)}/{_checked(ref.name, call)}"

    def _collection(self, kind: ResourceKind, namespace: str, call: Call) -> str:
        root = f"{'apis' if '/' in kind.api_version else 'api'}/{kind.api_version}"
        if kind in _CLUSTER_WIDE or not namespace:
            return f"{root}/{kind.plural}"
        return f"{root}/namespaces/{_checked(namespace, call)}/{kind.plural}"

    async def _send(
        self,
        method: str,
        path: str,
        call: Call,
        timeout: timedelta,
        *,
        content: bytes | None = None,
        kind: PatchKind | None = None,
    ) -> HttpReply:
        """The answer, if it is a 2xx; else the domain's error for it."""
        answer = await self._try_send(method, path, max(timeout.total_seconds(), 0.0), content=content, kind=kind)
        if isinstance(answer, HttpFailure):
            text = f"{call.text}: {answer.detail}"
            raise TransientError(text) if answer.may_pass else PermanentError(text, advice=_ADVICE)
        if not 200 <= answer.status < 300:
            raise refusal(call, answer)
        return answer

    async def _try_send(
        self, method: str, path: str, seconds: float, *, content: bytes | None, kind: PatchKind | None
    ) -> HttpReply | HttpFailure:
        """One request, sent once (twice only when the first was refused with 401 and the token has been rotated)."""
        headers = {"content-type": kind.value} if kind else None
        try:
            async with asyncio.timeout(seconds):
                limits = httpx2.Timeout(seconds, connect=connect_limit(seconds))
                request = self._client.build_request(method, path, content=content, headers=headers, timeout=limits)
                response = await self._client.send(request, stream=True)
                try:
                    body = await read_limited(response.aiter_bytes(), MAX_BODY_BYTES)
                finally:
                    await response.aclose()
        except TimeoutError:
            return late(self._system, seconds)
        except _HTTPX2.errors as error:
            return _HTTPX2.failure(error, self._system)
        except _CREDENTIAL_ERRORS as error:
            detail = f"no credentials for {self._system} ({type(error).__name__})"
            return HttpFailure(kind=FailureKind.UNUSABLE, detail=detail)
        if body is None:
            return too_large(self._system, MAX_BODY_BYTES)
        return HttpReply(status=response.status_code, headers=_lower(response.headers), body=body)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _checked(name: str, call: Call) -> str:
    """The name, fit for a path. A label's `../../secrets` must not become another path."""
    if not _NAME.fullmatch(name):
        raise PreconditionFailed(f"{call.text}: {name[:80]!r} is no name that a Kubernetes object can have")
    return name


def _selector(labels: Mapping[str, str], call: Call) -> str:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise PreconditionFailed(f"{call.text}: {key[:80]!r}={value[:80]!r} is no label")
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _object(reply: HttpReply, call: Call) -> Mapping[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransientError(f"{call.text}: the answer is no JSON object: {reply.text()}")
    return found


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

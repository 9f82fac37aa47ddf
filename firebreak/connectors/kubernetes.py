"""One Kubernetes API server, as ClusterPort.

lightkube reads the kubeconfig or the in-cluster account and brings TLS and credentials; a token is read again on a 401.
The calls themselves are plain JSON over `wire.py`, because objects are wanted as the server wrote them, with a limit on
time and size, and a PATCH must go out once at most (again only after a 401).
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

import httpx
import httpx2
from lightkube.config.client_adapter import ConnectionParams, ExecAuth
from lightkube.core.exceptions import ConfigError

from firebreak.connectors.http import MAX_BODY_BYTES, USER_AGENT, Address, is_address
from firebreak.connectors.kubernetes_answers import items_of, json_of, object_of
from firebreak.connectors.kubernetes_auth import CREDENTIAL_ERRORS, AuthWire, CredentialNotThere
from firebreak.connectors.kubernetes_config import SingleConfig, load_config
from firebreak.connectors.kubernetes_plugin import PluginAuth
from firebreak.connectors.kubernetes_refusal import Call, refusal, refused_at_start
from firebreak.connectors.kubernetes_start import Starting
from firebreak.connectors.outcome import ErrorTable, HttpFailure, HttpReply
from firebreak.connectors.wire import NO_HEADERS, AiohttpWire, Line, TransportWire, Wire
from firebreak.domain.errors import PermanentError, PreconditionFailed, SettingsInvalid, TransientError
from firebreak.domain.ports import KubeObject
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
_ERRORS = ErrorTable(httpx, httpx2, credentials=CREDENTIAL_ERRORS, harmless=(CredentialNotThere,))
_ADVICE = "Check the kubeconfig: server, certificates, and the user's token file or exec plugin (v1beta1)."
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_MERGE_PATCH = {"content-type": "application/merge-patch+json"}
_PLAIN = {"content-type": "application/json"}


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
        self._starting = Starting()
        single = config or load_config(kubeconfig, context)
        if not is_address(single.cluster.server):
            raise SettingsInvalid(f"the kubeconfig for cluster {name} names no https:// server", advice=_ADVICE)
        problem = ""
        try:
            settings = ConnectionParams(trust_env=False).httpx_params(single)
        except (ConfigError, OSError, ValueError, TypeError) as error:  # TypeError: a certificate without its key
            problem = type(error).__name__  # only the kind: its text may hold parts of a key
        if problem:
            raise SettingsInvalid(
                f"the certificates or credentials in the kubeconfig for cluster {name} cannot be used ({problem})",
                advice=_ADVICE,
            )
        self._address = Address(single.cluster.server)
        auth: httpx2.Auth | None = settings["auth"]
        plugin = single.user.exec if single.user else None
        # A token beside it goes before it, as for kubectl.
        self._plugin = PluginAuth(plugin) if plugin and isinstance(auth, ExecAuth) else None
        auth = self._plugin or auth
        constant = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "identity"}
        constant |= self._address.basic if auth is None else {}
        wire: Wire
        if transport is not None:
            wire = TransportWire(transport, httpx2, headers=constant)
        else:
            wire = AiohttpWire(headers=constant, trust=settings["verify"], connections=connections)
        if auth is not None:
            wire = AuthWire(wire, auth)
        self._line = Line(
            f"the API server of cluster {name}",
            wire,
            connections=connections,
            max_body_bytes=MAX_BODY_BYTES,
            errors=_ERRORS,
        )

    def __repr__(self) -> str:
        return f"KubernetesCluster({self._name})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        """Of its API server, without credentials."""
        return self._address.shown

    async def get(self, ref: TargetRef, *, timeout: timedelta) -> KubeObject:
        """See ClusterPort."""
        call = Call("get", ref.kind, ref.namespace, ref.name)
        return object_of(await self._send("GET", self._path(ref, call), call, timeout), call)

    async def list(
        self,
        kind: ResourceKind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        cached: bool = False,
        timeout: timedelta,
    ) -> tuple[KubeObject, ...]:
        """See ClusterPort. Items carry `apiVersion` and `kind` as a GET would give them. `timeout` is for all pages.
        PreconditionFailed above MAX_OBJECTS: a list is never cut silently."""
        call = Call("list", kind, namespace)
        path = self._collection(kind, namespace, call)
        query = {"resourceVersion": "0"} if cached else {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = _selector(labels, call)
        until = asyncio.get_running_loop().time() + timeout.total_seconds()
        found: list[KubeObject] = []
        while True:
            left = timedelta(seconds=until - asyncio.get_running_loop().time())
            page = json_of(await self._send("GET", f"{path}?{urlencode(query)}", call, left), call)
            items = items_of(page, call)
            found += ({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items)
            query["continue"] = (page.get("metadata") or {}).get("continue") or ""
            more = bool(query["continue"])
            if not more and len(found) <= MAX_OBJECTS:
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
        dry_run: bool = False,
        timeout: timedelta,
    ) -> KubeObject:
        """See ClusterPort. After TransientError it may have been written: read before writing again."""
        call = Call("patch", ref.kind, ref.namespace, ref.name)
        path = f"{self._path(ref, call)}?fieldManager={FIELD_MANAGER}{'&dryRun=All' if dry_run else ''}"
        content = _JSON.encode(body).encode()
        return object_of(await self._send("PATCH", path, call, timeout, content=content, headers=_MERGE_PATCH), call)

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

    async def review(self, resource: str, group: str, body: Mapping[str, Any], *, timeout: timedelta) -> KubeObject:
        """The answer to a question about the engine's own account, which is asked by a POST that keeps nothing."""
        call = Call("create", f"{resource}.{group}", "")
        content = _JSON.encode({"apiVersion": f"{group}/v1", **body}).encode()
        path = f"apis/{group}/v1/{resource}"
        return json_of(await self._send("POST", path, call, timeout, content=content, headers=_PLAIN), call)

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
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> HttpReply:
        """The answer, if it is a 2xx; else the domain's error for it."""
        seconds, url = timeout.total_seconds(), self._address.url_of(path)
        until = asyncio.get_running_loop().time() + seconds
        answer = await self._line.send(method, url, seconds=seconds, headers=headers, body=content)
        if isinstance(answer, HttpFailure):
            text = f"{call.text}: {answer.detail}"
            raise TransientError(text) if answer.may_pass else PermanentError(text, advice=_ADVICE)
        if 200 <= answer.status < 300:
            self._starting.let_in()
            return answer

        async def readiness() -> int | None:
            left = until - asyncio.get_running_loop().time()
            ready = await self._line.send("GET", self._address.url_of("readyz"), seconds=left)
            return ready.status if isinstance(ready, HttpReply) else None

        if answer.status == 403 and await self._starting.explains_denial(readiness):
            raise refused_at_start(call, answer)
        raise refusal(call, answer)

    async def aclose(self) -> None:
        await self._line.aclose()
        if self._plugin is not None:
            await self._plugin.aclose()

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

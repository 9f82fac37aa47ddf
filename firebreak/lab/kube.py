"""A small Kubernetes client of the lab's own: get, list and watch, server-side apply, patch."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from firebreak.domain.errors import PreconditionFailed, TransientError

JSON = Mapping[str, Any]

FIELD_MANAGER = "firebreak-lab"

_SECONDS = 10.0
_WATCH_SECONDS = 60
_TOO_OLD = 410
_DENIED = 403  # by a server that has just been started and has not read its roles: the lab's own users may all they do


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """How to reach an API server: base `url`, the PEM file of its certificate, a bearer token."""

    url: str
    ca_file: str
    token: str


class WatchExpired(Exception):
    """The server no longer has the revision that was asked for: list again."""


class KubeClient:
    """One user's connection. Use as an async context manager.

    Every method raises TransientError when there is no answer, a 5xx or a 403, PreconditionFailed for other refusals.
    """

    def __init__(self, access: KubeAccess) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._access.ca_file)
        self._session = aiohttp.ClientSession(
            self._access.url,
            connector=aiohttp.TCPConnector(ssl=tls, limit=20),
            headers={"Authorization": f"Bearer {self._access.token}", "Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> JSON:
        """One object, or a list of them."""
        return await self._call("GET", path)

    async def apply(self, path: str, manifest: JSON) -> JSON:
        """Server-side apply at the object's own path; repeating it changes nothing."""
        where = f"{path}?fieldManager={FIELD_MANAGER}&force=true"
        return await self._call("PATCH", where, manifest, "application/apply-patch+yaml")

    async def merge(self, path: str, patch: JSON) -> JSON:
        """JSON merge patch."""
        where = f"{path}?fieldManager={FIELD_MANAGER}"
        return await self._call("PATCH", where, patch, "application/merge-patch+json")

    async def _call(self, method: str, path: str, body: JSON | None = None, kind: str = "application/json") -> JSON:
        assert self._session is not None, "use the client as a context manager"
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(
                method,
                path,
                data=data,
                headers={"Content-Type": kind},
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"the lab's API server does not answer {method} {path}: {error!r}") from None
        if response.status >= 500 or response.status == _DENIED:
            raise TransientError(f"the lab's API server answered {response.status} to {method} {path}: {text[:500]}")
        if response.status >= 400:
            raise PreconditionFailed(
                f"the lab's API server answered {response.status} to {method} {path}: {text[:500]}"
            )
        answer: JSON = json.loads(text)
        return answer

    async def watch(self, path: str, revision: str) -> AsyncIterator[tuple[str, JSON]]:
        """(ADDED | MODIFIED | DELETED | BOOKMARK, object) after `revision`, until the server ends the watch.

        Raises WatchExpired when the revision is gone (410).
        """
        assert self._session is not None, "use the client as a context manager"
        joint = "&" if "?" in path else "?"
        where = (
            f"{path}{joint}watch=true&allowWatchBookmarks=true&timeoutSeconds={_WATCH_SECONDS}"
            f"&resourceVersion={revision}"
        )
        # The server ends a watch by itself; where it does not, it is dead.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS, sock_read=_WATCH_SECONDS + _SECONDS)
        try:
            async with self._session.get(where, timeout=limits) as response:
                if response.status == _TOO_OLD:
                    raise WatchExpired
                if response.status != 200:
                    raise TransientError(f"the lab's API server answered {response.status} to a watch of {path}")
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        if event["object"].get("code") == _TOO_OLD:
                            raise WatchExpired
                        raise TransientError(f"a watch of {path} failed: {event['object'].get('message')}")
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            raise TransientError(f"a watch of {path} broke off: {error!r}") from None

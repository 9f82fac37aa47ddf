"""The few HTTP calls of this room, with the standard library alone: connectors own the real clients."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and body of one response."""

    status: int
    body: bytes


def _call(request: urllib.request.Request, tls: ssl.SSLContext | None, seconds: float) -> Answer:
    # No proxies: these servers are on this machine.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if tls is not None:
        handlers.append(urllib.request.HTTPSHandler(context=tls))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as response:
            return Answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


async def call(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    seconds: float = _SECONDS,
) -> Answer:
    """One request in a thread; any status is an answer. Raises OSError when there is none."""
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))  # noqa: S310 # loopback
    return await asyncio.to_thread(_call, request, tls, seconds)


async def is_ok(url: str) -> bool:
    """True when a GET answers 200. Raises OSError while nobody listens."""
    return (await call("GET", url, seconds=2.0)).status == 200

"""How a request goes out: aiohttp, called directly, because a call through httpx' own client costs four to five times
the processor time (docs/adr/0012). Tests put a transport of httpx in its place.

Every request goes out once at most, a GET too. aiohttp by itself repeats a GET, PUT or DELETE whose connection broke
(never a PATCH or POST); that is switched off here, so that what is counted is what was sent.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.connector import Connection
from yarl import URL

from firebreak.connectors.outcome import (
    HTTP_ERRORS,
    ErrorTable,
    HttpFailure,
    HttpReply,
    crowded,
    late,
    too_large,
)

IDLE_SECONDS = 60.0
"""An idle connection is used again for that long, and closed at most as long after: below the 90 s of a Go server's
default, so that no request crosses its end."""

CONNECT_SECONDS = 3.0
"""At most that long for a connection with its TLS."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def connect_limit(seconds: float) -> float:
    """Of a call's limit: less than all of it, so that a hanging handshake is told apart from a late answer."""
    return min(CONNECT_SECONDS, 0.8 * seconds)


async def read_limited(parts: AsyncIterator[bytes], limit: int) -> bytes | None:
    """All of a streamed body, or None when it is larger than `limit` bytes."""
    body = bytearray()
    async for part in parts:
        if len(body) + len(part) > limit:
            return None
        body += part
    return bytes(body)


class Wire(Protocol):
    """Sends one request and reads its whole answer."""

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, seconds: float, limit: int
    ) -> HttpReply | None:
        """The answer; None when its body has more than `limit` bytes. `url` is absolute, encoded, without userinfo;
        `headers` come on top of the constant ones. `seconds` bound the connecting only: the caller cancels.
        Raises the vendor's errors."""

    async def aclose(self) -> None: ...


class Line:
    """All calls to one system: so many at once, each within its time, and every error a value. `system` is its name in
    sentences."""

    def __init__(
        self, system: str, wire: Wire, *, connections: int, max_body_bytes: int, errors: ErrorTable = HTTP_ERRORS
    ) -> None:
        self.system = system
        self._wire, self._max, self._errors = wire, max_body_bytes, errors
        # Ours instead of a pool's own queue: who waits here in vain has sent nothing, and that is known.
        self._gate = asyncio.Semaphore(connections)

    async def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
    ) -> HttpReply | HttpFailure:
        """One request. Any status is a reply; no whole answer within `seconds` is a failure."""
        seconds = max(seconds, 0.0)
        sending = False
        try:
            async with asyncio.timeout(seconds) as limit, self._gate:
                sending = True
                reply = await self._wire.exchange(method, url, headers, body, seconds=seconds, limit=self._max)
        except self._errors.errors as error:
            if limit.expired():
                return late(self.system, seconds) if sending else crowded(self.system, seconds)
            return self._errors.failure(error, self.system)
        return too_large(self.system, self._max) if reply is None else reply

    async def aclose(self) -> None:
        await self._wire.aclose()


class _Stale(Exception):
    """The kept connection was closed by the server, or holds what nobody asked for. Nothing was sent on it."""


class _Call:
    """One attempt, and the connection that it got. `used` are the protocols of connections used before."""

    def __init__(self, used: WeakSet[asyncio.BaseProtocol]) -> None:
        self._used = used
        self._transport: asyncio.Transport | None = None

    def take(self, connection: Connection) -> None:
        """Called just before the first byte goes out."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise _Stale
        if protocol not in self._used:
            self._used.add(protocol)
        elif protocol.should_close or _readable(transport):
            transport.abort()
            raise _Stale
        self._transport = transport

    def abort(self) -> None:
        """Close at once what a graceful end would leave open: TLS waits 30 s for the other side's farewell."""
        if self._transport is not None:
            self._transport.abort()


_CALL: ContextVar[_Call] = ContextVar("firebreak_http_call")


def _readable(transport: asyncio.Transport) -> bool:
    """Whether an idle connection has something to read: its end, most likely, which a busy loop has not seen yet."""
    number = transport.get_extra_info("socket").fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        _CALL.get().take(conn)
        return await super().send(conn)


class AiohttpWire:
    """The real one. `headers` go with every request; `trust` checks the server's certificate and may hold ours.

    Nothing comes from the environment, no redirect is followed, no cookie is kept. The pool opens at the first call and
    belongs to its event loop.
    """

    def __init__(self, *, headers: Mapping[str, str], trust: ssl.SSLContext, connections: int) -> None:
        trust.set_alpn_protocols(["http/1.1"])
        self._headers, self._trust, self._connections = dict(headers), trust, connections
        self._used: WeakSet[asyncio.BaseProtocol] = WeakSet()
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._trust,
                limit=self._connections,
                keepalive_timeout=IDLE_SECONDS,
                resolver=aiohttp.ThreadedResolver(),  # the system's, whatever else is installed
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                skip_auto_headers=("Content-Type",),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                request_class=_Request,
            )
            self._session._retry_connection = False  # as aiohttp's own test client does; there is no public way
        return self._session

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, seconds: float, limit: int
    ) -> HttpReply | None:
        """See Wire."""
        for _ in range(self._connections + 1):
            try:
                return await self._once(method, url, headers, body, seconds=seconds, limit=limit)
            except _Stale:
                continue  # that connection is gone; the next is another one, a new one at last
        raise aiohttp.ClientConnectionError("every connection was closed before its use")

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, seconds: float, limit: int
    ) -> HttpReply | None:
        session, call = self._open(), _Call(self._used)
        token = _CALL.set(call)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_limit(seconds)),
            )
            content = await read_limited(_decoded(response), limit)
        finally:
            _CALL.reset(token)
            # A response read to its end has given its connection back, maybe to another call already.
            if response is None or not response.closed:
                if response is not None:
                    response.close()
                call.abort()
        if content is None:
            return None
        return HttpReply(status=response.status, headers=_lower(response.headers), body=content)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Parts(httpx.AsyncByteStream):
    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._content.iter_any():
            yield part


def _decoded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body; by httpx' decoders, piece by piece, where a server compresses although we ask it not to."""
    encoding = response.headers.get("content-encoding")
    if encoding is None or encoding == "identity":
        return response.content.iter_any()
    named = (b"content-encoding", encoding.encode("utf-8", "surrogateescape"))
    return httpx.Response(200, headers=[named], stream=_Parts(response.content)).aiter_bytes()


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


class TransportWire:
    """Over a transport of httpx, or of its fork httpx2 (`vendor`): whatever a caller, a test mostly, injects."""

    def __init__(self, transport: Any, vendor: ModuleType, *, headers: Mapping[str, str]) -> None:
        self._transport, self._vendor, self._headers = transport, vendor, dict(headers)

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, seconds: float, limit: int
    ) -> HttpReply | None:
        """See Wire."""
        limits = self._vendor.Timeout(seconds, connect=connect_limit(seconds))
        request = self._vendor.Request(
            method,
            url,
            headers={**self._headers, **headers},
            content=body,
            extensions={"timeout": limits.as_dict()},
        )
        response = await self._transport.handle_async_request(request)
        try:
            content = await read_limited(response.aiter_bytes(), limit)
        finally:
            await response.aclose()
        if content is None:
            return None
        return HttpReply(status=response.status_code, headers=_lower(response.headers), body=content)

    async def aclose(self) -> None:
        await self._transport.aclose()

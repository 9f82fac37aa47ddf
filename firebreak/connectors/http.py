"""HTTP out, in one place: one system's address, headers and limits.

No redirects, no proxies or credentials from the environment, no cookies kept, a hard limit on time and size of every
answer. Nothing that a vendor raises leaves this module, and no header value ever enters an error's text.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import quote_plus, urlsplit

import httpx

from firebreak.connectors.outcome import HttpFailure, HttpReply
from firebreak.connectors.wire import IDLE_SECONDS, NO_HEADERS, AiohttpWire, Line, TransportWire
from firebreak.domain.errors import SettingsInvalid

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Bytes of one decoded answer; more is refused, so that a wrong query cannot take the process' memory."""

USER_AGENT = "firebreak/0.1"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")  # RFC 9110, 5.5, without obs-text
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_LONG = 128  # characters of a form's value from which on its encoding is kept: the same services' queries come again


def is_header_value(text: str) -> bool:
    """Whether HTTP allows `text` as a header's value."""
    return _HEADER_VALUE.fullmatch(text) is not None


def checked_headers(headers: Mapping[str, str], system: str) -> dict[str, str]:
    """The same headers; SettingsInvalid names the header (never its value) that HTTP does not allow."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise SettingsInvalid(f"{name!r} is no header name ({system})")
        if not is_header_value(value):
            raise SettingsInvalid(f"the value of header {name} for {system} is empty or holds characters HTTP forbids")
    return dict(headers)


def is_address(url: str) -> bool:
    """Whether `url` can be the address of a system; two parsers must agree (a broken IPv6 host slips through one)."""
    try:
        parsed = urlsplit(url)
        return parsed.scheme in ("http", "https") and bool(parsed.hostname) and bool(httpx.URL(url).host)
    except (httpx.InvalidURL, ValueError):
        return False


class Address:
    """A base URL taken apart once: `url_of` gives absolute URLs below its path prefix, `basic` the Authorization header
    of its userinfo. `shown` has neither userinfo nor query: the password in a URL is never told."""

    def __init__(self, base_url: str) -> None:
        url = httpx.URL(base_url)
        self.shown = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        prefix = url.raw_path.decode("ascii")
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        self.base = origin + (prefix if prefix.endswith("/") else f"{prefix}/")
        self.basic: dict[str, str] = {}
        if url.username or url.password:
            flow = httpx.BasicAuth(url.username, url.password).auth_flow(httpx.Request("GET", origin))
            self.basic["authorization"] = next(flow).headers["authorization"]

    def url_of(self, path: str) -> str:
        """`path` (with its query) below the prefix, as it goes out."""
        return self.base + path.lstrip("/")


class HttpEdge:
    """One system's HTTP client with a pool of kept connections. `system` is its name in sentences.

    `base_url` may hold a path prefix. SettingsInvalid for an address or a header that can never work.
    `transport` goes in the place of the network.
    """

    def __init__(
        self,
        base_url: str,
        *,
        system: str,
        headers: Mapping[str, str] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        connections: int = 20,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not is_address(base_url):
            raise SettingsInvalid(f"the address of {system} must be a URL, http://host or https://host")
        self._address = Address(base_url)
        self.shown = self._address.shown  # without a password
        self.system = f"{system} at {self.shown}"
        given = {name.lower(): value for name, value in checked_headers(headers or {}, system).items()}
        # identity: answers are small and near, and a compressed one could unpack to any size
        constant = {"accept": "*/*", "accept-encoding": "identity", "user-agent": USER_AGENT}
        constant |= given | self._address.basic
        self._line = Line(
            self.system,
            TransportWire(transport, httpx, headers=constant)
            if transport is not None
            # the system's store, so that a company's own CA works
            else AiohttpWire(headers=constant, trust=ssl.create_default_context(), connections=connections),
            connections=connections,
            max_body_bytes=max_body_bytes,
        )

    def __repr__(self) -> str:
        return f"HttpEdge({self.system})"

    async def try_send(
        self,
        method: str,
        path: str,
        *,
        timeout: timedelta,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "application/json",
    ) -> HttpReply | HttpFailure:
        """One request, never repeated. Any status is a reply; no whole answer within `timeout` is a failure."""
        headers = NO_HEADERS
        if form is not None:
            content, headers = form_body(form), _FORM
        elif content is not None:
            headers = {"content-type": content_type}
        url = self._address.url_of(path)
        return await self._line.send(method, url, seconds=timeout.total_seconds(), headers=headers, body=content)

    async def send(self, method: str, path: str, *, timeout: timedelta, content: bytes | None = None) -> HttpReply:
        """As `try_send`, but a failure is raised: TransientError, or PermanentError when a retry cannot help."""
        answer = await self.try_send(method, path, timeout=timeout, content=content)
        if isinstance(answer, HttpFailure):
            raise answer.error()
        return answer

    async def aclose(self) -> None:
        await self._line.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def httpx_transport(connections: int, *, proxy: str = "") -> httpx.AsyncBaseTransport:
    """httpx' own way out, with the same limits: nothing from the environment, the system's certificates. `proxy`: URL
    of the HTTP proxy that is asked for all of it; empty = none."""
    return httpx.AsyncHTTPTransport(
        proxy=httpx.Proxy(proxy) if proxy else None,
        verify=ssl.create_default_context(),
        trust_env=False,
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS
        ),
    )


def form_body(form: Mapping[str, str]) -> bytes:
    """`application/x-www-form-urlencoded` (WHATWG URL, 5.2)."""
    pairs = (
        f"{quote_plus(name)}={_quoted(value) if len(value) > _LONG else quote_plus(value)}"
        for name, value in form.items()
    )
    return "&".join(pairs).encode("ascii")


@functools.lru_cache(maxsize=1_024)  # some 10 KB each; fewer than the services of a storm would keep nothing
def _quoted(value: str) -> str:
    return quote_plus(value)

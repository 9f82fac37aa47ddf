"""HTTP out, in one place: httpx with explicit limits, and its errors turned into the domain's.

No redirects, no proxies or credentials from the environment, no cookies kept, a hard limit on time and size of every
answer. Nothing that httpx raises leaves this module, and no header value ever enters an error's text.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from firebreak.connectors.wording import plain
from firebreak.domain.errors import FirebreakError, PermanentError, SettingsInvalid, TransientError

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Bytes of one decoded answer; more is refused, so that a wrong query cannot take the process' memory."""

IDLE_SECONDS = 60.0
"""Idle connections are kept that long: below the 90 s of a Go server's default, so that we close first."""

CONNECT_SECONDS = 3.0
"""At most that long for a connection with its TLS."""

USER_AGENT = "firebreak/0.1"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")  # RFC 9110, 5.5, without obs-text


class FailureKind(StrEnum):
    """Why there is no answer. After LATE and CUT the other side may have acted; after UNREACHABLE it has not."""

    UNREACHABLE = "unreachable"  # no connection: nothing was sent
    LATE = "late"  # our time limit passed
    CUT = "cut"  # the connection broke under way
    UNREADABLE = "unreadable"  # an answer that cannot be decoded
    TOO_LARGE = "too_large"
    UNUSABLE = "unusable"  # the request cannot be made at all: a wrong setting


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFailure:
    """No usable answer, as a value. `detail` is one sentence that names the system and holds no secret."""

    kind: FailureKind
    detail: str

    @property
    def may_pass(self) -> bool:
        """Whether the same call may go well later."""
        return self.kind not in (FailureKind.TOO_LARGE, FailureKind.UNUSABLE)

    def error(self) -> FirebreakError:
        """The error to raise: TransientError, or PermanentError when a retry cannot help."""
        if self.may_pass:
            return TransientError(self.detail)
        return PermanentError(self.detail, advice="Check the address and headers set for this system.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """One whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def text(self, limit: int = 300) -> str:
        """The start of the body as one line of plain text, for an error's sentence."""
        return plain(self.body[: 4 * limit].decode("utf-8", "replace"), limit)

    def retry_after(self) -> timedelta | None:
        """The Retry-After header in seconds (RFC 9110, 10.2.3; its date form is not used by the systems called)."""
        return retry_after(self.headers.get("retry-after", ""))


def retry_after(text: str) -> timedelta | None:
    """`12` -> 12 s, at most an hour; None for anything else."""
    return timedelta(seconds=min(int(text), 3600)) if re.fullmatch(r"[0-9]{1,9}", text) else None


class ErrorTable:
    """What each error of httpx, or of its fork httpx2 (same names), means. `errors` are all that a call may raise."""

    def __init__(self, vendor: ModuleType) -> None:
        self.errors: tuple[type[Exception], ...] = (
            vendor.HTTPError,
            vendor.InvalidURL,
            vendor.CookieConflict,
            vendor.StreamError,
            OSError,  # a socket's or TLS' own, where the vendor lets it through
        )
        # The first that fits; one that a new version brings falls through to CUT: outcome unknown.
        self._kinds: tuple[tuple[type[Exception], FailureKind], ...] = (
            (vendor.ConnectTimeout, FailureKind.UNREACHABLE),
            (vendor.PoolTimeout, FailureKind.UNREACHABLE),
            (vendor.TimeoutException, FailureKind.LATE),
            (vendor.ConnectError, FailureKind.UNREACHABLE),
            (vendor.ProxyError, FailureKind.UNREACHABLE),
            (vendor.DecodingError, FailureKind.UNREADABLE),
            (vendor.LocalProtocolError, FailureKind.UNUSABLE),
            (vendor.UnsupportedProtocol, FailureKind.UNUSABLE),
            (vendor.TooManyRedirects, FailureKind.UNUSABLE),
            (vendor.InvalidURL, FailureKind.UNUSABLE),
            (vendor.CookieConflict, FailureKind.UNUSABLE),
            (vendor.StreamError, FailureKind.UNUSABLE),
        )
        # These may quote what we sent (a header, a URL with a password): only their name is told.
        self._quoting = (vendor.LocalProtocolError, vendor.InvalidURL, vendor.UnsupportedProtocol)

    def failure(self, error: Exception, system: str) -> HttpFailure:
        """What `error` means for a call to `system`, in one sentence."""
        kind = next((kind for cls, kind in self._kinds if isinstance(error, cls)), FailureKind.CUT)
        told = "" if isinstance(error, self._quoting) else plain(str(error), 200)
        cause = f"{type(error).__name__}: {told}" if told else type(error).__name__
        return HttpFailure(kind=kind, detail=f"{system} {_SENTENCES[kind]} ({cause})")


_SENTENCES = {
    FailureKind.UNREACHABLE: "cannot be reached",
    FailureKind.LATE: "did not answer in time",
    FailureKind.CUT: "broke the connection",
    FailureKind.UNREADABLE: "sent an answer that cannot be decoded",
    FailureKind.UNUSABLE: "cannot be called as it is configured",
    FailureKind.TOO_LARGE: "sent too much",
}
HTTPX = ErrorTable(httpx)


def late(system: str, seconds: float) -> HttpFailure:
    """Our own time limit passed."""
    return HttpFailure(kind=FailureKind.LATE, detail=f"{system} did not answer within {seconds:.3g} s")


def crowded(system: str, seconds: float) -> HttpFailure:
    """Nothing was sent: all our connections were busy for as long as the call may take."""
    detail = f"{system} cannot be reached (no connection became free within {seconds:.3g} s)"
    return HttpFailure(kind=FailureKind.UNREACHABLE, detail=detail)


def too_large(system: str, limit: int) -> HttpFailure:
    """An answer of more than `limit` bytes."""
    return HttpFailure(kind=FailureKind.TOO_LARGE, detail=f"{system} sent more than {limit} bytes")


def connect_limit(seconds: float) -> float:
    """Of a call's limit: less than all of it, so that a hanging handshake is ended, and its socket closed, by the
    client itself; cancelled from outside it would leave the socket to the garbage collector."""
    return min(CONNECT_SECONDS, 0.8 * seconds)


async def read_limited(parts: AsyncIterator[bytes], limit: int) -> bytes | None:
    """All of a streamed body, or None when it is larger than `limit` bytes."""
    body = bytearray()
    async for part in parts:
        if len(body) + len(part) > limit:
            return None
        body += part
    return bytes(body)


def checked_headers(headers: Mapping[str, str], system: str) -> dict[str, str]:
    """The same headers; SettingsInvalid names the header (never its value) that HTTP does not allow."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise SettingsInvalid(f"{name!r} is no header name ({system})")
        if not _HEADER_VALUE.fullmatch(value):
            raise SettingsInvalid(f"the value of header {name} for {system} is empty or holds characters HTTP forbids")
    return dict(headers)


def is_address(url: str) -> bool:
    """Whether `url` can be the address of a system; two parsers must agree (a broken IPv6 host slips through one)."""
    try:
        parsed = urlsplit(url)
        return parsed.scheme in ("http", "https") and bool(parsed.hostname) and bool(httpx.URL(url).host)
    except (httpx.InvalidURL, ValueError):
        return False


class HttpEdge:
    """One system's HTTP client with a pool of kept connections. `system` is its name in sentences.

    `base_url` may hold a path prefix. SettingsInvalid for an address or a header that can never work.
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
        url = httpx.URL(base_url)
        shown = url.copy_with(userinfo=b"", query=None, fragment=None)  # the password in a URL is never told
        self.system = f"{system} at {str(shown).rstrip('/')}"
        self._max = max_body_bytes
        # Ours instead of the pool's own queue, whose work grows with the square of those that wait.
        self._gate = asyncio.Semaphore(connections)
        self._client = httpx.AsyncClient(
            base_url=url,
            # identity: answers are small and near, and a compressed one could unpack to any size
            headers={
                "user-agent": USER_AGENT,
                "accept-encoding": "identity",
                **checked_headers(headers or {}, system),
            },
            verify=ssl.create_default_context(),  # the system's store, so that a company's own CA works
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS
            ),
            transport=transport,
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
        seconds = max(timeout.total_seconds(), 0.0)
        headers = {"content-type": content_type} if content is not None else None
        sending = False
        try:
            async with asyncio.timeout(seconds), self._gate:
                sending = True
                limits = httpx.Timeout(seconds, connect=connect_limit(seconds))
                request = self._client.build_request(
                    method, path, data=form, content=content, headers=headers, timeout=limits
                )
                response = await self._client.send(request, stream=True)
                try:
                    body = await read_limited(response.aiter_bytes(), self._max)
                finally:
                    await response.aclose()
        except TimeoutError:
            return late(self.system, seconds) if sending else crowded(self.system, seconds)
        except HTTPX.errors as error:
            return HTTPX.failure(error, self.system)
        if body is None:
            return too_large(self.system, self._max)
        return HttpReply(status=response.status_code, headers=_lower(response.headers), body=body)

    async def send(self, method: str, path: str, *, timeout: timedelta, content: bytes | None = None) -> HttpReply:
        """As `try_send`, but a failure is raised: TransientError, or PermanentError when a retry cannot help."""
        answer = await self.try_send(method, path, timeout=timeout, content=content)
        if isinstance(answer, HttpFailure):
            raise answer.error()
        return answer

    async def aclose(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

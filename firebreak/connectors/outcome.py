"""What came of one HTTP call: an answer, or why there is none. Both are values, and neither holds a secret."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import ModuleType
from typing import Any

import aiohttp
import httpx
import httpx2

from firebreak.connectors.wording import plain
from firebreak.domain.errors import FirebreakError, PermanentError, TransientError


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
    """What each error of aiohttp, of httpx, and of its fork httpx2 (same names) means. `errors` are all that a call may
    raise; `credentials` more of them, met when a token is fetched, of which only `harmless` ones' text is told."""

    def __init__(
        self,
        *vendors: ModuleType,
        credentials: tuple[type[Exception], ...] = (),
        harmless: tuple[type[Exception], ...] = (),
    ) -> None:
        # The first that fits; one that a new version brings falls through to CUT: outcome unknown.
        kinds: list[tuple[type[Exception], FailureKind]] = [
            (aiohttp.ConnectionTimeoutError, FailureKind.UNREACHABLE),
            (aiohttp.ClientConnectorError, FailureKind.UNREACHABLE),  # name, socket, TLS, certificate
            (aiohttp.ServerTimeoutError, FailureKind.LATE),
            (aiohttp.InvalidURL, FailureKind.UNUSABLE),
            (aiohttp.NonHttpUrlClientError, FailureKind.UNUSABLE),
            (aiohttp.TooManyRedirects, FailureKind.UNUSABLE),
            (aiohttp.ClientError, FailureKind.CUT),
        ]
        for vendor in vendors:
            kinds += [
                (vendor.ConnectTimeout, FailureKind.UNREACHABLE),
                (vendor.PoolTimeout, FailureKind.UNREACHABLE),
                (vendor.TimeoutException, FailureKind.LATE),
                (vendor.ConnectError, FailureKind.UNREACHABLE),
                (vendor.ProxyError, FailureKind.UNREACHABLE),
                (vendor.DecodingError, FailureKind.UNREADABLE),
                (vendor.LocalProtocolError, FailureKind.UNUSABLE),
                (vendor.UnsupportedProtocol, FailureKind.UNUSABLE),
                (vendor.TooManyRedirects, FailureKind.UNUSABLE),
                (vendor.HTTPError, FailureKind.CUT),
                (vendor.InvalidURL, FailureKind.UNUSABLE),
                (vendor.CookieConflict, FailureKind.UNUSABLE),
                (vendor.StreamError, FailureKind.UNUSABLE),
            ]
        kinds += [
            (UnicodeError, FailureKind.UNUSABLE),  # a host that can be no name: an empty or too long part
            (TimeoutError, FailureKind.LATE),
            (OSError, FailureKind.CUT),  # a socket's or TLS' own, where the vendor lets it through
            *((cls, FailureKind.UNUSABLE) for cls in credentials),
        ]
        self._kinds, self._harmless = tuple(kinds), harmless
        self.errors = tuple(cls for cls, _ in kinds)
        # These may quote what we sent (a header, a URL with a password): only their name is told.
        self._quoting = (
            *(cls for v in vendors for cls in (v.LocalProtocolError, v.InvalidURL, v.UnsupportedProtocol)),
            *credentials,
        )

    def failure(self, error: Exception, system: str) -> HttpFailure:
        """What `error` means for a call to `system`, in one sentence."""
        kind = next((kind for cls, kind in self._kinds if isinstance(error, cls)), FailureKind.CUT)
        quotes = isinstance(error, self._quoting) and not isinstance(error, self._harmless)
        told = "" if quotes else plain(_told(error), 200)
        cause = f"{type(error).__name__}: {told}" if told else type(error).__name__
        return HttpFailure(kind=kind, detail=f"{system} {_SENTENCES[kind]} ({cause})")


def _told(error: Exception) -> str:
    """An error's own words, without the request: aiohttp's texts quote its URL, and its errors hold the headers."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return str(error.os_error)
        case aiohttp.ClientResponseError():
            return str(error.message)  # what the parser did not understand of the answer
        case aiohttp.ClientError():
            number = getattr(error, "errno", None)
            return os.strerror(number) if isinstance(number, int) else ""
        case _:
            return str(error)


_SENTENCES = {
    FailureKind.UNREACHABLE: "cannot be reached",
    FailureKind.LATE: "did not answer in time",
    FailureKind.CUT: "broke the connection",
    FailureKind.UNREADABLE: "sent an answer that cannot be decoded",
    FailureKind.UNUSABLE: "cannot be called as it is configured",
    FailureKind.TOO_LARGE: "sent too much",
}
HTTP_ERRORS = ErrorTable(httpx, httpx2)


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

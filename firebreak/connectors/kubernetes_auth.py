"""The kubeconfig's credentials (a token, its file, an exec plugin, a password) put onto each request."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Mapping

import httpx2
from lightkube.core.exceptions import ConfigError

from firebreak.connectors.http import is_header_value
from firebreak.connectors.outcome import HttpReply
from firebreak.connectors.wire import Wire

CREDENTIAL_ERRORS = (ConfigError, KeyError, ValueError)
"""Met when a token is fetched: the exec plugin failed, or printed what is no credential."""


class AuthWire:
    """A Wire that signs. One request goes out once; twice only when the first was refused with 401, for then the token
    is read again: a 401 has changed nothing."""

    def __init__(self, wire: Wire, auth: httpx2.Auth) -> None:
        self._wire, self._auth = wire, auth
        # What every flow signs, and only its header goes out. lightkube's flows set the header and yield in one go, so
        # calls that run at once do not meet on it.
        self._card = httpx2.Request("GET", "http://signed.invalid/")

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, seconds: float, limit: int
    ) -> HttpReply | None:
        """See Wire. ConfigError, KeyError or ValueError when there is no credential to be had."""
        flow = self._auth.async_auth_flow(self._card)
        try:
            signed = await _credential(anext(flow))
            while True:
                value = signed.headers.get("authorization", "")
                if not is_header_value(value):
                    raise ConfigError("the credential holds characters that HTTP forbids")
                signature = {**headers, "authorization": value}
                reply = await self._wire.exchange(method, url, signature, body, seconds=seconds, limit=limit)
                if reply is None or reply.status != 401:
                    return reply
                try:
                    signed = await _credential(flow.asend(httpx2.Response(401, request=self._card)))
                except StopAsyncIteration:
                    return reply
        finally:
            await flow.aclose()

    async def aclose(self) -> None:
        await self._wire.aclose()


class CredentialNotThere(ConfigError):
    """Says a path and what the system says of it, and no secret."""


_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ENOEXEC)


async def _credential(step: Awaitable[httpx2.Request]) -> httpx2.Request:
    """A token file or plugin that is not there, or may not be used, is no connection that broke: nobody was called."""
    try:
        return await step
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise CredentialNotThere(f"{error.filename}: {error.strerror}") from None

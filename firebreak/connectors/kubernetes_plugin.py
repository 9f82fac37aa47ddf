"""A kubeconfig's exec plugin, which prints a token: one run at a time, for all calls that wait for it.

lightkube runs it within the call that needs it. A call has 2 s; a plugin that takes longer was begun anew by the next
call and never got to its end, and one that hangs was left behind each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx2
from lightkube.config.models import UserExec
from lightkube.core.exceptions import ConfigError

LONGEST_RUN = timedelta(seconds=30)
"""Then it is ended, with what it has started: a log-in that waits for somebody's hands waits for ever."""


class PluginAuth(httpx2.Auth):
    """Its token serves until the server refuses it with a 401. A caller that is cancelled leaves the run to the others,
    and to the next one."""

    def __init__(self, plugin: UserExec, *, longest: timedelta = LONGEST_RUN) -> None:
        self._command = [plugin.command, *(plugin.args or ())]
        self._env = {var.name: var.value for var in plugin.env or ()}
        self._longest = longest.total_seconds()
        self._known = ""
        self._run: asyncio.Task[str] | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """ConfigError when the plugin fails or prints no token, TimeoutError when it does not end."""
        signed = self._known or await self._renewed("")
        request.headers["authorization"] = signed
        answer = yield request
        if answer.status_code == 401:
            signed = await self._renewed(signed)
            request.headers["authorization"] = signed
            yield request

    async def aclose(self) -> None:
        """End what runs."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait((self._run,))

    async def _renewed(self, refused: str) -> str:
        if self._known != refused:  # another call was quicker
            return self._known
        if self._run is None or self._run.done():
            self._run = asyncio.ensure_future(self._ask())
            self._run.add_done_callback(_looked_at)
        return await asyncio.shield(self._run)

    async def _ask(self) -> str:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **self._env},
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,
            )
        )
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # it may run already: it is waited for, so that it can be ended
            _end(await starting)
            raise
        except OSError as error:  # uvloop's do not say which file
            raise OSError(error.errno, error.strerror, self._command[0]) from None
        try:
            async with asyncio.timeout(self._longest):
                printed, _ = await process.communicate()
        except BaseException:
            _end(process)
            raise
        if process.returncode != 0:
            raise ConfigError(f"the exec plugin {self._command[0]} ended with code {process.returncode}")
        self._known = f"Bearer {_token(printed)}"
        return self._known


def _token(printed: bytes) -> str:
    try:
        token = json.loads(printed)["status"]["token"]
    except (ValueError, KeyError, TypeError):
        token = None
    if not isinstance(token, str) or not token:
        raise ConfigError("the exec plugin printed no token")
    return token


def _end(process: Process) -> None:
    """Its group, for a script's own children hold its output open, also when it has ended itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _looked_at(run: asyncio.Task[str]) -> None:
    """A failure that nobody waits for any more is not an error of the process: the next call asks again."""
    if not run.cancelled():
        run.exception()

"""Run the gateway on a TCP port until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from firebreak.domain.errors import SettingsInvalid
from firebreak.gateway.alone import InboxInPlace
from firebreak.gateway.app import create_app
from firebreak.gateway.connections import Connection
from firebreak.gateway.poke import Poke
from firebreak.gateway.token import webhook_token
from firebreak.processes import make_data_dir
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, InboxStore

MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 1_000
"""Beyond it uvicorn answers 503 by itself. What only waits for a request is closed before (connections.py)."""
KEEP_ALIVE = 75
"""Seconds. Alertmanager keeps connections for 90 s idle; a request on one that we just closed would be tried again."""
STOP_PATIENCE = 10
"""Seconds for running requests to end. The longest is an accept that waits for the inbox' lock."""


async def serve(settings: Settings, stop: asyncio.Event, ready: Callable[[int], None], *, alone: bool = False) -> None:
    """Serve until `stop` is set. `ready` is called once with the real port, when requests are answered. `alone`: apart
    from the engine. Raises SettingsInvalid when address or data directory cannot be had, LedgerError when the inbox
    cannot be opened."""
    make_data_dir(settings.data_dir)  # also with a token of the settings, for which nothing is kept
    token = webhook_token(settings.webhook_token.get_secret_value(), settings.data_dir)
    with _listening(settings.gateway_host, settings.gateway_port) as listener, closing(Poke(settings.data_dir)) as poke:
        store = InboxInPlace if alone else InboxStore
        async with await store.open(settings.data_dir / INBOX_FILE) as inbox:
            await inbox.probe()
            config = uvicorn.Config(
                create_app(inbox, settings, token=token, poke=poke),
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=STOP_PATIENCE,
                backlog=2048,
            )
            server = _Server(config, lambda: ready(listener.getsockname()[1]))
            await _until(server, listener, stop)


class _Server(uvicorn.Server):
    """Tells when it answers, and leaves the signals of the process to whoever runs it."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until(server: uvicorn.Server, listener: socket.socket, stop: asyncio.Event) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for what can be no name at all
        raise SettingsInvalid(f"FIREBREAK_GATEWAY_HOST: {host!r} cannot be resolved: {error}") from None
    with closing(listener):
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise SettingsInvalid(
                f"FIREBREAK_GATEWAY_PORT: cannot listen on {host}:{port}: {error.strerror}",
                advice="Stop the program that holds the port, or set FIREBREAK_GATEWAY_PORT to another one (0 = any).",
            ) from None
        yield listener

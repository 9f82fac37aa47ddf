"""A connection to Temporal that breaks at the start. Between us and the real server stands a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from firebreak.engine.temporal import connect
from firebreak.settings import Settings

pytestmark = pytest.mark.servers

_PREFACE, _FRAME_HEAD, _HEADERS = 24, 9, 1  # of HTTP/2: bytes, bytes, a frame's type


class Wire:
    """Passes on to `temporal`. The first connection is cut before the call number `cut_at` goes out on it, counted from
    1."""

    def __init__(self, temporal: str, cut_at: int) -> None:
        host, port = temporal.rsplit(":", 1)
        self._there = host, int(port)
        self._cut_at = cut_at
        self._ends: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        back, there = await asyncio.open_connection(*self._there)
        out = self._calls(reader, there, self._cut_at if self.connections == 1 else 0)
        for one, ends in ((out, (there, writer)), (_pass_on(back, writer), (there, writer))):
            task = asyncio.create_task(_ending(one, ends))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    async def _calls(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, cut_at: int) -> None:
        there.write(await reader.readexactly(_PREFACE))
        calls = 0
        while True:
            head = await reader.readexactly(_FRAME_HEAD)
            calls += head[3] == _HEADERS
            if cut_at and calls == cut_at:
                return
            there.write(head + await reader.readexactly(int.from_bytes(head[:3])))
            await there.drain()

    async def close(self) -> None:
        for task in tuple(self._ends):
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _ending(one: Awaitable[None], ends: tuple[asyncio.StreamWriter, ...]) -> None:
    try:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # who goes away ends it
            await one
    finally:
        for end in ends:
            end.transport.abort()


@asynccontextmanager
async def wired(temporal: str, *, cut_at: int) -> AsyncIterator[tuple[str, Wire]]:
    wire = Wire(temporal, cut_at)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", wire
    finally:
        server.close()
        await wire.close()


async def test_a_connection_that_breaks_once_ends_no_start(temporal_address: str) -> None:
    """The call after the handshake asks for the namespace: it is made again, as the SDK makes those of a worker."""
    async with wired(temporal_address, cut_at=2) as (address, wire):
        client = await connect(Settings(temporal_address=address))
        assert client.namespace == "default"
    assert wire.connections == 2

"""Sending alerts: open loop for latencies, all at once for a storm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp

from bench.documents import service_name, webhook


class Refused(Exception):
    """The gateway did not take an alert."""


async def open_loop(url: str, token: str, numbers: Sequence[int], *, per_second: float) -> dict[str, float]:
    """One new alert for each of these services, evenly spaced, whatever becomes of the earlier ones. Service -> the
    time (Unix seconds) at which its alert was *meant* to be sent."""
    meant: dict[str, float] = {}
    async with _session(token) as session:
        await _warm(session, url)
        began = time.time() + 0.2
        sends = []
        for i, number in enumerate(numbers):
            at = began + i / per_second
            meant[service_name(number)] = at
            body = webhook(number)
            await asyncio.sleep(max(0.0, at - time.time()))
            sends.append(asyncio.create_task(_post(session, url, body)))
        await asyncio.gather(*sends)
    return meant


async def storm(url: str, token: str, numbers: Sequence[int], *, at_once: int = 20) -> float:
    """All of them, `at_once` requests under way. Returns the time of the first (Unix seconds)."""
    gate = asyncio.Semaphore(at_once)
    bodies = [webhook(number) for number in numbers]
    async with _session(token) as session:
        await _warm(session, url)

        async def one(body: bytes) -> None:
            async with gate:
                await _post(session, url, body)

        began = time.time()
        await asyncio.gather(*(one(body) for body in bodies))
    return began


def _session(token: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))


async def _warm(session: aiohttp.ClientSession, url: str) -> None:
    """A connection is open already, as Alertmanager keeps one."""
    async with session.get(url.replace("/v1/alerts/alertmanager", "/readyz")) as response:
        await response.read()


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(url, data=body) as response:
        if response.status != 200:
            raise Refused(f"{url} answered {response.status}: {await response.text()}")
        await response.read()

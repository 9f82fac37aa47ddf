"""Reading a request's body with a running limit: what is too large never comes to lie in memory."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from firebreak.domain.errors import ContractError, TransientError

READ_PATIENCE = 30.0
"""Seconds for a whole body to arrive. Alertmanager sends 16 MiB over any working link in less."""
DISCARD_FACTOR = 4
"""How many limits' worth of an oversized body are read and thrown away, so that its sender hears the 413 rather than
a broken connection (which it would take for a reason to try again)."""


class BodyTooLarge(ContractError):
    """More than `limit` bytes."""

    advice = "Set `max_alerts` or a narrower `group_by` in the receiver, or raise FIREBREAK_MAX_BODY_BYTES."

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is over {limit} bytes; its alerts were not taken, and a person is paged about it")
        self.limit = limit


class BodyTooSlow(TransientError):
    """The body did not arrive in time."""

    advice = "Check the network between the sender and the gateway; the body is sent again."


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge over `limit` bytes (announced or counted; also when the rest never came),
    else BodyTooSlow after 30 s and ClientDisconnect when the sender went away."""
    announced = request.headers.get("content-length", "")
    too_large = announced.isdigit() and len(announced) < 20 and int(announced) > limit
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_PATIENCE):
            async for part in request.stream():
                size += len(part)
                too_large = too_large or size > limit
                if size > limit * DISCARD_FACTOR:
                    break
                if too_large:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError:
        if not too_large:
            raise BodyTooSlow(f"the body did not arrive within {READ_PATIENCE:.0f} s") from None
    except ClientDisconnect:
        if not too_large:  # else it would be cut off at every try, and nobody would ever hear of its alerts
            raise
    if too_large:
        raise BodyTooLarge(limit)
    return b"".join(parts)

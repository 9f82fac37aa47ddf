"""Structured logs on standard error: one JSON line an event, for people with `jq` and for machines."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog

from firebreak.streams import drop_output


class _Unfailing:
    """A stream whose writes may get lost: a full disk under the log must not stop what is logged about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def say(text: str) -> None:
    """A line of the engine on standard output. Where nothing can be written to (a full disk, a reader that is gone),
    it is lost with all that follows: that stops no engine."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        structlog.get_logger().warning("output.lost", error=str(error))


def configure_logs(level: str) -> None:
    """Own events and those of libraries, in one form. `level` as in the logging module."""
    stream = cast("TextIO", _Unfailing(sys.stderr))  # all of it that is used
    logging.basicConfig(stream=stream, level=level, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for chatty in ("httpx", "httpx2", "alembic", "aiohttp.access"):  # a line a request says nothing at three o'clock
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )

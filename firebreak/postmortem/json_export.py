"""A Report as JSON for programs: canonical bytes (RFC 8785), so that equal reports are equal files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rfc8785

from firebreak.domain.codec import to_data
from firebreak.postmortem.model import Report


def json_bytes(report: Report, *, encode: Callable[[Any], bytes] = rfc8785.dumps) -> bytes:
    """One JSON object and a line feed. `schema` is the number of `model.SCHEMA`: fields may be added under the same
    number; one that changes its meaning raises it. What each field says stands in `model.py`; words of its enums may be
    added, too. Times are RFC 3339 in UTC, spans are milliseconds. `encode`: a quicker encoder of the same bytes, where
    the caller has one."""
    return encode(to_data(report)) + b"\n"

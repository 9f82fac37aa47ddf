"""Who speaks, where a verb writes down a person's word."""

from __future__ import annotations

import getpass
import os


def person(by: str | None) -> str:
    """`by` as it was given, else the user's name; `uid 1234` where the user has none, as in many a container."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # by the version of Python: no variable names the user, nor does the system
        return f"uid {os.getuid()}"

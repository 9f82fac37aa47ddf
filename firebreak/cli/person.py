"""Who speaks, where a verb writes down a person's word."""

from __future__ import annotations

import getpass
import os


def person(by: str | None) -> str:
    """`by` as it was given, else the user's name; `uid 1234` where the user has none, as in many a container."""
    if by:
        return words(by)
    try:
        return words(getpass.getuser())
    except (KeyError, OSError):  # by the version of Python: no variable names the user, nor does the system
        return f"uid {os.getuid()}"


def words(text: str) -> str:
    """What a person typed, as it can be written down: a byte that is no UTF-8 (of a Latin-1 terminal) becomes U+FFFD.
    Nobody is refused for an umlaut."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

"""Untrusted text made fit to be shown: no control characters, no hidden direction marks, never longer than allowed."""

from __future__ import annotations

import re

# C0 and C1 controls but newline; direction marks that reorder what a person reads (Unicode TR 36); lone surrogates.
_UNSHOWN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def shown(text: str) -> str:
    """The text with tabs as spaces and unshowable characters as U+FFFD; newlines stay."""
    return _UNSHOWN.sub("\ufffd", text.replace("\r\n", "\n").replace("\t", " "))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters (at least 1); a cut is marked by `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(text: str, limit: int) -> str:
    """One line of at most `limit` characters, for error texts and titles."""
    return shorten(" ".join(shown(text).split()), limit)

"""How values, times and spans are written for people, and how untrusted text is made harmless."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime

from firebreak.domain.condition import Comparison

# Control, format (bidi overrides, zero width), surrogate, private use, line and paragraph separators: a label may
# hold any of them, to forge a line or to show another text than it has.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPACES = re.compile(r"\s+")
CUT = 120  # characters of one untrusted value in a line for people; the record and its JSON keep all of it
_SIGNS = frozenset({"", *Comparison})
SENTENCE = 600  # characters of one sentence, untrusted parts included


def clean(text: str, limit: int | None = None) -> str:
    """One printable line of at most `limit` characters: white space becomes one blank, what cannot be printed a
    replacement character (U+FFFD)."""
    plain = text.isascii() and text.isprintable()  # most are: the only white space in them is the blank
    line = text.strip() if plain and "  " not in text else _SPACES.sub(" ", text).strip()
    if not plain and not (line.isascii() and line.isprintable()):
        line = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNPRINTABLE else c for c in line)
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def value(raw: str, unit: str) -> str:
    """`0.2512`, `ratio` -> `25.12 %`; `3200`, `ms` -> `3200 ms`; of a limit the sign stays, too: `>= 0.05`, `ratio` ->
    `>= 5 %`. What is no number stays as it was answered."""
    sign, _, number = raw.rpartition(" ")
    try:
        amount = float(number if sign in _SIGNS else raw)
    except ValueError:
        return clean(raw, CUT)
    if not math.isfinite(amount):
        return raw
    told = f"{_digits(amount * 100)} %" if unit == "ratio" else f"{_digits(amount)} {clean(unit, 20)}".rstrip()
    return f"{sign} {told}".lstrip()


def _digits(amount: float) -> str:
    """Four significant digits without an exponent; whole numbers whole."""
    if amount == int(amount) and abs(amount) < 1e15:
        return str(int(amount))
    if abs(amount) >= 1000:
        return f"{amount:.0f}"
    return f"{amount:.4g}" if abs(amount) >= 1e-4 else f"{amount:.1e}"


def moment(at: datetime | None) -> str:
    """`2026-11-21 08:36:44.120 UTC`; empty for None."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC" if at else ""


def clock(at: datetime | None) -> str:
    """`08:36:44`; empty for None."""
    return f"{at:%H:%M:%S}" if at else ""


def span(milliseconds: float) -> str:
    """`12 ms`, `3.42 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`; a minus in front when the clock was set back."""
    if milliseconds < 0:
        return f"-{span(-milliseconds)}"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 or milliseconds == 0 else f"{milliseconds:.2g} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {name}" + (f" {rest // below} {small}" if rest // below else "")
    return f"{whole} s"


def several(count: int, one: str, many: str = "") -> str:
    """`1 alert`, `3 alerts`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """With a capital and a full stop, cut where it is long."""
    line = clean(text, SENTENCE)
    if not line:
        return ""
    line = line[0].upper() + line[1:]
    return line if line[-1] in ".!?\N{HORIZONTAL ELLIPSIS}" else f"{line}."

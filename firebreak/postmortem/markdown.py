"""A Report as Markdown. The templates are ours; alert data is never template source, and nothing in it is markup.

Every expression of a template passes `_finish`: what no filter has made safe is escaped as prose. Text that could
become a link, a mention, a tag or a table cell stands in a code span, where Markdown has no markup at all.
"""

from __future__ import annotations

import functools
import json
import re
from datetime import datetime

from jinja2 import PackageLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from firebreak.domain.errors import FirebreakError
from firebreak.postmortem import wording
from firebreak.postmortem.model import Report
from firebreak.postmortem.verdicts import condition_words

# CommonMark 2.4: any ASCII punctuation may be escaped. These have a meaning inside a line.
_MARKUP = re.compile(r"([\\*_\[\](){}#~$!])")
_RISKY = re.compile(r"[<>&`|@\[\]\\]|://|www\.", re.IGNORECASE)
_STARTS_BLOCK = re.compile(r"^(?:([-+=:>])|(\d+)([.)]))")
_BACKTICKS = re.compile(r"`+")
_LONGEST_QUERY = 2_000
_LONGEST_VALUE = 400


class _Safe(str):
    """Markdown that a filter has made: goes out as it is."""

    __slots__ = ()


def markdown(report: Report) -> str:
    """The post-mortem, one file, ending in a line feed. Deterministic: nothing but the report goes in."""
    return _template().render(report=report)


@functools.cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("firebreak.postmortem", "templates"),
        undefined=StrictUndefined,
        finalize=_finish,
        autoescape=False,  # noqa: S701 -- HTML escaping is not Markdown's; `_finish` escapes every expression instead
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        code=code,
        prose=prose,
        moment=lambda at: _Safe(wording.moment(at)),
        clock=lambda at: _Safe(wording.clock(at)),
        span=lambda ms: _Safe(wording.span(ms)),
        condition=lambda line: code(condition_words(line)),
        value=lambda raw, unit: code(wording.value(raw, unit)) if raw else _Safe(""),
        json_value=json_value,
        words=lambda text: prose(str(text).replace("_", " ")),
        entry_time=_entry_time,
    )
    return environment.get_template("postmortem.md.j2")


def _finish(value: object) -> str:
    if isinstance(value, _Safe):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return prose(value)
    raise FirebreakError(f"a {type(value).__name__} cannot be shown in a post-mortem: the template lacks a filter")


def code(text: str, limit: int = _LONGEST_VALUE) -> _Safe:
    """A code span that its content cannot leave: the fence is longer than any run of backticks in it. A vertical bar
    is escaped, since a table is cut into cells before its code spans are seen."""
    line = wording.clean(text, limit)
    if not line:
        return _Safe("")
    fence = "`" * (max((len(run) for run in _BACKTICKS.findall(line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return _Safe(f"{fence}{pad}{line}{pad}{fence}".replace("|", "\N{BROKEN BAR}"))


def prose(text: str) -> _Safe:
    """Text as text: punctuation escaped, and each word that could become a link, mention or tag as a code span."""
    words = [code(word) if _RISKY.search(word) else _MARKUP.sub(r"\\\1", word) for word in wording.clean(text).split()]
    return _Safe(_STARTS_BLOCK.sub(_escape_start, " ".join(words)))


def _escape_start(match: re.Match[str]) -> str:
    sign, digits, mark = match.groups()
    return f"\\{sign}" if sign else f"{digits}\\{mark}"


def json_value(text: str) -> _Safe:
    """A stored JSON text (before, after) as a code span; `absent` where there was no value."""
    if text in ("", "null"):
        return _Safe("absent")
    try:
        shown = json.loads(text)
    except ValueError:
        shown = text
    return code(shown if isinstance(shown, str) and shown else text)


def _entry_time(at: datetime) -> _Safe:
    return _Safe(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}")

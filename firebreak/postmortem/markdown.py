"""A Report as Markdown. The templates are ours; alert data is never template source, and nothing in it is markup.

Every expression of a template passes `_finish`: what no filter has made safe is escaped as prose. Text that could
become a link, a mention, a tag or a table cell stands in a code span, where Markdown has no markup at all.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from datetime import datetime
from typing import Any

from jinja2 import PackageLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from firebreak.domain.errors import FirebreakError
from firebreak.postmortem import wording
from firebreak.postmortem.model import Report
from firebreak.postmortem.verdicts import condition_words

# CommonMark 2.4: any ASCII punctuation may be escaped. These have a meaning inside a line.
_MARKUP = re.compile(r"([\\*#~$!]|(?<![^\W_])_|_(?![^\W_]))")  # inside a word an underscore is just that
_RISKY = re.compile(r"[<>&`|@\[\]\\]|://|www\.", re.IGNORECASE)
_COMPARISONS = frozenset({"<", "<=", ">", ">="})  # alone in prose they can be no tag
_STARTS_BLOCK = re.compile(r"^(?:([-+=:<>])|(\d+)([.)])(?= |$))")
_BACKTICKS = re.compile(r"`+")
_BLANK_LINES = re.compile(r"\n{3,}")
KEPT = 2_000
"""Texts whose Markdown is kept: names, queries and phrases are those of the last incidents, too."""

_BROKEN_BAR = "\N{BROKEN BAR}"
_LONGEST_QUERY = 2_000
_LONGEST_VALUE = 400


class _Safe(str):
    """Markdown that a filter has made: goes out as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def markdown(report: Report) -> str:
    """The post-mortem, one file, ending in a line feed. Deterministic: nothing but the report goes in."""
    return _BLANK_LINES.sub("\n\n", _template().render(report=report)).rstrip("\n") + "\n"


class _Sandbox(ImmutableSandboxedEnvironment):
    """As its base, but a field of one of our frozen values is not judged anew each time: it is data, and safe."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._fields: dict[type, frozenset[str]] = {}

    def getattr(self, obj: Any, attribute: str) -> Any:
        kind = type(obj)
        fields = self._fields.get(kind)
        if fields is None:
            found = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
            fields = self._fields[kind] = frozenset(field.name for field in found if not field.name.startswith("_"))
        return getattr(obj, attribute) if attribute in fields else super().getattr(obj, attribute)


@functools.cache
def _template() -> Template:
    environment = _Sandbox(
        loader=PackageLoader("firebreak.postmortem", "templates"),
        undefined=StrictUndefined,
        finalize=_finish,
        autoescape=True,  # a second net: what `_finish` has not made safe would come out as HTML entities
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        code=code,
        query=lambda text: code(text, _LONGEST_QUERY),
        moment=lambda at: _Safe(wording.moment(at)),
        clock=lambda at: _Safe(wording.clock(at)),
        precise=_precise,
        span=lambda ms: _Safe(wording.span(ms)),
        condition=lambda line: code(condition_words(line)),
        value=lambda raw, unit: code(wording.value(raw, unit)) if raw else _Safe(""),
        json_value=json_value,
        words=lambda text: prose(str(text).replace("_", " ")),
        indented=lambda depth: _Safe("  " * min(depth, 20)),
    )
    environment.globals.update(row=_row, said=_said)
    return environment.get_template("postmortem.md.j2")


def _finish(value: object) -> str:
    if isinstance(value, _Safe):
        return value
    if isinstance(value, bool):
        return _Safe("yes" if value else "no")
    if isinstance(value, (int, float)):
        return _Safe(f"{value:g}" if isinstance(value, float) else str(value))
    if isinstance(value, str):
        return prose(value)
    raise FirebreakError(f"a {type(value).__name__} cannot be shown in a post-mortem: the template lacks a filter")


def _said(*parts: object) -> _Safe:
    """Parts of one line, each finished by itself, with blanks between those that say something."""
    return _Safe(" ".join(done for part in parts if (done := _finish(part))))


def _row(*cells: object) -> _Safe:
    """One row of a table. A table is cut into cells before its code spans are seen, and renderers differ in how a bar
    may be escaped there: a bar inside a cell is shown as a broken one."""
    return _Safe("".join(f"| {_finish(cell).replace('|', _BROKEN_BAR)} " for cell in cells) + "|")


@functools.lru_cache(maxsize=KEPT)
def code(text: str, limit: int = _LONGEST_VALUE) -> _Safe:
    """A code span that its content cannot leave: the fence is longer than any run of backticks in it."""
    line = wording.clean(text, limit)
    if not line:
        return _Safe("")
    if "`" not in line:
        return _Safe(f"`{line}`")
    fence = "`" * (max(len(run) for run in _BACKTICKS.findall(line)) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return _Safe(f"{fence}{pad}{line}{pad}{fence}")


@functools.lru_cache(maxsize=KEPT)
def prose(text: str) -> _Safe:
    """Text as text: punctuation escaped, and each word that could become a link, mention or tag as a code span."""
    line = wording.clean(text)
    if _RISKY.search(line) or _MARKUP.search(line):  # no match of either holds a blank: else no word has one
        line = " ".join(
            code(word) if word not in _COMPARISONS and _RISKY.search(word) else _MARKUP.sub(r"\\\1", word)
            for word in line.split()
        )
    return _Safe(_STARTS_BLOCK.sub(_escape_start, line))


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


def _precise(at: datetime) -> _Safe:
    return _Safe(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}")

"""Statements of the hot path: Core makes the text once, the driver runs it. Core's own execution costs 60-150 us."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, cast

from sqlalchemy import ColumnElement, and_
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

_DIALECT = sqlite.dialect(paramstyle="named")


class Sql:
    """One statement. Its parameters have names: `bindparam("x")`, or the columns of an insert or update. Other values
    in it are constants (not in an `in_`, which has no text of its own); those that a partial index must see are spelled
    out (`literal_column`)."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text = ""
        self._constants: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """Made at the first use: a command that reads one thing need not compile everything."""
        if not self._text:
            compiled = cast("SQLCompiler", self._statement.compile(dialect=_DIALECT))
            self._constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
            self._text = str(compiled)
        return self._text

    def run(self, raw: sqlite3.Connection, **values: Any) -> sqlite3.Cursor:
        """Raises sqlite3.Error; a parameter without a value is one."""
        text = self._text or self.text
        return raw.execute(text, {**self._constants, **values} if self._constants else values)

    def rows(self, raw: sqlite3.Connection, **values: Any) -> list[tuple[Any, ...]]:
        """All of them. Text that is no UTF-8, as after a damaged byte, comes as far as it can be read: the driver alone
        would give none of them. Raises sqlite3.Error."""
        try:
            return self.run(raw, **values).fetchall()
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):  # SQLite's own, and none of the driver's that decodes
                raise
        usual, raw.text_factory = raw.text_factory, _as_it_can
        try:
            return self.run(raw, **values).fetchall()
        finally:
            raw.text_factory = usual

    def run_each(self, raw: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Once for each of `rows`. Raises sqlite3.Error."""
        text = self._text or self.text
        raw.executemany(text, ({**self._constants, **row} for row in rows) if self._constants else rows)


def beside(column: ColumnElement[str], values: Iterable[str]) -> tuple[ColumnElement[bool], ...]:
    """`column` is none of `values`, as ranges: an index finds each."""
    known = sorted(values)
    between = (and_(column > low, column < high) for low, high in pairwise(known))
    return (column < known[0], *between, column > known[-1])


def _as_it_can(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")

"""Statements of the hot path: Core makes the text once, the driver runs it. Core's own execution costs 60-150 us."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, cast

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

    def run_each(self, raw: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Once for each of `rows`. Raises sqlite3.Error."""
        text = self._text or self.text
        raw.executemany(text, ({**self._constants, **row} for row in rows) if self._constants else rows)

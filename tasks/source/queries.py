"""The queries by which a table of a database is read, with typed literals of a range in them."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from configs.database import parameters, render
from configs.flat import quoted
from configs.schema import ModelConfig
from configs.source import Table
from tasks.errors import SourceMismatch
from tasks.source.dialects import EXACT, UNKNOWN, Dialect, Selection
from tasks.source.stored_times import LOCAL, ZONED, StoredTime, zone_of

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection


class Queries:
    """The queries of a table in one session."""

    def __init__(self, config: ModelConfig, table: Table, con: "Connection", dialect: Dialect) -> None:
        self.config, self.table, self.con, self.dialect = config, table, con, dialect
        self._types: dict[str, dict[str, str]] = {}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query with a short result."""
        with closing(self.con.cursor()) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def types(self, sql: str) -> dict[str, str]:
        """The columns of a query and their types, see `Dialect.column_types`."""
        if sql not in self._types:
            self._types[sql] = self.dialect.column_types(self.con, sql)
        return self._types[sql]

    def base(self, start: datetime, end: datetime) -> str:
        """The table or the rendered query, without a condition for a range that it does not have itself."""
        if self.table.table:
            return f"SELECT * FROM {'.'.join(map(quoted, self.table.table.split('.')))}"  # noqa: S608  (from model.yaml)
        query = str(self.table.query)
        if not parameters(query):
            return render(query, {})
        declared = (
            self._declared_time()
        )  # without one, the types are asked for: each type of a time can be compared with ZONED
        probe = render(query, replace(declared, form=declared.form or ZONED).literals(start, end))
        return render(query, self.stored(probe).literals(start, end))

    def ranged(self, start: datetime, end: datetime) -> str:
        """The query for the rows of a range."""
        sql = self.base(start, end)
        if self.table.time is None or (self.table.query and parameters(self.table.query)):
            return sql
        ends, column = self.stored(sql).literals(start, end), quoted(self.table.time)
        return f"SELECT * FROM ({sql}) AS r WHERE {column} >= {ends['start']} AND {column} < {ends['end']}"  # noqa: S608

    def stored(self, sql: str) -> StoredTime:
        """How the time is stored: as declared, else by the column's type.

        Raises:
            SourceMismatch: the query has no such column, or it is no time.
        """
        declared, types, name = self._declared_time(), self.types(sql), str(self.table.time)
        if name not in types:
            raise SourceMismatch(
                f"{self.table.place}: has no column {name!r}, which `time` names; it has {', '.join(types)}. Correct `time`"
            )
        if declared.form:
            return declared
        if types[name] not in (ZONED, LOCAL, "DATE"):
            raise SourceMismatch(
                f"{self.table.place}: column {name!r} is {types[name]}, and no time. Declare with `time_format` how it stores times"
            )
        return replace(declared, form=ZONED if types[name] == ZONED else LOCAL)

    def selection(self, sql: str) -> Selection:
        """The query whose columns have their declared types.

        Raises:
            SourceMismatch: a column needs a declared type, or a declared one does not exist.
        """
        types = self.types(sql)
        declared = self._declared_types(types)
        if unclear := [name for name, kind in types.items() if kind in (EXACT, UNKNOWN) and name not in declared]:
            listed = ", ".join(f"{name}: DOUBLE" for name in unclear)
            raise SourceMismatch(
                f"{self.table.place}: {', '.join(unclear)} is of a type that has no equal here; declare one, such as types: {{{listed}}}, "
                f"or BIGINT, or VARCHAR for the exact text"
            )
        if missing := sorted(declared.keys() - types.keys()):
            raise SourceMismatch(
                f"{self.table.place}: has no column {', '.join(missing)}, which `types` declares; it has {', '.join(types)}. Correct it"
            )
        selection = self.dialect.select(sql, types, declared)
        casts = {name: f"CAST({quoted(name)} AS {kind})" for name, kind in selection.casts.items()}
        time, stored = str(self.table.time), self._declared_time()
        if stored.form and time in types and time not in self.table.types:
            casts[time] = stored.to_duckdb(time)
        return replace(selection, casts=casts)

    def _declared_time(self) -> StoredTime:
        """How the time is stored as far as it is declared; its form is empty if it is not."""
        form = self.table.time_format or self.dialect.time_form
        default = self.config.partition.timezone if self.config.source.file else "UTC"
        return StoredTime(form, zone_of(form, ZoneInfo(self.table.time_zone or default)))

    def _declared_types(self, types: Mapping[str, str]) -> dict[str, str]:
        """Types that model.yaml declares: in the table, and by the lists of features for columns of these names that need one."""
        config, target = self.config, self.config.target
        numbers = [*config.features.numeric, *([] if target.kind == "multiclass" else [target.column])]
        texts = [config.key, *config.features.categorical, *config.groups]
        by_name = dict.fromkeys(numbers, "DOUBLE") | dict.fromkeys(texts, "VARCHAR")
        inexact = {name for name, kind in types.items() if kind in (EXACT, UNKNOWN)}
        return {**{name: kind for name, kind in by_name.items() if name in inexact}, **self.table.types}

"""A table of a database as a target. The rows of a partition are deleted and inserted in one transaction, by ADBC."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from configs.flat import literal, quoted
from configs.publish import Sink
from configs.schema import ModelConfig
from tasks.errors import EvergreenError, SinkMismatch, SinkRefused, SinkRowsRefused, SinkUnavailable, SourceRefused
from tasks.sinks.outputs import COUNT, NUMBER, TEXT, TIME
from tasks.source.connections import Database
from tasks.source.dialects import PostgreSQL, SQLite
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = 600.0
"""Longest time of one statement. A lock of others is waited for half a minute."""


class TargetDatabase(Database):
    """A database that is written to. The errors of its sessions are those of sinks."""

    def translate(self, error: Exception) -> EvergreenError:
        """See `Database.translate`."""
        kind, text = self.classify(error)
        problem = re.sub(r"Failed to execute query '.*':\s+(?=ERROR)", "", text)  # the query is ours, and long
        if kind in ("invalid", "refused"):
            right = "the right to select, insert and delete, and to create the table if it does not exist"
            return SinkRefused(f"{problem}. Correct {self.variable} or the secret, or grant {right}")
        if kind != "mismatch":
            return SinkUnavailable(f"{problem}. The next run tries again")
        if re.search(r"SQLSTATE:? 2[23]", problem) or type(error).__name__ in ("DataError", "IntegrityError"):
            return SinkRowsRefused(f"{problem}. Nothing was changed. Correct the table, or the rows")
        return SinkMismatch(f"{problem}. Nothing was changed. Correct the table or its schema, or choose another table")


class PostgreSQLTable:
    """What is special about a table in PostgreSQL."""

    types: Mapping[str, str] = {TEXT: "text", NUMBER: "double precision", COUNT: "bigint", TIME: "timestamptz"}
    kinds: Mapping[str, str] = {TEXT: "VARCHAR", NUMBER: "DOUBLE", COUNT: "BIGINT", TIME: "TIMESTAMPTZ"}
    """The names that `Dialect.column_types` has for these types."""
    index = "USING brin (partition, model)"
    """Index of a new table, by which a partition's rows are found. A B-tree of as many equal keys doubles the time of an insertion."""

    def lock(self, key: str) -> str:
        """SQL that waits until no other transaction has this key, and keeps it until the end of the transaction."""
        return f"SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended({literal(key)}, 0))) AS held"  # noqa: S608

    def exists(self, table: str) -> str:
        """SQL that returns whether a table exists."""
        return f"SELECT to_regclass({literal(table)}) IS NOT NULL"

    def as_stored(self, schema: "pa.Schema") -> "pa.Schema":
        """The types in which rows are sent."""
        return schema


class SQLiteTable:
    """What is special about a table in SQLite: times are text in UTC, and one process writes at a time."""

    types: Mapping[str, str] = {TEXT: "TEXT", NUMBER: "REAL", COUNT: "INTEGER", TIME: "TEXT"}
    kinds: Mapping[str, str] = {TEXT: "VARCHAR", NUMBER: "DOUBLE", COUNT: "BIGINT", TIME: "VARCHAR"}
    index = "(partition, model)"

    def lock(self, key: str) -> str:
        """See `PostgreSQLTable`. The database's own lock is enough."""
        return "SELECT 1"

    def exists(self, table: str) -> str:
        """See `PostgreSQLTable`."""
        return f"SELECT count(*) FROM sqlite_master WHERE name = {literal(table.strip(chr(34)))}"  # noqa: S608

    def as_stored(self, schema: "pa.Schema") -> "pa.Schema":
        """See `PostgreSQLTable`."""
        import pyarrow as pa

        return pa.schema([(f.name, pa.string() if pa.types.is_timestamp(f.type) else f.type) for f in schema])


class DatabaseTarget:
    """A table of a database, see `Target`."""

    def __init__(self, name: str, sink: Sink, config: ModelConfig) -> None:
        assert sink.table is not None
        assert sink.connection is not None
        self.config, self.table = config, sink.table
        self.database = TargetDatabase(config, f"publish.{name}: {sink.place}", sink.connection, SECONDS)
        self.quoted = ".".join(map(quoted, sink.table.split(".")))

    def replace(self, partition: str, schema: "pa.Schema", rows: "Iterator[pa.Table]") -> int:
        """See `Target`."""
        own, problem = self._kind(), list[Exception]()
        stored = own.as_stored(schema)
        where = f"model = {literal(self.config.name)} AND partition = {literal(partition)}"
        try:
            with self.database.session(writes=True) as con, closing(con.cursor()) as cursor:
                self._create_or_check(con, cursor, own, schema)
                _run(cursor, own.lock(f"{self.table} {where}"))
                _run(cursor, f"DELETE FROM {self.quoted} WHERE {where}")  # noqa: S608  (names are checked, values are ours)
                count = self._insert(cursor, stored, rows, problem)
                con.commit()
        except EvergreenError:
            if problem:  # the driver's error is only about the end of the rows
                raise problem[0] from None
            raise
        return count

    def _kind(self) -> "PostgreSQLTable | SQLiteTable":
        """Raises SinkRefused if the connection has no address, or one of a database that rows cannot be sent to."""
        try:
            dialect = self.database.dialect
        except SourceRefused as error:
            raise SinkRefused(str(error)) from None
        if isinstance(dialect, PostgreSQL):
            return PostgreSQLTable()
        if isinstance(dialect, SQLite) and "." not in self.table:
            return SQLiteTable()
        problem = "SQLite has no schemas; name the table without one" if isinstance(dialect, SQLite) else ""
        raise SinkRefused(f"{self.database.place}: {problem or 'rows can be sent to PostgreSQL and SQLite only'}")

    def _create_or_check(
        self, con: Any, cursor: Any, own: "PostgreSQLTable | SQLiteTable", schema: "pa.Schema"
    ) -> None:
        wanted = {field.name: str(field.type) for field in schema}
        if not _run(cursor, own.exists(self.quoted))[0][0]:
            _run(cursor, own.lock(self.table))  # another process may be creating it
            listed = ", ".join(f"{quoted(name)} {own.types[kind]}" for name, kind in wanted.items())
            _run(cursor, f"CREATE TABLE IF NOT EXISTS {self.quoted} ({listed})")
            name = self.table.rpartition(".")[2]
            index = quoted(f"{name[:40]}_{digest_json(name)[:6]}_by_partition")
            _run(cursor, f"CREATE INDEX IF NOT EXISTS {index} ON {self.quoted} {own.index}")
        present = self.database.dialect.column_types(con, f"SELECT * FROM {self.quoted}")  # noqa: S608
        if problems := list(self._differences(present, wanted, own)):
            raise SinkMismatch(
                f"{self.database.place}: {'; '.join(problems)}. Nothing was sent. Change the table so, or choose another table"
            )

    def _differences(
        self, present: Mapping[str, str], wanted: Mapping[str, str], own: "PostgreSQLTable | SQLiteTable"
    ) -> Iterator[str]:
        """Yield each difference, and the statement that ends it. Further columns of the table get their default."""
        for name, kind in wanted.items():
            column, type_name = quoted(name), own.types[kind]
            if name not in present:
                yield f"it has no column {name}: ALTER TABLE {self.quoted} ADD COLUMN {column} {type_name}"
            elif present[name] != own.kinds[kind]:
                alter = f": ALTER TABLE {self.quoted} ALTER COLUMN {column} TYPE {type_name}"
                shown = present[name] or "of no type"
                yield f"column {name} is {shown}, not {type_name}{alter if isinstance(own, PostgreSQLTable) else ''}"

    def _insert(self, cursor: Any, stored: "pa.Schema", rows: "Iterator[pa.Table]", problem: list[Exception]) -> int:
        """Insert rows as they come. An error of `rows` is kept in `problem`, since the driver replaces it by its own."""
        import pyarrow as pa

        count = 0

        def parts() -> "Iterator[pa.RecordBatch]":
            nonlocal count
            try:
                for table in rows:
                    count += table.num_rows
                    yield from _as_stored(table, stored).to_batches()
            except Exception as error:
                problem.append(error)
                raise

        schema, _, name = self.table.rpartition(".")
        reader = pa.RecordBatchReader.from_batches(stored, parts())
        cursor.adbc_ingest(name, reader, mode="append", db_schema_name=schema or None)
        return count


def _as_stored(table: "pa.Table", stored: "pa.Schema") -> "pa.Table":
    """Rows in the types of the table, times as text such as 2024-03-01 05:00:00.000000 if it has no type for them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.schema.equals(stored):
        return table
    columns = [
        pc.strftime(table[f.name], "%Y-%m-%d %H:%M:%S") if table[f.name].type != f.type else table[f.name]
        for f in stored
    ]
    return pa.Table.from_arrays(columns, schema=stored)


def _run(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return list(cursor.fetchall()) if cursor.description else []

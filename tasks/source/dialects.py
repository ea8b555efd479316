"""What differs between databases that are read by ADBC. A further database is a further `Dialect` in `DIALECTS`."""

import importlib
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from configs.flat import literal, quoted
from tasks.source.stored_times import ISO, LOCAL, ZONED

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

EXACT, OTHER, UNKNOWN = "NUMERIC", "OTHER", ""
"""Types of columns: a decimal number that needs a declared type, a type of which only the text is known, and none."""
FIRST_ROW = "evergreen first row"
"""Column of a query for SQLite that marks the row which gives the columns their types."""


@dataclass(frozen=True)
class Selection:
    """A query whose columns have the types that they must have.

    Attributes:
        sql: The query that runs in the database.
        casts: The type to which DuckDB casts a column, by column.
        where: Condition in DuckDB's SQL for the rows to keep, empty for all.
        arrow: The Arrow type that a column must arrive with, by column.
    """

    sql: str
    casts: Mapping[str, str]
    where: str = ""
    arrow: Mapping[str, str] | None = None


class Dialect(Protocol):
    """One kind of database."""

    package: str
    time_form: str
    """How a time is stored if model.yaml does not declare it, see `StoredTime`; empty if its type decides."""

    def connect(self, address: str, seconds: float, writes: bool = False) -> "Connection":
        """Open a session in which a query may take this long. It only reads, or with `writes` is one transaction."""
        ...

    def column_types(self, con: "Connection", sql: str) -> dict[str, str]:
        """The columns of a query, with DuckDB's names of their types, `EXACT`, `OTHER` or `UNKNOWN`."""
        ...

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """The query with casts to the declared types."""
        ...

    def digest(self, sql: str) -> str:
        """A query for the number of rows and an order-independent digest of them, empty if the database has no such function."""
        ...


class Generic:
    """A database of which only the SQL standard is assumed."""

    time_form = ""
    sql_types: Mapping[str, str] = {
        "DOUBLE": "DOUBLE PRECISION", "BIGINT": "BIGINT", "VARCHAR": "VARCHAR", "BOOLEAN": "BOOLEAN", "DATE": "DATE",
        "TIMESTAMP": "TIMESTAMP", "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    }  # fmt: skip

    def __init__(self, package: str) -> None:
        self.package = package

    def connect(self, address: str, seconds: float, writes: bool = False) -> "Connection":
        """Open a session."""
        driver: Any = importlib.import_module(f"{self.package}.dbapi")
        con: Connection = driver.connect(address, autocommit=not writes)
        return con

    def column_types(self, con: "Connection", sql: str) -> dict[str, str]:
        """The types that Arrow has for the columns of the query."""
        with closing(con.cursor()) as cursor:
            cursor.execute(f"SELECT * FROM ({sql}) AS q LIMIT 0")  # noqa: S608  (from model.yaml)
            return {field.name: _type_of(field) for field in cursor.fetch_record_batch().schema}

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """Cast declared columns, and others to text if Arrow has no type for them."""
        columns = {name: self._column(name, kind, declared.get(name)) for name, kind in types.items()}
        if all(value == quoted(name) for name, value in columns.items()):
            return Selection(sql, {})
        listed = ", ".join(f"{value} AS {quoted(name)}" for name, value in columns.items())
        return Selection(f"SELECT {listed} FROM ({sql}) AS q", {})  # noqa: S608

    def _column(self, name: str, kind: str, declared: str | None) -> str:
        if declared and declared != kind:
            return f"CAST({quoted(name)} AS {self.sql_types[declared]})"
        return f"CAST({quoted(name)} AS {self.sql_types['VARCHAR']})" if kind == OTHER else quoted(name)

    def digest(self, sql: str) -> str:
        """None in the standard."""
        return ""


_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Options of PostgreSQL's library: seconds until a server counts as gone. By default the system's, which may be hours."""


class PostgreSQL(Generic):
    """PostgreSQL 12 or newer."""

    sql_types: Mapping[str, str] = {**Generic.sql_types, "VARCHAR": "text", "TIMESTAMPTZ": "timestamptz"}

    def connect(self, address: str, seconds: float, writes: bool = False) -> "Connection":
        """Open a session in UTC. A server that is gone is noticed within a minute."""
        is_url = address.startswith("postgres")
        for option, number in _PATIENCE.items():
            if option not in address:
                separator = ("&" if "?" in address else "?") if is_url else " "
                address += f"{separator}{option}={number}"
        con = super().connect(address, seconds, writes)
        settings = {
            "timezone": "UTC", "datestyle": "ISO", "extra_float_digits": "1", "statement_timeout": str(int(seconds * 1000)),
            **({"lock_timeout": "30s"} if writes else {"default_transaction_read_only": "on"}),
        }  # fmt: skip
        with closing(con.cursor()) as cursor:
            for name, value in settings.items():
                cursor.execute(f"SET {name} = {literal(value)}")
        return con

    def _column(self, name: str, kind: str, declared: str | None) -> str:
        if declared and kind == EXACT:  # `money` has no other cast
            return f"CAST(CAST({quoted(name)} AS numeric) AS {self.sql_types[declared]})"
        return super()._column(name, kind, declared)

    def digest(self, sql: str) -> str:
        """Hash the text of each row."""
        return f"SELECT count(*), CAST(sum(hashtextextended(CAST(q AS text), 0)) AS text) FROM ({sql}) AS q"  # noqa: S608


class SQLite(Generic):
    """SQLite. Its columns have no types but its values do, and the driver takes those of the first rows."""

    time_form = ISO
    _SAMPLES: Mapping[str, str] = {"DOUBLE": "0.5", "BIGINT": "0", "BOOLEAN": "0"}
    _ARROW: Mapping[str, str] = {"DOUBLE": "double", "BIGINT": "int64", "BOOLEAN": "int64", "BLOB": "binary"}

    def connect(self, address: str, seconds: float, writes: bool = False) -> "Connection":
        """Open a file by its path or an address such as sqlite:////data/sales.db. Only a session that writes creates it."""
        path = unquote(re.sub(r"^sqlite:(///)?", "", address).partition("?")[0])
        return super().connect(f"file:{quote(path)}?mode={'rwc' if writes else 'ro'}", seconds, writes)

    def column_types(self, con: "Connection", sql: str) -> dict[str, str]:
        """The declared types of the columns, which their values need not have."""
        with closing(con.cursor()) as cursor:
            cursor.execute("DROP VIEW IF EXISTS temp.evergreen_columns")
            cursor.execute(f"CREATE TEMP VIEW evergreen_columns AS {sql}")
            cursor.execute("PRAGMA temp.table_info(evergreen_columns)")
            return {row[1]: _affinity(row[2]) for row in cursor.fetchall()}

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """Put a row before the others whose values have the types that the columns must have."""
        kinds = {name: declared.get(name) or kind for name, kind in types.items()}
        samples = [f"{self._SAMPLES.get(kind, literal(''))} AS {quoted(name)}" for name, kind in kinds.items()]
        columns = ", ".join(map(quoted, kinds))
        text = f"SELECT {', '.join(samples)}, 1 AS {quoted(FIRST_ROW)} UNION ALL SELECT {columns}, 0 FROM ({sql})"  # noqa: S608
        arrow = {name: self._ARROW.get(kind, "string") for name, kind in kinds.items()}
        casts = {name: kind for name, kind in kinds.items() if kind in ("BOOLEAN", "DATE", LOCAL, ZONED)}
        return Selection(text, casts, f"{quoted(FIRST_ROW)} = 0", arrow)


def _affinity(declared: str) -> str:
    """The type of a column by the type that its table declares. Times are text unless model.yaml declares them."""
    kind = declared.upper()
    known = {
        "BOOL": "BOOLEAN", "INT": "BIGINT", "CHAR": "VARCHAR", "CLOB": "VARCHAR", "TEXT": "VARCHAR", "DATE": "VARCHAR",
        "TIME": "VARCHAR", "REAL": "DOUBLE", "FLOA": "DOUBLE", "DOUB": "DOUBLE", "NUMERIC": EXACT, "DEC": EXACT,
    }  # fmt: skip
    return next((name for part, name in known.items() if part in kind), UNKNOWN)


def _type_of(field: Any) -> str:
    """DuckDB's name of the type of a column of Arrow, or `EXACT` or `OTHER`."""
    import pyarrow as pa

    own = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if own in ("numeric", "money"):
        return EXACT
    if isinstance(field.type, pa.OpaqueType) or own == "bpchar":  # `char(3)` arrives with spaces at its end
        return OTHER
    if pa.types.is_timestamp(field.type):
        return ZONED if field.type.tz else LOCAL
    if pa.types.is_date(field.type):
        return "DATE"
    names = {"double": "DOUBLE", "int64": "BIGINT", "string": "VARCHAR", "bool": "BOOLEAN"}
    return names.get(str(field.type), str(field.type))


DIALECTS: Mapping[str, Dialect] = {
    "postgresql": PostgreSQL("adbc_driver_postgresql"),
    "postgres": PostgreSQL("adbc_driver_postgresql"),
    "sqlite": SQLite("adbc_driver_sqlite"),
    # Not tested here: docs/add-a-model.md has their packages.
    "snowflake": Generic("adbc_driver_snowflake"),
    "bigquery": Generic("adbc_driver_bigquery"),
    "grpc": Generic("adbc_driver_flightsql"),
    "grpc+tls": Generic("adbc_driver_flightsql"),
}
"""Dialects by the scheme of the address."""

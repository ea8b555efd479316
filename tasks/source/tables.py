"""The files of a table, grouped by their columns and types, so that each column can have one type in all of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flat import literal, quoted
from configs.source import Table
from tasks.errors import SourceMismatch
from tasks.source.csv_lines import is_csv, read_header
from tasks.source.files import path_pattern
from tasks.source.values import EMPTY, FILE, has_zone, is_local, is_zoned

if TYPE_CHECKING:
    import duckdb

Types = Mapping[str, str]


@dataclass(frozen=True)
class Columns:
    """The columns of a file.

    Attributes:
        function: Table function of DuckDB that reads it.
        options: Its options, with a comma before each.
        types: Name and type of each column.
        values: Columns of a CSV file, which are read as text, and the type that all their values seem to be, if that is not text.
    """

    function: str
    options: str
    types: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()

    def reader(self, files: Sequence[Path], more: str = "") -> str:
        """SQL that reads files with these columns."""
        return f"{self.function}([{', '.join(literal(path_pattern(path)) for path in files)}]{self.options}{more})"


@dataclass(frozen=True)
class Group:
    """Files with the same columns."""

    columns: Columns
    files: tuple[Path, ...]

    @property
    def is_csv(self) -> bool:
        """Whether they are CSV files."""
        return self.columns.function == "read_csv"

    @property
    def types(self) -> Types:
        """Types of the columns by name. Those of a CSV file are the types that its text is converted to."""
        return {**dict(self.columns.types), **dict(self.columns.values)}

    def reader(self, skip_bad_lines: bool = False) -> str:
        """SQL that reads the files, with a further column `FILE`.

        Lines of a CSV file that are no rows are an error, or are skipped and listed in the table `reject_errors`.
        """
        skip = ", ignore_errors=true, store_rejects=true" if skip_bad_lines and self.is_csv else ""
        return self.columns.reader(self.files, f", filename={literal(FILE)}{skip}")


_COLUMNS: dict[tuple[object, ...], Columns] = {}
"""Columns of files by their path, size and time."""


def group_files(
    con: "duckdb.DuckDBPyConnection",
    table: Table,
    files: Sequence[Path],
    declared: Sequence[str],
    texts: Collection[str],
) -> list[Group]:
    """Group files by their columns and types, in the order of the files.

    Args:
        con: A session that may read the files.
        table: The table.
        files: Its files.
        declared: The columns of a flat file that model.yaml declares. All columns of such a CSV file are read as text.
        texts: Columns of a CSV file that are whole numbers or text whatever they seem to be, in lower case.

    Raises:
        SourceMismatch: a file is empty.
    """
    groups: dict[Columns, list[Path]] = {}
    for path in files:
        stat = path.stat()
        if not stat.st_size:
            raise SourceMismatch(
                f"{path} is empty (0 bytes): it does not even have the names of its columns. Write it again, or remove it"
            )
        key = (
            path,
            stat.st_size,
            stat.st_mtime_ns,
            table.time_format,
            *table.types.items(),
            tuple(declared),
            *sorted(texts),
        )
        if key not in _COLUMNS:
            _COLUMNS[key] = _read_columns(con, table, path, declared, texts)
        groups.setdefault(_COLUMNS[key], []).append(path)
    return [Group(columns, tuple(paths)) for columns, paths in groups.items()]


def _read_columns(
    con: "duckdb.DuckDBPyConnection", table: Table, path: Path, declared: Sequence[str], texts: Collection[str]
) -> Columns:
    if not is_csv(path):
        own = dict(_with_types(con, Columns("read_parquet", ", hive_partitioning=false"), path).types)
        return _with_types(con, Columns("read_parquet", _folders(table, path, own, texts)), path)
    mark, empty, names = read_header(con, path, declared)
    options, text = {"delim": mark, "quote": '"', "escape": '"', "skip": empty}, dict.fromkeys(names, "VARCHAR")
    as_text = _with_types(con, _csv(options, text, _folders(table, path, text, texts)), path)
    return as_text if declared else _sniff(con, table, path, as_text, texts)


def _sniff(
    con: "duckdb.DuckDBPyConnection", table: Table, path: Path, as_text: Columns, texts: Collection[str]
) -> Columns:
    """The columns of a CSV file with types that fit all its rows. DuckDB by itself looks at a sample."""
    import duckdb

    form = literal(table.time_format) if table.time_format else ""
    formats = f", dateformat={form}, timestampformat={form}" if form else ""
    sniffed = f"sniff_csv({literal(path_pattern(path))}, quote='\"', sample_size=-1{formats})"
    query = f"SELECT Delimiter, Quote, Escape, SkipRows, HasHeader, Columns FROM {sniffed}"  # noqa: S608
    strict = f"SELECT count(*) FROM {as_text.reader([path])}"  # noqa: S608
    try:
        mark, quote, escape, skip, header, fields = con.execute(query).fetchall()[0]
    except duckdb.Error:
        con.execute(strict)  # its error has the line
        raise
    names = [name for name, _ in as_text.types]
    if len(names) > 1 and not names[0].startswith("#") and [field["name"] for field in fields] != names:
        con.execute(strict)  # a line with more or fewer values than the first one leads to a wrong delimiter
    options = {"delim": mark, "quote": quote, "escape": escape, "skip": skip, "header": header}
    own = [field["name"] for field in fields]
    found = _with_types(con, _csv(options, dict.fromkeys(own, "VARCHAR"), _folders(table, path, own, texts)), path)
    kinds = {field["name"]: _value_type(field["type"], table.time_format) for field in fields}
    kinds = {n: kind for n, kind in kinds.items() if kind == "BIGINT" or not (kind == "VARCHAR" or n.lower() in texts)}
    empty = _without_values(con, path, found, [name for name in own if name not in kinds])
    types = tuple((name, EMPTY if name in empty else kind) for name, kind in found.types)
    return Columns(found.function, found.options, types, tuple(kinds.items()))


def _value_type(kind: str, time_format: str | None) -> str:
    """The type of the values of a column, by what they seem to be; that of times by their declared format."""
    if not (is_local(kind) or is_zoned(kind)):
        return kind
    if is_zoned(kind) or has_zone(time_format):
        return "TIMESTAMP WITH TIME ZONE"
    return "DATE" if kind == "DATE" and not time_format else "TIMESTAMP"


def _without_values(con: "duckdb.DuckDBPyConnection", path: Path, columns: Columns, texts: Sequence[str]) -> set[str]:
    """The columns among these in which every value is missing. They may be of any type."""
    counts = ", ".join(f"count({quoted(name)})" for name in texts)
    row = con.execute(f"SELECT {counts} FROM {columns.reader([path])}").fetchall()[0] if texts else ()  # noqa: S608
    return {name for name, count in zip(texts, row, strict=True) if not count}


def _csv(options: Mapping[str, object], kinds: Types, folders: str) -> Columns:
    """How to read a CSV file of which everything is known."""
    given = {"auto_detect": False, "header": True, **options, "columns": kinds}
    return Columns("read_csv", "".join(f", {k}={_value(v)}" for k, v in given.items() if v != "(empty)") + folders)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    return literal(value) if isinstance(value, str) else str(value).lower()


def _with_types(con: "duckdb.DuckDBPyConnection", columns: Columns, path: Path) -> Columns:
    relation = con.sql(f"FROM {columns.reader([path])}")
    types = tuple((name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True))
    return Columns(columns.function, columns.options, types)


def _folders(table: Table, path: Path, own: Collection[str], texts: Collection[str]) -> str:
    """The options for columns of folders such as `date=2024-03-01`. There are none if the file has a column of such a name.

    Their types are those that model.yaml declares, and text for columns of text. For DuckDB, `month=01` is text and `month=12` a number.
    """
    folders = [part.partition("=")[0] for part in path.parent.parts if "=" in part]
    declared = {name.lower(): kind for name, kind in table.types.items()} if not table.is_selected else {}
    if unknown := sorted(declared.keys() - {name.lower() for name in folders}):
        raise SourceMismatch(
            f"{path}: {', '.join(unknown)} is not the name of a folder such as {unknown[0]}=...; `types` of files is for columns in the "
            "names of folders, since a column in the files has their type. Remove it"
        )
    if not folders or {name.lower() for name in folders} & {name.lower() for name in own}:
        return ", hive_partitioning=false"
    types = {name: declared.get(name.lower(), "VARCHAR") for name in folders if name.lower() in {*declared, *texts}}
    listed = ", ".join(f"{quoted(name)}: {kind}" for name, kind in sorted(types.items()))
    return f", hive_partitioning=true{f', hive_types={{{listed}}}' if types else ''}"

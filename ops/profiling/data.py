"""The data of `make model FROM=`: local files, or a table of a database in one; and the DuckDB session that reads them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.addresses import address_problem
from configs.flat import literal
from configs.settings import ROOT
from configs.source import Table
from ops.profiling.database import ADDRESS, read_table
from ops.profiling.values import Data, UnusableData
from tasks.source.csv_lines import is_csv, read_header
from tasks.source.files import matches, path_pattern
from tasks.source.remote import RemoteFiles

if TYPE_CHECKING:
    import duckdb

SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
STORED = "stored"
"""Table with the rows as they are in the files. The text of CSV files is text."""
PANDAS_INDEX = r"__index_level_\d+__"
"""Name of a column that pandas adds to Parquet files for an index without a name."""
SOURCE = "source file"
"""Its column with the file of a row."""


def find_data(given: str, time: str = "") -> Data:
    """Return the data of a file, a pattern, a folder, or a table of a database (`connection:table`).

    Args:
        given: The value of `FROM=`.
        time: The value of `TIME=`, which a large table needs.

    Raises:
        UnusableData: There is no such file, or files of different kinds.
        EvergreenError: A database refuses the connection or the table, or does not answer.
    """
    if "://" in given:
        return _remote_files(given)
    if (match := ADDRESS.fullmatch(given)) and not Path(given).exists():
        return read_table(match[1], match[2], time)
    return _local_files(given)


def _remote_files(address: str) -> Data:
    """Copy the files at an address. The credentials are those of the library's environment variables."""
    if problem := address_problem(address, None):
        raise UnusableData(f"FROM={address}: {problem}")
    remote = RemoteFiles(Table(path=address), personal=False)
    found = [file for file in remote.matches(address) if file.name.lower().endswith(SUFFIXES) and file.size]
    if not found:
        raise UnusableData(
            f"FROM={address}: no file with rows is there; give a Parquet or CSV file, or a pattern of some"
        )
    return _of_one_kind(address, address, [remote.copy(file) for file in found])


def _local_files(given: str) -> Data:
    path = _relative(Path(given).expanduser())
    path = _all_files(path) if (ROOT / path).is_dir() else path
    files = [file for file in matches(path) if file.name.lower().endswith(SUFFIXES) and file.stat().st_size]
    if not files:
        raise UnusableData(
            f"FROM={given}: no file with rows matches {path}; give a Parquet or CSV file, a pattern, or a folder"
        )
    return _of_one_kind(given, path, files)


def _of_one_kind(given: str, path: str, files: Sequence[Path]) -> Data:
    kinds = {is_csv(file) for file in files}
    if len(kinds) > 1:
        raise UnusableData(
            f"FROM={given}: Parquet and CSV files together; give a pattern of one kind, such as {given}/*.parquet"
        )
    return Data(path, tuple(files), kinds.pop())


def _relative(path: Path) -> str:
    """Return a path relative to the repository where it is in it, as model.yaml has it; else absolute."""
    absolute = path if path.is_absolute() else Path.cwd() / path
    return str(absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute)


def _all_files(folder: str) -> str:
    """Return the pattern of all files of a folder: those in it, else those in folders of any depth."""
    for pattern in ("*", "**/*"):
        found = [file for file in matches(f"{folder}/{pattern}") if file.name.lower().endswith(SUFFIXES)]
        if found:
            ends = sorted({"".join(re.findall(r"\.[a-z]+", file.name.lower())[-2:]) for file in found})
            suffix = ends[0] if len(ends) == 1 else f".{ends[0].split('.')[-1]}"
            return f"{folder}/{pattern}{suffix if suffix in SUFFIXES else f'.{suffix.split(chr(46))[-1]}'}"
    raise UnusableData(f"FROM={folder}: the folder has no Parquet or CSV file")


def open_rows(data: Data, folder: str) -> "duckdb.DuckDBPyConnection":
    """Return a session with the table `STORED` of all rows of the files.

    Args:
        data: The files.
        folder: Where DuckDB may put what memory does not hold.
    """
    import duckdb

    con = duckdb.connect(config={"threads": 2, "temp_directory": folder})
    con.execute("SET TimeZone = 'UTC'")
    try:
        con.execute(f"CREATE TABLE {STORED} AS SELECT * FROM {_reader(con, data)}")  # noqa: S608  (paths of FROM)
    except duckdb.Error as error:
        text = " ".join(str(error).split())[:400]
        raise UnusableData(f"FROM={data.path}: cannot be read: {text}. Correct the files, or give others") from error
    return con


def _reader(con: "duckdb.DuckDBPyConnection", data: Data) -> str:
    """Return SQL that reads the files, as sources of models are read: a CSV file has the delimiter and the names of its first line."""
    files = ", ".join(literal(path_pattern(file)) for file in data.files)
    if not data.is_csv:
        return f"read_parquet([{files}], union_by_name=true, filename={literal(SOURCE)})"
    mark, empty, _ = read_header(con, data.files[0], ())
    return (
        f"read_csv([{files}], all_varchar=true, header=true, delim={literal(mark)}, quote='\"', escape='\"', skip={empty}, "
        f"union_by_name=true, hive_partitioning=false, filename={literal(SOURCE)})"
    )


def stored_types(con: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    """Return name and type of each column of the files."""
    rows = con.execute(f"DESCRIBE {STORED}").fetchall()
    return {str(name): str(kind) for name, kind, *_ in rows if name != SOURCE and not re.fullmatch(PANDAS_INDEX, name)}


def differing_types(con: "duckdb.DuckDBPyConnection", data: Data) -> dict[str, str]:
    """Return the columns that are numbers in some Parquet files and text in others, or are missing in some; each with what differs."""
    if data.is_csv or len(data.files) < 2:
        return {}
    files = ", ".join(literal(path_pattern(file)) for file in data.files)
    query = (
        "SELECT name, count(*), list_sort(list(DISTINCT type)) FROM "  # noqa: S608  (paths of FROM)
        f"parquet_schema([{files}]) WHERE num_children IS NULL GROUP BY name ORDER BY name"
    )
    problems = {}
    for name, count, types in con.execute(query).fetchall():
        texts = "BYTE_ARRAY" in types
        if count < len(data.files):
            problems[name] = f"only in {count} of {len(data.files)} files"
        elif texts and len(types) > 1:
            problems[name] = f"{' and '.join(types)} in different files"
    return problems

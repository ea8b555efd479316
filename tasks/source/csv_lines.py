"""The first line of a CSV file, which has the names of its columns, and the line of a value."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flat import literal
from tasks.source.files import path_pattern

if TYPE_CHECKING:
    import duckdb


def is_csv(path: Path) -> bool:
    """Whether a file is text with delimiters, by its name."""
    texts = (".csv", ".tsv", ".txt")
    known = [suffix for suffix in map(str.lower, path.suffixes) if suffix in (*texts, ".parquet", ".pq")]
    return bool(known) and known[-1] in texts


def read_header(con: "duckdb.DuckDBPyConnection", path: Path, declared: Sequence[str]) -> tuple[str, int, list[str]]:
    """Return the delimiter, the number of empty lines at the start and the names of the columns of a CSV file.

    Args:
        con: A session that may read the file, also if it is compressed.
        path: The file.
        declared: Names of columns that it should have.
    """
    lines = con.execute(
        f"SELECT line FROM read_csv([{literal(path_pattern(path))}], auto_detect=false, header=false, delim='\x1f', quote='', escape='', "  # noqa: S608  (a path of model.yaml)
        "columns={'line': 'VARCHAR'}, strict_mode=false) LIMIT 100"
    ).fetchall()
    texts = [line or "" for (line,) in lines]
    empty = next((at for at, text in enumerate(texts) if text.strip()), 0)
    header = texts[empty] if texts else ""
    mark = _delimiter(header, declared)
    names: list[str] = []
    for at, name in enumerate(next(csv.reader([header], delimiter=mark), [])):
        used = {earlier.lower() for earlier in names}
        names.append(f"{name}_{at}" if name.lower() in used else name or f"column{at}")
    return mark, empty, names


def find_line(path: Path, name: str, value: str) -> int:
    """The number of the line of a CSV file that has this text first in a column, 0 if it is not found or the file cannot be read here.

    Args:
        path: The file.
        name: The column.
        value: Up to 100 characters from the start of the value.
    """
    return next((line for line, own in _values(path, name) if own[:100] == value), 0)


def find_text(path: Path, name: str) -> tuple[int, str]:
    """The line and the first value of a CSV file's column that is no number; 0 if there is none or the file cannot be read here."""
    return next(((line, value) for line, value in _values(path, name) if not _is_number(value)), (0, ""))


def _values(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """The values of a column of a CSV file, each with the number of its line. Ends early where the file cannot be read."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as lines:
            empty = 0
            while not (header := next(lines)).strip():
                empty += 1
            mark = _delimiter(header, (name,))
            at = next(csv.reader([header], delimiter=mark)).index(name)
            rows, line = csv.reader(lines, delimiter=mark), empty + 2
            for row in rows:
                if len(row) > at:
                    yield line, row[at]
                line = rows.line_num + empty + 2
    except (OSError, ValueError, csv.Error, StopIteration):
        return


def _is_number(value: str) -> bool:
    """Whether text of a CSV file is a number, a truth value, or empty. `1_000` is none, as in `values.number_sql`."""
    try:
        return (
            not value or value.strip().lower() in ("true", "false") or ("_" not in value and float(value) is not None)
        )
    except ValueError:
        return False


def _delimiter(header: str, declared: Sequence[str]) -> str:
    """The delimiter with which a first line has most of the declared columns, then most columns."""

    def columns(mark: str) -> tuple[int, int]:
        fields = next(csv.reader([header], delimiter=mark), [])
        return len(set(declared) & set(fields)), len(fields)

    return max(",;\t|", key=columns)

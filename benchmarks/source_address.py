"""A Parquet file of a million rows and 20 columns on S3: copied and then read, as sources are, and read by DuckDB through fsspec.

The server of S3 is moto's, on this machine, so a network would add the time of its bytes to the first way and of its requests to both.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from tests.buckets import key_variables, new_bucket

ROWS, COLUMNS, REPEATS, NAME = 1_000_000, 20, 3, "benchmark/rows.parquet"


def report(console: Console) -> None:
    rng = np.random.default_rng(0)
    table = Table("columns", "DuckDB through fsspec, s", "copied, then read, s", "ratio")
    with tempfile.TemporaryDirectory() as folder, new_bucket("benchmark") as endpoint:
        os.environ.update(key_variables(endpoint))
        local, system = Path(folder) / "rows.parquet", fsspec.filesystem("s3")
        pd.DataFrame({f"x{at}": rng.random(ROWS) for at in range(COLUMNS)}).to_parquet(local)
        system.put(str(local), NAME)
        for count in (COLUMNS, COLUMNS // 4):
            names = ", ".join(f"x{at}" for at in range(count))
            pairs = [(_direct(system, names), _copied(system, names, Path(folder))) for _ in range(REPEATS)]
            direct, copied = (statistics.median(times) for times in zip(*pairs, strict=True))
            table.add_row(f"{count} of {COLUMNS}", f"{direct:.2f}", f"{copied:.2f}", f"{copied / direct:.2f}")
    console.print(table)


def _direct(system: fsspec.AbstractFileSystem, names: str) -> float:
    began = time.monotonic()
    with duckdb.connect(config={"threads": 2}) as con:
        con.register_filesystem(system)
        con.execute(f"CREATE TABLE t AS SELECT {names} FROM read_parquet('s3://{NAME}')")
    return time.monotonic() - began


def _copied(system: fsspec.AbstractFileSystem, names: str, folder: Path) -> float:
    began, copy = time.monotonic(), folder / "copy.parquet"
    system.get_file(NAME, str(copy))
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute(f"CREATE TABLE t AS SELECT {names} FROM read_parquet('{copy}')")
    return time.monotonic() - began

"""A million rows of 20 columns from PostgreSQL to a raw partition, and ADBC's own fetch of the same query to a Parquet file.

Both run in processes of their own, which take turns. The peak of memory is that of a whole process.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

ADDRESS = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
VARIABLE, TABLE, ROWS, REPEATS = "EVERGREEN_CONNECTION_BENCHMARK", "evergreen_source_benchmark", 1_000_000, 3
WINDOW = {"min_partitions": 2, "min_rows": 100, "holdout": "1D"}
NUMBERS = [f"x{at}" for at in range(16)]
QUERY = f"SELECT id, t, city, late, {', '.join(NUMBERS)} FROM {TABLE} WHERE t >= $start AND t < $end"
ENDS = {"$start": "TIMESTAMPTZ '2024-03-01 00:00:00+00'", "$end": "TIMESTAMPTZ '2024-03-02 00:00:00+00'"}


def report(console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(f"DROP TABLE IF EXISTS {TABLE}")
        columns = ", ".join(f"random() AS {name}" for name in NUMBERS)
        times = "TIMESTAMPTZ '2024-03-01 00:00:00+00' + n * INTERVAL '86 milliseconds'"
        run(
            f"CREATE TABLE {TABLE} AS SELECT 'r' || n AS id, {times} AS t, chr(97 + n % 20) AS city, n % 2 AS late, {columns} "
            f"FROM generate_series(0, {ROWS - 1}) AS n"
        )
        run(f"ALTER TABLE {TABLE} ADD updated TIMESTAMPTZ DEFAULT now()")
        run(f"CREATE INDEX ON {TABLE} (t, updated)")
        run(f"VACUUM ANALYZE {TABLE}")
        try:
            write_model(Path(folder))
            show(console, folder)
        finally:
            run(f"DROP TABLE {TABLE}")


def run(sql: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(ADDRESS, autocommit=True) as con, con.cursor() as cursor:
        cursor.execute(sql)


def write_model(folder: Path) -> None:
    table = {
        "connection": "benchmark",
        "query": QUERY.replace("late,", "late, updated,"),
        "time": "t",
        "watermark": "updated",
    }
    content = {
        "name": "big", "partition": {"every": "D", "timezone": "UTC"}, "key": "id", "time": "t",
        "source": {"tables": {"rows": table}}, "target": {"column": "late", "kind": "binary", "delay": "0D"},
        "description": "A million rows a day.", "features": {"numeric": NUMBERS, "categorical": ["city"]},
        "training": {"window": WINDOW, "candidates": {"trees": {"estimator": "xgboost", "params": {}}}},
        "gate": {"floor": {"log_loss": 0.7}},
    }  # fmt: skip
    home = folder / "configs" / "big"
    home.mkdir(parents=True)
    (home / "model.yaml").write_text(yaml.safe_dump(content))
    where = "FROM rows WHERE t >= $start AND t < $end"
    (home / "source.sql").write_text(f"SELECT id, t, city, {', '.join(NUMBERS)} {where}")
    (home / "labels.sql").write_text(f"SELECT id, late, t AS known_at {where}")


def show(console: Console, folder: str) -> None:
    names = ("adbc", "fetch", "ingest")
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    environment = os.environ | {
        "EVERGREEN_HOME": f"{folder}/home", "EVERGREEN_CONFIGS": f"{folder}/configs", VARIABLE: ADDRESS,
        "EVERGREEN_LAKE": f"{folder}/lake", "EVERGREEN_DATABASE_URL": f"sqlite:///{folder}/ledger.db",
    }  # fmt: skip
    for _ in range(REPEATS):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.source_database", name, folder]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            seconds, before, peak = map(float, done.stdout.split()[-3:])
            results[name].append((seconds, before, peak))
    table = Table(
        "way", "seconds", "ratio", "MB at the start", "MB at most", title=f"{ROWS:,} rows x 20 columns from PostgreSQL"
    )
    base = statistics.median(seconds for seconds, _, _ in results["adbc"])
    for name, runs in results.items():
        seconds, before, peak = (statistics.median(values) for values in zip(*runs, strict=True))
        table.add_row(name, f"{seconds:.2f}", f"{seconds / base:.2f}", f"{before:.0f}", f"{peak:.0f}")
    console.print(table)


def measure(name: str, folder: str) -> None:
    """Print the seconds, and the peak of this process's memory before and after."""
    work = {"adbc": adbc, "fetch": fetched, "ingest": ingested}[name](Path(folder))
    before, began = peak_mb(), time.perf_counter()
    work()
    print(time.perf_counter() - began, before, peak_mb())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def adbc(folder: Path):
    import pyarrow.parquet as pq
    from adbc_driver_postgresql import dbapi

    sql = QUERY.replace("$start", ENDS["$start"]).replace("$end", ENDS["$end"])

    def work() -> None:
        with dbapi.connect(ADDRESS, autocommit=True) as con, con.cursor() as cursor:
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
            with pq.ParquetWriter(folder / "plain.parquet", reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)

    return work


def fetched(folder: Path):
    import duckdb  # noqa: F401  (loaded before the clock starts)
    import pyarrow as pa  # noqa: F401
    from adbc_driver_postgresql import dbapi  # noqa: F401

    from configs.load import load_model
    from tasks.source.kinds import source_files
    from tasks.storage.partitions import partition

    model = load_model("big")
    return lambda: source_files(model, partition(model.config, "2024-03-01"))


def ingested(folder: Path):
    import duckdb  # noqa: F401
    import pyarrow as pa  # noqa: F401
    from adbc_driver_postgresql import dbapi  # noqa: F401

    from tasks.resources import open_resources
    from tasks.steps.ingest import INGEST
    from tasks.steps.step import advance

    res = open_resources("big")
    return lambda: advance(INGEST, res.ref("2024-03-01"), res, again=True)


if __name__ == "__main__":
    measure(*sys.argv[1:])

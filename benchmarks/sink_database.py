"""A million predictions from the lake into a table of PostgreSQL, and ADBC's own ingest of the same rows.

Both run in processes of their own, which take turns, and begin with a table that has another partition. ADBC gets the rows from memory, in
one call and one transaction. Ours reads them from the lake, verifies them, deletes what the partition had, and writes the record.
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
VARIABLE, TABLE, ROWS, REPEATS = "EVERGREEN_CONNECTION_BENCHMARK", "evergreen_sink_benchmark", 1_000_000, 5
WINDOW = {"min_partitions": 2, "min_rows": 100, "holdout": "1D"}
FIRST, DAY = "2024-03-01", "2024-03-02"
NAMES = ("adbc", "send", "send again")
"""ADBC into a table without an index; ours into a table that does not have the partition, and into one that has it already."""


def report(console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        environment = os.environ | {
            "EVERGREEN_HOME": f"{folder}/home", "EVERGREEN_CONFIGS": f"{folder}/configs", VARIABLE: ADDRESS,
            "EVERGREEN_LAKE": f"{folder}/lake", "EVERGREEN_DATABASE_URL": f"sqlite:///{folder}/ledger.db",
        }  # fmt: skip
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in NAMES}
        try:
            for _ in range(REPEATS):
                for name in NAMES:
                    results[name].append(run_once(name, environment))
        finally:
            run(f"DROP TABLE IF EXISTS {TABLE}")
    show(console, results)


def run_once(name: str, environment: dict[str, str]) -> tuple[float, float, float]:
    """Measure one way, in a process of its own, with a new table."""
    run(f"DROP TABLE IF EXISTS {TABLE}")
    command = [sys.executable, "-m", "benchmarks.sink_database", name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, before, peak = map(float, done.stdout.split()[-3:])
    return seconds, before, peak


def show(console: Console, results: dict[str, list[tuple[float, float, float]]]) -> None:
    title = f"{ROWS:,} predictions into PostgreSQL"
    table = Table("way", "seconds", "ratio", "MB at the start", "MB at most", title=title)
    base = statistics.median(seconds for seconds, _, _ in results["adbc"])
    for name, runs in results.items():
        seconds, before, peak = (statistics.median(values) for values in zip(*runs, strict=True))
        table.add_row(name, f"{seconds:.2f}", f"{seconds / base:.2f}", f"{before:.0f}", f"{peak:.0f}")
    console.print(table)


def run(sql: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(ADDRESS, autocommit=True) as con, con.cursor() as cursor:
        cursor.execute(sql)


def write_model(folder: Path) -> None:
    content = {
        "name": "big", "partition": {"every": "D", "timezone": "UTC"}, "key": "id", "time": "t",
        "source": {"file": {"path": f"{folder}/none.parquet"}}, "target": {"column": "late", "kind": "binary", "delay": "0D"},
        "description": "A million rows a day.", "features": {"numeric": ["x"]},
        "training": {"window": WINDOW, "candidates": {"trees": {"estimator": "xgboost", "params": {}}}},
        "gate": {"floor": {"log_loss": 0.7}},
        "publish": {"warehouse": {"connection": "benchmark", "table": TABLE}},
    }  # fmt: skip
    home = folder / "configs" / "big"
    home.mkdir(parents=True)
    (home / "model.yaml").write_text(yaml.safe_dump(content))


def measure(name: str) -> None:
    """Print the seconds, and the peak of this process's memory before and after."""
    import deltalake  # noqa: F401  (loaded before the clock starts)
    import duckdb  # noqa: F401
    from adbc_driver_postgresql import dbapi

    from tasks.resources import open_resources
    from tasks.sinks.outputs import batches
    from tasks.sinks.send import find_unsent, send

    res = open_resources("big")
    for key in (FIRST, DAY):
        predict(res, key)
    day, first = find_unsent(res)
    if name == "adbc":
        schema = {"model": "text", "partition": "text", "as_of": "timestamptz", "model_version": "text", "id": "text"}
        listed = ", ".join(f"{c} {kind}" for c, kind in (schema | {"t": "timestamptz", "prediction": "float8"}).items())
        run(f"CREATE TABLE {TABLE} ({listed})")
    send(first, res)
    if name == "send again":
        send(day, res)
        forget(res, DAY)
    run(f"VACUUM ANALYZE {TABLE}")
    import pyarrow as pa

    table = pa.concat_tables(batches(day.content, day.sink, res)) if name == "adbc" else None
    before, began = peak_mb(), time.perf_counter()
    if table is not None:
        with dbapi.connect(ADDRESS) as con, con.cursor() as cursor:
            cursor.adbc_ingest(TABLE, table, mode="append")
            con.commit()
    else:
        send(day, res)
    print(time.perf_counter() - began, before, peak_mb())


def forget(res, key: str) -> None:
    """Delete the record of what was sent, as if the process had died before it."""
    (res.lake.root / "sent" / "warehouse" / f"{key}.json").unlink(missing_ok=True)


def predict(res, key: str) -> None:
    """Write a million predictions of a day into the lake, as `score` does."""
    import numpy as np
    import pandas as pd

    from tasks.contracts import Stage

    ref, rng = res.ref(key), np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"r{n}" for n in range(ROWS)],
            "t": pd.date_range(ref.start, ref.end, ROWS).astype("datetime64[us, UTC]"),
        }
    )
    frame = frame.assign(prediction=rng.random(ROWS), model_version="1", as_of=ref.as_of)
    digest = res.lake.write_frame(Stage.PREDICTIONS, key, frame)
    res.lake.write_record(ref, Stage.PREDICTIONS, version=1, inputs={}, rows=ROWS, digest=digest, data={"version": "1"})
    forget(res, key)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    measure(sys.argv[1])

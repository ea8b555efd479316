"""Ingest of a month of flights by its SQL, and DuckDB's own API writing the same query to parquet."""

import tempfile
from pathlib import Path

import duckdb

from benchmarks.generated import model
from benchmarks.harness import Row, in_this_process, in_turns, row
from configs.settings import load_settings
from tasks.contracts import Stage
from tasks.resources import live_resources
from tasks.source.kinds import source_files
from tasks.steps.ingest import ingest

MONTH = "2013-05"


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        res = live_resources(model(), load_settings().model_copy(update={"lake": f"{folder}/lake"}))
        ref = res.ref(MONTH)
        files = source_files(res.model, ref)
        target = Path(folder) / "plain.parquet"

        def plain() -> None:
            with duckdb.connect(config={"threads": res.settings.threads}) as con:
                con.execute("SET TimeZone = 'UTC'")
                for name, paths in files.items():
                    con.execute(f"CREATE VIEW {name} AS FROM read_parquet({[str(p) for p in paths]})")
                query = res.model.source_sql.strip().rstrip(";")
                con.execute(
                    f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
                    {"start": ref.start, "end": ref.end},
                )

        mine, other = in_turns(in_this_process(lambda: ingest(ref, res)), in_this_process(plain))
        counts = [
            duckdb.execute(f"SELECT count(*) FROM '{path}'").fetchall()
            for path in (target, res.lake.path(Stage.RAW, MONTH))
        ]
        assert counts[0] == counts[1]
    return [row(f"ingest of flights {MONTH} by SQL", "DuckDB copying the query to parquet", mine, other, aim=1.3)]

"""The cost of orchestration in a backfill: the flow and a plain loop over the same steps, each in its own process.

    python -m benchmarks backfill

Needs the stack (`make up`) and the champion that `make demo` leaves. Takes an hour, most of it for daily flights: a variant of the
model with a day per partition, all steps of a year, and of two months for the number of workers. Light partitions have four steps
of about 60 ms each: a day of 150 parcels is ingested, validated, sketched, and its labels are collected. "Plain" is a loop over
the same steps and claims, and nothing else: no plan, no tasks, no server. A ratio is ours over plain, of wall and of CPU
seconds from the first line of the flow, or of the loop, to its last.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from configs.settings import ROOT

LIGHT, FEW = 120, 30
"""Partitions of the light backfill, and of a shorter one for comparing memory."""
YEAR, SPRING = ("2013-01-02", "2013-12-31"), ("2013-03-01", "2013-05-01")
"""Daily flights: all days but the first, which has no history and is blocked; and the days for comparing ways to run them."""
ROUNDS = 3

MEASURED = """
import json, os, resource, sys, time
from configs.settings import disable_telemetry
disable_telemetry()
began = time.perf_counter(), time.process_time()
{body}
wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
print(json.dumps({{"wall": wall, "cpu": cpu, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}}))
"""
PLAIN = """
from tasks.resources import open_resources
from tasks.storage.partitions import between
from tasks.steps.step import advance
from tasks.steps.order import INDEPENDENT
res = open_resources("tiny")
for ref in between(res.config, {start!r}, {end!r}):
    with res.claims.hold(ref.key):
        for step in INDEPENDENT:
            advance(step, ref, res)
"""
FLOW = """
from flows.backfill import backfill
state = backfill(model="tiny", start={start!r}, end={end!r}, return_state=True, **{options!r})
assert state.is_completed(), state.message
"""
DAILY_PLAIN = """
from tasks.storage.partitions import between
from tasks.resources import Variant, open_resources
from tasks.steps.step import NotDue, advance
from tasks.steps.order import INDEPENDENT, steps_of
res = open_resources("flights", variant=Variant({override!r}))
refs = list(between(res.config, {start!r}, {end!r}))
for alone in (True, False):
    for ref in refs:
        with res.claims.hold(ref.key):
            for step in steps_of(res.config):
                if (step in INDEPENDENT) == alone:
                    try:
                        advance(step, ref, res)
                    except NotDue:
                        pass
"""
DAILY_FLOW = """
from flows.backfill import backfill
state = backfill(model="flights", start={start!r}, end={end!r}, override={override!r}, return_state=True, **{options!r})
assert state.is_completed(), state.message
"""
IMPORT = "import prefect"


def measure(body: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Run code in its own process; return wall and CPU seconds, and the peak of its memory in MB."""
    command = [sys.executable, "-c", MEASURED.format(body=body)]
    env = os.environ | environment | {"PREFECT_LOGGING_LEVEL": "WARNING"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def environment(folder: Path) -> dict[str, str]:
    """Return the settings for lake, ledger and registry in a folder."""
    return {
        "EVERGREEN_HOME": str(folder / ".evergreen"),
        "EVERGREEN_LAKE": str(folder / "lake"),
        "EVERGREEN_CONFIGS": str(folder / "configs"),
        "EVERGREEN_DATABASE_URL": f"sqlite:///{folder}/ledger.db",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }


def light_model(folder: Path, days: int, rows: int | None = None) -> Path:
    """Write the tests' tiny model with this many days of parcels, with `rows` rows each or as the tests have them."""
    import pandas as pd

    from tests.conftest import FIRST, LABELS_SQL, MODEL_YAML, SOURCE_SQL, parcels

    home = folder / "configs" / "tiny"
    home.mkdir(parents=True)
    (folder / "data").mkdir()
    (home / "model.yaml").write_text(MODEL_YAML.replace("DATA/", f"{folder}/data/"))
    (home / "source.sql").write_text(SOURCE_SQL)
    (home / "labels.sql").write_text(LABELS_SQL)
    for day in range(days):
        frame = parcels(day)
        if rows:
            drawn = frame.sample(rows, replace=True, random_state=day).reset_index(drop=True)
            frame = drawn.assign(parcel=[f"{day:02d}-{i}" for i in range(rows)])
        frame.to_parquet(folder / "data" / f"parcels-{FIRST + pd.Timedelta(day, 'D'):%Y-%m-%d}.parquet", index=False)
    return folder


def span(days: int) -> dict[str, str]:
    """Return the parameters for the first `days` days."""
    import pandas as pd

    from tests.conftest import FIRST

    return {"start": f"{FIRST:%Y-%m-%d}", "end": f"{FIRST + pd.Timedelta(days - 1, 'D'):%Y-%m-%d}"}


def run(body: str, days: int, options: Mapping[str, Any] | None = None, again: bool = False) -> dict[str, float]:
    """Measure code in a new folder; with `again`, measure a second run, when everything is fresh."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = light_model(Path(temporary), days)
        text = body.format(**span(days), options=dict(options or {}))
        first = measure(text, environment(folder))
        return measure(text, environment(folder)) if again else first


def daily_override() -> dict[str, Any]:
    """Return the override for daily flights: the length of a partition, and the number of its rows."""
    rules = yaml.safe_load((ROOT / "configs" / "flights" / "model.yaml").read_text())["expectations"]
    rows = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 300, "max_value": 2000}}
    return {"partition": {"every": "D"}, "expectations": [rows, *rules[1:]]}


def daily(body: str, days: tuple[str, str], options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Measure code on daily flights, in a new lake, with the demo's champion."""
    with tempfile.TemporaryDirectory() as folder:
        text = body.format(start=days[0], end=days[1], override=daily_override(), options=dict(options or {}))
        return measure(text, {"EVERGREEN_LAKE": folder})


@contextmanager
def cluster(lake: str) -> Iterator[str]:
    """Start a Dask scheduler with two workers of one thread each; yield its address."""
    from distributed import LocalCluster

    os.environ["EVERGREEN_LAKE"] = lake  # the workers inherit it, and need the same lake as the flow
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as dask:
        yield dask.scheduler_address


def report(console: Console) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            console.print(f"backfill: no Prefect server answers ({error}); run `make up` first")
            return
    for table in (light_table, fresh_table, months_table, year_table):  # takes an hour: print each when it is done
        console.print(table())


def light_table() -> Table:
    """Measure light partitions: one thread, two threads, and a shorter backfill for its memory."""
    plain = [run(PLAIN, LIGHT) for _ in range(ROUNDS)]
    rows = {
        f"{LIGHT} days, plain loop": plain,
        f"{LIGHT} days, 1 thread": [run(FLOW, LIGHT, {"concurrency": 1}) for _ in range(ROUNDS)],
        f"{LIGHT} days, 2 threads": [run(FLOW, LIGHT, {"concurrency": 2}) for _ in range(ROUNDS)],
        f"{FEW} days, 2 threads": [run(FLOW, FEW, {"concurrency": 2})],
    }
    return compared("light backfill", rows, plain)


def year_table() -> Table:
    """Measure a year of daily flights with all steps, on one thread."""
    year = daily(DAILY_PLAIN, YEAR)
    rows = {"364 days, plain loop": [year], "364 days, 1 thread": [daily(DAILY_FLOW, YEAR, {"concurrency": 1})]}
    return compared("daily flights, all stages", rows, [year])


def months_table() -> Table:
    """Measure two months of daily flights with all steps, on threads and on Dask."""
    spring = daily(DAILY_PLAIN, SPRING)
    ways = {
        "62 days, plain loop": [spring],
        "62 days, 1 thread": [daily(DAILY_FLOW, SPRING, {"concurrency": 1})],
        "62 days, 2 threads": [daily(DAILY_FLOW, SPRING, {"concurrency": 2})],
        "62 days, Dask, 2 workers": [on_dask()],
    }
    return compared("daily flights, all stages", ways, [spring])


def on_dask() -> dict[str, float]:
    """Measure two months on two Dask workers. CPU and memory are the flow's own, not the workers'."""
    with tempfile.TemporaryDirectory() as folder, cluster(folder) as address:
        options = {"runner": "dask", "dask": address, "concurrency": 2}
        text = DAILY_FLOW.format(start=SPRING[0], end=SPRING[1], override=daily_override(), options=options)
        return measure(text, {"EVERGREEN_LAKE": folder})


def compared(title: str, rows: Mapping[str, list[dict[str, float]]], base: list[dict[str, float]]) -> Table:
    """Return a table of the median of each way, and its ratios to the base."""
    table = Table(title, "wall s", "CPU s", "partitions/s", "wall ratio", "CPU ratio", "peak MB", box=None)
    for line in lines(rows, base):
        table.add_row(*line)
    return table


def lines(rows: Mapping[str, list[dict[str, float]]], base: list[dict[str, float]]) -> Iterator[tuple[str, ...]]:
    plain = {what: median(base, what) for what in ("wall", "cpu")}
    days = int(next(iter(rows)).split()[0])
    for name, rounds in rows.items():
        wall, cpu, mb = (median(rounds, what) for what in ("wall", "cpu", "mb"))
        count = int(name.split()[0])
        ratios = (f"{wall / plain['wall']:.2f}", f"{cpu / plain['cpu']:.2f}") if count == days else ("", "")
        yield name, f"{wall:.1f}", f"{cpu:.1f}", f"{count / wall:.1f}", *ratios, f"{mb:.0f}"


def fresh_table() -> Table:
    """Compare a backfill that has nothing to do with the import of Prefect alone."""
    again = [run(FLOW, LIGHT, again=True) for _ in range(ROUNDS)]
    imported = [run(IMPORT, 1) for _ in range(ROUNDS)]
    table = Table("nothing to do", "wall s", "CPU s", "wall ratio", "CPU ratio", box=None)
    one, two = ({what: median(rounds, what) for what in ("wall", "cpu")} for rounds in (imported, again))
    table.add_row("import prefect", f"{one['wall']:.2f}", f"{one['cpu']:.2f}", "", "")
    ratios = f"{two['wall'] / one['wall']:.2f}", f"{two['cpu'] / one['cpu']:.2f}"
    table.add_row(f"{LIGHT} fresh days, imports included", f"{two['wall']:.2f}", f"{two['cpu']:.2f}", *ratios)
    return table


def median(rounds: list[dict[str, float]], what: str) -> float:
    return sorted(one[what] for one in rounds)[len(rounds) // 2]

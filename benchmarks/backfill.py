"""What orchestration adds to a backfill: the flow beside a plain loop over the same steps, each in a process of its own.

    python -m benchmarks backfill

Needs a Prefect server (`make up`). Light partitions have four stages of some 25 ms each: a day of 150 parcels is ingested, validated,
sketched, and its labels are collected. "Plain" is a loop over the same steps and nothing else: no plan, no claims, no tasks, no server.
A ratio is ours over plain, of wall and of CPU seconds from the first line of the flow, or of the loop, to its last.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.settings import ROOT

LIGHT, FEW = 120, 30
"""Partitions of the light backfill, and of a shorter one whose memory is held against it."""
ROUNDS = 3

MEASURED = """
import json, os, resource, sys, time
from configs.settings import silence_vendors
silence_vendors()
began = time.perf_counter(), time.process_time()
{body}
wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
print(json.dumps({{"wall": wall, "cpu": cpu, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}}))
"""
PLAIN = """
from tasks.resources import open_resources
from tasks.partitions import between
from tasks.stages import advance
from tasks.steps import ALONE
res = open_resources("tiny")
for ref in between(res.config, {start!r}, {end!r}):
    with res.claims.hold(ref.key):
        for step in ALONE:
            advance(step, ref, res)
"""
FLOW = """
from flows.backfill import backfill
state = backfill(model="tiny", start={start!r}, end={end!r}, return_state=True, **{options!r})
assert state.is_completed(), state.message
"""
IMPORT = "import prefect"


def measure(body: str, world: Path) -> dict[str, float]:
    """Run some lines in a process of their own; returns wall and CPU seconds, and the peak of its memory in MB."""
    env = os.environ | {
        "EVERGREEN_HOME": str(world / ".evergreen"),
        "EVERGREEN_LAKE": str(world / "lake"),
        "EVERGREEN_CONFIGS": str(world / "configs"),
        "EVERGREEN_DATABASE_URL": f"sqlite:///{world}/ledger.db",
        "MLFLOW_TRACKING_URI": f"sqlite:///{world}/mlflow.db",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    command = [sys.executable, "-c", MEASURED.format(body=body)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def light_world(folder: Path, days: int) -> Path:
    """The tests' tiny model with so many days of parcels."""
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
        frame.to_parquet(folder / "data" / f"parcels-{FIRST + pd.Timedelta(day, 'D'):%Y-%m-%d}.parquet", index=False)
    return folder


def span(days: int) -> dict[str, str]:
    """Parameters for the first so many days."""
    import pandas as pd

    from tests.conftest import FIRST

    return {"start": f"{FIRST:%Y-%m-%d}", "end": f"{FIRST + pd.Timedelta(days - 1, 'D'):%Y-%m-%d}"}


def run(body: str, days: int, options: Mapping[str, Any] | None = None, again: bool = False) -> dict[str, float]:
    """Measure a way of doing the same in a new world; with `again`, once more when everything is fresh."""
    with tempfile.TemporaryDirectory() as folder:
        world = light_world(Path(folder), days)
        text = body.format(**span(days), options=dict(options or {}))
        found = measure(text, world)
        return measure(text, world) if again else found


def report(console: Console) -> None:
    table = Table("light backfill", "wall s", "CPU s", "partitions/s", "wall ratio", "CPU ratio", "peak MB", box=None)
    plain = [run(PLAIN, LIGHT) for _ in range(ROUNDS)]
    ways: dict[str, list[dict[str, float]]] = {"plain loop": plain}
    for threads in (1, 2):
        ways[f"flow, {threads} thread{'s' * (threads > 1)}"] = [
            run(FLOW, LIGHT, {"concurrency": threads}) for _ in range(ROUNDS)
        ]
    base = {what: middle(plain, what) for what in ("wall", "cpu")}
    for name, found in ways.items():
        wall, cpu, mb = (middle(found, what) for what in ("wall", "cpu", "mb"))
        ratios = f"{wall / base['wall']:.2f}", f"{cpu / base['cpu']:.2f}"
        table.add_row(f"{LIGHT} days, {name}", f"{wall:.1f}", f"{cpu:.1f}", f"{LIGHT / wall:.1f}", *ratios, f"{mb:.0f}")
    few = run(FLOW, FEW, {"concurrency": 2})
    table.add_row(
        f"{FEW} days, flow, 2 threads", f"{few['wall']:.1f}", f"{few['cpu']:.1f}", "", "", "", f"{few['mb']:.0f}"
    )
    console.print(table)
    again = [run(FLOW, LIGHT, again=True) for _ in range(ROUNDS)]
    imported = [run(IMPORT, 1) for _ in range(ROUNDS)]
    fresh = Table("nothing to do", "wall s", "CPU s", "wall ratio", "CPU ratio", box=None)
    one, two = ({what: middle(found, what) for what in ("wall", "cpu")} for found in (imported, again))
    fresh.add_row("import prefect", f"{one['wall']:.2f}", f"{one['cpu']:.2f}", "", "")
    ratios = f"{two['wall'] / one['wall']:.2f}", f"{two['cpu'] / one['cpu']:.2f}"
    fresh.add_row(
        f"backfill of {LIGHT} fresh days, imports included", f"{two['wall']:.2f}", f"{two['cpu']:.2f}", *ratios
    )
    console.print(fresh)


def middle(found: list[dict[str, float]], what: str) -> float:
    return sorted(one[what] for one in found)[len(found) // 2]

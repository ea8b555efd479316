"""The pages of a hundred models with 400 partitions each: weight, time until a browser has drawn them, and time to write them.

One model of 30 columns is run over 40 days. Copies of its records stand for the later days, and its content for the other models.
"""

import functools
import gc
import http.server
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.prefect_tasks import simulation
from tasks.reports.pages.hub import render_hub
from tasks.reports.pages.publish import refresh_pages
from tasks.resources import LiveResources, open_resources
from tasks.steps.order import OUTCOMES, PROCESS
from tasks.steps.run import run_steps
from tests.conftest import LABELS_SQL

MODELS, DAYS, RUN, FEATURES, ROWS, TIMES = 100, 400, 40, 30, 150, 5
AIM_KB, AIM_MS = 400, 300
FIRST = pd.Timestamp("2024-03-01", tz="UTC")
NAMES = [f"x{n:02d}" for n in range(FEATURES)]
CHROMIUM = os.environ.get("EVERGREEN_TEST_CHROMIUM") or shutil.which("chromium") or "chromium"
MODEL_YAML = f"""\
name: wide
description: Whether a parcel comes late, from {FEATURES} numbers.
partition: {{every: D, timezone: UTC, grace: 1D}}
source:
  tables:
    parcels: {{path: DATA/parcels-%Y-%m-%d.parquet, every: D, outcomes: [late], outcomes_known_at: sent + INTERVAL 1 DAY}}
key: parcel
time: sent
target: {{column: late, kind: binary, delay: 1D}}
features: {{numeric: [{", ".join(NAMES)}], categorical: [city]}}
groups: []
expectations:
  - {{type: expect_column_values_to_be_between, columns: [{", ".join(NAMES)}], kwargs: {{min_value: -3.2, max_value: 3.2, mostly: 0.5}}}}
training:
  window: {{min_partitions: 4, min_rows: 200, holdout: 2D}}
  splits: 1
  candidates: {{trees: {{estimator: xgboost, params: {{n_estimators: 10, max_depth: 2}}}}}}
gate: {{floor: {{log_loss: 0.75}}, gain: {{block: H, min_blocks: 6, resamples: 200}}, segments: {{columns: [city], max_loss: 0.5}}}}
monitoring: {{block: H, decay: {{min_rows: 150}}, resamples: 200}}
retraining: {{signals: {{drift: {{times: 1, of: 1}}, decay: true}}, cool_down: 3D}}
"""


def report(console: Console) -> None:
    """Print weight and time of each page against its aim."""
    with tempfile.TemporaryDirectory() as folder:
        res = make_model(Path(folder), console)
        writing = write_all(res)
        shown = Table("page", "html and data, KB", "without the library, aim", "drawn, ms", "aim", box=None)
        for name, weight, milliseconds in measure(res.settings.pages):
            shown.add_row(name, f"{weight / 1000:.0f}", f"{AIM_KB}", f"{milliseconds:.0f}", f"{AIM_MS}")
    console.print(shown)
    console.print(f"writing all pages of a model with {DAYS} partitions: {writing:.2f} s")


def parcels(day: int) -> pd.DataFrame:
    """Return one day of parcels, whose lateness depends on the first column, and the others drift slowly."""
    rng = np.random.default_rng(day)
    columns = rng.normal(0.3 * np.sin(day / 50 + np.arange(FEATURES)), 1, (ROWS, FEATURES))
    frame = pd.DataFrame(columns, columns=NAMES)
    sent = FIRST + pd.to_timedelta(day, "D") + pd.to_timedelta(np.arange(ROWS) * 9, "min")
    late = (rng.random(ROWS) < 1 / (1 + np.exp(-frame["x00"]))).astype("float64")
    return frame.assign(
        parcel=[f"{day:03d}-{i:03d}" for i in range(ROWS)],
        sent=sent.astype("datetime64[us, UTC]"),
        city=rng.choice(["Bonn", "Kiel", "Ulm"], ROWS),
        late=late,
    )


def make_model(folder: Path, console: Console) -> LiveResources:
    """Run the model over all its days, with one champion, and return its resources."""
    (folder / "configs" / "wide").mkdir(parents=True)
    (folder / "data").mkdir()
    names = ", ".join(NAMES)
    home = folder / "configs" / "wide"
    (home / "source.sql").write_text(
        f"SELECT parcel, sent, city, {names} FROM parcels WHERE sent >= $start AND sent < $end"
    )
    (home / "labels.sql").write_text(LABELS_SQL)
    (home / "model.yaml").write_text(MODEL_YAML.replace("DATA/", f"{folder}/data/"))
    for day in range(RUN):
        path = folder / "data" / f"parcels-{key_of(day)}.parquet"
        parcels(day).to_parquet(path, index=False)
    for name, value in (("HOME", ".evergreen"), ("LAKE", "lake"), ("CONFIGS", "configs")):
        os.environ[f"EVERGREEN_{name}"] = str(folder / value)
    os.environ["EVERGREEN_DATABASE_URL"] = f"sqlite:///{folder}/ledger.db"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    res = open_resources("wide")
    res.pages = False  # Evidently's report of each day would take most of the time
    with simulation(), console.status("") as status:
        for day in range(RUN):
            status.update(f"day {day + 1} of {RUN}")
            ref = res.ref(key_of(day))
            run_steps(ref, PROCESS, res)
            if day == 12:
                train_and_judge(None, "first champion", res)
            if day > 12:
                run_steps(ref, OUTCOMES, res)
    copy_records(folder / "lake" / "wide")
    res.pages = True
    return res


def key_of(day: int) -> str:
    """Return the name of a day's partition."""
    return f"{FIRST + pd.Timedelta(day, 'D'):%Y-%m-%d}"


def copy_records(lake: Path) -> None:
    """Copy the outputs of the last days that were run to all days after them."""
    for day in range(RUN, DAYS):
        source, key = key_of(20 + day % 20), key_of(day)
        for path in lake.glob(f"*/{source}.*"):
            target = path.with_name(path.name.replace(source, key))
            if path.suffix == ".json":
                target.write_text(path.read_text().replace(source, key))
            else:
                target.hardlink_to(path)


def write_all(res: LiveResources) -> float:
    """Write the pages, and an index of all models. Return the median seconds of writing the pages of one model anew."""
    seconds = []
    for _ in range(3):
        shutil.rmtree(res.settings.pages, ignore_errors=True)
        gc.collect()
        began = time.perf_counter()
        refresh_pages(res)
        seconds.append(time.perf_counter() - began)
    page = json.loads((res.settings.pages / "wide.json").read_text())["page"]
    many = [page | {"model": f"wide{n:02d}"} for n in range(MODELS)]
    (res.settings.pages / "index.html").write_text(render_hub(many))
    return median(seconds)


def measure(pages: Path) -> Iterator[tuple[str, float, float]]:
    """Yield name, bytes of HTML and data, and milliseconds from the request to the last drawing of each page."""
    from playwright.sync_api import sync_playwright

    with serve(pages) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=["--no-sandbox"])
        for path in ["index.html", *sorted(p.name for p in pages.glob("wide*.html"))]:
            loads = [load(browser, f"{base}/{path}") for _ in range(TIMES)]
            yield path, loads[0][0], median(milliseconds for _, milliseconds in loads)
        browser.close()


def load(browser, url: str) -> tuple[float, float]:
    """Load a page in a new window. Return its bytes without the assets, and the milliseconds until nothing changes any more."""
    page, weights = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.on("response", lambda r: weights.append(0 if "/uplot." in r.url else len(r.body())))
    page.goto(url, wait_until="networkidle")
    ended = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
          const marks = performance.getEntriesByName("drawn").map((mark) => mark.startTime);
          done(Math.max(performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart, ...marks));
        })))"""
    )
    page.close()
    return sum(weights), ended


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder as `make up` does."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

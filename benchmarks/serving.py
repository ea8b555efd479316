"""One row and a hundred, by one client and by eight: our server, `mlflow models serve`, and the least possible cost.

All serve the same version of flights on the same machine, alternately. The least possible cost is an empty FastAPI route and the
booster's `inplace_predict` of the encoded row. Clients are threads of their own process, over persistent connections.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from benchmarks.harness import Row
from benchmarks.site import LAST, Site, site
from configs.settings import ROOT
from tests.conftest import free_port

ROUNDS, SECONDS = 2, 2
CASES = ((1, 1), (1, 8), (100, 1), (100, 8))
"""Rows of a request, clients."""
EMPTY = """
import uvicorn, sys
from fastapi import FastAPI, Request, Response
app = FastAPI()
@app.post("/models/{model}/invocations")
async def invocations(model: str, request: Request):
    await request.body()
    return Response(b"{}", media_type="application/json")
@app.get("/health")
async def health():
    return Response(b"{}", media_type="application/json")
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""
PREPARE = """
import json, sys, time
import numpy as np
from configs.settings import disable_telemetry
disable_telemetry()
from tasks.models.fast_predict import plan_of
from tasks.contracts import Stage
from tasks.models.features import inputs_of
from tasks.resources import open_resources
res = open_resources("flights")
plan = plan_of(res.load(res.champion().version))
booster = getattr(plan.estimator, "estimator", plan.estimator).get_booster()
booster.set_param({"nthread": 1})
rows = next(res.lake.batches(Stage.VALID, sys.argv[1])).to_pandas()
medians = {}
for count in (1, 100):
    inputs = inputs_of(rows.head(count), res.config.features.active)
    inputs = inputs.astype(object).where(inputs.notna(), None)
    with open(f"{sys.argv[2]}/{count}.json", "w") as file:
        json.dump({"dataframe_split": inputs.to_dict("split")}, file)
    matrix = plan.matrix(rows.head(count)).astype("float32")
    costs = []
    for _ in range(1000 if count == 1 else 300):
        began = time.perf_counter()
        booster.inplace_predict(matrix)
        costs.append(time.perf_counter() - began)
    medians[count] = float(np.median(costs) * 1000)
print(json.dumps(medians))
"""


def rows() -> list[Row]:
    copy = site()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            "ours": stack.enter_context(served(copy, [sys.executable, "-m", "serving", "--port"], "/ready")),
            "mlflow": stack.enter_context(served(copy, mlflow_command(copy), "/ping")),
            "empty": stack.enter_context(served(copy, [sys.executable, "-c", EMPTY], "/health")),
        }
        costs: dict[tuple[str, int, int], list[dict[str, float]]] = {}
        bare = []
        for _ in range(ROUNDS):
            bare.append(prepared(copy, folder))
            for count, clients in CASES:
                for name, (port, _) in servers.items():
                    if name == "empty" and clients > 1:
                        continue  # is compared only with one client
                    path = "/invocations" if name == "mlflow" else "/models/flights/invocations"
                    costs.setdefault((name, count, clients), []).append(
                        load(port, path, folder / f"{count}.json", clients)
                    )
    comparisons = [row for count, clients in CASES for row in compared(costs, bare, count, clients)]
    (_, ours), (_, theirs) = servers["ours"], servers["mlflow"]
    return [*comparisons, ratio("serving: from start to ready", "mlflow models serve", [ours], [theirs], unit="wall s")]


def compared(
    costs: dict[tuple[str, int, int], list[dict[str, float]]], bare: list[dict[int, float]], count: int, clients: int
) -> Iterator[Row]:
    """Yield our milliseconds per request over MLflow's, and with one client our p50 over the least possible cost."""
    ours, theirs = (costs[name, count, clients] for name in ("ours", "mlflow"))
    what = f"serving {count} row{'s' if count > 1 else ''}, {clients} client{'s' if clients > 1 else ''}"
    each = [1000 / one["rps"] for one in ours], [1000 / one["rps"] for one in theirs]
    p99 = [one["p99"] for one in ours], [one["p99"] for one in theirs]
    rate = statistics.median(one["rps"] for one in ours)
    yield ratio(
        f"{what}: time for each request",
        "mlflow models serve",
        *each,
        0.1 if count == 1 else None,
        note=f"{rate:,.0f} requests a second",
    )
    yield ratio(f"{what}: p99", "mlflow models serve", *p99)
    if clients == 1:
        least = [alone[count] + one["p50"] for alone, one in zip(bare, costs["empty", count, clients], strict=True)]
        p50 = [one["p50"] for one in ours]
        yield ratio(f"{what}: p50", "an empty FastAPI route and a bare inplace_predict", p50, least, 3.0)


def ratio(
    subject: str,
    against: str,
    ours: list[float],
    theirs: list[float],
    aim: float | None = None,
    note: str = "",
    unit: str = "ms",
) -> Row:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(subject, against, unit, mine, other, mine / other, (min(each), max(each)), aim, note)


def load(port: int, path: str, body: Path, clients: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", str(port), path, str(body), str(clients), str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def mlflow_command(copy: Site) -> list[str]:
    script = str(Path(sys.executable).with_name("mlflow"))
    return [script, "models", "serve", "-m", "models:/flights@champion", "--env-manager", "local", "--port"]


@contextmanager
def served(copy: Site, command: list[str], probe: str) -> Iterator[tuple[int, float]]:
    """Run a server in the copy, on its own port, and stop it afterwards. Yields the port, and the seconds until it was ready."""
    port, began = free_port(), time.monotonic()
    own = {"EVERGREEN_SERVING_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    environment = os.environ | copy.environment | own | {"PATH": path}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, str(port)], cwd=copy.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait(f"http://127.0.0.1:{port}{probe}", process, log)
            yield port, time.monotonic() - began
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait()


def wait(url: str, process: subprocess.Popen, log: IO[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"no answer from {url}: {log.read()[-2000:].decode()}") from error
        time.sleep(0.2)


def prepared(copy: Site, folder: Path) -> dict[int, float]:
    """Write scoring requests of a month's rows, features only, for MLflow's protocol; return the booster's milliseconds for each."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, LAST, str(folder)], cwd=copy.folder, env=os.environ | copy.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {int(count): milliseconds for count, milliseconds in json.loads(done.stdout).items()}

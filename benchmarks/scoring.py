"""Scoring five million rows of a partition from file to file, and the booster's prediction of their matrix in memory.

Ours is a new process, imports included. The bare call receives the matrix.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Row, Spent, in_turns, row
from benchmarks.large import fill
from benchmarks.site import NEXT, site
from configs.load import load_model
from configs.settings import load_settings
from tasks.resources import live_resources

ROWS, ROUNDS, MEMORY = 5_000_000, 1, 1_500
SCORE = f"""
from configs.settings import disable_telemetry
disable_telemetry()
from tasks.resources import open_resources
from tasks.steps.score import score
res = open_resources("flights")
score(res.ref("{NEXT}"), res)
"""
BARE = f"""
import json, sys, time
from itertools import islice
import numpy as np
from configs.settings import disable_telemetry
disable_telemetry()
from tasks.models.fast_predict import plan_of
from tasks.contracts import Stage
from tasks.resources import open_resources
res = open_resources("flights")
model = res.load(res.champion().version)
plan = plan_of(model)
parts = [plan.matrix(batch.to_pandas()) for batch in islice(res.lake.batches(Stage.VALID, "{NEXT}"), 4)]
matrix = np.concatenate(parts * 5).astype("float32")[:{ROWS}]
del parts
booster = getattr(plan.estimator, "estimator", plan.estimator).get_booster()
booster.set_param({{"nthread": res.settings.threads}})
booster.inplace_predict(matrix[:1000])
began = time.perf_counter(), time.process_time()
booster.inplace_predict(matrix)
took = [time.perf_counter() - began[0], time.process_time() - began[1]]
open(sys.argv[1], "w").write(json.dumps(took))
"""


def rows() -> list[Row]:
    import json
    import sys

    from benchmarks.harness import run_program

    copy = site()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings().model_copy(update={"lake": folder})
        fill(live_resources(load_model("flights"), settings), NEXT, ROWS)
        environment = copy.environment | {"EVERGREEN_LAKE": folder}
        answer = Path(folder) / "took.json"
        prepared = run_program([sys.executable, "-c", BARE, str(answer)], environment, copy.folder)

        def bare() -> Spent:
            prepared()
            return Spent(*json.loads(answer.read_text()))

        score = run_program([sys.executable, "-c", SCORE], environment, copy.folder)
        mine, theirs = in_turns(score, bare, rounds=ROUNDS, warm=False)
    subject = f"batch scoring of {ROWS // 1_000_000}M rows, from file to file, imports included"
    peaks = [spent.mb for spent in mine]
    peak, spread = max(peaks), (min(peaks) / MEMORY, max(peaks) / MEMORY)
    return [
        row(subject, "bare inplace_predict on the encoded matrix", mine, theirs, 2.0),
        Row(f"{subject}: peak memory", f"{MEMORY:,} MB", "MB", peak, MEMORY, peak / MEMORY, spread, 1.0),
    ]

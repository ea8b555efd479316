"""A challenger from the window's files to its version in MLflow, and XGBoost's bare fit on the same matrix.

The window has a million rows in three months. Versions are registered in the copy's MLflow.
"""

import os
import sys
import tempfile

from benchmarks.harness import Row, in_this_process, in_turns, row, run_program
from benchmarks.large import fill
from benchmarks.site import site
from configs.load import load_model
from configs.settings import load_settings
from tasks.contracts import Recipe
from tasks.models.estimators import build_pipeline
from tasks.models.features import inputs_of
from tasks.models.targets import outcomes
from tasks.resources import live_resources
from tasks.training.fit import make_version, training_ends
from tasks.training.memory import estimated_memory, window_rows
from tasks.training.window import locate_window, rows_to_fit

ALONE = """
from configs.settings import disable_telemetry
disable_telemetry()
from tasks.contracts import Recipe
from tasks.resources import open_resources
from tasks.training.fit import training_ends, make_version
from tasks.training.window import locate_window
res = open_resources("flights")
window = locate_window(res)
((name, candidate),) = res.config.training.candidates.items()
run = res.registry.open_training("benchmark", "", "")
make_version("challenger", Recipe(name, candidate.estimator, dict(candidate.params)), run, window, res)
res.registry.close_training(run)
"""
ROWS, MONTHS, ROUNDS = 1_000_000, ("2013-01", "2013-02", "2013-03"), 1


def rows() -> list[Row]:
    copy = site()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = copy.mlflow
        settings = load_settings().model_copy(update={"lake": folder})
        res = live_resources(load_model("flights"), settings)
        for key in MONTHS:
            fill(res, key, ROWS // len(MONTHS))
        window = locate_window(res)
        ((name, candidate),) = res.config.training.candidates.items()
        recipe = Recipe(name, candidate.estimator, dict(candidate.params))
        until, _ = training_ends("challenger", window, res)
        frame = rows_to_fit(res, window, until)
        encode, estimate = (step for _, step in build_pipeline(recipe, res.config, settings.threads).steps)
        matrix = encode.fit_transform(inputs_of(frame, res.config.features))
        outcome, count = outcomes(frame, res.config.target), len(frame)
        del frame

        def ours() -> None:
            run = res.registry.open_training("benchmark", "", "")
            make_version("challenger", recipe, run, window, res)
            res.registry.close_training(run)

        ours()  # imports at the first use
        fits, bare_fits = in_turns(
            in_this_process(ours), in_this_process(lambda: estimate.fit(matrix, outcome)), rounds=ROUNDS, warm=False
        )
        reading = [in_this_process(lambda: rows_to_fit(res, window, until))() for _ in range(ROUNDS)]
        alone = run_program([sys.executable, "-c", ALONE], copy.environment | {"EVERGREEN_LAKE": folder}, copy.folder)()
        estimate_mb = estimated_memory(window_rows(window, res), res.config)
    subject = f"training on {count:,} rows: reading, encoding, fit, tracking, registration"
    note = "CPU is this process's, without the MLflow server's"
    return [
        row(subject, "bare XGBoost fit on the matrix", fits, bare_fits, 1.15, note=note),
        row(subject, "bare XGBoost fit on the matrix", fits, bare_fits, what="wall"),
        row("of that, reading the window and joining its outcomes", "bare XGBoost fit on the matrix", reading, bare_fits),
        Row(
            "training: peak memory", "the estimate of tasks/training/memory.py", "MB", alone.mb, estimate_mb, alone.mb / estimate_mb,
            (alone.mb / estimate_mb,) * 2, 1.0, "one run, the libraries' own 300 MB in it",
        ),
    ]  # fmt: skip

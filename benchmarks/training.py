"""A challenger from the window's files to its version in MLflow, beside XGBoost's bare fit on the same matrix.

The window is a million rows in three months; versions go to the copy's own MLflow.
"""

import os
import sys
import tempfile

from benchmarks.harness import Row, here, in_turns, row, tree
from benchmarks.large import fill
from benchmarks.site import site
from configs.load import load_model
from configs.settings import load_settings
from tasks.contracts import Recipe
from tasks.models.estimators import build_pipeline
from tasks.models.features import inputs_of
from tasks.models.targets import outcomes
from tasks.resources import Resources
from tasks.training.fit import fitted_until, make_version
from tasks.training.memory import memory_of, rows_of
from tasks.training.window import locate_window, rows_to_fit

ALONE = """
from configs.settings import silence_vendors
silence_vendors()
from tasks.contracts import Recipe
from tasks.resources import open_resources
from tasks.training.fit import fitted_until, make_version
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
    made = site()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = made.mlflow
        settings = load_settings().model_copy(update={"lake": folder})
        res = Resources(load_model("flights"), settings)
        for key in MONTHS:
            fill(res, key, ROWS // len(MONTHS))
        window = locate_window(res)
        ((name, candidate),) = res.config.training.candidates.items()
        recipe = Recipe(name, candidate.estimator, dict(candidate.params))
        until, _ = fitted_until("challenger", window, res)
        frame = rows_to_fit(res, window, until)
        encode, estimate = (step for _, step in build_pipeline(recipe, res.config, settings.threads).steps)
        matrix = encode.fit_transform(inputs_of(frame, res.config.features))
        outcome, count = outcomes(frame, res.config.target), len(frame)
        del frame

        def ours() -> None:
            run = res.registry.open_training("benchmark", "", "")
            make_version("challenger", recipe, run, window, res)
            res.registry.close_training(run)

        ours()  # what is imported at the first use
        found = in_turns(here(ours), here(lambda: estimate.fit(matrix, outcome)), rounds=ROUNDS, warm=False)
        reading = [here(lambda: rows_to_fit(res, window, until))() for _ in range(ROUNDS)]
        alone = tree([sys.executable, "-c", ALONE], made.environment | {"EVERGREEN_LAKE": folder}, made.folder)()
        foretold = memory_of(rows_of(window, res), res.config)
    subject = f"training on {count:,} rows: reading, encoding, fit, tracking, registration"
    note = "CPU is this process's, without the MLflow server's"
    return [
        row(subject, "bare XGBoost fit on the matrix", *found, 1.15, note=note),
        row(subject, "bare XGBoost fit on the matrix", *found, what="wall"),
        row("of that, reading the window and joining its outcomes", "bare XGBoost fit on the matrix", reading, found[1]),
        Row(
            "training: peak memory", "what tasks/training/memory.py foretells", "MB", alone.mb, foretold, alone.mb / foretold,
            (alone.mb / foretold,) * 2, 1.0, "one run, the libraries' own 300 MB in it",
        ),
    ]  # fmt: skip

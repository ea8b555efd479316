"""A challenger from the window's files to its version in MLflow, beside XGBoost's bare fit on the same matrix.

The window is a million rows in three months; versions go to the copy's own MLflow.
"""

import os
import tempfile

from benchmarks.harness import Row, here, in_turns, row
from benchmarks.large import fill
from benchmarks.site import site
from configs.load import load_model
from configs.settings import load_settings
from tasks.contracts import Recipe
from tasks.estimators import build_pipeline
from tasks.features import inputs_of
from tasks.resources import Resources
from tasks.targets import outcomes
from tasks.training import fitted_until, make_version
from tasks.window import locate_window, rows_to_fit

ROWS, MONTHS, ROUNDS = 1_000_000, ("2013-01", "2013-02", "2013-03"), 3


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

        found = in_turns(here(ours), here(lambda: estimate.fit(matrix, outcome)), rounds=ROUNDS)
    subject = f"training on {count:,} rows: reading, encoding, fit, tracking, registration"
    return [row(subject, "bare XGBoost fit on the matrix", *found, 1.15)]
